# Everything sets itself up in .venv on its first run and works offline after it.
#   make demo       node, camera player and listener over DDS on the shipped clip; leaves out/demo-timeline.png
#   make test       the fast tests          make test-all   all of them
#   make lint       ruff and mypy           make clean      removes what the above made
#   make soak       an hour of stream through the node at 20 times its speed, with faults
# PYTHON=python3.12 make ... picks the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SETUP := pyproject.toml constraints.txt

.PHONY: demo test test-all lint soak clean
.DELETE_ON_ERROR:

demo: $(VENV)/.ready-run
	$(BIN)/vispeak demo

test: $(VENV)/.ready-dev
	$(BIN)/python -m pytest -m "not slow"

test-all: $(VENV)/.ready-dev
	$(BIN)/python -m pytest

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(VENV)/.ready-run
	$(BIN)/python benchmarks/soak.py

clean:
	rm -rf $(VENV) out build dist *.egg-info training/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# torch first, on its own: whichever build satisfies the pin is then kept by what follows
$(BIN)/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	touch $@

$(VENV)/.ready-run: $(BIN)/.torch $(SETUP)
	$(PIP) -e '.[plot,tree]'
	touch $@

$(VENV)/.ready-dev: $(BIN)/.torch $(SETUP)
	$(PIP) -e '.[dev,plot,theatre]'
	touch $@
