# One virtual environment, made once and remade when the project's metadata or the tested versions change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
# Tests of a file stay in one process: they share its models, its servers and its finished results.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile
ENVIRONMENT := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

.PHONY: run install install-dev chromium test test-slow check format bench clean

run: install ## start the app on 127.0.0.1:8501
	$(BIN)/workbench app

install: $(RUN_STAMP)

install-dev: $(DEV_STAMP)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

$(DEV_STAMP): $(RUN_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

chromium: ## browser tests need it; installed only where that is possible (root and apt)
	@command -v chromium >/dev/null 2>&1 || bash tests/install_chromium.sh

test: install-dev chromium ## the core tests, under 10 minutes on 2 cores
	$(ENVIRONMENT) $(BIN)/python -m pytest $(PARALLEL) -m "not slow" -q

test-slow: install-dev chromium ## the rest, under 30 minutes
	$(ENVIRONMENT) $(BIN)/python -m pytest $(PARALLEL) -m slow -q

check: install-dev ## lint, format, types, import floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(ENVIRONMENT) $(BIN)/python -m pytest -q tests/test_floors.py

format: install-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev ## speed and memory, printed and written to benchmarks/results
	$(ENVIRONMENT) $(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache test-artifacts
