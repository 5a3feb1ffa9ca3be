# make demo: the main job, on the bundled model.   make test: everything that CI runs.   make bench: the measured claims.
PYTHON ?= $(shell for v in 3.11 3.12 3.13; do command -v python$$v && break; done || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# in two processes, whole files to each: what a file has set up is set up once
FAST := $(BIN)/python -m pytest -q -n 2 --dist loadfile
EVERYTHING := tests clients/python/tests plugins
# tests that start processes of their own, which want the machine for themselves
ALONE := tests/benchmarks tests/e2e tests/integration

# what the tests' many processes import is compiled once
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test fast bench lint install clean

install: $(STAMP)

$(STAMP): pyproject.toml clients/python/pyproject.toml plugins/attribution/pyproject.toml plugins/backpack/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "interpd needs Python 3.11 to 3.13, found %d.%d: make PYTHON=/path/to/python3.11" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[daemon,dev]' -e clients/python -e plugins/attribution -e plugins/backpack
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/python examples/demo.py

test: lint fast
	$(FAST) plugins
	$(BIN)/python -m pytest -q -m ray $(EVERYTHING)
	$(FAST) -m slow $(addprefix --ignore=,$(ALONE)) $(EVERYTHING)
	$(BIN)/python -m pytest -q -m slow $(ALONE)

fast: $(STAMP)
	$(FAST)

bench: $(STAMP)
	@$(BIN)/python -m benchmarks $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) build *.egg-info clients/python/*.egg-info plugins/*/*.egg-info
