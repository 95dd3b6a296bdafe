# make demo   runs the main job          make test   passes the tests
# make run    keeps the stack up         make check  format, lint, types, layers
PYTHON ?= $(shell command -v python3.13 || command -v python3)
BIN := .venv/bin

.PHONY: setup demo run test check soak bench validate.pyz format lock clean

setup: .venv/.installed
	@$(BIN)/python -m local.azurite install

.venv/.installed: requirements-dev.txt .python-version
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(v != (3, 13) and f"Python 3.13 is needed; $(PYTHON) is {v[0]}.{v[1]}. Try: make PYTHON=/path/to/python3.13")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: setup
	@$(BIN)/python -m local demo

run: setup
	@$(BIN)/python -m local run

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# 2,000 manifests, every server failing, workers killed: about a quarter of an hour.
soak: setup
	@$(BIN)/python -m tests.soak

bench: setup .venv/.with-bench
	@$(BIN)/python -m bench

.venv/.with-bench: bench/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# What suppliers check their lists with before they drop them: one file, for Python 3.13 or newer and nothing else.
validate.pyz: setup
	rm -rf .validate && mkdir -p .validate/shared .validate/tools
	cp -R shared/manifest .validate/shared && cp -R tools/validate .validate/tools
	find .validate -name '*.pyc' -delete
	$(BIN)/python -m zipapp .validate --compress --main tools.validate.__main__:run --output $@
	rm -rf .validate

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pins everything anew, without naming an index.
lock: setup
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.13 --no-emit-index-url --no-header requirements.in -o requirements.txt
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.13 --no-emit-index-url --no-header requirements-dev.in -o requirements-dev.txt
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.13 --no-emit-index-url --no-header bench/requirements.in -o bench/requirements.txt

clean:
	rm -rf .venv .local-cloud local/npm/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
