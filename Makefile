# Two commands do everything from a bare clone: `make demo` and `make test`. Both leave the environment in .venv.
PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(if $(shell command -v $(p)),$(p))))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two files of tests at a time: many start processes of their own, so more would only wait for each other.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test offline check fuzz format lint types floors up clients chaos clean install

help:  ## What there is to do.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## Make .venv with everything in it.

$(STAMP): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed. Install it, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "Installing into $(VENV): a minute or two, the first time only."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,postgres,parquet,dev]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --target $(VENV)/openai-2 --upgrade openai==2.54.0
	@touch $@

demo: $(STAMP)  ## Teach the embedded base an invented company, and ask it: before and after.
	@$(BIN)/python examples/demo.py --serve

test: $(STAMP)  ## Every test.
	$(PYTEST)

# Whoever is root stays root, so that PostgreSQL can still be run as somebody else.
offline: $(STAMP)  ## Every test, where there is no network but loopback.
	unshare $(if $(filter 0,$(shell id -u)),-n,-rn) $(BIN)/python -m tests.offline $(PYTEST)

check: $(STAMP) format lint types floors  ## What CI runs: format, lint, types, floors, tests.
	$(PYTEST)

format: $(STAMP)
	$(BIN)/ruff format --check .

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

floors: $(STAMP)
	$(BIN)/lint-imports --config .importlinter
	$(BIN)/python -m tests.neutrality

fuzz: $(STAMP)  ## 10,000 requests made up from the API's own description.
	$(BIN)/python -W ignore -m tests.server.fuzz 10000 1

clients: $(STAMP)  ## Other people's clients against a live server: some minutes, and 4 GB below build/ the first time.
	$(BIN)/python -m tests.clients

# A stopped run goes on when it is given its folder: make chaos CHAOS=/tmp/chaos-...
CHAOS ?= /tmp/chaos-$(shell date +%s)
chaos: $(STAMP)  ## Ten minutes of kills, freezes and full disks on both databases, and what was promised is kept.
	$(BIN)/python -m benchmarks.chaos --folder $(CHAOS)/sqlite --seconds 260
	$(BIN)/python -m benchmarks.chaos --folder $(CHAOS)/postgres --seconds 260 --postgres
	$(BIN)/python -m benchmarks.kill --folder $(CHAOS)/queue --kills 500

clean:  ## Remove the environment and caches.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
