# Every target makes what it needs; `make demo` and `make test` are each the only command to type.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check lint types contract format bench exactness sizes clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: $(STAMP)   ## the whole story on real data in about a minute
	$(BIN)/penstock demo

test: $(STAMP)   ## every test; under 10 minutes on 2 cores
	$(BIN)/python -m pytest -n 2

check: $(STAMP) lint types contract   ## format, lint, types, import contract (the shape is a test)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

contract: $(STAMP)
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)   ## throughput beside the null handler and the usual design; needs wrk
	$(BIN)/python benchmarks/bench.py

sizes: $(STAMP)   ## what each extra takes on disk
	$(BIN)/python benchmarks/install_size.py

exactness: $(STAMP)   ## regenerates docs/exactness.md from ../shared/data
	$(BIN)/python benchmarks/exactness.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis build dist
