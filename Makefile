# Every target does its own set-up. PYTHON: the interpreter that makes the virtual environment (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test chaos check examples docs release bench gpu-check lock clean

help:
	@echo "make demo    log real pictures, depth, segmentation and points; write pictures of what is stored"
	@echo "make test    run the tests        make check   lint, types, layers, CUDA kernels, deploy/, examples, reference"
	@echo "make chaos   kill what logs and what stores, a thousand times"
	@echo "make bench   run the benchmarks   make lock    pin new versions"
	@echo "make examples   run the examples  make docs    write docs/reference.md from the docstrings"
	@echo "make release    check version and changelog, build wheel and sdist, install and try each"
	@echo "make gpu-check   on a machine with a GPU, numpy and CuPy: correctness and speed of the CUDA backend"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# one stamp a lock: what is installed follows the committed pins; Python compiles what is imported, not all of it
$(VENV)/%.stamp: requirements/%.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r $<
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

setup: $(VENV)/dev.stamp

demo: $(VENV)/demo.stamp
	$(BIN)/lumatile demo

# TEST: arguments of pytest, tests/sdk -k flush for example
test: $(VENV)/dev.stamp
	$(BIN)/python -m tests.suite $(TEST)

# CHAOS: its arguments, --sdk 30 --actor 20 for example
chaos: $(VENV)/dev.stamp
	$(BIN)/python -m tests.chaos $(CHAOS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m lumatile_kernels.cuda.compile
	$(BIN)/python -m pytest -q tests/test_deploy.py -k "not by_hand and not batch_program"
	$(BIN)/python -m pytest -q tests/test_examples.py tests/test_reference.py tests/test_release.py

examples: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -q tests/test_examples.py

docs: $(VENV)/dev.stamp
	$(BIN)/python -m tools.reference

release: $(VENV)/dev.stamp
	$(BIN)/python -m tools.release

bench: $(VENV)/bench.stamp
	$(BIN)/python -m benchmarks

# without a virtual environment: it needs only numpy and CuPy, and uses what else PYTHON has.
# GPU_CHECK: its arguments, --quick or --only NAME ... for example
gpu-check:
	PYTHONPATH=kernels:.$${PYTHONPATH:+:$$PYTHONPATH} $(PYTHON) -m benchmarks.gpu_check $(GPU_CHECK)

lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet uv
	$(call pin,demo,demo)
	$(call pin,dev,demo test check)
	$(call pin,bench,demo test check bench)
	$(call pin,image,image,service)
	$(call pin,image-cuda,image,service gpu-cu13)

# names and versions for every supported platform and Python; no address of any registry
pin = $(VENV)-lock/bin/uv pip compile --quiet --universal --no-emit-index-url --no-header --no-annotate --upgrade \
	$(addprefix --extra ,$(or $(3),local)) --group build $(addprefix --group ,$(2)) pyproject.toml -o requirements/$(1).txt

clean:
	rm -rf $(VENV) $(VENV)-lock demo-store demo-pictures
