# One target a job. `make help` lists them. Everything lives in .venv; nothing else on the machine is touched.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(shell command -v uv 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help demo test check bench lock clean format

help:  ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "refloat needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12"; exit 1; }
ifdef UV
	@echo "making $(VENV) with uv ($$($(PYTHON) -V)) and installing what requirements.lock pins"
	@uv venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" $(VENV)
	@uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	@uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
else
	@echo "making $(VENV) with venv and pip ($$($(PYTHON) -V)) and installing what requirements.lock pins"
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module does not work here; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --compile -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
endif
	@$(BIN)/python -m compileall -q src examples
	@touch $(STAMP)

demo: $(STAMP)  ## the whole story: a real pipeline lost in one region, recovered and measured in another
	@$(BIN)/refloat demo

test: $(STAMP)  ## every test; the servers they need come from packages and run on loopback
	@$(BIN)/python -m pytest

check: $(STAMP)  ## ruff, mypy --strict, the import contracts, tidiness
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest tests/tidy

bench: $(STAMP)  ## measure, and write bench/RESULTS.md
	@$(BIN)/python bench/run.py

format: $(STAMP)  ## put the code into its one form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: pyproject.toml  ## resolve the dependencies anew (needs uv)
	@uv pip compile pyproject.toml --universal --python-version 3.11 --extra demo --extra dev --extra lancedb \
	  --quiet --no-header --no-annotate --output-file requirements.lock

clean:  ## remove the environment and every cache
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
