# SPDX-License-Identifier: GPL-3.0-or-later
# The tasks of a contributor. `make` lists the targets; none of them asks a question.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

BIN := .venv/bin
PYTHON_BIN := $(BIN)/python
LINK := .cache/ansible_collections/kaido/ollama
READY := .venv/.stamp $(LINK)
PROMTOOL := .cache/promtool/usr/bin/promtool
# `make platforms` runs scenario platform, once for each system; most systems come from an image registry.
# `make molecule-rpm` takes several minutes; -vm and -selinux emulate a machine where KVM is not available, -arm64 always.
# With -vm, `make test` takes 40 minutes instead of 24 on two cores; the workflow in .github runs all four.
NOT_IN_TEST := molecule-platform molecule-rpm molecule-vm molecule-selinux molecule-arm64
SCENARIOS := $(filter-out $(NOT_IN_TEST),$(patsubst molecule/%/molecule.yml,molecule-%,$(wildcard molecule/*/molecule.yml)))
LINT := ruff mypy yamllint ansible-lint changelog words
CHECK := quick-units $(LINT) conformance
# Two scenarios run at a time; the longest are first.
FIRST := molecule-default molecule-gpu_nvidia
TEST := $(FIRST) units $(LINT) conformance sanity importer $(filter-out $(FIRST),$(SCENARIOS))

# The output of these tools is in .cache, which `make clean` removes.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache
# Some environments set this. Without bytecode each start of Ansible compiles it, which doubles the time of the tests.
unexport PYTHONDONTWRITEBYTECODE
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export LC_ALL := C.UTF-8

##@ Try it
.PHONY: help demo clean
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-zA-Z0-9_.%-]+:.*## / { printf "  make %-22s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## create a lab, configure its hosts and show the result; NAME=x for a lab beside another one
	$(PYTHON_BIN) -m tests.lab demo $(NAME)

clean: ## remove the output of make: labs, .venv, .cache, dist, test output
	@if [ -x $(PYTHON_BIN) ]; then $(PYTHON_BIN) -m tests.lab clean; fi
	rm -rf .venv .cache dist .ansible tests/output

##@ Check a change
.PHONY: check test lint report-page units $(CHECK) test-gpu docs execution-environment sanity importer matrix molecule platforms \
  platform-debian13-arm64
check: $(READY) ## lint, quick unit tests, and conformance tests
	@$(PYTHON_BIN) -m scripts.run_parts --jobs 2 $(CHECK)

test: $(READY) ## all tests, with a table of the results
	@$(PYTHON_BIN) -m scripts.run_parts --jobs 2 $(TEST)

report-page: $(READY) ## screenshots of the report page, in tests/output/report
	sh scripts/report_page.sh

lint: $(LINT) ## ruff, mypy, yamllint, ansible-lint, changelog fragments, words

ruff: $(READY)
	ruff check --output-format concise
	ruff format --check

mypy: $(READY)
	mypy

yamllint: $(READY)
	yamllint --strict .

ansible-lint: $(READY)
	ansible-lint --strict --nocolor

changelog: $(READY)
	antsibull-changelog lint

words: $(READY) ## words that are not standard English of the field
	$(PYTHON_BIN) -m scripts.words

units quick-units: $(READY) $(PROMTOOL) ## unit tests; quick-units skips those that start Ansible or build an environment
	$(PYTHON_BIN) -m pytest --quiet --numprocesses 3 --dist worksteal --ignore tests/conformance --ignore tests/bench \
	  $(if $(filter quick-%,$@),--quick)

conformance: $(READY) ## conformance tests of the stand-in; URL=http://host:port for a real server
	$(PYTHON_BIN) -m pytest --quiet tests/conformance $(if $(URL),--url $(URL))

test-gpu: $(READY) ## tests on a real GPU; OLLAMA_URL=http://host:port for a server
	$(PYTHON_BIN) -m tests.gpu

docs: .cache/docs/.stamp $(LINK) ## build the documentation site in .cache/site/html; warnings are errors
	.cache/docs/bin/python -m scripts.docs

execution-environment: .cache/docs/.stamp ## introspect the definition of the execution environment with ansible-builder
	.cache/docs/bin/python -m scripts.execution_environment

sanity: $(READY) ## ansible-test sanity; T='--test pep8' for a single test
	$(PYTHON_BIN) -m scripts.sanity $(T)

importer: $(READY) dist ## check the Galaxy artifact with Galaxy's importer
	$(PYTHON_BIN) -m scripts.importer

matrix: $(READY) $(PROMTOOL) ## units, sanity and scenario default on each ansible-core, with a table; V='2.21 units' for a part
	$(PYTHON_BIN) -m scripts.matrix $(V)

molecule: $(SCENARIOS) ## all Molecule scenarios; molecule-<name> for a single one
molecule-%: $(READY)
	MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/$* molecule test --scenario-name $*

platforms: $(READY) ## scenarios platform and adopt on every system; platform-<system> for a single one
	@$(PYTHON_BIN) -m scripts.run_parts $(addprefix platform-,$(shell $(PYTHON_BIN) -m tests.lab systems))
platform-%: $(READY)
	@$(PYTHON_BIN) -m tests.lab build $*
	@KAIDO_SYSTEM=$* $(MAKE) --no-print-directory molecule-platform molecule-adopt
platform-debian13-arm64: molecule-arm64 ## server and models on an emulated arm64 machine with Debian 13

##@ Build
.PHONY: dist release bench format requirements
dist: $(if $(shell PATH='$(PATH)' command -v ansible-galaxy),,$(READY)) ## build dist/*.tar.gz, and dist/galaxy/*.tar.gz with role 17_ollama as server; needs only ansible-core
	python3 -m scripts.dist

release: $(READY) ## write CHANGELOG.md for the version in galaxy.yml, and remove the fragments
	antsibull-changelog release

bench: $(READY) ## print benchmarks
	$(PYTHON_BIN) -m tests.bench

format: $(READY) ## format the Python files with ruff
	ruff check --fix
	ruff format

requirements: ## update the pinned versions and hashes in requirements/*.txt
	python3 -m venv --clear .cache/uv
	.cache/uv/bin/pip install --quiet uv
	for name in dev clients docs; do \
	  .cache/uv/bin/uv --no-config pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --default-index https://pypi.org/simple --custom-compile-command 'make requirements' --quiet --upgrade \
	    --output-file requirements/$$name.txt requirements/$$name.in || exit; \
	done

.venv/.stamp: requirements/dev.txt
	sh scripts/venv.sh

# Sphinx and ansible-builder have an environment of their own: its ansible-core may be another one.
.cache/docs/.stamp: requirements/docs.txt | .venv/.stamp
	$(PYTHON_BIN) -m venv --clear .cache/docs
	.cache/docs/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	touch $@

$(PROMTOOL):
	sh scripts/promtool.sh

$(LINK):
	mkdir -p $(@D)
	ln -sfn ../../.. $@
