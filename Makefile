# What a newcomer types. `make` alone lists it.
#
# The environment lives in .venv and is built again when requirements.lock or pyproject.toml changes.
# PYTHON names the Python to build it with; ARGS is passed on to the command behind a target.

PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.stamp
CODE := $(wildcard perturbnet neurons tests tools benchmarks recipes examples)
# One process for each core; a file's tests stay in one of them, so what a file prepares is prepared once. The order
# is that of tests/conftest.py: by itself pytest-xdist begins with the files of most tests, which are the quick ones.
SPREAD := -n $(shell nproc) --dist loadfile --no-loadscope-reorder
# Never part of the two test targets: what reaches beyond this machine.
FAST := not slow and not gpu and not network

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint bench lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP) ## the whole network on this machine: a validator, miners, a chain; ends with a table
	@$(BIN)/perturb localnet --seed demo $(ARGS)

test: $(STAMP) ## the quick tests; no network beyond loopback
	@$(BIN)/python -m pytest $(SPREAD) -m "$(FAST)" $(ARGS)

test-all: $(STAMP) ## the slow tests too, and those for a GPU where there is one
	@$(BIN)/python -m pytest $(SPREAD) -m "not network" $(ARGS)

lint: $(STAMP) ## ruff and mypy
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy $(CODE)

bench: $(STAMP) ## measure against what each room must beat, interleaved
	@$(BIN)/python -m benchmarks $(ARGS)

lock: $(STAMP) ## write requirements.lock and nix/python.lock; ARGS=--upgrade for newer versions
	@$(BIN)/python tools/lock.py $(ARGS)

clean: ## remove .venv and every cache; results in localnet/ stay
	@rm -rf .venv .venv.log build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis htmlcov .coverage .coverage.*
	@find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(STAMP): requirements.lock pyproject.toml tools/environment.py
	@command -v $(PYTHON) >/dev/null || { echo "perturb: there is no $(PYTHON); install Python 3.11, 3.12 or 3.13" >&2; exit 2; }
	@$(PYTHON) tools/environment.py
