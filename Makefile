# The front door. Every target builds .venv from setup.cfg first, once. ARGS="..." goes to the target's command.
#   make mnist [PRESET=paper] [SEED=1]                     train on MNIST, stop, measure (section 4.1)
#   make sample [RUN=runs/mnist/paper-seed1]               draw digits from a trained generator, or from a run
#   make demo [RUNS=runs]                                  a page to play with trained nets, on this computer alone
#   make flickr-tags [PRESET=paper] [DATASET=auto]         photos to tags, beside the baselines (section 4.2)
#   make tag PHOTOS="a.jpg b/" [RUN=runs/flickr-tags/NAME] tag your own photos by a trained generator, or by a run
#   make word-vectors [MIN_COUNT=200] [WORDS="dog beach"]  YFCC100M metadata to word vectors and neighbours
#   make parzen [SAMPLES=file.npy]                         Parzen log-likelihood of anybody's samples
#   make tables [RUNS=runs]                                the paper's tables from all runs
#   make report [RUNS=runs]                                one page that shows everything
#   make reproduce [FAST=1] [PLAN=file.txt]                all of it in order, resumable; FAST=1: a smoke test
#   make search [PRESET=paper] [FAST=1]                    settings chosen on validation data, by Ray Tune
#                                                          (EXPERIMENT=flickr-tags searches that one's)
#   make bench [FAST=1]                                    time every path beside alternatives and limits
#   make test                                              run the tests
#   make lint                                              ruff and mypy
#   make clean                                             remove .venv and caches
# LOCKED=1 installs the exact versions of requirements.lock instead of the newest that setup.cfg allows.

PYTHON ?= python3
PRESET ?= paper
SEED   ?= 1
ARGS   ?=
MIN_COUNT ?= 200
WORDS  ?=
RUNS   ?= runs
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
# Ray and Optuna: only a search, --engine ray and the tests need them; ONNX: only the tests and experiments.export.
CLUSTER := $(VENV)/.cluster

.DEFAULT_GOAL := help
.PHONY: help env mnist flickr-tags tag demo search tables report reproduce parzen sample bench word-vectors test lint clean

help:
	@sed -n '1,/^# LOCKED/s/^# \{0,1\}//p' Makefile

env: $(READY)

$(READY): setup.cfg pyproject.toml $(if $(LOCKED),requirements.lock)
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet $(if $(LOCKED),--constraint requirements.lock) --editable '.[dev,photos]'
	@touch $@

$(CLUSTER): $(READY)
	$(PY) -m pip install --quiet $(if $(LOCKED),--constraint requirements.lock) --editable '.[cluster,export]'
	@touch $@

mnist: $(READY)
	$(PY) -m experiments.mnist $(PRESET) --seed $(SEED) --resume $(ARGS)

# DATASET=mirflickr downloads 3 GB if need be; auto takes what lies under the data root, else the embedded scenes.
flickr-tags: $(READY)
	$(PY) -m experiments.flickr_tags $(PRESET) --dataset $(or $(DATASET),auto) --seed $(SEED) --resume $(ARGS)

tag: $(READY)
	$(if $(PHOTOS),,$(error make tag needs PHOTOS="photo.jpg folder/"))
	$(PY) -m experiments.tag $(or $(RUN),many-tags) $(PHOTOS) $(ARGS)

demo: $(READY)
	$(PY) -m experiments.demo --runs $(RUNS) $(ARGS)

# With RAY_ADDRESS in the environment it runs on that cluster, whose nodes must see the data root and the runs alike.
search: $(CLUSTER)
	$(PY) -m experiments.search $(or $(EXPERIMENT),mnist) $(PRESET) $(if $(FAST),--fast) --runs $(RUNS) --resume $(ARGS)

tables: $(READY)
	$(PY) -m experiments.tables --runs $(RUNS) $(ARGS)

report: $(READY)
	$(PY) -m experiments.report --runs $(RUNS) $(ARGS)

reproduce: $(READY)
	$(PY) -m experiments.reproduce $(if $(FAST),--fast) $(if $(PLAN),--plan $(PLAN)) $(ARGS)

# Without RUN: the run that make mnist has made of PRESET and SEED, else the generator that comes with the package.
sample: $(READY)
	$(PY) -m experiments.sample $(or $(RUN),$(wildcard runs/mnist/$(PRESET)-seed$(SEED)),$(PRESET)) $(ARGS)

# Its faiss row needs the bench extra: .venv/bin/pip install --editable '.[bench]'
bench: $(READY)
	$(PY) -m experiments.bench $(if $(FAST),--quick) $(ARGS)

parzen: $(READY)
	$(PY) -m experiments.parzen --samples $(or $(SAMPLES),runs/mnist/$(PRESET)-seed$(SEED)) $(ARGS)

# Each step continues where it was interrupted; a finished one is not repeated.
VECTORS := runs/word-vectors/min-count-$(MIN_COUNT).bin
word-vectors: $(READY)
	$(PY) -m experiments.word_vectors corpus
	$(PY) -m experiments.word_vectors train --min-count $(MIN_COUNT) --out $(VECTORS) $(ARGS)
	$(PY) -m experiments.word_vectors nearest $(WORDS) --vectors $(VECTORS)

# Two workers of one thread each; the tests of a file share a worker, and the longest files start first (tests/conftest.py).
# CGAN_FUZZ=2000 in the environment tries so many changed records of each kind in every command.
test: $(CLUSTER)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy cgan embeddings data experiments examples

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .mypy_cache
