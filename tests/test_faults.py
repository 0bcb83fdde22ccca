"""The benchmark of boards that fail runs, and a few faults meet its bars."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FAULTS = 3
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SCRIPT = BENCHMARKS / "measure_faults.py"


def test_a_few_faults_cost_nothing() -> None:
    argv = [sys.executable, str(SCRIPT), "--faults", str(FAULTS), "--boards", "fake"]
    path = os.pathsep.join(filter(None, [str(BENCHMARKS), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"met: faults: {FAULTS} " in done.stdout
    assert "MISSED" not in done.stdout
