#!/bin/sh
# Build the wheel, install it in a clean environment away from the tree, and use it from there.
set -eu
python=$1
tree=$(pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m build --wheel --outdir "$work/dist" "$tree" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
"$python" -m venv "$work/env"
cd "$work"
wheel=$(echo dist/boardfit-*.whl)
env/bin/python -m pip install --quiet --disable-pip-version-check \
  --constraint "$tree/constraints.txt" "$wheel[litert]"
"$python" - model.tflite <<'PYTHON'
import pathlib, sys
from boardfit.profiler.one_run import reference_network
from boardfit.profiler.emit_tflite import emit
pathlib.Path(sys.argv[1]).write_bytes(emit(reference_network()))
PYTHON
env/bin/boardfit --version
env/bin/boardfit --help >/dev/null
env/bin/boardfit devices
env/bin/boardfit profile --device local --budget 1 model.tflite
# Only what was asked for is installed, and what is missing is named.
if env/bin/python -c 'import torch' 2>/dev/null; then echo "the wheel pulled in torch"; exit 1; fi
if env/bin/boardfit report model.tflite 2>message; then echo "a report without plotly?"; exit 1; fi
grep -q "pip install 'boardfit\[report\]'" message
env/bin/python -c 'import boardfit, pathlib; assert "site-packages" in boardfit.__file__'
echo "the wheel works"
