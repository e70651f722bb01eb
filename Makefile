# What developers and CI run. Needs make and Python >= 3.11, nothing else: the rest goes into .venv.
# Pip is used as the environment configures it (PIP_* variables, pip.conf).

# PYTHON=/path/to/python chooses one; else .ci/find-python does.
TESTS ?= tests
FULL_MINUTES ?= 8
SOAK_HOURS ?= 8
FUZZ_SECONDS ?= 60
RULES := tests/service_properties tests/service/test_routing_properties.py
PYTEST_FLAGS ?= $(if $(CI),--durations=15)
DESCRIPTOR := out/aicc-mo-v1.binpb
BASELINE := protos/baseline.binpb

BIN := .venv/bin
GENERATE := $(BIN)/python protos/generate.py
SOURCES := shim service protos tests

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

# A .venv counts only when it was finished, for this very folder, and its Python still runs.
IS_USABLE := $(shell $(BIN)/python -c '' 2>/dev/null && test "$$(cat .venv/.finished-for 2>/dev/null)" = "$(CURDIR)" && echo yes)

##@ Everyday
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: ready ## Service and shim on this machine, with a demo channel; Ctrl-C ends both
	@exec $(BIN)/python -m shim.demo

test: ready ## All tests, on all cores (TESTS=path/to/test.py for some)
	@$(BIN)/python -m pytest -n auto --dist worksteal -m 'not full' $(PYTEST_FLAGS) $(TESTS)

test-postgres: ready ## Of these, what needs PostgreSQL: MO_TEST_POSTGRES=DSN or a folder, else a server of its own
	@$(BIN)/python -m pytest -n auto --dist worksteal -m 'postgres and not full' $(PYTEST_FLAGS) $(TESTS)

test-full: ready ## The rules of feed and routes, and every fault, on both stores, at length; 14 minutes
	@MO_STRESS_SECONDS=30 $(BIN)/python -m pytest -n 2 --hypothesis-profile=full --timeout=900 $(RULES)
	@$(BIN)/python -m pytest -m full --ignore=tests/service_properties tests
	@$(BIN)/python -m tests.faults --minutes $(FULL_MINUTES) $(FULL_FLAGS)

soak: ready ## The same for hours, with a table every minute (SOAK_HOURS=8)
	@$(BIN)/python -m tests.faults --minutes 0 --hours $(SOAK_HOURS) $(FULL_FLAGS)

check: lint types proto-lint proto-breaking test ## What CI checks first; test-full is the rest

bench: bench-ready ## What everything costs beside other ways to build it; 8 minutes (needs wrk; BENCH_FLAGS='--json')
	@$(BIN)/python -m tests.bench targets $(BENCH_FLAGS)

bench-quick: bench-ready ## What a message costs beside bare Tornado and FastAPI handlers; a minute
	@$(BIN)/python -m tests.bench quick $(BENCH_FLAGS)

bench-long: bench-ready ## Outage, flood, flatness and whatever else takes minutes (BENCH_FLAGS='outage --json')
	@$(BIN)/python -m tests.bench long $(BENCH_FLAGS)

fuzz: ready ## Strangers' bytes at length, guided by coverage (FUZZ_SECONDS=60 each; Linux, installs atheris)
	@$(BIN)/python -m pip install --quiet 'atheris>=3'
	@$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_FLAGS)

##@ Quality
lint: ready ## Lint and formatting of the Python code
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: ready ## Static types, strictly
	$(BIN)/mypy

format: ready ## Formats the Python code and the protos in place
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/buf format --write protos

coverage: ready ## Tests with branch coverage, child processes included
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --dist worksteal -m 'not full' $(TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

##@ The contract (protos)
stubs: tools ## Python stubs beside the protos, or for another project: OUT=folder
	@$(GENERATE) $(if $(OUT),--out '$(OUT)')

descriptor: tools ## Self-contained descriptor set, comments included (OUT=file)
	@$(GENERATE) --descriptor '$(or $(OUT),$(DESCRIPTOR))'

proto-lint: tools ## Style, comments and formatting of the contract
	$(BIN)/buf lint protos
	$(BIN)/buf format --diff --exit-code protos

proto-breaking: tools ## Refuses changes that break callers of the baseline
	$(BIN)/buf breaking protos --against $(BASELINE)

proto-baseline: tools ## Makes today's contract the new baseline
	$(BIN)/buf build protos -o $(BASELINE)

##@ Packaging
dist: ready ## Source distribution and wheel, into dist/
	$(BIN)/python -m build --no-isolation

lock: tools ## Locks requirements*.txt anew, keeping versions (LOCK_FLAGS=--upgrade for new ones)
	@$(BIN)/python -m pip install --quiet 'uv>=0.13'
	@$(LOCK) pyproject.toml -o requirements.txt
	@$(LOCK) pyproject.toml --group dev -c requirements.txt -o requirements-dev.txt
	@$(LOCK) --group bench -c requirements-dev.txt -o requirements-bench.txt

# One lock for every system and Python, asked of pip's index; no host name gets into it.
LOCK := $(if $(PIP_INDEX_URL),UV_DEFAULT_INDEX='$(PIP_INDEX_URL)') $(BIN)/uv pip compile --quiet --system-certs \
	--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-annotate --custom-compile-command 'make lock' $(LOCK_FLAGS)

clean: ## Removes all that was made here, but var/ with its data
	rm -rf .venv build dist out .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
	find protos -name '*_pb2*.py*' -exec rm -f {} +
	rm -f protos/aicc/mo/v1/.generated

# ---- how .venv is made -------------------------------------------------------

# The tools and libraries of requirements-dev.txt.
tools: .venv/.finished-for
# The same, and this project installed editable with its stubs.
ready: tools .venv/.project
	@$(GENERATE) --quiet

# The same, and what the benchmarks compare us with.
bench-ready: ready .venv/.with-baselines

# From scratch whenever it isn't usable or the locked versions changed: nothing half-made survives.
.venv/.finished-for: requirements-dev.txt $(if $(IS_USABLE),,FORCE)
	@python=$$(.ci/find-python $(PYTHON)) || exit 1; \
	echo "Making .venv with $$($$python --version), once; this takes a minute"; \
	$$python -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	@echo '$(CURDIR)' > $@

.venv/.project: .venv/.finished-for pyproject.toml protos/build_hook.py
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.with-baselines: .venv/.finished-for requirements-bench.txt
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-bench.txt
	@touch $@

FORCE:
.PHONY: FORCE help run test test-postgres test-full soak check bench bench-quick bench-long bench-ready fuzz lint types format coverage stubs descriptor \
	proto-lint proto-breaking proto-baseline dist lock clean tools ready
