# `make help` lists the targets. Each script in tools/ does one job; the targets call these scripts.
SHELL := /bin/bash

BIN := .venv/bin
SETUP := .venv/.setup
CHART := .venv/.chart
GEN := build/gen-venv/.setup
NODE := tools/node/node_modules/.setup
# Tests start hundreds of Python programs. Without bytecode on the disk each compiles its sources anew.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -q

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-faults test-data test-slow test-mutants faults streams soak bench bench-quick lint \
	buf-lint breaking gen drift contract-check example-go dist first-hour recordings clean

help: ## Print this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s%s\n", $$1, $$2 }' Makefile

setup: $(SETUP) ## Install the service, its client and the development tools into .venv.

demo: $(SETUP) ## Run the demo: one process with a server, a store and traffic.
	@$(BIN)/feedsvc demo

test: $(SETUP) ## Run the tests (needs only Python; uses redis-server if it is or can be installed).
	@tools/install-redis
	@tests/harness/install-faketime
	@tests/harness/install-nginx
	@$(PYTEST) -n auto --dist worksteal -m "not data and not slow and not faults"

test-faults: $(SETUP) ## Run the short histories of random faults, which CI runs beside `make test`.
	@tests/harness/install-faketime
	@$(PYTEST) -n auto -m "faults and not slow"

test-data: $(SETUP) ## Run the tests on real data (docs/testing.md says where to get it).
	@$(PYTEST) -m "data and not slow"

test-slow: $(SETUP) ## Run the tests that take minutes.
	@$(PYTEST) -n auto --dist worksteal -m slow

test-mutants: $(SETUP) ## Put known bugs back, one at a time, and check that a test fails.
	@$(BIN)/python -m tests.mutants

faults: $(SETUP) ## Inject random faults under traffic and judge the history (SECONDS=600, SEED=n).
	@tests/harness/install-faketime
	@$(BIN)/python -m tests.faults --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

streams: $(SETUP) ## Inject random faults under live streams and judge them (SECONDS=600, SEED=n).
	@$(BIN)/python -m tests.streams --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

soak: $(SETUP) ## Publish into full outboxes and check that nothing keeps growing (MINUTES=5).
	@$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),5)

first-hour: $(SETUP) ## Run each command of the documents as printed, in a fresh clone with an empty home.
	@$(BIN)/python -m tests.first_hour

recordings: $(SETUP) ## Write docs/first-runs: what people see in their first minutes.
	@$(BIN)/python -m tests.first_hour --record

bench: $(SETUP) $(CHART) ## Measure feedsvc and its alternatives; write benchmarks/results.json and a chart.
	@$(BIN)/python -m benchmarks

bench-quick: $(SETUP) $(CHART) ## Measure at smaller sizes, in a few minutes; write to build/.
	@$(BIN)/python -m benchmarks --quick

lint: $(SETUP) ## Check the Python code (rules, format, types), the Lua scripts and the spelling of all files.
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@git ls-files -z | xargs -0 $(BIN)/codespell
	@$(BIN)/mypy
	@tools/install-luacheck
	@$(BIN)/python tools/check-lua

buf-lint: $(GEN) $(NODE) ## Check the rules and the format of the contract (needs Node).
	@tools/buf-lint

breaking: $(GEN) $(NODE) ## Check that the contract does not break clients of the contract on main (needs Node).
	@tools/buf-breaking

gen: $(GEN) $(SETUP) ## Generate the Python stubs, the descriptor set, docs/keys.md, docs/settings.md and the tables of docs/performance.md.
	@tools/gen

drift: $(GEN) $(SETUP) ## Check that the committed files match what `make gen` writes.
	@tools/drift

contract-check: $(GEN) $(NODE) ## Compile the contract in Go, TypeScript and Java (needs Go, Node and Maven).
	@tools/contract-check

example-go: $(SETUP) contract-check ## Run the client of examples/go while its server restarts (needs Go, Node and Maven).
	@tools/example-go

dist: ## Build the wheels and source archives of feedsvc and its Python client in dist/.
	@tools/dist

clean: ## Remove all files that make created, except .venv.
	@rm -rf build dist tools/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(SETUP): pyproject.toml clients/python/pyproject.toml
	@tools/setup
	@touch $@

$(CHART): $(SETUP)
	@tools/setup -e '.[chart]'
	@touch $@

$(GEN): tools/gen-setup tools/gen-requirements.txt
	@tools/gen-setup

$(NODE): tools/node-setup tools/node/package.json tools/node/package-lock.json
	@tools/node-setup
