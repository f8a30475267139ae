# The two commands of the README are `make chat` and `make test`; everything else is for those who build localq.

# The newest Python that localq works with, or the one of `make PYTHON=...`. Each is run, not looked up: a shim
# may stand where no Python is. If none is new enough, bootstrap.py says so.
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	if $$python -c "import sys; sys.exit(sys.version_info < (3, 11))" 2> /dev/null; then echo $$python; exit; fi; \
	done; echo python3)
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(shell find runtime -name '*.cpp' -o -name '*.h' -o -name CMakeLists.txt) CMakeLists.txt pyproject.toml
DEMO := .cache/demo.gguf
DIST := dist
BUILD := PYTHONPATH=packaging $(BIN)/python packaging

# The prompt as it was written: make would take a dollar sign in it for a variable of its own, so `$$` is not needed.
export CHAT_PROMPT = $(value PROMPT)
unexport PROMPT

.PHONY: help chat test test-slow test-reference test-server test-isa lint format types bench screenshots docs wheel wheel-arm llama-wheel standalone deb manifests lock release test-packages rebuild clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

chat: ## Talk to the demo model; PROMPT="..." asks once and prints the answer
	@if [ -z "$$CHAT_PROMPT" ] && ! { [ -t 0 ] && [ -t 1 ]; }; then \
		echo 'no terminal to chat in: give a prompt, as in make chat PROMPT="What is the capital of France?"' >&2; exit 2; fi
	@$(MAKE) -s $(VENV)/installed
	@if [ -n "$$CHAT_PROMPT" ]; then $(BIN)/localq run demo -- "$$CHAT_PROMPT" < /dev/null; \
	else $(BIN)/localq run demo; fi

test: $(VENV)/installed-test $(DEMO) ## Run the tests that belong to every change
	$(BIN)/python -m pytest -m "not slow and not reference" $(PYTEST_FLAGS)

test-slow: $(VENV)/installed-test $(DEMO) ## Run the long checks: many kills, many seeds, long races
	$(BIN)/python -m pytest -m slow --timeout 3600 $(PYTEST_FLAGS)

test-reference: $(VENV)/installed-reference ## Compare conversions with transformers (fetches torch first)
	$(BIN)/python -m pytest -m reference --timeout 3600 $(PYTEST_FLAGS)

test-server: $(VENV)/installed-test $(DEMO) ## Run the endpoint's long checks: storms, 20,000 requests, npm's clients
	$(BIN)/python -m pytest -m slow tests/app -k server --timeout 3600 $(PYTEST_FLAGS)

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

screenshots: $(VENV)/installed-test $(DEMO) ## Draw the pictures in docs/screens, with the demo model
	PYTHONPATH=. $(BIN)/python packaging/screenshots.py docs/screens

docs: $(VENV)/installed ## Write docs/cli.md from the commands' help
	$(BIN)/python -m app.cli.document > $(VENV)/cli.md
	@mv $(VENV)/cli.md docs/cli.md

wheel: $(VENV)/installed-package ## Build the wheel into dist/, the same bytes each time
	@$(BUILD)/wheels/build.py $(DIST)

wheel-arm: $(VENV)/installed-package ## Build the wheel for Linux on aarch64 by cross-compiling; try its kernels under qemu
	@$(BUILD)/wheels/cross.py $(DIST)

llama-wheel: $(VENV)/installed-package ## Build llama.cpp for every level of x86-64 into dist/ (ten minutes)
	@$(BUILD)/llama/build.py $(DIST)

standalone: $(VENV)/installed-package ## Build the self-contained .tar.gz from the two wheels in dist/
	@$(BUILD)/standalone/build.py $(DIST)

deb: $(VENV)/installed-package ## Build the .deb from what `make standalone` left in dist/
	@$(BUILD)/deb/build.py $(DIST)

manifests: $(VENV)/installed-package ## Write the formula and manifests of other package managers for dist/
	@$(BUILD)/manifests/render.py $(DIST)

lock: $(VENV)/installed-package ## Resolve dependencies anew, to versions with hashes, in packaging/lock
	@$(BUILD)/lock/build.py

release: $(VENV)/installed-package ## Build everything of a clean commit into dist/VERSION, with bills of materials
	@$(BUILD)/release.py $(DIST)

test-packages: $(VENV)/installed-package $(DEMO) ## Install what lies in dist/ in empty places, and ask it (root; fetches a Debian)
	$(BIN)/python -m pytest -m slow tests/packaging --timeout 3600 $(PYTEST_FLAGS)

rebuild: ## Build the kernel library again, and install what the environment lacks
	@stamp=$(VENV)/installed; if [ -e $$stamp-test ]; then stamp=$$stamp-test; fi; \
	rm -rf $(VENV)/installed $(VENV)/installed-* build/py3-*; $(MAKE) -s $$stamp

clean: ## Remove what was built; models in the store stay
	rm -rf $(VENV) build dist .cache .mypy_cache .pytest_cache .ruff_cache

$(VENV)/installed: packaging/bootstrap.py $(SOURCES)
	@$(PYTHON) packaging/bootstrap.py --venv $(VENV)
	@touch $@

$(VENV)/installed-test: packaging/bootstrap.py $(SOURCES)
	@$(PYTHON) packaging/bootstrap.py --venv $(VENV) --extras test,dev
	@touch $@ $(VENV)/installed

$(VENV)/installed-reference: $(VENV)/installed-test
	@$(PYTHON) packaging/bootstrap.py --venv $(VENV) --extras test,dev,reference
	@touch $@

$(VENV)/installed-package: $(VENV)/installed-test
	@$(PYTHON) packaging/bootstrap.py --venv $(VENV) --extras test,dev,package
	@touch $@

$(DEMO): | $(VENV)/installed-test
	@$(BIN)/python packaging/fetch_demo.py $@
