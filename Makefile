# Everything sets itself up: `make demo` and `make test` need Python 3.11 to 3.13 and nothing else of ours.
PYTHON ?= python3
VENV ?= .venv
LISTEN ?= 127.0.0.1:8080
SEEDS ?= 1000
KILLS ?= 50
STOPS ?= 20
SEED ?= 1
ENGINES ?=
EVENTS ?= 1000000
SAMPLE ?= 0
WORKERS ?= 1
KPIS ?= flow
LOGS ?= .
BIN := $(VENV)/bin
CHECKERS := .venv-deploy
SOURCES := flowmetrics agents tests benchmarks

.PHONY: help demo test check docs check-deploy simulate chaos bench alarms lock format clean pictures mutate

help:
	@echo "make demo      a simulated company on http://localhost:8080; LISTEN=HOST:PORT for another place"
	@echo "make test      every check and every test"
	@echo "make check     formatting, types, import contracts, freshness of generated files"
	@echo "make check-deploy  image, compose, chart, Prometheus, Alertmanager and systemd, as far as this machine can"
	@echo "make docs      the documentation site into .site/; a link that leads nowhere fails"
	@echo "make pictures  those of the README, of the demo in Chromium"
	@echo "make simulate  SEEDS=n  the simulator at any length"
	@echo "make chaos     KILLS=n STOPS=n SEED=s  faults on a real Kafka"
	@echo "make bench     ENGINES=\"flowmetrics flink\" EVENTS=n WORKERS=n KPIS=all  flow-1 side by side with other engines"
	@echo "make mutate    SAMPLE=n  break each clause of each rule, or of n, and see whether a test of promtool notices"
	@echo "make alarms    LOGS=folder  how often alerts fire without a cause, and how soon they find a slump"
	@echo "make lock      renew requirements.lock after a change of pyproject.toml"

demo: $(VENV)/run
	$(BIN)/flowmetrics demo --listen $(LISTEN)

test: check $(CHECKERS)/installed
	$(BIN)/python -m pytest

docs: $(VENV)/test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

check: $(VENV)/test docs
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/flowmetrics generate docs --check
	$(BIN)/flowmetrics generate rules --check
	$(BIN)/flowmetrics generate dashboards --check
	$(BIN)/flowmetrics generate chart --check
	@if command -v promtool >/dev/null; then $(MAKE) --no-print-directory .promtool/tested; \
	else echo "left out: promtool is not installed, so the rules are not tested (Debian: apt-get install prometheus)"; \
	test -z "$(NOTHING_LEFT_OUT)"; fi

# Rules do not depend on Python: they are tested when they changed.
.promtool/tested: $(wildcard deploy/prometheus/rules/*.yaml deploy/prometheus/tests/*.yaml)
	promtool check rules deploy/prometheus/rules/*.yaml
	promtool test rules deploy/prometheus/tests/*.yaml
	@mkdir -p $(@D) && touch $@

mutate: $(VENV)/test
	$(BIN)/python -m benchmarks.mutate_rules --sample $(SAMPLE)

check-deploy: $(VENV)/test $(CHECKERS)/installed
	$(BIN)/python -m pytest tests/deploy

pictures: $(VENV)/test
	PYTHONPATH=tests $(BIN)/python tests/pictures.py

simulate: $(VENV)/test
	$(BIN)/python -m tests.simulation.run $(SEEDS)
	$(BIN)/python -m tests.simulation.run $(SEEDS) --kafka

chaos: $(VENV)/test
	PYTHONPATH=tests $(BIN)/python tests/kafka/chaos.py --kills $(KILLS) --stops $(STOPS) --moves 10 --restarts 2 --outages 1 --seed $(SEED)

bench: $(VENV)/test
	$(BIN)/python -m benchmarks.flow1 --engines "$(ENGINES)" --events $(EVENTS) --workers $(WORKERS) --kpis $(KPIS)

alarms: $(VENV)/test
	$(BIN)/python -m benchmarks.false_alarms $(LOGS)

format: $(VENV)/test
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/flowmetrics generate docs
	$(BIN)/flowmetrics generate rules
	$(BIN)/flowmetrics generate dashboards
	$(BIN)/flowmetrics generate chart

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

# What is installed is what was tested: the versions of requirements-test.lock.
lock: $(VENV)/test
	$(BIN)/pip install --quiet uv
	$(COMPILE) --extra test --extra docs --extra kafka --extra dashboards pyproject.toml -o requirements-test.lock
	$(COMPILE) --constraint requirements-test.lock pyproject.toml -o requirements.lock
	$(COMPILE) --constraint requirements-test.lock --extra kafka pyproject.toml -o requirements-kafka.lock
	$(COMPILE) --group build -o requirements-build.lock
	$(COMPILE) --group deploy -o requirements-deploy.lock

clean:
	rm -rf $(VENV) $(CHECKERS) .site .bench .kafka .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# A stamp for each set of packages, renewed when the lock file changes.
$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "flowmetrics needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: $(VENV)/bin/python requirements.lock pyproject.toml
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/test: $(VENV)/bin/python requirements-test.lock pyproject.toml
	$(BIN)/pip install --quiet --require-hashes -r requirements-test.lock
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

$(CHECKERS)/installed: requirements-deploy.lock
	$(PYTHON) -m venv $(CHECKERS)
	$(CHECKERS)/bin/pip install --quiet --require-hashes -r requirements-deploy.lock
	@touch $@
