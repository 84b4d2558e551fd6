# Every target does its own set-up. PYTHON: the interpreter that makes the virtual environment (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test check bench lock clean

help:
	@echo "make demo    log real pictures, depth, segmentation and points; write pictures of what is stored"
	@echo "make test    run the tests        make check   lint, types, layers"
	@echo "make bench   run the benchmarks   make lock    pin new versions"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# one stamp a lock: what is installed follows the committed pins
$(VENV)/%.stamp: requirements/%.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(VENV)/dev.stamp

demo: $(VENV)/demo.stamp
	$(BIN)/lumatile demo

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest

check: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks

lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet uv
	for set in "demo --extra local --group demo" "dev --extra local --group test --group check" \
	           "bench --extra local --group test --group check --group bench"; do \
	  set -- $$set; name=$$1; shift; \
	  $(VENV)-lock/bin/uv pip compile --quiet --universal --no-emit-index-url --no-header --no-annotate \
	    $$* --group build pyproject.toml -o requirements/$$name.txt || exit 1; \
	done

clean:
	rm -rf $(VENV) $(VENV)-lock demo-store demo-pictures
