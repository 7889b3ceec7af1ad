# Every command sets up what it needs in .venv and nothing outside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
# The suites' caches and results stay in the checkout.
export PERFQ_CACHE ?= $(CURDIR)/.perfq/cache

.PHONY: setup test bench speed kernels kernels-cuda check check-native format clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[onnxruntime,minilm,dev]'
	touch $(STAMP)

# Two files at a time, those of whole runs first since they last longest, but for those that time programs of some length, or
# count what a machine does: those want it for themselves.
ALONE := tests/test_conditions_process.py tests/test_stopwatch.py \
    $(patsubst %,tests/trials/test_%.py,ab benchmarks_beside injections workers) \
    $(patsubst %,tests/plugin/test_%.py,benchmarks disturbed_visits runner)

FIRST := tests/trials/ tests/plugin/
REST := $(filter-out $(FIRST) tests/data/ %__pycache__/ $(ALONE),$(wildcard tests/*/) $(wildcard tests/test_*.py))

test: setup
	$(BIN)/python -m pytest $(FIRST) $(REST) -q -n 2 --dist loadfile $(ALONE:%=--ignore=%)
	$(BIN)/python -m pytest $(ALONE) -q

# Two real sweeps of a real model on the embedded data, judged and stored: every backend, then the native encoder beside them.
bench: setup
	$(BIN)/python -m pytest suites/test_smoke.py --perf-gpu=auto --perf-time=500ms -q
	$(BIN)/python -m pytest suites/test_native.py -k test_synthetic --perf-gpu=auto --perf-time=500ms -q

# What the plugin costs, how often its verdicts are wrong, then the native encoder beside its peers.
speed: setup
	$(BIN)/python tests/speed.py
	$(BIN)/python tests/error_rates.py
	$(BIN)/python tests/speed_native.py

# The native kernels, built ahead of their first use and kept in the cache: for this processor, or, for an image that others will
# run, with PERFQ_KERNELS_ISAS=all (set where it runs as well) for all that there are.
kernels: setup
	$(BIN)/python -m pytest_perfq.kernels.build $(PERFQ_CACHE)

# The CUDA half for sm_75, 80, 86 and 90, by nvcc and without a GPU: a kernel that spills fails it, then the library is loaded.
kernels-cuda: setup
	$(BIN)/python -m pytest_perfq.kernels.build_cuda $(PERFQ_CACHE)

check: setup
	$(BIN)/ruff check pytest_perfq suites tests
	$(BIN)/ruff format --check pytest_perfq suites tests
	$(BIN)/mypy
	$(MAKE) test

# The ops under the address and undefined-behaviour sanitizers of g++: a finding ends the run. Python itself leaks by design, and
# libstdc++ comes along because the sanitizer must see its exceptions from the start. nvcc does not run with it loaded.
check-native: export PERFQ_KERNELS_SANITIZE = 1
check-native: export CXX = g++
check-native: setup kernels
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
	    $(BIN)/python -m pytest tests/kernels -q -p no:randomly --ignore=tests/kernels/test_build_cuda.py

format: setup
	$(BIN)/ruff format pytest_perfq suites tests
	$(BIN)/ruff check --fix pytest_perfq suites tests

clean:
	rm -rf $(VENV) .perfq .pytest_cache .mypy_cache .ruff_cache
