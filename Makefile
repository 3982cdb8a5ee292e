# Everything a contributor does. `make` alone lists the targets; each runs without asking anything.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

BIN := .venv/bin
PYTHON_BIN := $(BIN)/python
LINK := .cache/ansible_collections/kaido/ollama
READY := .venv/.stamp $(LINK)
PROMTOOL := .cache/promtool/usr/bin/promtool
# Scenario platform is for one system at a time, most of them from an image registry: `make platforms`.
SCENARIOS := $(filter-out molecule-platform,$(patsubst molecule/%/molecule.yml,molecule-%,$(wildcard molecule/*/molecule.yml)))
LINT := ruff mypy yamllint ansible-lint changelog
CHECK := units $(LINT) conformance
# Two run at a time, so the longest come first.
FIRST := molecule-default molecule-gpu_nvidia
TEST := $(FIRST) $(CHECK) sanity importer $(filter-out $(FIRST),$(SCENARIOS))

# Whatever these tools write stays in .cache, where `make clean` finds it.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/pycache
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.cache/hypothesis
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export LC_ALL := C.UTF-8

##@ Try it
.PHONY: help demo clean
help: ## list the targets
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-zA-Z0-9_.%-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## build the lab, provision its hosts, and show what answers
	$(PYTHON_BIN) -m tests.lab demo

clean: ## remove all that make made: the lab, .venv, .cache, dist, test output; nothing else
	@if [ -x $(PYTHON_BIN) ]; then $(PYTHON_BIN) -m tests.lab clean; fi
	rm -rf .venv .cache dist .ansible tests/output

##@ Check a change
.PHONY: check test lint report-page $(CHECK) test-gpu docs sanity importer molecule platforms
check: $(READY) ## lint, units and conformance: for the inner loop, about 2 minutes
	@$(PYTHON_BIN) -m scripts.run_parts $(CHECK)

test: $(READY) ## everything; one table at the end
	@$(PYTHON_BIN) -m scripts.run_parts --jobs 2 $(TEST)

report-page: $(READY) ## screenshots of the report page, in tests/output/report
	sh scripts/report_page.sh

lint: $(LINT) ## ruff, mypy, yamllint, ansible-lint, changelog fragments

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

units: $(READY) $(PROMTOOL) ## unit tests
	$(PYTHON_BIN) -m pytest --quiet --numprocesses 4 --dist worksteal --ignore tests/conformance --ignore tests/bench

conformance: $(READY) ## the stand-in, or with URL=http://host:port any server, behaves as observed
	$(PYTHON_BIN) -m pytest --quiet tests/conformance $(if $(URL),--url $(URL))

test-gpu: $(READY) ## what needs a real GPU; OLLAMA_URL=http://host:port names a server
	$(PYTHON_BIN) -m tests.gpu

docs: $(READY) ## ansible-doc renders every module and role
	$(PYTHON_BIN) -m pytest --quiet tests/unit/test_collection.py -k ansible_doc

sanity: $(READY) ## ansible-test sanity; T='--test pep8' for one of its tests
	$(PYTHON_BIN) -m scripts.sanity $(T)

importer: dist ## Galaxy's importer accepts the Galaxy artifact
	$(PYTHON_BIN) -m scripts.importer

molecule: $(SCENARIOS) ## every Molecule scenario; molecule-<name> runs one
molecule-%: $(READY)
	MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/.cache/molecule/$* molecule test --scenario-name $*

platforms: $(READY) ## scenarios platform and adopt on every system; platform-<system> takes one
	@$(PYTHON_BIN) -m scripts.run_parts $(addprefix platform-,$(shell $(PYTHON_BIN) -m tests.lab systems))
platform-%: $(READY)
	@$(PYTHON_BIN) -m tests.lab build $*
	@KAIDO_SYSTEM=$* $(MAKE) --no-print-directory molecule-platform molecule-adopt

##@ Make something
.PHONY: dist bench format requirements
dist: $(READY) ## the artifacts: dist/, and dist/galaxy/ with role 17_ollama named as Galaxy allows
	$(PYTHON_BIN) -m scripts.dist

bench: $(READY) ## print how fast and how small it is
	$(PYTHON_BIN) -m tests.bench

format: $(READY) ## let ruff rewrite the Python files
	ruff check --fix
	ruff format

requirements: ## pin requirements/*.in anew, with hashes, into *.txt
	python3 -m venv --clear .cache/uv
	.cache/uv/bin/pip install --quiet uv
	for name in dev clients; do \
	  .cache/uv/bin/uv --no-config pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --default-index https://pypi.org/simple --custom-compile-command 'make requirements' --quiet --upgrade \
	    --output-file requirements/$$name.txt requirements/$$name.in || exit; \
	done

.venv/.stamp: requirements/dev.txt
	sh scripts/venv.sh

$(PROMTOOL):
	sh scripts/promtool.sh

$(LINK):
	mkdir -p $(@D)
	ln -sfn ../../.. $@
