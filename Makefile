# Everything runs in .venv, which the first target that needs it makes from requirements.lock.
# make 3.81 (macOS) is enough.
BIN := .venv/bin
export PYTHON

.PHONY: help setup lab test quick demo bench lint lock
help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

setup:  ## make .venv, if it is missing, broken or out of date
	@sh tools/setup.sh

lab: setup  ## open JupyterLab on the first lesson; make lab ARGS=--no-browser on a server
	@$(BIN)/course lab $(ARGS)

test: setup  ## run all tests, two at a time; make test ARGS="-n 0 -k lesson_06" for some
	@$(BIN)/python -m pytest -n 2 $(ARGS)

quick: setup  ## run the tests that train nothing and start no process (under a minute)
	@$(BIN)/python -m pytest -n 2 -p tests.quick $(ARGS)

demo: setup  ## make a class of sample students, grade it, open the report
	@$(BIN)/course demo

bench: setup  ## measure the course beside the usual ways, five rounds (half an hour); on a quiet machine
	@$(BIN)/python -m benchmarks $(ARGS)

lint: setup  ## check style, and that lessons/ is what solutions/ give
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/course release --check

lock: setup  ## choose the newest versions that fit pyproject.toml, write requirements.lock
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	    --upgrade --extra dev --extra cluster \
	    --custom-compile-command "make lock" pyproject.toml -o requirements.lock
