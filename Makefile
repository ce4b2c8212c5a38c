# make lectures   the three scripts, the network on all images, and the page that shows them; all in outputs/
# make report     that page anew, outputs/report.html
# make test       the tests      make lint   style and types      make clean   removes what runs and tools left behind
# make test-arithmetic  the tests about numbers once more, in an older processor's arithmetic
# make exercises  docs/generated/exercises.md and its figures, in some minutes
# make bench      the speed claims, docs/generated/benchmarks.md   make figures   README's pictures; needs MNIST, Chromium
# make photos     how many digits are read right from composed photos, docs/generated/photos.md; after make lectures
# make soak       kills 200 runs and damages thousands of files; up to half an hour
# VENV=path uses an environment that exists; else .venv is made by BASE, a Python of 3.10 or later.
VENV ?= .venv
BASE ?= python3
PYTHON = $(VENV)/bin/python
READY = $(VENV)/.ready-for-lectures
READY_FOR_TESTS = $(VENV)/.ready-for-tests

.PHONY: lectures report test test-arithmetic lint exercises bench photos figures soak clean

lectures: $(READY)
	"$(PYTHON)" lectures/linear_recovery.py
	@echo "The recipe as the lecture prints it: it diverges, and says so with an error."
	"$(PYTHON)" lectures/linear_recovery.py --raw --quiet --output-dir outputs/linear_recovery_raw; test $$? -eq 1
	"$(PYTHON)" lectures/ann_revisited.py
	"$(PYTHON)" lectures/mnist_mlp.py
	"$(PYTHON)" exercises/mnist_all.py --quiet
	"$(PYTHON)" -m report

report: $(READY)
	"$(PYTHON)" -m report

test: $(READY_FOR_TESTS)
	"$(PYTHON)" -m pytest

# Without AVX, with MKL's oldest kernels and with four threads, PyTorch sums in another order.
test-arithmetic: $(READY_FOR_TESTS)
	ATEN_CPU_CAPABILITY=default MKL_CBWR=COMPATIBLE OMP_NUM_THREADS=4 "$(PYTHON)" -m pytest -m numbers

lint: $(READY_FOR_TESTS)
	"$(PYTHON)" -m ruff format --check .
	"$(PYTHON)" -m ruff check .
	"$(PYTHON)" -m mypy

exercises: $(READY)
	"$(PYTHON)" exercises/page.py

soak: $(READY_FOR_TESTS)
	"$(PYTHON)" -m pytest -m soak

bench: $(READY_FOR_TESTS)
	"$(PYTHON)" benchmarks/run.py

photos: $(READY)
	"$(PYTHON)" handwriting/photos.py --output docs/generated/photos.md

figures: lectures $(READY_FOR_TESTS)
	@grep -q '"dataset": "mnist"' outputs/mnist_mlp/metrics.json || { echo "README's pictures are of MNIST, which" \
	    "outputs/mnist_mlp was not made with: docs/troubleshooting.md, Data"; exit 1; }
	"$(PYTHON)" lectures/ann_revisited.py --quiet --animate
	cp outputs/ann_revisited/training.gif docs/figures/training.gif
	cp outputs/linear_recovery_raw/loss.png docs/figures/linear_recovery_raw_loss.png
	cp outputs/mnist_mlp/first_five.png docs/figures/mnist_mlp_first_five.png
	"$(PYTHON)" -m report.screenshots

clean:
	rm -rf uv.lock outputs/*/ outputs/report.html .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

# An environment that uv made has no pip; ensurepip brings it.
$(PYTHON):
	"$(BASE)" -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Python 3.10 or later is needed: make BASE=python3.12")'
	"$(BASE)" -m venv "$(VENV)"

$(READY): requirements.txt | $(PYTHON)
	@echo "Installing PyTorch and the other packages: README says how much is downloaded, and how to make it less."
	@"$(PYTHON)" -m pip --version > /dev/null 2>&1 || "$(PYTHON)" -m ensurepip
	"$(PYTHON)" -m pip install -r requirements.txt
	@touch "$(READY)"

$(READY_FOR_TESTS): requirements.txt requirements-dev.txt | $(READY)
	"$(PYTHON)" -m pip install --quiet -r requirements-dev.txt
	@touch "$(READY_FOR_TESTS)"
