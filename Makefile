# `make` lists the targets. `make run` and `make test` need a bare machine: python3 (3.11 or newer) and make.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# What may be given on the command line, as in `make test ARGS="-k retry" WORKERS=0`.
PYTHON     ?=#  the Python that environments are made with; the first of python3, python3.13, … that is new enough
VENV       ?= .venv
VENV_GEN   ?= .venv-gen
VENV_CATALOG ?= .venv-catalog
VENV_SOAK  ?= .venv-soak
VENV_PEERS := .venv-peers
VENV_DEPLOY ?= .venv-deploy
ARGS       ?=#  passed on to the command that the target runs
WORKERS    ?= 2#  processes of `make test`
RECORDINGS ?= $(PARLEY_RECORDINGS)#  folder of recorded provider exchanges

ifneq ($(RECORDINGS),)
export PARLEY_RECORDINGS := $(abspath $(RECORDINGS))
endif

PEERS   := tests/benchmarks/peers
BIN     := $(VENV)/bin
GEN_BIN := $(VENV_GEN)/bin
DEPLOY_BIN := $(VENV_DEPLOY)/bin
PROJECTS := pyproject.toml clients/python/pyproject.toml

# ---------------------------------------------------------------------------------------------------------- everyday

.PHONY: help run test clients-test check gen catalog format coverage bench soak conformance e2e deploy-check lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/.ready-server ## Serve on 127.0.0.1:50051 with the embedded defaults
	@$(BIN)/parley-server serve $(ARGS)

test: $(VENV)/.ready-tests ## Run the whole test suite
	@$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

clients-test: $(VENV)/.ready-tests ## Build and test the SDKs of all languages against one server, by one table of scenarios
	@$(BIN)/python -m pytest tests/clients $(ARGS)

check: check-style check-types check-imports check-protos check-generated check-locks check-links ## Run every check that is not a test

gen: $(VENV_GEN)/.ready $(VENV)/.ready-tests ## Write what is generated: the stubs, the synchronous client, the tables of providers and metrics
	@$(GEN_BIN)/python protos/generate.py clients/python/src
	@$(GEN_BIN)/python clients/python/tools/generate_sync.py
	@$(BIN)/python -m tests.tools.providers
	@$(BIN)/python -m tests.tools.sdks
	@$(BIN)/python -m tests.tools.reference
	@$(GEN_BIN)/python protos/reference.py
	@$(BIN)/python -m tests.tools.metrics
	@$(BIN)/python -m tests.tools.dashboards
	@$(GEN_BIN)/python protos/generate_go.py
	@$(GEN_BIN)/python protos/generate_typescript.py

catalog: $(VENV_CATALOG)/.ready ## Refresh the catalogue of models: make catalog ARGS="--dry-run --full"
	@PYTHONPATH=server $(VENV_CATALOG)/bin/python -m catalog_tools $(ARGS)

format: $(VENV)/.ready-tests $(VENV_GEN)/.ready ## Format Python and protos, and mend what ruff can mend
	@$(BIN)/ruff check --fix --quiet --exit-zero
	@$(BIN)/ruff format
	@$(GEN_BIN)/buf format --write protos

coverage: $(VENV)/.ready-tests ## Run the tests and show the lines they miss
	@$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term-missing $(ARGS)

# The peers are installed for those who ask for them only: they are large.
bench: $(VENV)/.ready-tests $(if $(findstring --peers,$(ARGS)),$(VENV_PEERS)/.ready $(PEERS)/node_modules/.ready) ## Measure against the performance budgets; ARGS="--peers": beside LiteLLM and Portkey too
	@$(BIN)/python -m tests.benchmarks $(ARGS)

soak: $(VENV)/.ready-tests $(VENV_SOAK)/.ready ## Half an hour of mixed load and faults, drawn to build/soak.png: make soak ARGS="--minutes 2"
	@$(BIN)/python -m tests.benchmarks.soak --drawn-by $(VENV_SOAK)/bin/python $(ARGS)

conformance: $(VENV)/.ready-tests ## Replay recorded provider exchanges: make conformance RECORDINGS=folder
	@test -d "$(RECORDINGS)" || { echo "No folder '$(RECORDINGS)'. Say where the recordings are: make conformance RECORDINGS=folder"; exit 2; }
	@$(BIN)/python -m tests.conformance "$(RECORDINGS)" $(ARGS)

e2e: $(VENV)/.ready-e2e ## Run the gateway in front of a real inference server
	@$(BIN)/python -m pytest tests/e2e -m e2e $(ARGS)

deploy-check: $(VENV)/.ready-tests $(VENV_DEPLOY)/.ready ## Check the manifests, and run the image's own command without an engine
	@PATH="$(abspath $(DEPLOY_BIN)):$$PATH" $(BIN)/python -m pytest tests/deploy -m deploy $(ARGS)

clean: ## Remove environments, caches and build results
	rm -rf $(VENV) $(VENV_GEN) $(VENV_CATALOG) $(VENV_DEPLOY) $(VENV_SOAK) $(VENV_PEERS) $(PEERS)/node_modules build dist clients/python/dist .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find server clients/python protos tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------------------------------- checks

.PHONY: check-style check-types check-imports check-protos check-generated check-locks check-links

check-style: $(VENV)/.ready-tests
	@echo "==> style"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

check-types: $(VENV)/.ready-tests
	@echo "==> types"
	@$(BIN)/mypy

check-imports: $(VENV)/.ready-tests
	@echo "==> import contracts"
	@$(BIN)/lint-imports --no-logo

check-protos: $(VENV_GEN)/.ready
	@echo "==> protos"
	@$(GEN_BIN)/buf lint protos
	@$(GEN_BIN)/buf format --diff --exit-code protos

check-generated: $(VENV_GEN)/.ready $(VENV)/.ready-tests
	@echo "==> what is generated is fresh"
	@$(GEN_BIN)/python protos/generate.py clients/python/src --check
	@$(GEN_BIN)/python clients/python/tools/generate_sync.py --check
	@$(BIN)/python -m tests.tools.providers --check
	@$(BIN)/python -m tests.tools.sdks --check
	@$(BIN)/python -m tests.tools.reference --check
	@$(GEN_BIN)/python protos/reference.py --check
	@$(BIN)/python -m tests.tools.metrics --check
	@$(BIN)/python -m tests.tools.dashboards --check
	$(call check-stubs,go,go)
	$(call check-stubs,npm,typescript)

# Of the language $(2), where its program $(1) is there. Without it that is said, and in CI it is a failure.
define check-stubs
	@if command -v $(1) >/dev/null; then $(GEN_BIN)/python protos/generate_$(2).py --check; \
		else echo "    $(1) was not found: the stubs of $(2) were not checked"; test -z "$$CI"; fi
endef

check-locks: $(VENV)/.ready-tests
	@echo "==> locks hold versions and hashes"
	@$(BIN)/python -m tests.tools.locks

check-links: $(VENV)/.ready-tests
	@echo "==> links between documents"
	@$(BIN)/python -m tests.tools.links

# -------------------------------------------------------------------------------------------------------------- locks

# Keeps the versions that are locked already; `make lock ARGS=--upgrade` takes the newest.
COMPILE = UV_CUSTOM_COMPILE_COMMAND="make lock" $(GEN_BIN)/uv --quiet pip compile --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --only-binary :all: --no-emit-index-url --no-annotate \
	--no-emit-package parley-client --no-emit-package parley-server $(ARGS)

lock: $(VENV_GEN)/.ready ## Compile the lock files from the requirements
	@echo "==> server/requirements.lock"
	@$(COMPILE) $(PROJECTS) --extra cli --group build --output-file server/requirements.lock
	@echo "==> tests/requirements.lock"
	@$(COMPILE) $(PROJECTS) --extra cli --extra aws --extra google --extra azure --extra redis --extra encryption --extra semantic \
		--group build --group test --group lint \
		--constraint server/requirements.lock --output-file tests/requirements.lock
	@echo "==> tests/e2e/requirements.lock"
	@$(COMPILE) tests/e2e/requirements.in --constraint tests/requirements.lock --output-file tests/e2e/requirements.lock
	@for folder in peers soak; do \
		echo "==> tests/benchmarks/$$folder/requirements.lock"; \
		$(COMPILE) tests/benchmarks/$$folder/requirements.in --output-file tests/benchmarks/$$folder/requirements.lock || exit 1; \
	done
	@echo "==> deploy/requirements.lock"
	@$(COMPILE) $(PROJECTS) --extra aws --extra google --extra azure --extra redis --extra encryption \
		--constraint tests/requirements.lock --output-file deploy/requirements.lock
	@echo "==> deploy/build.lock"
	@$(COMPILE) --group pyproject.toml:build --constraint server/requirements.lock --output-file deploy/build.lock
	@echo "==> tests/deploy/requirements.lock"
	@$(COMPILE) tests/deploy/requirements.in --output-file tests/deploy/requirements.lock
	@echo "==> protos/requirements.lock"
	@$(COMPILE) protos/requirements.in --output-file protos/requirements.lock
	@echo "==> server/catalog_tools/requirements.lock"
	@$(COMPILE) --no-deps server/catalog_tools/requirements.in --constraint tests/requirements.lock \
		--output-file server/catalog_tools/requirements.lock

# ------------------------------------------------------------------------------------------------------- environments

# Makes the environment that holds the target with the first Python that is new enough.
define make-environment
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "Parley needs Python 3.11 or newer, and none was found. Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; \
		exit 1; \
	fi; \
	echo "==> Making $(1) with $$($$found --version)"; \
	"$$found" -m venv --clear $(1) || { \
		rm -rf $(1); \
		echo "$$found could not make a virtual environment. On Debian and Ubuntu: apt install python3-venv"; \
		exit 1; \
	}
endef

# Installs the lock file $(2), and nothing beside it, into the environment $(1). The lock is complete, so pip resolves nothing:
# older ones, asked to, take a release newer than the pin of a package with extras, and then refuse it for having no hash.
define install
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(1)/bin/python -m ensurepip >/dev/null
	@echo "==> Installing $(2) into $(1)"
	@$(1)/bin/python -m pip install --disable-pip-version-check --no-input --require-hashes --no-deps --only-binary :all: --requirement $(2) || { \
		echo "Could not install $(2). Is the package index reachable? If the environment is broken: make clean"; \
		exit 1; \
	}
endef

# The repository's own two distributions, editable, without a look at any index.
define install-projects
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-index --no-deps --no-build-isolation \
		--editable clients/python --editable .
endef

$(BIN)/python:
	$(call make-environment,$(VENV))

$(GEN_BIN)/python:
	$(call make-environment,$(VENV_GEN))

$(VENV_CATALOG)/bin/python:
	$(call make-environment,$(VENV_CATALOG))

$(VENV_SOAK)/bin/python:
	$(call make-environment,$(VENV_SOAK))

$(VENV_PEERS)/bin/python:
	$(call make-environment,$(VENV_PEERS))

$(DEPLOY_BIN)/python:
	$(call make-environment,$(VENV_DEPLOY))

$(VENV)/.ready-server: server/requirements.lock $(PROJECTS) | $(BIN)/python
	$(call install,$(VENV),server/requirements.lock)
	$(install-projects)
	@touch $@

# The tests' lock holds all of the server's, so this environment serves as well.
$(VENV)/.ready-tests: tests/requirements.lock server/requirements.lock $(PROJECTS) | $(BIN)/python
	$(call install,$(VENV),tests/requirements.lock)
	$(install-projects)
	@touch $(VENV)/.ready-server $@

$(VENV)/.ready-e2e: tests/e2e/requirements.lock $(VENV)/.ready-tests
	$(call install,$(VENV),tests/e2e/requirements.lock)
	@touch $@

$(VENV_GEN)/.ready: protos/requirements.lock | $(GEN_BIN)/python
	$(call install,$(VENV_GEN),protos/requirements.lock)
	@touch $@

$(VENV_CATALOG)/.ready: server/catalog_tools/requirements.lock | $(VENV_CATALOG)/bin/python
	$(call install,$(VENV_CATALOG),server/catalog_tools/requirements.lock)
	@touch $@

$(VENV_SOAK)/.ready: tests/benchmarks/soak/requirements.lock | $(VENV_SOAK)/bin/python
	$(call install,$(VENV_SOAK),tests/benchmarks/soak/requirements.lock)
	@touch $@

$(VENV_PEERS)/.ready: $(PEERS)/requirements.lock | $(VENV_PEERS)/bin/python
	$(call install,$(VENV_PEERS),$(PEERS)/requirements.lock)
	@touch $@

# Nothing is run that packages would run when they are installed. The date of package-lock.json alone decides.
$(PEERS)/node_modules/.ready: $(PEERS)/package-lock.json
	@command -v npm >/dev/null || { \
		echo "Portkey needs Node.js (20 or newer) with npm, and there is no npm: install it, or leave --peers out"; exit 2; }
	@echo "==> Installing $< into $(PEERS)/node_modules"
	@cd $(PEERS) && npm ci --ignore-scripts --no-audit --no-fund --loglevel error || { \
		echo "Could not install $<. Is the package registry reachable?"; exit 2; }
	@touch $@

$(VENV_DEPLOY)/.ready: tests/deploy/requirements.lock | $(DEPLOY_BIN)/python
	$(call install,$(VENV_DEPLOY),tests/deploy/requirements.lock)
	@touch $@
