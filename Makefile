# Two commands do all: `make quickstart` shows what rigorl is, `make test` whether it works.
PYTHON ?= python3.11
BIN := .venv/bin
# Tests that lose no power need no disk: a folder in memory, where there is one.
MEMORY := $(if $(wildcard /dev/shm/.),/dev/shm,/tmp)

.PHONY: setup quickstart test unit slow crash-short crash everywhere lint fix check bench \
	bench-score bench-setup clean

setup: .venv/.ready

.venv/.ready: pyproject.toml .ci/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[test]'
	touch $@

quickstart: setup
	$(BIN)/rigorl run experiments/quickstart.yaml

test: unit slow crash-short

# Seconds, without Ray, MLflow or a network.
unit: setup
	OMP_NUM_THREADS=1 TMPDIR=$(MEMORY) $(BIN)/python -m pytest -n 2 --dist worksteal

# The real Ray, MLflow and peers. Files go side by side, for they wait more than they work.
slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests/slow

# Killed at every point, and once by everything else; the long table takes a quarter of an hour.
crash-short: setup
	OMP_NUM_THREADS=1 TMPDIR=$(MEMORY) $(BIN)/python -m pytest -n 2 tests/crash

crash: setup
	OMP_NUM_THREADS=1 PYTHONPATH=tests TMPDIR=$(MEMORY) $(BIN)/python tests/crash/long.py

# The quickstart as it is shipped, in one process, on local Ray, and on four nodes of which one dies.
everywhere: setup
	WHOLE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/slow/test_everywhere.py

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check: setup
	$(BIN)/rigorl check $$(find experiments -name '*.yaml' | sort)

# Us against our peers in speed; three quarters of an hour. BENCH="--only worlds" does a part.
# It fails if a bar is missed, and says which.
bench: bench-setup
	$(BIN)/python experiments/benchmarks/throughput.py $(BENCH)

# PPO against SB3 in score: hours.
bench-score: bench-setup
	$(BIN)/python experiments/benchmarks/ppo_vs_sb3.py $(BENCH)

bench-setup: setup
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[bench]'

clean:
	rm -rf .venv .peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
