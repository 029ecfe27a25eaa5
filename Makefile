# make demo   fresh machine: environment, data, tiny CLIP, a classifier, a page
# make test   fresh machine: environment, lint, tests
PYTHON ?= python3
VENV := .venv
EXTRAS := lite,dev,demo
CONSTRAINTS := requirements/constraints.txt
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# torch's threads spin while they wait for one another, which slows everything
# down where other programs use the same cores.
export OMP_WAIT_POLICY ?= PASSIVE
# mmcv-lite has no operators, mmcv warns of one, and nothing here needs it.
export PYTHONWARNINGS ?= ignore:Fail to import

# For `make test-downstream`: lite, a stand-in for mmcv's operators; or full,
# mmcv itself, which is compiled in half an hour or more.
MMCV ?= lite
DOWNSTREAM := .venv-downstream

.PHONY: help venv lint test test-all test-oldest test-downstream demo docs clean

help:
	@echo 'make venv         make .venv with mmclip and the tested set of packages'
	@echo 'make demo         a classifier of real handwriting, and a page: work_dirs/demo/run/'
	@echo 'make test         lint and tests, in 15 minutes'
	@echo 'make test-all     the same and every exhaustive test, in 90 minutes'
	@echo 'make test-oldest  the tests with the oldest supported packages, in .venv-oldest'
	@echo 'make test-downstream  the backbones in mmsegmentation, mmdetection and mmpose,'
	@echo '                  in .venv-downstream; MMCV=full compiles their operators'
	@echo 'make docs         HTML pages in docs/_build/html'
	@echo 'make clean        remove the environments and everything that was made'

venv: $(INSTALLED)

$(INSTALLED): setup.py pyproject.toml $(CONSTRAINTS) mmclip/requirements.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo 'error: mmclip needs Python 3.10 or newer; name one: make PYTHON=python3.11' >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
	    echo 'error: $(PYTHON) cannot make environments; install its venv package (Debian: apt install python3-venv)' >&2; exit 1; }
	@probe=$$(mktemp -d); \
	    $(BIN)/pip download --quiet --no-deps --retries 1 --timeout 15 --dest $$probe packaging >/dev/null 2>&1; \
	    status=$$?; rm -r $$probe; test $$status = 0 || { \
	    echo 'error: PyPI cannot be reached; connect to a network, or set PIP_INDEX_URL to a mirror, or PIP_NO_INDEX=1 and PIP_FIND_LINKS=DIR with a folder of wheels' >&2; exit 1; }
	$(BIN)/pip install --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	@touch $@

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

test: lint
	$(BIN)/pytest -m 'not exhaustive'

test-all: lint
	$(BIN)/pytest -m ''

test-oldest:
	$(MAKE) venv VENV=.venv-oldest CONSTRAINTS=requirements/constraints-oldest.txt
	.venv-oldest/bin/pytest -m 'not exhaustive'

# From a wheel, since mim does not find editable packages, and without what an
# old build would bring back.
test-downstream: $(DOWNSTREAM)/.mmcv-$(MMCV)
	rm -rf build
	$(DOWNSTREAM)/bin/pip install --quiet --no-deps --no-build-isolation --force-reinstall .
	$(DOWNSTREAM)/bin/pytest -m '' --dist load tests/downstream --table docs/downstream_table.md

# Without transformers, beside which mmdet's pycocotools breaks mmpretrain; and
# with xtcocotools from source, since its wheel is for numpy 1.
$(DOWNSTREAM)/.mmcv-lite $(DOWNSTREAM)/.mmcv-full: setup.py pyproject.toml \
    $(CONSTRAINTS) mmclip/requirements.py requirements/downstream.txt \
    tests/downstream/install_mmcv.py
	$(MAKE) venv VENV=$(DOWNSTREAM) EXTRAS=lite,demo
	$(DOWNSTREAM)/bin/pip install --constraint $(CONSTRAINTS) pytest-xdist requests model-index
	$(DOWNSTREAM)/bin/pip install --no-deps --requirement requirements/downstream.txt
	$(DOWNSTREAM)/bin/python tests/downstream/install_mmcv.py $(MMCV)
	$(DOWNSTREAM)/bin/pip install --no-deps --no-build-isolation --no-binary xtcocotools xtcocotools==1.14.3
	@rm -f $(DOWNSTREAM)/.mmcv-*
	@touch $@

demo: venv
	$(BIN)/python tools/demo/run.py

docs: venv
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

clean:
	rm -rf .venv .venv-oldest $(DOWNSTREAM) work_dirs/demo data/demo_digits docs/_build build dist *.egg-info mmclip/.mim
