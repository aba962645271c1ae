# Everything runs in a virtual environment that the first target creates; a machine needs Python 3.11 and make.
# RUN is the package alone, STAMP what the tests need beside it, large packages such as torch and JAX among them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
STAMP := $(VENV)/.installed
PEERS ?= .venv-peers

NOTEBOOKS := $(patsubst notebooks/%.py,docs/notebooks/%.ipynb,$(wildcard notebooks/*.py))

.PHONY: demo test test-slow test-browser lint bench bench-peers notebooks docs clean

demo: $(RUN)            ## derive and verify an MLP and an RNN; pictures in out/
	$(BIN)/python -m tensorprog.demo

test: $(STAMP) lint     ## lint, types and the tests (minutes)
	$(BIN)/python -m pytest -q -n auto -m "not slow and not browser"

test-slow: $(STAMP)     ## the long property tests
	$(BIN)/python -m pytest -q -n auto -m slow

test-browser: $(VENV)/.browser  ## the report in a headless Chromium (Debian's; root installs it where it is missing)
	@if ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null; then \
	  if [ "$$(id -u)" != 0 ]; then echo "install the Debian packages chromium and chromium-driver first"; exit 1; fi; \
	  apt-get update -qq && apt-get install -y -qq chromium chromium-driver; fi
	$(BIN)/python -m pytest -q -m browser tests/report

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)         ## cost of derivations, certificates and training runs
	$(BIN)/python benchmarks/derivation.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/expectations.py
	$(BIN)/python benchmarks/empirical.py
	$(BIN)/python benchmarks/gram.py

notebooks: $(NOTEBOOKS)  ## the notebooks, executed, as docs/notebooks/*.ipynb

docs: $(NOTEBOOKS)       ## the documentation in out/docs/index.html; a warning is an error
	$(BIN)/sphinx-build -q -W --keep-going -b html docs out/docs

docs/notebooks/%.ipynb: notebooks/%.py $(shell find tensorprog programs -name '*.py') | $(VENV)/.docs
	@mkdir -p docs/notebooks
	$(BIN)/jupytext --quiet --to ipynb --set-kernel python3 --execute $< --output $@

bench-peers: $(PEERS)/.installed  ## an environment of its own for neural-tangents, which make bench compares with

$(PEERS)/.installed: benchmarks/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	touch $@

$(VENV)/.browser: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[browser]"
	touch $@

$(VENV)/.docs: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[docs]"
	touch $@

$(RUN): pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	touch $@

$(STAMP): $(RUN)
	$(BIN)/pip install --quiet --disable-pip-version-check "torch==2.13.0"
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) out build docs/notebooks docs/reference *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
