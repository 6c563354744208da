# Two commands do everything on a fresh machine with Python 3.11 or newer:
#   make demo    sets up, then gives the public-domain astronaut photo and a clip new faces and measures them
#   make test    sets up, then runs all tests
# and make demo-training trains, evaluates and samples a small model on synthetic shapes; make docs builds the
# documentation into runs/docs.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
DEMO ?= runs/demo
TRAINED := $(DEMO)/training
CONFIG := --config=configs/celeba128.py:quick

.PHONY: setup demo demo-training test lint docs clean

setup: $(VENV)/.installed

$(VENV)/.installed: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: $(PYTHON) is older than 3.11; use make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --upgrade pip
	$(RUN) -m pip install --quiet -e '.[all]'
	touch $@

demo: setup
	$(VENV)/bin/dp3 demo --output $(DEMO)

demo-training: setup
	$(RUN) launch.py $(CONFIG) --workdir=$(TRAINED)
	$(RUN) launch.py $(CONFIG) --workdir=$(TRAINED) --mode=evaluate
	$(RUN) launch.py $(CONFIG) --workdir=$(TRAINED) --mode=sample
	@echo "Trained on synthetic shapes, not photos. Look at:"
	@ls $(TRAINED)/curves.png $(TRAINED)/evaluation_pairs.png $(TRAINED)/samples/*/grid.png

test: setup
	$(RUN) -m pytest -n auto --dist loadfile

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: setup
	$(RUN) -m mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) runs/demo
