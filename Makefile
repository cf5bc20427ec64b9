# Two commands to start with: `make demo` and `make test`. Both make .venv and install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
JOBS ?= 2

.PHONY: demo test quick check format bench golden clean

# Compile the digits model, run it on an emulated Cortex-M4, compare with the framework.
demo: $(STAMP)
	$(BIN)/python examples/digits/demo.py

# All tests.
test: $(DEV_STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

quick: $(DEV_STAMP)
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow"

# What every commit passes: format, lint, types, tests (which build C with warnings as errors and
# run it under sanitizers).
check: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

format: $(DEV_STAMP)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Figures of the models in ../shared/models (or MODELS=folder) beside the peers'.
bench: $(DEV_STAMP)
	$(BIN)/python benchmarks/bench.py

# Rewrite the expected texts in tests/golden; review the diff.
golden: $(DEV_STAMP)
	$(BIN)/python -m pytest --update-golden tests

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[verify]'
	touch $@

$(DEV_STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(STAMP)

clean:
	rm -rf $(VENV) build out .mypy_cache .pytest_cache .ruff_cache .hypothesis
