# `make demo` installs everything and runs the main job; `make test` installs and runs every check.
#
#   PYTHON=python3.12     the interpreter that makes the environment (3.11 or newer)
#   VENV=.venv            where the environment lies
#   CONSTRAINTS=FILE      the versions that are installed (constraints.txt)
#   WORKERS=2 THREADS=1   processes of the test run, and threads of each
#   PYTEST_ARGS='-k loss' what else pytest is told

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
WORKERS ?= 2
THREADS ?= 1
PYTEST_ARGS ?=
DEMO_PLUGINS ?= san partaware
DEMO_OUT ?= runs/demo
# Of the quick recipe's seven, for slow processors: a demo should last six minutes, installation included.
DEMO_EPOCHS ?= 3
BENCHMARKS ?= benchmarks/loader.py benchmarks/step.py

# -P keeps the root off the import path, where the folder reid_core/ would pass for a package.
RUN = $(VENV)/bin/python -P
# Modules are compiled when they are imported: most never are. What was compiled is kept, also where the
# machine says otherwise: the tests start many processes, and torch alone takes each of them seconds.
unexport PYTHONDONTWRITEBYTECODE
PIP = $(RUN) -m pip install --disable-pip-version-check --no-compile -c $(CONSTRAINTS)

DISTRIBUTIONS := $(patsubst %/pyproject.toml,%,$(wildcard reid_*/pyproject.toml plugins/*/pyproject.toml))
EDITABLE := -e "./reid_retrieval[parquet]" -e "./reid_core[onnx,plots,test]" \
    -e "./plugins/reid_baselines[metric]" -e "./plugins/reid_benchmarks[mat]" \
    -e "./plugins/reid_parsing[mediapipe,onnx]" \
    -e "./plugins/reid_search[faiss,parquet,qdrant,submitit,usearch,video]" \
    $(patsubst %,-e ./%,$(filter-out reid_retrieval reid_core plugins/reid_baselines plugins/reid_benchmarks plugins/reid_parsing plugins/reid_search,$(DISTRIBUTIONS)))

# An installation is valid for this place and these files; a change of any gives another stamp.
KEY := $(shell { pwd; cat pyproject.toml $(CONSTRAINTS) $(DISTRIBUTIONS:%=%/pyproject.toml); } | cksum | cut -d ' ' -f 1)
STAMP := $(VENV)/installed-$(KEY)

export PYTHONUTF8 = 1
# Siblings are named by version: pip cannot resolve editable ones by path.
export REID_RELEASE = 1

# What benchmarks/gpu.sh takes along for an image that holds little more than PyTorch.
GPU_PYTHON ?= 3.12
GPU_WHEELS ?= wheels/gpu
GPU_PLATFORMS := $(foreach n,39 34 31 28 27 24 17,--platform manylinux_2_$(n)_x86_64) --platform manylinux2014_x86_64
GPU_NEEDS := annotated-types anyio click cloudpickle contourpy cycler fonttools h11 hf-xet httpcore2 httpx2 \
    huggingface-hub hypothesis idna iniconfig joblib kiwisolver kornia kornia-rs markdown-it-py \
    matplotlib mdurl narwhals packaging pillow platformdirs pluggy protobuf pydantic pydantic-core \
    pygments pyparsing pytest python-dateutil pyyaml rich safetensors scikit-learn scipy simplejpeg \
    sortedcontainers tensorboardx threadpoolctl timm tomli-w tqdm truststore typing-extensions \
    typing-inspection tzdata

.PHONY: install demo test lint format typecheck imports pytest docs sbom bench gpu-wheels clean
.NOTPARALLEL:

install: $(STAMP)

$(STAMP):
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || { \
	    $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	        echo "Python 3.11 or newer is needed, '$(PYTHON)' is not: name one, as in make PYTHON=python3.12" >&2; \
	        exit 1; }; \
	    echo "$(PYTHON) -m venv $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@rm -f $(VENV)/installed-*
	@# torch first and alone: whatever depends on it then finds the right build in place.
	$(PIP) torch
	@$(RUN) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' > $(VENV)/dev.txt
	$(PIP) -r $(VENV)/dev.txt
	$(PIP) --no-build-isolation $(EDITABLE)
	@touch $@

# Of the plugins named in DEMO_PLUGINS, those that are there. What an earlier demo left is moved aside.
demo: install
	@if [ -e $(DEMO_OUT) ]; then \
	    aside=$(DEMO_OUT)-until-$$(date +%Y%m%d-%H%M%S); \
	    mv $(DEMO_OUT) $$aside && echo "the run before is now $$aside"; fi
	@plugins=$$($(RUN) -c 'import sys; from importlib.metadata import entry_points; print(*[n for n in sys.argv[1:] if entry_points(group="reid.plugins", name=n)], sep=",")' $(DEMO_PLUGINS)) && \
	set -- run $${plugins:+--plugins "$$plugins"} --epochs $(DEMO_EPOCHS) --out $(DEMO_OUT) && \
	echo "reid $$*" && $(VENV)/bin/reid "$$@"

# Types are checked beside the tests: mypy takes one process a minute.
test: lint imports
	@$(MAKE) typecheck > $(VENV)/mypy.txt 2>&1 & types=$$!; \
	$(MAKE) pytest; tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/mypy.txt; exit $$((tests + types))

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: install
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

typecheck: install
	$(RUN) -m mypy

imports: install
	$(VENV)/bin/lint-imports

pytest: install
	@$(RUN) -c 'import sys; from importlib.util import find_spec; s = find_spec("reid_core"); sys.exit(not (s and s.origin))' || { \
	    echo "reid_core is not installed: rm $(STAMP); make install" >&2; exit 1; }
	OMP_NUM_THREADS=$(THREADS) $(RUN) -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

# The documentation as a site, in site/: any warning is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

# In an environment of its own, so that the list holds nothing that is there for the listing.
sbom: install
	$(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/pip install --disable-pip-version-check cyclonedx-bom
	.venv-sbom/bin/cyclonedx-py environment $(VENV)/bin/python --output-reproducible --output-file sbom.json
	@# What is installed in place would tell where this checkout lies.
	@$(RUN) -c 'import pathlib, sys; p = pathlib.Path("sbom.json"); p.write_text(p.read_text("utf-8").replace(f"file://{sys.argv[1]}/", "./"), "utf-8")' "$(CURDIR)"

bench: install
	@for script in $(BENCHMARKS); do echo "$$script"; $(RUN) $$script || exit 1; done

# torch and what belongs to it are the image's. Others are of the tested versions; which of them an image
# lacks is found out there.
gpu-wheels: install
	rm -rf $(GPU_WHEELS)
	$(RUN) -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version $(GPU_PYTHON) \
	    --implementation cp $(GPU_PLATFORMS) -d $(GPU_WHEELS) -c $(CONSTRAINTS) $(GPU_NEEDS)
	$(RUN) -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation -w $(GPU_WHEELS) \
	    $(addprefix ./,$(DISTRIBUTIONS))

# Caches and build products; the environment and the runs stay.
clean:
	rm -rf .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf $(foreach folder,. $(DISTRIBUTIONS),$(folder)/build $(folder)/dist)
	find tests benchmarks docs $(DISTRIBUTIONS) -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
