# `make help` lists the targets. The work itself is in tools/, one script for each job.
SHELL := /bin/bash
export PYTHON ?= python3.11

BIN := .venv/bin
SETUP := .venv/.setup
CHART := .venv/.chart
GEN := build/gen-venv/.setup
NODE := tools/node/node_modules/.setup

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-data test-slow test-mutants faults streams soak bench bench-quick lint \
	buf-lint breaking gen drift contract-check example-go clean

help: ## Print this.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s%s\n", $$1, $$2 }' Makefile

setup: $(SETUP) ## Install the service, its client and the tools into .venv.

demo: $(SETUP) ## Run the demo: a server, its Redis and some traffic, all in one.
	@$(BIN)/feedsvc demo

test: $(SETUP) ## Run the tests (needs only Python; uses redis-server where it is or can be had).
	@tools/install-redis
	@tests/faults/install-faketime
	@$(BIN)/pytest -q -n auto --dist worksteal -m "not data and not slow"

test-data: $(SETUP) ## Run the tests on real data, which must lie in ../shared/data.
	@$(BIN)/pytest -q -m "data and not slow"

test-slow: $(SETUP) ## Run the tests that take minutes.
	@$(BIN)/pytest -q -n auto --dist worksteal -m slow

test-mutants: $(SETUP) ## Put past bugs back, one at a time, and see the tests fail.
	@$(BIN)/python -m tests.mutants

faults: $(SETUP) ## Break the service at random and judge it, SECONDS=600 long, by a SEED.
	@tests/faults/install-faketime
	@$(BIN)/python -m tests.faults --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

streams: $(SETUP) ## Break what live streams stand on and judge them, SECONDS=600 long, by a SEED.
	@$(BIN)/python -m tests.streams --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

soak: $(SETUP) ## Publish into full outboxes for MINUTES=5, and see that nothing keeps growing.
	@$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),5)

bench: $(SETUP) $(CHART) ## Measure beside the alternatives; writes benchmarks/results.json and a chart.
	@$(BIN)/python -m benchmarks

bench-quick: $(SETUP) $(CHART) ## The same at smaller sizes, in three minutes; writes to build/.
	@$(BIN)/python -m benchmarks --quick

lint: $(SETUP) ## Check the Python code (rules, format, types) and the spelling of all files.
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@git ls-files -z | xargs -0 $(BIN)/codespell
	@$(BIN)/mypy

buf-lint: $(GEN) $(NODE) ## Check the contract: rules, format (needs Node).
	@tools/buf-lint

breaking: $(GEN) $(NODE) ## Check that the contract does not break the one on main (needs Node).
	@tools/buf-breaking

gen: $(GEN) ## Generate the Python stubs from protos/.
	@tools/gen

drift: $(GEN) ## Check that the committed Python stubs are what protos/ generates.
	@tools/drift

contract-check: $(GEN) $(NODE) ## Compile the contract in Go, TypeScript and Java (needs them all).
	@tools/contract-check

example-go: $(SETUP) contract-check ## Run the client in examples/go over a restart of its server.
	@tools/example-go

clean: ## Remove all that was made, but .venv.
	@rm -rf build dist tools/node/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(SETUP): pyproject.toml clients/python/pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo 'setup: installing feedsvc and its tools into .venv'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-e clients/python -e '.[embedded,dev]'
	@touch $@

$(CHART): $(SETUP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[chart]'
	@touch $@

$(GEN): tools/gen-setup tools/gen-requirements.txt
	@tools/gen-setup

$(NODE): tools/node-setup tools/node/package.json tools/node/package-lock.json
	@tools/node-setup
