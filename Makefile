# The verbs, the same here and in CI. Only Python 3.11+, git and make need to be there.
PYTHON ?= python3
VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif
READY := $(VENV)/.ready

.PHONY: demo test test-quick coverage lint types format bench clean

demo: $(READY)
	$(BIN)/enginelog demo

test: $(READY) odbc chromium
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
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

bench: $(READY)
	$(BIN)/python -m benchmarks

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
