# The two commands of the README are `make chat` and `make test`; everything else is for those who build localq.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find runtime -name '*.cpp' -o -name '*.h' -o -name CMakeLists.txt) CMakeLists.txt pyproject.toml
DEMO := .cache/demo.gguf

.PHONY: chat test test-slow test-isa lint format types bench docs wheel clean

chat: $(VENV)/installed ## Talk to the demo model; PROMPT="..." asks once and prints the answer
	@if [ -n "$$PROMPT" ]; then $(BIN)/localq run demo "$$PROMPT" < /dev/null; \
	elif [ -t 0 ] && [ -t 1 ]; then $(BIN)/localq run demo; \
	else echo 'no terminal to chat in: give a prompt, as in make chat PROMPT="What is the capital of France?"' >&2; exit 2; fi

test: $(VENV)/installed-test $(DEMO) ## Run the tests that belong to every change
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_FLAGS)

test-slow: $(VENV)/installed-test $(DEMO) ## Run the long checks: many kills, many seeds, long races
	$(BIN)/python -m pytest -m slow --timeout 3600 $(PYTEST_FLAGS)

test-isa: $(VENV)/installed-test ## Run the kernel tests once for each instruction set that this processor has
	@for isa in $$($(BIN)/python -c "from runtime.kernels import available_isas; print(*available_isas())"); do \
		echo "LOCALQ_FORCE_ISA=$$isa"; \
		LOCALQ_FORCE_ISA=$$isa $(BIN)/python -m pytest tests/runtime -q -k kernels $(PYTEST_FLAGS) || exit 1; \
	done

lint: $(VENV)/installed-test ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed-test ## Repair style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/installed-test ## Check types, code and tests
	$(BIN)/mypy

bench: $(VENV)/installed-test $(DEMO) ## Measure the engine and the kernels (docs/benchmarks.md: against llama.cpp)
	$(BIN)/localq bench $(DEMO) $(BENCH_FLAGS)
	$(BIN)/python -m benchmarks.bench_kernels

docs: $(VENV)/installed ## Write docs/cli.md from the commands' help
	$(BIN)/python -m app.cli.document > docs/cli.md

wheel: $(VENV)/installed-test ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## Remove what was built; models in the store stay
	rm -rf $(VENV) build dist .cache .mypy_cache .pytest_cache .ruff_cache

$(VENV)/installed: packaging/bootstrap.py $(SOURCES)
	@$(PYTHON) packaging/bootstrap.py --venv $(VENV)
	@touch $@

$(VENV)/installed-test: packaging/bootstrap.py $(SOURCES)
	@$(PYTHON) packaging/bootstrap.py --venv $(VENV) --extras test,dev
	@touch $@ $(VENV)/installed

$(DEMO): | $(VENV)/installed-test
	@$(BIN)/python packaging/fetch_demo.py $@
