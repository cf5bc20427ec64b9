# Two commands to start with: `make demo` and `make test`. Both make .venv and install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
FIGURES_STAMP := $(VENV)/.installed-figures
JOBS ?= 2

.PHONY: demo test quick check format bench figures golden clean

# Compile the digits model, run it on an emulated Cortex-M4, compare with the framework.
demo: $(STAMP)
	$(BIN)/python examples/digits/demo.py

# All tests.
test: $(DEV_STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

quick: $(DEV_STAMP)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not slow"

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

# Figures of the models in ../shared/models beside the peers'.
bench: $(DEV_STAMP)
	$(BIN)/python benchmarks/bench.py

# Measure all figures and pictures of README.md, docs and examples, with the pinned versions of what
# they rest on, and write them there. Needs ../shared/models; `pip install -e '.[train]'` for those
# of PyTorch, which else stay as they are.
figures: $(FIGURES_STAMP)
	$(BIN)/python benchmarks/figures.py
	$(BIN)/python docs/pictures/make.py

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

$(FIGURES_STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[figures]'
	touch $@ $(DEV_STAMP) $(STAMP)

clean:
	rm -rf $(VENV) build out .mypy_cache .pytest_cache .ruff_cache .hypothesis
