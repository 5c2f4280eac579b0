# rutile: needs Python 3.11, make, gcc and a package registry; everything else goes into .venv

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
TORCH := torch==2.13.0
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow check format bench docs web clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/ready ## create .venv with exact versions and install rutile into it (again only when they change)

.venv/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "rutile needs Python 3.11: install it, or make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rutile needs Python 3.11 or newer, found: $$($(PYTHON) -V)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "setup 1/3: PyTorch (the largest download)"
	@$(PIP) --quiet setuptools
	@$(PIP) '$(TORCH)'
	@echo "setup 2/3: the other packages of constraints.txt"
	@$(PIP) --quiet $$($(BIN)/python scripts/requirements.py)
	@echo "setup 3/3: rutile itself"
	@$(PIP) --quiet --no-build-isolation --no-deps --editable .
	@touch $@
	@echo "ready: $$($(BIN)/rutile --version) in $(BIN)"

demo: setup ## the main job on real data: train, evaluate, relax, search, report (10 minutes on 2 cores), then its page (Ctrl-C ends it)
	$(BIN)/rutile demo
	@if [ -t 1 ]; then $(BIN)/rutile serve home=demo/platform adopt=[demo] port=0; \
	else echo "see it in a browser: $(BIN)/rutile serve home=demo/platform adopt=[demo]"; fi

test: setup ## the whole test suite except the tiers of test-slow
	$(PYTEST) -m "not physics and not dft and not slurm and not long"

test-slow: setup ## statistics of physics, real engines, a private Slurm
	$(PYTEST) -m "physics or dft or slurm or long"

check: setup ## style, types, floors and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports
	$(PYTEST) -m "not slow and not physics and not dft and not slurm and not long and not web"

format: setup ## sort imports and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## every benchmark (hours of training in all); results in benchmarks/results
	@failed=; for script in $$(grep -l __main__ benchmarks/*.py); do \
		echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

docs: setup ## write docs/reference from the settings models
	$(BIN)/python scripts/make_reference.py

web: ## build the page of the platform (needs Node 20 or newer; only who changes web/ does)
	cd web && npm ci --no-audit --no-fund && npm run check && npm run build

clean: ## remove .venv and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
