# Two commands: `make train` and `make test`. Both set up .venv first; the second time they are quick.
#   make train CONFIG=configs/branching_attn.py:layers=4 ARGS="--config.epochs=5 --workdir runs/mine"

PYTHON ?= python3
CONFIG ?= configs/branching_attn.py:digits
ARGS ?=
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
# The pinned versions are for Python 3.11; newer Pythons use what pyproject.toml allows.
PINS = $(shell $(VENV)/bin/python -c 'import sys; print("-c constraints.txt" if sys.version_info[:2] == (3, 11) else "")')

.PHONY: train test soak fuzz lint clean

train: $(VENV)/installed
	$(VENV)/bin/python -m train --config $(CONFIG) $(ARGS)

test: $(VENV)/installed-test lint
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations=20 $(ARGS)

# Longer versions of test_reliability.py and test_fuzz.py; docs/reliability.md has the results.
soak: $(VENV)/installed-test
	SOAK_KILLS=20 SOAK_STEPS=2000 $(VENV)/bin/python -m pytest -s tests/train/test_reliability.py $(ARGS)

fuzz: $(VENV)/installed-test
	FUZZ_EXAMPLES=3000 $(VENV)/bin/python -m pytest tests/test_fuzz.py $(ARGS)

lint: $(VENV)/installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: expected Python 3.11 or newer as $(PYTHON); try make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "error: $(PYTHON) cannot create a virtual environment; try: apt install python3-venv" >&2; exit 1; }

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -q $(PINS) -e .
	@touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install -q $(PINS) -e '.[test]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build *.egg-info
