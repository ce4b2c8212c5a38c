# make lectures   the three scripts; figures and numbers in outputs/
# make test       the tests      make lint      the style       make clean   what runs and tools left behind
# make exercises  docs/exercises.md and its figures, in some minutes
# make bench      the speed claims, docs/benchmarks.md           make figures   README's pictures; needs MNIST
# make soak       kills 200 runs and damages thousands of files; up to half an hour
# VENV=path uses an environment that exists; else .venv is made with what requirements-dev.txt names.
VENV ?= .venv
PYTHON = $(VENV)/bin/python
READY = $(VENV)/.ready-for-lectures

.PHONY: lectures test lint exercises bench figures soak clean

lectures: $(READY)
	"$(PYTHON)" lectures/linear_recovery.py
	"$(PYTHON)" lectures/ann_revisited.py
	"$(PYTHON)" lectures/mnist_mlp.py

test: $(READY)
	"$(PYTHON)" -m pytest

lint: $(READY)
	"$(PYTHON)" -m ruff check .

exercises: $(READY)
	"$(PYTHON)" exercises/page.py

soak: $(READY)
	"$(PYTHON)" -m pytest -m soak

bench: $(READY)
	"$(PYTHON)" benchmarks/run.py

figures: $(READY)
	"$(PYTHON)" lectures/linear_recovery.py --quiet
	cp outputs/linear_recovery/loss.png docs/figures/linear_recovery_loss.png
	-"$(PYTHON)" lectures/linear_recovery.py --quiet --raw
	cp outputs/linear_recovery/loss.png docs/figures/linear_recovery_raw_loss.png
	"$(PYTHON)" lectures/ann_revisited.py --quiet
	cp outputs/ann_revisited/regions.png docs/figures/ann_revisited_regions.png
	"$(PYTHON)" lectures/mnist_mlp.py --quiet --dataset mnist
	cp outputs/mnist_mlp/first_five.png docs/figures/mnist_mlp_first_five.png

clean:
	rm -rf outputs/*/ .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

$(READY): requirements.txt requirements-dev.txt
	test -x "$(PYTHON)" || python3 -m venv "$(VENV)"
	"$(PYTHON)" -m pip install --quiet -r requirements-dev.txt
	touch "$(READY)"
