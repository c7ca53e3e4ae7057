# make demo   everything, once, at toy size: assets, scenes, shards, preview page, training, prediction, scores
# make test   the tests          make lint   style and types          make setup   only the environment
# make docs   the pages as a site, in build/site
# make test-blender-5   the tests that render, with Blender 5.0 in place of 4.5

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin
DEMO ?= demo
BLENDER_5 := build/blender-5
SYSTEM_LIBS := libxrender1 libxfixes3 libxi6 libxkbcommon0 libsm6 libgl1
ROOMS := generator blender_scripts manifests shards train cli

.PHONY: setup demo test test-blender-5 lint docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: setup.cfg pyproject.toml build_backend.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "error: Python 3.11 is needed (bpy comes for no other); name one: make setup PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'setuptools>=68' wheel
	@echo "installing into $(VENV): some minutes, about 3 GB (Blender, PyTorch, Ray)"
	$(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  --no-build-isolation -e '.[generate,train,hub,remote,docs,dev]'
	@$(RUN)/python -c 'import bpy' 2>/dev/null || $(MAKE) --no-print-directory system-libs
	@touch $@

.PHONY: system-libs
system-libs:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends $(SYSTEM_LIBS) >/dev/null; fi
	@$(RUN)/python -c 'import bpy' || { echo "error: Blender lacks system libraries; install them, then run make again:"; \
	  echo "  sudo apt-get install -y --no-install-recommends $(SYSTEM_LIBS)"; exit 1; }

demo: setup
	$(RUN)/randscene demo --out $(DEMO)

test: setup
	GOMP_SPINCOUNT=$${GOMP_SPINCOUNT:-5000} $(RUN)/python -m pytest

test-blender-5: setup $(BLENDER_5)/.ready
	$(BLENDER_5)/bin/python -m pytest -m blender $(TESTS)

# An environment that holds this one Blender and finds all else in the usual one.
$(BLENDER_5)/.ready: $(VENV)/.ready
	$(RUN)/python -m venv $(BLENDER_5)
	$(BLENDER_5)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps bpy==5.0.1
	$(RUN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > $$($(BLENDER_5)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/others.pth
	@touch $@

docs: setup
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict --quiet --clean --site-dir build/site
	@echo "the pages: $(CURDIR)/build/site/index.html"
	@echo "with search: $(RUN)/python -m http.server -d build/site, then http://localhost:8000"

lint: setup build/lint/randscene
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	MYPYPATH=build/lint $(RUN)/mypy -p randscene

# The rooms install as one package; type checkers want to see it as one tree.
build/lint/randscene: $(ROOMS) core
	rm -rf $@ && mkdir -p $@
	for room in $(ROOMS); do ln -s ../../../$$room $@/$$room; done
	for file in core/*; do case $$file in *__pycache__) ;; *) ln -s ../../../$$file $@/;; esac; done

clean:
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
