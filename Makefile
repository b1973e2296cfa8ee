# Two commands matter: `make demo` and `make test`. Each sets itself up on a machine with Python 3.11+, git and make.
PYTHON ?= $(firstword $(foreach p,python3.12 python3.11 python3,$(if $(shell $(p) -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo yes),$(p))))
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := $(VENV)-lowest
NEEDS_PYTHON = @test -n "$(PYTHON)" || { echo "sdc needs Python 3.11 or newer; name it: make setup PYTHON=/path/to/python3"; exit 1; }

.PHONY: setup demo test test-lowest lint format clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(NEEDS_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/python -m sdc.cli.demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=10

# The lowest versions that pyproject.toml promises, torch 2.11 first of all: what leans on torch is tested, and a little of
# what leans on matplotlib and Parsl; DM's true script runs on scikit-learn's digits. No part of `make test`, for its
# environment is one more download of a few GB.
test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest -n 2 --dist worksteal tests/launcher tests/evaluation tests/plugins \
		tests/analysis/difficulty tests/bench/test_faults.py::test_a_cell_whose_worker_is_killed_goes_on_in_another
	@git ls-remote --quiet --exit-code https://github.com/VICO-UoE/DatasetCondensation HEAD > /dev/null || \
		{ echo "left out, for DM's upstream cannot be reached: sdc run dm"; exit 0; }; \
	folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && export SDC_UPSTREAM=$$folder/upstream SDC_CACHE=$$folder/cache && \
	$(LOWEST)/bin/sdc run dm --dataset digits --weight 0.1 --runs $$folder/runs --set Iteration=3 --set networks=1 \
		--set epochs=2 --set limit_per_class=20

$(LOWEST)/.ready: pyproject.toml constraints-lowest.txt
	$(NEEDS_PYTHON)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-lowest.txt \
		--editable . hypothesis pytest pytest-xdist
	@touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(LOWEST) demo .mypy_cache .pytest_cache .ruff_cache
