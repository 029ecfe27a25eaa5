# make demo   fresh machine: environment, data, tiny CLIP, convert, fine-tune, test, report
# make test   fresh machine: environment, lint, all tests
PYTHON ?= python3
VENV := .venv
CONSTRAINTS := requirements/constraints.txt
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := work_dirs/demo
# torch's threads spin while they wait for one another, which slows everything
# down where other programs use the same cores.
export OMP_WAIT_POLICY ?= PASSIVE
# mmcv-lite has no operators, mmcv warns of one, and nothing here needs it.
export PYTHONWARNINGS ?= ignore:Fail to import

.PHONY: help venv lint test test-oldest demo docs clean

help:
	@echo 'make venv         make .venv with mmclip and the tested set of packages'
	@echo 'make demo         the whole path on real handwriting; results in $(DEMO)/'
	@echo 'make test         lint and all tests'
	@echo 'make test-oldest  all tests with the oldest supported packages, in .venv-oldest'
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
	$(BIN)/pip install --constraint $(CONSTRAINTS) --editable '.[lite,dev,demo]'
	@touch $@

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

test: lint
	$(BIN)/pytest -m 'slow or not slow'

test-oldest:
	$(MAKE) venv VENV=.venv-oldest CONSTRAINTS=requirements/constraints-oldest.txt
	.venv-oldest/bin/pytest -m 'slow or not slow'

# Each line is an ordinary command that can be typed alone.
demo: venv
	@echo '== 1/6 data: real handwriting, 3 images a class to train on'
	$(BIN)/python tools/demo/prepare_data.py
	@echo '== 2/6 pre-train a tiny CLIP on glyphs and captions; zero-shot test'
	$(BIN)/python tools/demo/pretrain.py
	$(BIN)/python tools/demo/zero_shot.py
	@echo '== 3/6 convert its image tower'
	$(BIN)/python tools/model_converters/openclip_to_mmcls.py $(DEMO)/open_clip/open_clip_config.json $(DEMO)/open_clip/open_clip_pytorch_model.bin $(DEMO)/clip.pth --force
	@echo '== 4/6 fine-tune it; train the same from scratch'
	$(BIN)/python tools/train.py configs/clip/clip-demo-digits.py
	$(BIN)/python tools/train.py configs/clip/clip-demo-digits_scratch.py
	@echo '== 5/6 test both, on held-out and on shifted handwriting'
	for model in fine_tuned from_scratch; do for split in val val_shifted; do \
	    $(BIN)/python tools/test.py configs/clip/clip-demo-digits.py $$(cat $(DEMO)/$$model/last_checkpoint) \
	        --work-dir $(DEMO)/test --out $(DEMO)/$${model}_$$split.pkl \
	        --cfg-options test_dataloader.dataset.data_prefix=$$split || exit 1; \
	done; done
	@echo '== 6/6 report'
	$(BIN)/python tools/demo/report.py

docs: venv
	$(BIN)/sphinx-build -W -b html docs docs/_build/html

clean:
	rm -rf .venv .venv-oldest work_dirs/demo data/demo_digits docs/_build build dist *.egg-info mmclip/.mim
