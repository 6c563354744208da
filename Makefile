# Two commands do everything on a fresh machine with Python 3.11 or newer:
#   make demo    sets up, then trains, evaluates and samples a small model on drawn shapes
#   make test    sets up, then runs all tests
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
DEMO ?= runs/demo
CONFIG := --config=configs/celeba128.py:quick

.PHONY: setup demo test lint clean

setup: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: $(PYTHON) is older than 3.11; use make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e '.[all]'
	touch $@

demo: setup
	$(RUN) launch.py $(CONFIG) --workdir=$(DEMO)
	$(RUN) launch.py $(CONFIG) --workdir=$(DEMO) --mode=evaluate
	$(RUN) launch.py $(CONFIG) --workdir=$(DEMO) --mode=sample
	@echo "Trained on drawn shapes, not photos. Look at:"
	@ls $(DEMO)/curves.png $(DEMO)/evaluation_pairs.png $(DEMO)/samples/*/grid.png $(DEMO)/samples/*/interpolation.png

test: setup
	$(RUN) -m pytest

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean:
	rm -rf $(VENV) runs/demo
