# Everything happens in a virtual environment in this checkout; nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BUILDER ?= docker
IMAGE ?= localhost/pod-checkpointer:dev
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' checkpointer/__init__.py)
REVISION = $(shell git rev-parse HEAD)

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

# Debian has ensurepip in a package of its own (python3-venv): without it pip itself has to do.
$(STAMP): pyproject.toml
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || \
	{ $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check pip; } || \
	{ echo "make: cannot make $(VENV) with $(PYTHON): it needs Python's venv module (Debian and" \
	    "Ubuntu: apt install python3-venv), or pip 22.3 or newer" >&2; \
	  exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

.PHONY: demo
demo: $(STAMP) ## Show the whole story on a simulated node (under a minute, no cluster)
	$(BIN)/checkpointer demo $(DEMO_ARGS)

.PHONY: test
test: check ## Everything CI runs

.PHONY: check
check: lint types layers pytest ## Lint, types, layers and tests

.PHONY: lint
lint: $(STAMP) ## Format and lint
	$(BIN)/ruff format --check
	$(BIN)/ruff check

.PHONY: types
types: $(STAMP) ## Type-check the package
	$(BIN)/mypy

.PHONY: layers
layers: $(STAMP) ## The pure core stays pure, the layers stay layers
	$(BIN)/lint-imports

.PHONY: pytest
pytest: $(STAMP) ## Unit, simulation and (as root, with containerd) runtime tests
	$(BIN)/pytest --numprocesses auto --ignore tests/e2e

SEED ?= 1
SCHEDULES ?= 100000

.PHONY: simulate
simulate: $(STAMP) ## Whole nodes in virtual time: make simulate SEED=1 SCHEDULES=100000
	@$(BIN)/python -m tests.simulation.schedules --seed $(SEED) --schedules $(SCHEDULES) $(SIMULATE_ARGS)

.PHONY: soak
soak: $(STAMP) ## Memory and descriptors over 15 minutes of churn (options: SOAK_ARGS=--help)
	@$(BIN)/python -m tests.soak $(SOAK_ARGS)

FUZZ_EXAMPLES ?= 5000

.PHONY: fuzz
fuzz: $(STAMP) ## Hostile input: make fuzz FUZZ_EXAMPLES=5000 (for each target)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest tests/fuzz --timeout 0

.PHONY: e2e
e2e: $(STAMP) ## Scenarios on a real Kubernetes: make e2e KUBE_BIN_DIR=/path/to/binaries (as root)
	@test -n "$(KUBE_BIN_DIR)" || { echo "e2e: set KUBE_BIN_DIR to a folder with kube-apiserver, kube-controller-manager, kube-scheduler and kubelet" >&2; exit 2; }
	KUBE_BIN_DIR="$(KUBE_BIN_DIR)" $(BIN)/pytest tests/e2e --timeout 1800 $(E2E_ARGS)

.PHONY: bench
bench: $(STAMP) ## What the agent costs and how fast it is (BENCH_ARGS=--quick: 4 minutes)
	@$(BIN)/python -m tests.bench $(BENCH_ARGS)

.PHONY: format
format: $(STAMP) ## Put the code into the shape that `lint` wants
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: lock
lock: $(STAMP) ## Lock the image's dependencies: after each change of them in pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check 'uv>=0.5'
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-annotate --custom-compile-command 'make lock' -o requirements.lock

.PHONY: image
image: ## Build the image (BUILDER=docker, podman or buildah; IMAGE_ARGS="--build-arg ...")
	$(BUILDER) build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
		-t $(IMAGE) $(IMAGE_ARGS) .

.PHONY: proto
proto: $(STAMP) ## Generate the CRI messages from checkpointer/node/cri_v1.proto
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. checkpointer/node/cri_v1.proto

.PHONY: clean
clean: ## Remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
