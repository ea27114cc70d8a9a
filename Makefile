# The verbs, the same here and in CI. Only Python 3.11+, git and make need to be there.
PYTHON ?= python3
VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
READY := $(VENV)/.ready

.PHONY: demo test test-quick coverage lint types format bench chaos clean

demo: $(READY)
	$(BIN)/enginelog demo

# Real sockets, disks and processes on a busy machine: what fails is tried once more, and the summary names it.
test: $(READY) odbc chromium
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses 2 --dist loadfile --reruns 1 -raR
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

test-quick: $(READY)
	$(BIN)/python -m pytest -m "not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What is known of the libraries that are installed here, and bandit's rules on our own code. pip-audit has
# an environment of its own; --strict, so that a library nobody could ask about isn't taken for a good one.
.PHONY: audit
AUDIT := $(VENV)/audit/$(notdir $(BIN))
audit: $(READY)
	$(BIN)/ruff check .
	$(BIN)/python -m pip freeze --quiet --exclude-editable > $(VENV)/installed.txt
	$(PYTHON) -m venv $(VENV)/audit
	$(AUDIT)/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(AUDIT)/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement $(VENV)/installed.txt

# Rivals are measured in an environment of their own. `make bench QUICK=1` takes minutes instead of hours.
BENCH_VENV ?= .venv-bench
BENCH_BIN := $(BENCH_VENV)/$(notdir $(BIN))
BENCH_READY := $(BENCH_VENV)/.ready

bench: $(BENCH_READY)
	$(BENCH_BIN)/python -m benchmarks $(if $(QUICK),--quick,--plots docs/plots)

# Only ratios that repeat, against bounds. Not part of `make test`: it takes the machine for itself.
.PHONY: bench-check
bench-check: $(BENCH_READY)
	$(BENCH_BIN)/python -m benchmarks --check

$(BENCH_READY): pyproject.toml
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_BIN)/python -m benchmarks.install
	@$(PYTHON) -c 'open("$(BENCH_READY)", "w").close()'

# 35 minutes; CHAOS=--full for two hours and 10,000,000 rows, CHAOS=--quick for two minutes, CHAOS=load for some.
chaos: $(READY)
	$(BIN)/python -m tests.chaos $(CHAOS)

# The ODBC driver is a Debian package. Where it can't be installed, its tests are skipped and say why.
.PHONY: odbc
odbc:
	@sh scripts/install-odbc

# Chromium is a Debian package, too. Without it, the tests of the page in a browser are skipped and say why.
.PHONY: chromium
chromium:
	@sh scripts/install-chromium

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "async-enginelog needs Python 3.11 or newer, this is %d.%d; say which: make PYTHON=python3.12 test" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@$(PYTHON) -c 'open("$(READY)", "w").close()'

clean:
	$(PYTHON) -c 'import shutil; shutil.rmtree("$(VENV)", ignore_errors=True)'
