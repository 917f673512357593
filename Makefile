# Works on a fresh machine with Python 3.11 or newer, git and make. `make help` lists the targets.
.POSIX:
.PHONY: help run stack stack-status stack-restart stack-stop test check unit integration e2e docs promotions \
	stack-proof score-proof benchmark benchmark-quick profile scaling microbenchmark lock clean clean-data

PYTHON_IN_VENV = .venv/bin/python
BENCHMARKS = .venv-benchmark/bin/python -m tests.benchmarks

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

run: ## Set up what is missing and serve on http://127.0.0.1:8000 (PORT=8001 make run for another port)
	@scripts/setup.sh run && exec $(PYTHON_IN_VENV) -m falcon_wsgi serve

stack: ## nginx before two instances on http://127.0.0.1:8000, with Redis, Postgres, monitoring (OPTIONS="--instances 3 --detach")
	@scripts/setup.sh run && exec $(PYTHON_IN_VENV) -m falcon_wsgi stack start $(OPTIONS)

stack-status: ## State, pid and port of each part of the stack
	@$(PYTHON_IN_VENV) -m falcon_wsgi stack status

stack-restart: ## Restart the stack's instances one by one; no request is lost
	@$(PYTHON_IN_VENV) -m falcon_wsgi stack restart

stack-stop: ## Stop the stack and all that it started
	@$(PYTHON_IN_VENV) -m falcon_wsgi stack stop

test: check ## Set up what is missing, then run every check and every test
	$(PYTHON_IN_VENV) -m tests.parallel

check: ## Lint, formatting, types
	@scripts/setup.sh test
	$(PYTHON_IN_VENV) -m ruff check .
	$(PYTHON_IN_VENV) -m ruff format --check .
	$(PYTHON_IN_VENV) -m mypy

unit: ## Tests without a socket
	@scripts/setup.sh test
	$(PYTHON_IN_VENV) -m pytest tests/unit

integration: ## Tests with a real Redis and a real Postgres
	@scripts/setup.sh test
	$(PYTHON_IN_VENV) -m pytest tests/integration

e2e: ## Tests of the whole service
	@scripts/setup.sh test
	$(PYTHON_IN_VENV) -m pytest tests/e2e

docs: ## Write docs/SETTINGS.md from the settings' declarations
	@scripts/setup.sh run
	$(PYTHON_IN_VENV) -m falcon_wsgi config --markdown > docs/SETTINGS.md

promotions: ## 50 promotions under load: no failed request, no mixed answer, steady memory (some minutes)
	@scripts/setup.sh test
	$(PYTHON_IN_VENV) -m pytest -s tests/slow/promotions.py

stack-proof: ## wrk through nginx while instances are reloaded, restarted and killed: no failed request (two minutes)
	@scripts/setup.sh test
	$(PYTHON_IN_VENV) -m pytest -s tests/slow/stack_proof.py

score-proof: ## Score 10 million generated rows and check every answer, the speed and the memory (some minutes)
	@scripts/setup.sh run
	$(PYTHON_IN_VENV) scripts/score_proof.py

benchmark: ## Measure against other servers, with wrk (OPTIONS="--help" lists what can be chosen)
	@scripts/setup.sh benchmark
	@$(BENCHMARKS) run $(OPTIONS)

benchmark-quick: ## The same in under two minutes: the main loads at 32 connections
	@scripts/setup.sh benchmark
	@$(BENCHMARKS) run --workloads hot,cold,batch,keyed --connections 32 --via direct --repetitions 2 --seconds 2 \
		--starts 1 --recycles 0 $(OPTIONS)

scaling: ## How cost grows with workers, instances, texts, vocabulary, backlog, Redis latency (some 10 minutes)
	@scripts/setup.sh benchmark
	@$(BENCHMARKS) scaling $(OPTIONS)

profile: ## Where the workers' processor time goes, by stage of the request's path
	@scripts/setup.sh benchmark
	@$(BENCHMARKS) profile $(OPTIONS)

microbenchmark: ## The hot functions one by one, beside the stored baseline
	@scripts/setup.sh benchmark
	@$(BENCHMARKS) micro $(OPTIONS)

lock: ## Write the lock files from pyproject.toml (needs uv)
	scripts/compile-locks.sh

clean: ## Delete .venv and caches, unless an instance runs from them; keeps all data
	@scripts/clean.sh

clean-data: ## Delete the data of instances that are not running (journals, embedded servers, logs)
	@scripts/clean.sh data
