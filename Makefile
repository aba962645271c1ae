# Everything runs in a virtual environment that the first target creates; a machine needs Python 3.11 and make.
# RUN is the package alone, STAMP what the tests need beside it, large packages such as torch and JAX among them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
STAMP := $(VENV)/.installed
PEERS ?= .venv-peers

NOTEBOOKS := $(patsubst notebooks/%.py,docs/notebooks/%.ipynb,$(wildcard notebooks/*.py))

.PHONY: demo test test-slow test-lowest test-newest test-browser lint bench bench-peers notebooks docs readme clean

demo: $(RUN)            ## derive and verify an MLP and an RNN; pictures in out/
	$(BIN)/python -m tensorprog.demo

test: $(STAMP) lint     ## lint, types and the tests (minutes)
	$(BIN)/python -m pytest -q -n auto -m "not slow and not browser"

test-slow: $(STAMP)     ## the long property tests
	$(BIN)/python -m pytest -q -n auto -m slow

# Whether the bounds of pyproject.toml are true. Warnings of other packages fail nothing here: old ones warn of the
# new ones below them, and new ones of what is to come. PYTHON chooses the interpreter; torch has one version only.
NARROW := expectations learn limit kernels recursions grams/test_gram.py dsl/test_program.py report/test_draw.py test_copies.py test_processes.py
FOREIGN := -o "filterwarnings=ignore::tensorprog.FrozenWarning"
BELOW := "cloudpickle>=3" "hypothesis>=6.100" "pytest>=8" "pytest-xdist>=3.5" "python-flint>=0.6"

test-lowest: .venv-lowest/.installed  ## a part of the tests with the oldest version of every dependency
	.venv-lowest/bin/python -m pytest -q -n auto $(FOREIGN) -m "not slow and not browser" $(addprefix tests/,$(NARROW))

test-newest: .venv-newest/.installed  ## all tests with the newest versions, also those before their release
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --pre -U --upgrade-strategy eager -e ".[test]"
	.venv-newest/bin/python -m pytest -q -n auto $(FOREIGN) -m "not slow and not browser"

.venv-lowest/.installed: pyproject.toml setup.py
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-lowest/bin/python -m uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct \
	  -e ".[learn,fast,arrays,cluster,zarr]" $(BELOW)
	touch $@

.venv-newest/.installed:
	$(PYTHON) -m venv .venv-newest
	touch $@

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
	$(BIN)/python benchmarks/sampled.py
	$(BIN)/python benchmarks/empirical.py
	$(BIN)/python benchmarks/gram.py

# An environment is this checkout's own where it lies in it or was made by it. The documentation installs nothing into
# another one, and reads this checkout's package from links in build/site.
HERE := $(realpath $(CURDIR))
OWN := $(if $(wildcard $(BIN)/python),$(filter $(HERE)/%,$(realpath $(VENV)))$(filter $(HERE),$(shell cat $(STAMP))),new)
DOCS_TOOLS := $(if $(OWN),$(VENV)/.docs,build/site)
DOCS_PYTHON := $(if $(OWN),,PYTHONPATH=$(HERE)/build/site )$(BIN)/python
SOURCES := $(shell find tensorprog programs -name '*.py')

notebooks: $(NOTEBOOKS)  ## the notebooks, executed, as docs/notebooks/*.ipynb

docs: $(NOTEBOOKS) docs/gallery/index.md  ## the documentation in out/docs/index.html; a warning is an error
	$(DOCS_PYTHON) -m sphinx -q -W --keep-going -b html docs out/docs
	$(DOCS_PYTHON) docs/_offline.py out/docs

docs/notebooks/%.ipynb: notebooks/%.py $(SOURCES) | $(DOCS_TOOLS)
	@mkdir -p docs/notebooks
	$(DOCS_PYTHON) -m jupytext --quiet --to ipynb --set-kernel python3 --execute $< --output $@

docs/gallery/index.md: docs/_gallery.py $(SOURCES) | $(DOCS_TOOLS)
	$(DOCS_PYTHON) docs/_gallery.py docs/gallery

.PHONY: build/site
build/site:
	@rm -rf $@ && mkdir -p $@/tensorprog
	@ln -s $(HERE)/tensorprog/* $@/tensorprog/ && ln -s $(HERE)/programs $@/tensorprog/programs

readme: $(STAMP)         ## the outputs, the table and the picture of README.md
	$(BIN)/python docs/_outputs.py README.md
	$(BIN)/python -m tensorprog.cli gallery --write README.md
	$(BIN)/python -m tensorprog.cli draw tied_autoencoder --backprop -o docs/static/tied_autoencoder.png

bench-peers: $(PEERS)/.installed  ## an environment of its own for neural-tangents, which make bench compares with

$(PEERS)/.installed: benchmarks/peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt
	touch $@

$(VENV)/.browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[browser]"
	touch $@

$(VENV)/.docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]"
	touch $@

$(RUN): pyproject.toml setup.py
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(STAMP): $(RUN)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test]"
	echo $(HERE) > $(STAMP)

clean:
	rm -rf $(VENV) $(PEERS) .venv-lowest .venv-newest out build docs/notebooks docs/reference docs/gallery *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
