# make demo: install and run the default experiment.   make test: install and run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-slow lint figures docs train clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/tta-bench run experiment=demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -n logical --dist loadfile

test-slow: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[integrations]"
	$(BIN)/python -m pytest -m slow -n logical --dist load

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

figures: $(INSTALLED)
	$(BIN)/tta-bench run experiment=demo report_dir=experiments/demo/report

docs: $(INSTALLED)
	$(BIN)/python -m docs.generate

train: $(INSTALLED)
	$(BIN)/python -m experiments.train_mini.train

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
