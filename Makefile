# Everything runs in a virtual environment of the project's own, made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Threads that wait for one another sleep: on a busy machine they would otherwise take each other's processor.
export OMP_WAIT_POLICY ?= passive
READY := $(VENV)/.ready
PEERS := .venv-peers
# The default tests work on small tensors, where two threads take longer than one: two processes of one thread each.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: demo test check slow long bench peers clean

demo: $(READY)            ## train, explain and audit the bundled default; prints the report's path
	$(BIN)/pellucid run

test: $(READY)            ## the default tests (under three minutes)
	$(TEST)

check: $(READY)           ## format, lint, types, documentation, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(TEST)

slow: $(READY)            ## real training and other work of minutes
	$(BIN)/python -m pytest -m slow

long: $(READY)            ## tens of minutes
	$(BIN)/python -m pytest -m long

bench: $(READY)           ## the benchmark tables
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

peers: $(PEERS)/.ready    ## side by side with other packages, in an environment of their own: they pull in a lot
	$(PEERS)/bin/python -m pytest tests/peers

clean:
	rm -rf $(VENV) $(PEERS) build dist .pytest_cache .mypy_cache .ruff_cache

# $(call environment,FOLDER,WHAT PIP INSTALLS)
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pellucid needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt $(2)
	@touch $(1)/.ready
endef

$(READY): pyproject.toml constraints.txt
	$(call environment,$(VENV),-e '.[test]')

$(PEERS)/.ready: pyproject.toml constraints.txt constraints-peers.txt
	$(call environment,$(PEERS),-c constraints-peers.txt -e '.[test]' grad-cam lime torchcam Quantus shap torchvision zennit)
