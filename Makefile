# make demo: paint a picture from a clean clone.  make test: the whole suite.  make check: style, layers, types.  make docs: the generated pages.
VENV := .venv
PYTHON := $(VENV)/bin/python
BASE_PYTHON ?= python3
.DEFAULT_GOAL := help
.PHONY: help demo test check docs fix clean

help:
	@grep -E '^# make' Makefile | sed 's/^# //; s/  make/\nmake/g'

$(VENV)/installed: pyproject.toml constraints.txt
	$(BASE_PYTHON) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --constraint constraints.txt torch
	$(PYTHON) -m pip install --quiet --constraint constraints.txt --editable '.[local,dev]'
	touch $@

demo: $(VENV)/installed
	$(VENV)/bin/vernissage paint --explain --seed 3 --out demo.png "two yellow stars over the sea at night, neon please"
	@echo "The picture lies in $(CURDIR)/demo.png"

# A process a core with a thread each; those of one process wait for one another too often.
test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

check: $(VENV)/installed
	$(VENV)/bin/ruff check src tests recipes benchmarks examples docs
	$(VENV)/bin/ruff format --check src tests recipes benchmarks examples docs
	$(VENV)/bin/lint-imports
	$(VENV)/bin/pyright

docs: $(VENV)/installed
	$(PYTHON) docs/commands.py
	$(PYTHON) docs/metrics.py
	$(PYTHON) docs/studio.py
	$(PYTHON) benchmarks/tables.py

fix: $(VENV)/installed
	$(VENV)/bin/ruff check --fix src tests recipes benchmarks examples docs
	$(VENV)/bin/ruff format src tests recipes benchmarks examples docs

clean:
	rm -rf $(VENV) build/lib demo.png
