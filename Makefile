# `make quickstart` and `make test` do all of their own set-up; see README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TFLITE := $(VENV)/tflite-runtime/bin/python
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Each test process gets one core; two PyTorch processes with two threads each only disturb another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help quickstart test test-boards lint types wheel bench bench-table bench-table-later bench-measure bench-boards bench-search bench-start clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "boardfit needs Python 3.11 or newer; say: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV) (about a minute)"
	$(PIP) --editable '.[all]'
	@touch $@

$(VENV)/.dev: $(VENV)/.user
	$(PIP) --editable '.[dev]'
	@touch $@

## make quickstart     measure this machine, search, train, report: all of it in minutes
quickstart: $(VENV)/.user
	$(BIN)/boardfit quickstart

# tflite-runtime needs NumPy 1, and so an environment of its own; newer Pythons have no wheels. That
# is remembered. What else fails is tried again the next time: pip says "no matching distribution"
# also where it reached no index, and only its log says that.
TFLITE_LOG := $(VENV)/tflite-runtime/pip.log
$(VENV)/.tflite: | $(VENV)/.dev
	@$(BIN)/python -m venv $(VENV)/tflite-runtime && rm -f $(TFLITE_LOG) \
	  && $(TFLITE) -m pip install --quiet --disable-pip-version-check --log $(TFLITE_LOG) \
	    'tflite-runtime==2.14.0' 'numpy==1.26.4' >/dev/null 2>&1 && touch $@ \
	  || if grep -q 'No matching distribution' $(TFLITE_LOG) 2>/dev/null \
	    && ! grep -q 'Retrying (\|Could not fetch URL' $(TFLITE_LOG); \
	  then echo "tflite-runtime has no wheels here; its tests skip"; touch $@; \
	  else echo "tflite-runtime could not be installed ($(TFLITE_LOG)); its tests skip this time"; fi

## make test           all tests (a browser, sshd, adb and shells come through apt where possible)
test: $(VENV)/.dev $(VENV)/.tflite system
	BOARDFIT_TFLITE_PYTHON=$(abspath $(TFLITE)) $(PYTEST) -n 2

## make test-boards    what is slow about boards: runtimes installed for real (downloads 100 MB)
test-boards: $(VENV)/.dev $(VENV)/.tflite
	BOARDFIT_TFLITE_PYTHON=$(abspath $(TFLITE)) $(PYTEST) -n 2 -m boards

## make lint           formatting, lints, types
lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

## make wheel          build the wheel, and use it in a clean environment away from the tree
wheel: $(VENV)/.dev
	sh tests/use_wheel.sh $(abspath $(BIN))/python

## make bench          the benchmarks that print the figures in docs/benchmarks.md (over an hour)
# One after the other, since they would disturb each other, and all of them, also where one misses
# a bar; the tables are an hour old, or nearly, when they are measured against.
bench:
	$(MAKE) --keep-going --jobs=1 bench-start bench-table bench-measure bench-boards bench-search \
	  bench-table-later PART=

# The environment that the tests made, where they made one and no other is given.
TFLITE_PYTHON = $(or $(BOARDFIT_TFLITE_PYTHON),$(if $(wildcard $(VENV)/.tflite),$(abspath $(TFLITE))))

## make bench-table    how right a lookup table of this machine is (PART=int8: one part alone)
bench-table: $(VENV)/.dev
	BOARDFIT_TFLITE_PYTHON=$(TFLITE_PYTHON) $(BIN)/python benchmarks/bench_table.py $(PART)

## make bench-table-later   whether its tables still hold once they are an hour old (waits for that)
bench-table-later: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_table.py later

## make bench-measure  whether faults cost or falsify anything (PART=kills: one part alone)
bench-measure: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_measure.py $(PART)

## make bench-boards   whether work on boards can be relied on (PART=fleet: one part alone)
bench-boards: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_boards.py $(PART)

## make bench-search   whether the search is as good as it says (PART=targets: one part alone)
bench-search: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_search.py $(PART)

## make bench-start    how long `boardfit --help` takes
bench-start: $(VENV)/.dev
	$(BIN)/python benchmarks/bench_start.py

# What only tests need: a browser that looks at the report, boards' servers and boards' shells. What
# cannot be installed skips its tests, which say so.
SYSTEM := chromium openssh-server adb mksh toybox busybox
.PHONY: system
system:
	@command -v apt-get >/dev/null || exit 0; wanted=""; \
	for package in $(SYSTEM); do \
	  program=$$(echo $$package | sed 's/openssh-server/sshd/'); \
	  PATH=$$PATH:/usr/sbin command -v $$program >/dev/null || wanted="$$wanted $$package"; \
	done; \
	[ -n "$$wanted" ] || exit 0; \
	as=""; [ "$$(id -u)" = 0 ] || as="sudo -n"; \
	$$as apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$as apt-get install -y -qq $$wanted >/dev/null || true

## make clean          remove what make made
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
