# Everything runs in .venv, which each target makes and keeps current by itself. Needed: Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_WORKERS ?= 2
BENCHMARKS := cli_start audio_speed job_queue ingest orchestration pipeline scale signals
ENGINE_PLUGINS := ironclad-engine-demucs ironclad-engine-spleeter ironclad-engine-audio-separator
LEDGER := PYTHONPATH=tests/chaos:tests/support $(BIN)/python -m chaoslab.ledger
# Only the project's own settings reach demo and tests, never the operator's. Processes are started by the hundred, so
# compiled modules are kept.
CLEAN := env -u IRONCLAD_CONFIG -u IRONCLAD_DATA_DIR -u IRONCLAD_DATABASE_URL -u PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test coverage engines-real chaos chaos-system check bench docs release-check format clean

help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ironclad needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	touch $(STAMP)

install: $(STAMP) ## Make the virtual environment in .venv with everything in it

demo: $(STAMP) ## Three songs with known stems go through the whole pipeline; prints tree, receipts and SDR
	$(CLEAN) $(BIN)/ironclad demo

test: $(STAMP) ## Run the tests (under 15 minutes on 2 cores)
	$(CLEAN) $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup

coverage: $(STAMP) ## The tests again, with coverage of branches, in child processes too (three times as slow)
	$(CLEAN) $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup --timeout 600 --cov --cov-report=term:skip-covered

chaos: $(STAMP) ## Kill, fail, pause and cut off all that touches files (goes on where it was interrupted); rewrites the tables of docs/reliability.md
	$(CLEAN) IRONCLAD_TEST_LEDGERS=.chaos $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal -p no:randomly -v -rs \
	  -m "chaos or not chaos" tests/chaos --ignore tests/chaos/system \
	  --ignore tests/chaos/test_crash_slice.py --ignore tests/chaos/test_kill_each.py || \
	  { $(LEDGER) .chaos; exit 1; }
	$(LEDGER) .chaos docs/reliability.md
	rm -rf .chaos

chaos-system: $(STAMP) ## Kill each process of a whole installation, then let a seeded monkey loose on it: 50 songs, 3 seeds
	$(CLEAN) $(BIN)/python -m pytest -m chaos -s -p no:randomly tests/chaos/test_kill_each.py tests/chaos/system tests/e2e/test_health_in_trouble.py \
	  tests/integration/engines/test_engine_host.py

engines-real: $(STAMP) ## Real weights on real music: IRONCLAD_TEST_MODELS=FOLDER make engines-real (installs 4 GB)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(ENGINE_PLUGINS:%=--editable plugins/%)
	$(CLEAN) IRONCLAD_TEST_ENGINES=$${IRONCLAD_TEST_ENGINES:-engines-data} $(BIN)/python -m pytest -m "" -p no:randomly tests/e2e/test_real_engines.py -rs; \
	  status=$$?; $(BIN)/python -m pip uninstall --quiet --yes $(ENGINE_PLUGINS); exit $$status

check: $(STAMP) ## Lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## Run the benchmarks; they print ratios measured side by side
	for name in $(BENCHMARKS); do echo "== benchmarks/$$name.py"; $(CLEAN) $(BIN)/python benchmarks/$$name.py || exit 1; done

docs: $(STAMP) ## Generate the reference pages and build the site in site/, strictly
	$(BIN)/python -m ironclad.cli.reference
	$(BIN)/python -m ironclad.api.reference
	$(BIN)/python -m mkdocs build --strict --quiet

release-check: $(STAMP) ## Build twice, compare, look inside, list licences and an SBOM; leaves all in dist/
	$(BIN)/python scripts/release_check.py

format: $(STAMP) ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the virtual environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* demo-data dist .chaos
