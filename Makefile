# memaudit: every target works on a fresh clone with Python 3.11, make and a C compiler.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup hooks test unit test-chaos test-gpu lint types imports contract client-types client-check check bench bench-gpu bench-load bench-scale suite-check demo suite-report sbom scan fuzz openapi lock clean chaos

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
SUITE ?= .suites/micro
SBOM ?= memaudit.cdx.json
MINUTES ?= 20
SCANNER := .venv-scan
# Tests run in as many processes as there are cores; PYTEST_ARGS=-n0 runs them in one.
AT_ONCE := -n logical --maxprocesses 4
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with the memaudit command in it

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first and by its exact pin; the lock constrains everything else.
$(STAMP): requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[worker,embedded,inspect]'
	touch $@

# kronfluence asks for torchvision without using it, and brings a package `tests` that would hide ours.
$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[worker,embedded,inspect,telemetry,dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c requirements.lock kronfluence
	rm -rf $(VENV)/lib/python3*/site-packages/tests
	touch $@

hooks: $(DEV_STAMP) ## Let git run the checks before each commit, and the unit tests before each push
	$(BIN)/pre-commit install

demo: setup ## Train a small suite, start the service, audit, edit and judge its models, show the pages
	$(BIN)/memaudit demo $(DEMO_ARGS)

suite-report: setup ## Train the micro suite with its timing and dilution runs (1.5 hours on 2 cores, once) and report on it
	$(BIN)/memaudit suite train --size micro --timing --dilution --out $(SUITE)
	$(BIN)/memaudit suite report $(SUITE)

test: $(DEV_STAMP) check ## Run all checks and the tests, but for the slow suites
	$(BIN)/python -m pytest -m "not chaos and not gpu" $(AT_ONCE) $(PYTEST_ARGS)

unit: $(DEV_STAMP) ## Run the tests that start no servers
	$(BIN)/python -m pytest -m "not chaos and not gpu" tests/unit $(AT_ONCE) $(PYTEST_ARGS)

test-chaos: $(DEV_STAMP) ## Run the slow fault tests: minutes of killed, paused and emptied servers
	$(BIN)/python -m pytest -m chaos $(PYTEST_ARGS)

chaos: $(DEV_STAMP) ## Run a mixed load under random faults for ten minutes (CHAOS_ARGS="--minutes 60 --seed 1")
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

test-gpu: $(DEV_STAMP) ## Run the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu $(PYTEST_ARGS)

check: lint types imports contract client-check ## Run every static check; the hooks run the same

lint: $(DEV_STAMP) ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV_STAMP) ## Check types
	$(BIN)/mypy

imports: $(DEV_STAMP) ## Check who may import whom
	$(BIN)/lint-imports --no-cache

contract: $(DEV_STAMP) ## Check that openapi.json is what the application serves
	$(BIN)/python -m tests.acceptance.openapi_snapshot --check

client-check: $(DEV_STAMP) ## Check that the client's generated modules are what openapi.json says
	$(BIN)/python -m tests.client_build --check

bench: $(DEV_STAMP) ## Measure speed side by side with its peers, and memory for few texts and for many
	$(BIN)/python -m tests.benchmarks.scoring
	$(BIN)/python -m tests.benchmarks.service
	$(BIN)/python -m tests.benchmarks.curvature
	$(BIN)/python -m tests.benchmarks.memory
	$(BIN)/python -m tests.benchmarks.growth

bench-gpu: $(DEV_STAMP) ## Measure scoring and edits of a 1B and a 7B model on a GPU, with targets (GPU_ARGS="--models 1B")
	$(BIN)/python -m tests.benchmarks.gpu $(GPU_ARGS)

bench-load: $(DEV_STAMP) ## Measure what the service carries beside a worker, and how it refuses more (LOAD_ARGS="--seconds 300")
	$(BIN)/python -m tests.benchmarks.load $(LOAD_ARGS)

bench-scale: $(DEV_STAMP) ## Measure 50 workers at a million queued jobs, and a small tenant beside a large one (SCALE_ARGS="--jobs 20000")
	$(BIN)/python -m tests.benchmarks.scale $(SCALE_ARGS)
	$(BIN)/python -m tests.benchmarks.fairness $(FAIRNESS_ARGS)

SUITE_CHECKS := calibration dose_response windows
suite-check: $(DEV_STAMP) ## Check on a trained micro suite (SUITE=DIR) what measurements claim; takes long
	@test -d "$(SUITE)" || { echo "Name a trained suite: make suite-check SUITE=DIR"; exit 2; }
	@failed=; for check in $(SUITE_CHECKS); do \
		echo "$$check"; $(BIN)/python -m tests.benchmarks.$$check "$(SUITE)" || failed="$$failed $$check"; \
	done; test -z "$$failed" || { echo "Missed a limit:$$failed"; exit 1; }

sbom: $(DEV_STAMP) ## Write a CycloneDX bill of materials of memaudit itself (SBOM=FILE)
	$(BIN)/python -m tests.product_bom "$(SBOM)"
	@echo "Written to $(SBOM)"

# The scanner stands apart from what it scans. `--strict`: what nobody could look up is a failure, not a pass.
$(SCANNER)/bin/pip-audit:
	$(PYTHON) -m venv $(SCANNER)
	$(SCANNER)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1

scan: $(SCANNER)/bin/pip-audit ## Look for known vulnerabilities of what the lock has (needs pypi.org itself)
	@$(SCANNER)/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict --desc on \
		--progress-spinner off $(SCAN_ARGS) \
		|| { echo "Either vulnerabilities are named above, or pypi.org's own API, which knows them, was not reached:"; \
		echo "then nothing was scanned. A mirror of packages does not know them."; exit 1; }

fuzz: $(DEV_STAMP) ## Send generated requests to a live service for MINUTES (20), every check, stateful too
	MEMAUDIT_TEST_FUZZ_MINUTES=$(MINUTES) $(BIN)/python -m pytest tests/acceptance/test_schemathesis.py $(PYTEST_ARGS)

openapi: $(DEV_STAMP) ## Rewrite the OpenAPI snapshot
	$(BIN)/python -m tests.acceptance.openapi_snapshot

client-types: $(DEV_STAMP) ## Rewrite the client's generated modules from openapi.json
	$(BIN)/python -m tests.client_build

lock: $(DEV_STAMP) ## Rewrite requirements.lock from the environment
	$(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/^torch==2\.13\.0.*/torch==2.13.0/' > requirements.lock

clean: ## Remove the environment and caches
	rm -rf $(VENV) $(SCANNER) .mypy_cache .ruff_cache .pytest_cache .hypothesis
