# Two commands: `make study` regenerates the figures and the report, `make test` is the gate. Each sets up .venv by itself.
#   make study STUDY=agf PRESET=smoke                a first look in about a minute
#   make study CORPUS=folder ROOT=~/Music STUDY=agf TARGET=artist
#   make claims                                      the sweeps behind figures/data/claims.csv (long, resumable)

PYTHON ?= python3
STUDY  ?= all
PRESET ?= mini
CORPUS ?=
ROOT   ?=
TARGET ?=

VENV  := .venv
PY    := $(VENV)/bin/python
PARAM  = $(if $($(1)),-p $(2) "$($(1))")
# Large tensors come back from the allocator instead of being mapped and cleared anew at every training step (glibc).
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
export MALLOC_TRIM_THRESHOLD_ ?= 4294967296

.PHONY: help setup study claims report test test-notebooks test-python clean-runs
help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"musicmtl needs Python 3.11 or newer, found {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	@echo "setup: installing the pinned environment into $(VENV) (once, some minutes)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(PY) tests/setup_check.py
	@touch $@
	@echo "setup: done"

study: setup
	@$(PY) -m musicmtl.runs $(STUDY) --preset $(PRESET) $(call PARAM,CORPUS,corpus) $(call PARAM,ROOT,root) $(call PARAM,TARGET,target)
	@$(PY) -m musicmtl.report
	@echo "study: figures/report.html holds the result"

claims: setup
	@$(PY) -m musicmtl.runs $(STUDY) --preset claims
	@$(PY) -m musicmtl.report

report: setup
	@$(PY) -m musicmtl.report

# Notebooks and tests run side by side, one core each. nbdev_test keeps to one process: forked ones wait for joblib's idle workers.
test: setup
	@echo "test 1/5: notebooks clean; 2/5: package and README in sync"
	@$(PY) tests/gate.py
	@echo "test 3/5: ruff"
	@$(VENV)/bin/ruff check musicmtl tests
	@echo "test 4/5: notebooks run; 5/5: pytest (side by side)"
	@TQDM_DISABLE=1 OMP_NUM_THREADS=1 $(MAKE) --no-print-directory -j2 --output-sync=target test-notebooks test-python

test-notebooks: setup
	@$(VENV)/bin/nbdev_test --n_workers 0 --timing

test-python: setup
	@$(PY) -m pytest

clean-runs:
	rm -rf runs
