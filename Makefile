# One target a job. `make help` lists them. Everything lives in .venv; nothing else on the machine is touched.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
AZURITE := $(VENV)/azurite
UV := $(shell command -v uv 2>/dev/null)
unexport PYTHONDONTWRITEBYTECODE  # each command and each test would compile all that it imports once more

.DEFAULT_GOAL := help
.PHONY: help demo test trials check test-quick flaky bench bench-vault bench-recovery lock clean format mutants sim soak coverage score

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

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

$(AZURITE)/.installed: tests/services/npm/package.json tests/services/npm/package-lock.json $(STAMP)
	@echo "installing Azurite, which tests ask in place of Azure, with npm into $(AZURITE)"
	@mkdir -p $(AZURITE) && cp tests/services/npm/*.json $(AZURITE)
	@if $(BIN)/npm --prefix $(AZURITE) ci --ignore-scripts --no-audit --no-fund --omit=optional --loglevel=error >/dev/null; \
	  then touch $@; else echo "npm could not install Azurite: the tests that ask it will fail"; fi

demo: $(STAMP)  ## the whole story: a real pipeline lost in one region, recovered and measured in another
	@$(BIN)/refloat demo

PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# One story played many times over, with a kill, a cut, a lie or a loss of power at another place each time.
TRIALS := tests/sim \
  $(patsubst %,tests/scenarios/test_%.py,disks killed_at_random killed_protect killed_recovery repair_cut_short signals_at_work truncated) \
  $(patsubst %,tests/services/test_%.py,sick_bucket toxic_store) \
  tests/unit/flows/test_cut_anywhere.py tests/unit/run/test_killed_at_every_step.py tests/unit/test_fuzz_limits.py \
  tests/unit/vault/test_bit_flips.py

test: $(STAMP) $(AZURITE)/.installed  ## every test but the trials and the house rules, or what ARGS names; servers come from packages
	@$(BIN)/python -m pytest $(addprefix --ignore=,tests/tidy $(TRIALS)) $(PARALLEL) $(ARGS)

trials: $(STAMP)  ## the trials: kills, cuts, sick stores and losses of power, each at many places
	@$(BIN)/python -m pytest $(TRIALS) $(PARALLEL) $(ARGS)

test-quick: $(STAMP)  ## the unit tests that take little, without the example
	@$(BIN)/python -m pytest tests/unit --quick --ignore tests/unit/examples -m 'not soak and not slow' $(PARALLEL) $(ARGS)

flaky: $(STAMP) $(AZURITE)/.installed  ## the suite five times, in random order beside two busy loops: whose outcome differs?
	@$(BIN)/python tests/flaky.py $(PARALLEL) $(ARGS)

SOAKED := tests/scenarios/test_killed_at_random.py tests/sim/test_power_loss.py tests/unit/flows/test_cut_anywhere.py \
  tests/unit/vault/test_bit_flips.py tests/unit/test_fuzz_limits.py

soak: $(STAMP) coverage score  ## the long versions: 10,000 kills, thousands of seeds and states; hours
	@$(BIN)/python -m pytest -m soak --timeout 0
	@REFLOAT_KILLS=10000 REFLOAT_POWER_STATES=5000 REFLOAT_CUTS_EACH=1 REFLOAT_FLIPS=100000 REFLOAT_FUZZ=100000 REFLOAT_EXAMPLES=500 \
	  $(BIN)/python -m pytest --timeout 0 $(SOAKED)

HEART := $(patsubst %,tests/unit/vault/test_%.py,chunk holders keys pack prune prune_index recipients resealed slotlog wraps)

coverage: $(STAMP)  ## run the tests of the vault's heart, and demand that they take every branch of it
	@$(BIN)/python -m coverage run -m pytest $(HEART)
	@$(BIN)/python -m coverage report

score: $(STAMP)  ## change the vault's heart in hundreds of small ways, and demand that tests notice 85 of 100
	@$(BIN)/python tests/mutants/score.py $(HEART)

sim: $(STAMP)  ## one seed of the simulation, told step by step: make sim SEED=81
	@$(BIN)/python -m refloat.testing.simulation --seed $(or $(SEED),1)

mutants: $(STAMP) $(AZURITE)/.installed  ## take each defence out in turn, and demand that a test notices
	@$(BIN)/python tests/mutants/run.py

check: $(STAMP)  ## ruff, mypy --strict, the import contracts, tidiness
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest tests/tidy $(ARGS)

bench: $(STAMP)  ## measure, and write bench/RESULTS.md
	@$(BIN)/python bench/run.py

bench-vault: $(STAMP)  ## the vault beside restic and borg on real training, and write bench/VAULT.md
	@$(BIN)/python bench/run_vault.py

bench-recovery: $(STAMP)  ## do estimates hold, in drawn runs and in real ones? writes bench/RECOVERY.md
	@$(BIN)/python bench/run_recovery.py

format: $(STAMP)  ## put the code into its one form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: pyproject.toml  ## resolve the dependencies anew (needs uv)
	@uv pip compile pyproject.toml --universal --python-version 3.11 --extra demo --extra dev --extra lancedb \
	  --quiet --no-header --no-annotate --output-file requirements.lock

clean:  ## remove the environment and every cache
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
