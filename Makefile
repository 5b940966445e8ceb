# make demo    protect, lose and restore a sample application on this machine (STAY=0: end by itself; KUBECONFIG=… TARGET=s3://…: elsewhere)
# make test    every test that needs nothing but this machine
# make check   format, lint, types, layers, and the quick tests
# make e2e     the same procedure on the cluster of KUBECONFIG, with the bucket server of AWS_ENDPOINT_URL
# make prove   crashes, interleavings, mutations and real kills by the ten thousand (half an hour), and write docs/PROOF.md
# make bench   measure, beside restic, and write docs/BENCHMARKS.md

# The interpreter itself, not a shim of it: uv makes the environment anew whenever it is told another path.
PYTHON ?= $(shell (python3.11 -c 'import os, sys; print(os.path.realpath(sys.executable))' || python3 -c 'import os, sys; print(os.path.realpath(sys.executable))') 2>/dev/null)
UV := .tools/bin/uv
RUN := .venv/bin/python
STAY ?= 1
TARGET ?=
DEMO_ARGUMENTS = $(if $(filter 0,$(STAY)),--end,) $(if $(TARGET),--target $(TARGET),)
# Only a KUBECONFIG said on make's own command line counts for the demo: one in the environment is somebody's real cluster.
ifeq ($(origin KUBECONFIG),command line)
DEMO_ARGUMENTS += --kubeconfig $(KUBECONFIG)
endif

.PHONY: demo demo-stop test unit lint check format e2e bench prove clean tools

.tools/bin/uv:
	@echo "becalm: making a Python environment (once)"
	@$(PYTHON) -m venv .tools
	@.tools/bin/pip install --quiet --disable-pip-version-check uv

.venv/demo.stamp: .tools/bin/uv pyproject.toml uv.lock
	@echo "becalm: installing Becalm and Airflow into .venv (once, a minute or two)"
	@$(UV) sync --quiet --frozen --no-dev --inexact --extra airflow --extra sandbox --python $(PYTHON)
	@touch $@

.venv/test.stamp: .tools/bin/uv pyproject.toml uv.lock
	@$(UV) sync --quiet --frozen --all-extras --python $(PYTHON)
	@touch $@ .venv/demo.stamp

demo: .venv/demo.stamp
	@KUBECONFIG= $(RUN) -m becalm.sandbox.demo run $(DEMO_ARGUMENTS)

demo-stop: .venv/demo.stamp
	@$(RUN) -m becalm.sandbox.demo stop

tools: .venv/test.stamp
	@command -v restic >/dev/null || { echo "becalm: installing restic, the judge of our repositories"; tests/install-debian restic; }

unit: .venv/test.stamp
	$(RUN) -m pytest -q -n auto tests/unit

test: tools
	$(RUN) -m pytest -q -n auto tests/unit tests/contract
	$(RUN) -m pytest -q tests/dags tests/integration

lint: .venv/test.stamp
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

check: lint
	$(RUN) -m pytest -q -n auto tests/unit
	$(RUN) -m pytest -q tests/dags

format: .venv/test.stamp
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

e2e: tools
	$(RUN) -m pytest -q -x --durations=10 tests/e2e
	$(RUN) -m pytest -q -x --durations=10 -m "cluster or s3" tests/contract tests/integration

prove: tools
	$(RUN) -m tests.prove.run

bench: tools
	$(RUN) -m tests.bench.run

clean:
	rm -rf .venv .tools .demo .pytest_cache .mypy_cache .ruff_cache
