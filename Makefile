# make demo         the main job on the embedded model, from a bare machine with Python 3.11+
# make test         lint, types and the fast tests; make test-slow: those that start processes, export or take long
# make test-lowest  the fast tests with the lowest versions that pyproject.toml admits
# make docs         the documentation into site/, without a network
# make lock         constraints.txt anew, of the newest versions that pyproject.toml admits

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# tests run in so many processes, each of one thread: small models gain nothing by more
JOBS ?= 2
PYTEST_OPTIONS := --numprocesses $(JOBS) --quiet
# beside the others: transformers imports it wherever it is installed, and it prints warnings when it is imported
TORCHAO := $(VENV)/torchao

.PHONY: demo lint package types docs format test test-slow test-lowest lock benchmark clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps --target $(TORCHAO) torchao
	touch $@

demo: $(VENV)/.installed
	for product in leather ring; do \
		$(BIN)/adaptclip detect examples/images/$$product/test --normal examples/images/$$product/normal \
			--output demo-output/$$product --overwrite || exit 1; \
	done

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# the package as it installs, modeling and processing inside, for what reads it without importing it
package: $(VENV)/.installed
	rm -rf build/package && mkdir -p build/package
	cp -r adaptclip_hf build/package/
	cp -r modeling processing build/package/adaptclip_hf/

types: package
	cd build/package && $(abspath $(BIN))/mypy --config-file $(abspath pyproject.toml) --no-error-summary

docs: package
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint types
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PYTEST_OPTIONS) --dist loadscope
	PYTHONPATH=$(TORCHAO) OMP_NUM_THREADS=1 $(BIN)/pytest --quiet tests/modeling/test_quantised.py

test-slow: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PYTEST_OPTIONS) --dist loadgroup --no-loadscope-reorder -m slow --durations 20

test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --upgrade pip
	.venv-lowest/bin/pip install --quiet --constraint constraints-lowest.txt --editable '.[dev]'
	OMP_NUM_THREADS=1 .venv-lowest/bin/pytest $(PYTEST_OPTIONS) --dist loadscope

lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --upgrade pip
	echo 'torch==2.13.0' > .venv-lock/torch.txt
	.venv-lock/bin/pip install --quiet --constraint .venv-lock/torch.txt '.[dev]' torchao
	head -2 constraints.txt > .venv-lock/constraints.txt
	.venv-lock/bin/pip freeze | grep -v '^adaptclip' | sed 's/+cpu//' >> .venv-lock/constraints.txt
	cp .venv-lock/constraints.txt constraints.txt

benchmark: $(VENV)/.installed
	$(BIN)/python benchmarks/encoder.py

clean:
	rm -rf $(VENV) .venv-lowest .venv-lock build demo-output adaptclip-output *.egg-info
