# Two commands: `make demo` draws pictures, `make test` runs every test. Both set everything up first.
PYTHON ?= python3
VENV ?= .venv
PLUGINS := $(sort $(dir $(wildcard plugins/*/pyproject.toml))) plugin_template/
SERVER := examples/gallery-server
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin

export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo serve test test-slow test-packages test-server test-docs lint docs composition conformance bench bench-gpu eval-mini eval-control \
	eval-dreambooth clean
.DELETE_ON_ERROR:

# torch first and by its exact version: any other spec can pull gigabytes of CUDA packages.
$(BIN)/.python: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv "$(VENV)"
	"$(BIN)/pip" install -q $$(cat constraints.txt)
	touch $@

$(STAMP): $(BIN)/.python pyproject.toml $(PLUGINS:%=%pyproject.toml) $(SERVER)/pyproject.toml
	"$(BIN)/pip" install -q -e ".[dev]" $(PLUGINS:%=-e "./%") -e "./$(SERVER)"
	touch $@

# One thread: more gain little on so small a model, and stall each other on a busy machine.
demo: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/sdcore" demo --model mini-128 --out demo-out
	OMP_NUM_THREADS=1 "$(BIN)/sdcore" outpaint demo-out/cat.png "a cat face, 3d style, gray background" --model mini-128 \
		--left 24 --right 24 --seed 5 \
		--out demo-out/outpainted.png --sheet demo-out/outpaint.png --overwrite
	OMP_NUM_THREADS=1 "$(BIN)/sdcore" preprocess --sheet demo-out/cat.png --out demo-out/preprocessed.png --overwrite
	OMP_NUM_THREADS=1 "$(BIN)/python" examples/compose.py demo-out/composed

# A gallery in the browser: prints its address and, the first time, an API key. Its data is in gallery-data/.
serve: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/gallery-server" serve --library line-art=plugins/sdcore-lora/examples/line-art.safetensors \
		--library mini-canny=mini-canny $(SERVE)

test: $(STAMP) lint
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -q -n auto --maxprocesses=4 -m "not slow and not gpu"

test-slow: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -q -n auto --maxprocesses=4 -m "slow and not gpu"

# Wheels of all packages: what is in them, and that each installs and works alone, and all together. Downloads nothing.
test-packages: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" -m tests.packages

# The tutorial, every Python block of the documentation, and every sdcore command in it with small stand-ins for its files;
# four minutes.
test-docs: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -q -n auto --maxprocesses=4 -m slow tests/test_docs.py tests/test_shell_blocks.py tests/test_tutorial.py

# The gallery in headless Chromium, and killed under load; a minute. Skips the browser where there is none.
test-server: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" -m pytest -q -m "slow and not gpu" $(SERVER)

lint: $(STAMP)
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/mypy"

# The generated pages of docs/reference; `make test` compares them with the code.
docs: $(STAMP)
	"$(BIN)/python" docs/generate.py

# docs/composition.md: every combination of plugins carried out, and compared with diffusers where it has a class.
composition: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" -m tests.composition.table

# docs/conformance.md: every check of every plugin.
conformance: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" -m tests.conformance.table

bench: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" benchmarks/overhead.py
	OMP_NUM_THREADS=1 "$(BIN)/python" benchmarks/lora.py
	OMP_NUM_THREADS=1 "$(BIN)/python" benchmarks/controlnet.py
	OMP_NUM_THREADS=1 "$(BIN)/python" benchmarks/inpaint.py
	OMP_NUM_THREADS=1 "$(BIN)/python" benchmarks/train.py
	OMP_NUM_THREADS=1 "$(BIN)/python" benchmarks/safety.py

# The same on a GPU, where there is one: times, and ratios of them.
bench-gpu: $(STAMP)
	"$(BIN)/python" benchmarks/gpu.py --out benchmarks/results/gpu.json --budget 600

# How well the embedded model draws what it is asked for; a JSON line at the end. Minutes. Its data set is built first.
eval-mini: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" plugins/sdcore-mini/eval/evaluate.py $(EVAL)

# How well its ControlNet is followed.
eval-control: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" plugins/sdcore-mini-control/eval/evaluate.py $(EVAL)

# How well DreamBooth teaches it twelve subjects; most of an hour. EVAL="--subjects 2" takes fewer.
eval-dreambooth: $(STAMP)
	OMP_NUM_THREADS=1 "$(BIN)/python" plugins/sdcore-dreambooth/eval/evaluate.py $(EVAL)

clean:
	rm -rf "$(VENV)" demo-out build dist .mypy_cache .ruff_cache .pytest_cache
