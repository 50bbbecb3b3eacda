# make demo   the main job on the embedded model, from a bare machine with Python 3.11+
# make test   lint and the fast tests; make test-slow: those that take minutes

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow benchmark clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	for product in leather ring; do \
		$(BIN)/adaptclip detect examples/images/$$product/test --normal examples/images/$$product/normal \
			--output demo-output/$$product || exit 1; \
	done

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pytest

test-slow: $(VENV)/.installed
	$(BIN)/pytest -m slow

benchmark: $(VENV)/.installed
	$(BIN)/python benchmarks/encoder.py

clean:
	rm -rf $(VENV) build demo-output adaptclip-output *.egg-info
