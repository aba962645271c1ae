# Everything runs in a virtual environment that the first target creates; a machine needs Python 3.11 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-slow lint bench clean

demo: $(STAMP)          ## derive and verify an MLP and an RNN; pictures in out/
	$(BIN)/python -m tensorprog.demo

test: $(STAMP) lint     ## lint, types and the tests (minutes)
	$(BIN)/python -m pytest -q -n auto -m "not slow"

test-slow: $(STAMP)     ## the long property tests
	$(BIN)/python -m pytest -q -n auto -m slow

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)         ## cost of derivations, certificates and training runs
	$(BIN)/python benchmarks/derivation.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/expectations.py
	$(BIN)/python benchmarks/gram.py

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "torch==2.13.0"
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) out build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
