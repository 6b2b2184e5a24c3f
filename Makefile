# The front door. Every target builds .venv from setup.cfg first, once.
#   make mnist [PRESET=paper] [SEED=1] [ARGS="--training.decay 1.00001"]    train, stop, measure
#   make parzen SAMPLES=file.npy [ARGS=...]                                 score anybody's samples
#   make test                                                              run the tests
# LOCKED=1 installs the exact versions of requirements.lock instead of the newest that setup.cfg allows.

PYTHON ?= python3
PRESET ?= paper
SEED   ?= 1
ARGS   ?=
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help env mnist parzen sample test lint clean

help:
	@sed -n '2,6s/^# *//p' Makefile

env: $(READY)

$(READY): setup.cfg pyproject.toml $(if $(LOCKED),requirements.lock)
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet $(if $(LOCKED),--constraint requirements.lock) --editable '.[dev]'
	@touch $@

mnist: $(READY)
	$(PY) -m experiments.mnist $(PRESET) --seed $(SEED) --resume $(ARGS)

sample: $(READY)
	$(PY) -m experiments.sample $(or $(RUN),runs/mnist/$(PRESET)-seed$(SEED)) $(ARGS)

parzen: $(READY)
	$(PY) -m experiments.parzen --samples $(or $(SAMPLES),runs/mnist/$(PRESET)-seed$(SEED)) $(ARGS)

test: $(READY)
	$(PY) -m pytest $(ARGS)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy cgan embeddings data experiments

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
