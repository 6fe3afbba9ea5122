# Each of `make run` and `make test` does everything on a fresh machine: environment, packages, policy, job.
# Pass arguments on with ARGS, for example: make run ARGS="--port 8080"

PYTHON ?= python3

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# cpu or cuda, by whether an NVIDIA driver answers; force it with `make run DEVICE=cpu`.
ifndef DEVICE
DEVICE := $(shell nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)
endif
ifneq ($(DEVICE),$(filter cpu cuda,$(DEVICE)))
$(error DEVICE is "$(DEVICE)", but it must be cpu or cuda)
endif

VENV := .venv
PY := $(VENV)/bin/python
LOCK := requirements/$(DEVICE).txt
# Two modules at a time: tests wait for a browser, a server or a child process half of their time.
# In the order of tests/conftest.py: xdist itself would take modules of few tests, the slow ones, last.
PYTEST := $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder
PIP_INSTALL := -m pip --disable-pip-version-check --no-input install --no-deps
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

# The stamp's name holds what was installed and where: as long as it exists, there is nothing to do.
KEY := $(shell { pwd; cat $(LOCK) requirements/dev.txt pyproject.toml; } | cksum | cut -d' ' -f1)
STAMP := $(VENV)/installed-$(DEVICE)-$(KEY)
RAY_STAMP := $(VENV)/installed-ray-$(shell { pwd; cat requirements/ray.txt; } | cksum | cut -d' ' -f1)

.PHONY: help run test setup ray check fast bench lock gpu-check chromium clean

help:
	@echo "make run        start prefloop (set-up included)"
	@echo "make test       run all tests (set-up included)"
	@echo "make setup      environment, packages and the embedded default policy only"
	@echo "make ray        Ray as well, which train.launcher = \"ray\" and its test need"
	@echo "make check      formatter, linter, types and the fast tests"
	@echo "make fast       the fast tests only"
	@echo "make bench      run every benchmark, one after the other"
	@echo "make lock       resolve requirements/*.in again and write requirements/*.txt"
	@echo "make gpu-check  train a model of 7B shape on an NVIDIA GPU, print its figures, compare with stock TRL"
	@echo "make clean      remove the environment, caches and build outputs; never data/"
	@echo "Here DEVICE=$(DEVICE). Others: PYTHON=python3.12, ARGS=\"...\"."

run: $(STAMP)
	@exec $(PY) app.py serve $(ARGS)

test: $(STAMP) $(RAY_STAMP) chromium
	@exec $(PYTEST) $(ARGS)

ray: $(STAMP) $(RAY_STAMP)

setup: $(STAMP)
	@$(PY) -c "from train.base_model import STARTER, resolve; print('The starter policy is in', resolve(STARTER).path)"

check: $(STAMP)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PYTEST) -m "not slow and not browser and not gpu" $(ARGS)

fast: $(STAMP)
	@exec $(PYTEST) -m "not slow and not browser and not gpu" $(ARGS)

bench: $(STAMP)
	@for name in next_pair desk many_annotators swap while_training cpu_arithmetic train_overhead precision_gap learns; do echo "== $$name"; $(PY) -m benchmarks.$$name || exit 1; done

lock: $(PY)
	@$(PY) requirements/lock.py

gpu-check: $(STAMP)
	@nvidia-smi --query-gpu=name,memory.total --format=csv,noheader 2>/dev/null \
	  || { echo "No NVIDIA driver answers on this machine, so there is nothing to check."; exit 1; }
	@exec $(PY) -m pytest -m gpu -s $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info __pycache__ .pytest_cache .mypy_cache .ruff_cache benchmarks/results
	find annotate train store tests benchmarks requirements -name __pycache__ -prune -exec rm -rf {} +

# --- set-up -----------------------------------------------------------------------------------------------

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "prefloop needs Python 3.11 or newer: name one with make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# CPU and CUDA wheels bring the same modules, so a change of DEVICE starts from an empty environment.
# torch comes first: for the CPU from the configured package sources, else from PyTorch's own index; for CUDA
# with three signs, so that a +cpu file among the configured sources is not taken for the newer build.
$(STAMP): | $(PY)
	@case "$$(cat $(VENV)/device 2>/dev/null)" in $(DEVICE) | "") ;; *) $(PY) -m venv --clear $(VENV) ;; esac
	@echo $(DEVICE) > $(VENV)/device
	@rm -f $(VENV)/installed-*
	@echo "Installing the pinned packages for $(DEVICE) into $(VENV). The first time, this takes minutes."
	@set -e; quiet=; test -t 1 || quiet=--quiet; \
	torch=$$(grep '^torch==' $(LOCK)); \
	if [ $(DEVICE) = cuda ]; then torch=$$(echo "$$torch" | sed 's/==/===/'); fi; \
	$(PY) $(PIP_INSTALL) $$quiet "$$torch" \
	  || { [ $(DEVICE) = cpu ] && echo "Not in the configured package sources; asking PyTorch's own index." \
	    && $(PY) $(PIP_INSTALL) $$quiet --index-url $(TORCH_CPU_INDEX) "$$torch"; } \
	  || { echo "$$torch could not be installed: see pip's message above."; exit 1; }; \
	$(PY) $(PIP_INSTALL) $$quiet -r $(LOCK) -r requirements/dev.txt; \
	$(PY) $(PIP_INSTALL) $$quiet --no-build-isolation --editable .
	@touch $@

# Ray is large and most people need no cluster. A fresh set-up removes this stamp too.
$(RAY_STAMP): $(STAMP)
	@echo "Installing Ray into $(VENV)."
	@$(PY) $(PIP_INSTALL) --quiet -r requirements/ray.txt
	@touch $@

# The browser tests drive Debian's Chromium. Without it they fail and say so; the other tests still run.
chromium:
	@command -v chromium >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ]; then root=; elif sudo -n true 2>/dev/null; then root="sudo -n"; else root=none; fi; \
	if [ "$$root" != none ] && command -v apt-get >/dev/null; then \
	  echo "Installing Chromium for the browser tests."; \
	  $$root apt-get update -qq && $$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    -o DPkg::Lock::Timeout=300 --no-install-recommends chromium >/dev/null && exit 0; \
	fi; \
	echo "Chromium could not be installed here: run \`apt-get install chromium\` as root for the browser tests."
