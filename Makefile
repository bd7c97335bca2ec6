# musicmtl: five studies of multi-task learning on music. Every command sets up .venv first, if need be.
#
#   make study                run all studies (preset mini), write figures/, figures/report.html and figures/report/
#   make study STUDY=agf PRESET=smoke
#                             one study, half a minute: a first look (figures stay in runs/agf/)
#   make study STUDY=agf ROOT=~/Music TARGET=artist
#                             one study on your own music (a folder as it is, unless CORPUS says what is in it)
#   make claims               the sweeps behind figures/data/claims.csv: long, and resumed where they were stopped
#   make real DATA=folder     the studies on real music and real songs: folder/commons, folder/albums, folder/msd
#   make report               only the report, from the tables that are there
#
#   make test                 the gate: notebooks in sync, ruff, notebooks and tests but for the long ones (minutes, two cores)
#   make test-long            what kills and restarts whole studies, trains on several processes, measures, or trains for long
#   make test-fast            the same without notebooks, papers and whole studies (about a minute)
#
#   make lab                  JupyterLab on the environment's own kernel, at a page that says what there is to see, hear and run
#
#   make bench                every claim of speed, on a machine with nothing else to do: figures/bench/bench.png (25 minutes)
#   make bench BENCH="features pitch"
#                             some of them (notebooks of nbs/bench that full.yaml names); DEVICE=cuda: on a GPU (gpu.yaml)
#   make reliability          hostile files, tables, stores, kills, full disks, memory: figures/data/reliability.csv (an hour)
#
#   make docs                 the documentation, from the notebooks as they are committed: _docs/index.html
#
#   make setup                only the environment
#   make clean-runs           delete runs/ with all trained networks and caches
#
# Variables: STUDY (all), PRESET (mini), CORPUS, ROOT, TARGET, DATA, BENCH (all), LAB (options of jupyter lab), PYTHON (python3). CONTRIBUTING.md has more.

PYTHON ?= python3
STUDY  ?= all
PRESET ?= mini
CORPUS ?=
ROOT   ?=
TARGET ?=
DATA   ?= $(MUSICMTL_DATA)
BENCH  ?= all
DEVICE ?= cpu
LAB    ?=

VENV  := .venv
PY    := $(VENV)/bin/python
# What a variable holds, as one word of the shell: neither make nor the shell looks into it.
WORD   = '$(subst ','\'',$(value $(1)))'
PARAM  = $(if $(value $(1)),-p $(2) $(call WORD,$(1)))
QUIET := TQDM_DISABLE=1 OMP_NUM_THREADS=1
# Large tensors come back from the allocator instead of being mapped and cleared anew at every training step (glibc).
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
export MALLOC_TRIM_THRESHOLD_ ?= 4294967296

.PHONY: help setup study claims real report docs lab bench reliability test test-long test-fast test-sync test-notebooks test-studies test-papers test-core test-rooms test-long-studies test-long-others test-long-notebooks clean-runs
help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

setup: $(VENV)/.ready

# The file holds the seconds that it took.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"musicmtl needs Python 3.11 or newer, found {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	@echo "setup: installing the pinned environment into $(VENV) (once, some minutes)"
	@mkdir -p $(VENV) && date +%s > $(VENV)/.began
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(PY) tests/setup_check.py
	@echo $$(($$(date +%s) - $$(cat $(VENV)/.began))) > $@
	@echo "setup: done"

study: setup
	@$(PY) -m musicmtl.runs $(call WORD,STUDY) --preset $(call WORD,PRESET) $(call PARAM,CORPUS,corpus) $(call PARAM,ROOT,root) $(call PARAM,TARGET,target)
	@$(PY) -m musicmtl.report
	@echo "study: figures/report.html holds the result, figures/report/ a page for each study"

# Preset miniature_long, where a study has one, trains a few networks for longer: a question of its own, with tables of its own.
claims: setup
	@$(PY) -m musicmtl.runs $(call WORD,STUDY) --preset claims
	@for file in nbs/studies/presets/*-miniature_long.yaml; do \
	  study=$$(basename "$${file%-miniature_long.yaml}"); \
	  case $(call WORD,STUDY) in all|$$study) $(PY) -m musicmtl.runs "$$study" --preset miniature_long || exit 1;; esac; done
	@$(PY) -m musicmtl.report

# Presets that are named after a corpus (commons, commons_artists, albums, msd), where the folder has it.
real: setup
	@test -d $(call WORD,DATA) || { echo "real: expected DATA=folder, which holds commons, albums or msd; found '$(DATA)'"; exit 2; }
	@cd nbs/studies/presets; for file in *-commons*.yaml *-albums*.yaml *-msd*.yaml; do \
	  test -f "$$file" || continue; study=$${file%%-*}; preset=$${file#*-}; preset=$${preset%.yaml}; \
	  root=$(call WORD,DATA)/$${preset%%_*}; test -d "$$root" || continue; \
	  case $(call WORD,STUDY) in all|$$study) ;; *) continue;; esac; \
	  (cd $(CURDIR); $(PY) -m musicmtl.runs "$$study" --preset "$$preset" -p root "$$root") || exit 1; done
	@$(PY) -m musicmtl.report

report: setup
	@$(PY) -m musicmtl.report

docs: setup
	@echo "docs: from notebooks to pages (minutes the first time, then what has changed)"
	@$(QUIET) $(PY) nbs/docs/make_docs.py

# Kernel and trust (without which Jupyter shows no players) are kept in the environment, not in the home of the user.
lab: export JUPYTER_DATA_DIR = $(CURDIR)/$(VENV)/share/jupyter
lab: export JUPYTERLAB_WORKSPACES_DIR = $(CURDIR)/$(VENV)/share/jupyter/workspaces
lab: setup
	@$(PY) -m ipykernel install --sys-prefix --name python3 --display-name "Python (musicmtl)" > /dev/null
	@find nbs -name '*.ipynb' -not -path '*/.ipynb_checkpoints/*' -exec $(VENV)/bin/jupyter-trust {} + > /dev/null
	@$(VENV)/bin/jupyter-lab $(LAB) nbs/start.ipynb

# One notebook at a time, with as many threads as nbs/bench/full.yaml gives it.
bench: setup
	@$(QUIET) $(PY) -c 'import sys; from musicmtl.study.bench import main; sys.exit(main())' --device $(call WORD,DEVICE) $(call WORD,BENCH)

reliability: setup
	@mkdir -p runs
	@$(QUIET) $(VENV)/bin/papermill --log-level ERROR nbs/bench/reliability.ipynb runs/reliability.ipynb \
		-p sounds 60 -p tables 1 -p kills 20 -p disks 6 -p hours 20 -p out figures

# Some parts, two at a time, one core each, the longest first, which share a cache that is theirs alone.
SIDE_BY_SIDE = cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && MUSICMTL_TEST_CACHE=$$cache \
	  $(QUIET) $(MAKE) --no-print-directory -j2 --output-sync=target

test: setup
	@echo "test: sync, notebooks, whole studies, and tests of rooms, core and papers (two parts side by side)"
	+@$(SIDE_BY_SIDE) test-notebooks test-core test-studies test-rooms test-papers test-sync

test-long: setup
	@echo "test-long: studies and processes that are killed, long trainings, measurements (two parts side by side)"
	+@$(SIDE_BY_SIDE) test-long-studies test-long-others test-long-notebooks

test-fast: test-sync
	@$(QUIET) $(MAKE) --no-print-directory -j2 --output-sync=target test-core test-rooms

test-sync: setup
	@echo "sync: notebooks clean and formatted, package and README in sync"
	@$(PY) tests/gate.py
	@echo "sync: ruff"
	@$(VENV)/bin/ruff check nbs musicmtl tests

# In one process: those that nbdev_test forks wait for joblib's idle workers.
test-notebooks: setup
	@$(PY) tests/notebooks.py

test-long-notebooks: setup
	@$(PY) tests/notebooks.py long

test-studies: setup
	@$(PY) -m pytest -m "studies and not long" tests/study/test_contract.py

test-papers: setup
	@$(PY) -m pytest -m "not studies and not long" tests/papers

test-core: setup
	@$(PY) -m pytest -m "not studies and not long" tests/test_*.py

test-rooms: setup
	@$(PY) -m pytest -m "not studies and not long" --ignore tests/papers --ignore-glob 'tests/test_*.py'

test-long-studies: setup
	@$(PY) -m pytest -m "studies and long"

test-long-others: setup
	@$(PY) -m pytest -m "long and not studies"
	@$(PY) -m pytest -m "hypothesis and not long and not studies" --hypothesis-profile long

clean-runs:
	rm -rf runs
