# make lectures   the three scripts; figures and numbers in outputs/
# make test       the tests          make lint   the style          make clean   what runs and tools left behind
# VENV=path uses an environment that exists; else .venv is made with what requirements-dev.txt names.
VENV ?= .venv
PYTHON = $(VENV)/bin/python
READY = $(VENV)/.ready-for-lectures

.PHONY: lectures test lint bench clean

lectures: $(READY)
	"$(PYTHON)" lectures/linear_recovery.py
	"$(PYTHON)" lectures/ann_revisited.py
	"$(PYTHON)" lectures/mnist_mlp.py

test: $(READY)
	"$(PYTHON)" -m pytest

lint: $(READY)
	"$(PYTHON)" -m ruff check .

bench: $(READY)
	"$(PYTHON)" benchmarks/run.py

clean:
	rm -rf outputs/*/ .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

$(READY): requirements.txt requirements-dev.txt
	test -x "$(PYTHON)" || python3 -m venv "$(VENV)"
	"$(PYTHON)" -m pip install --quiet -r requirements-dev.txt
	touch "$(READY)"
