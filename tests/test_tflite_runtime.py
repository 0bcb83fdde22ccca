"""The same worker measures with tflite-runtime, LiteRT's predecessor, in its own environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from boardfit.devices.base import Device
from boardfit.devices.board_entry import BoardEntry
from boardfit.devices.errors import ConditionsChanged
from boardfit.devices.local import local_device
from boardfit.profiler.build import build_table
from tests.conftest import missing
from tests.small_board import QUICK, small_plan


@pytest.fixture(scope="module")
def tflite() -> Device:
    python = os.environ.get("BOARDFIT_TFLITE_PYTHON", "")
    argv = [python, "-c", "import tflite_runtime.interpreter"]
    if (
        not Path(python).is_file()
        or subprocess.run(argv, check=False, capture_output=True).returncode
    ):
        if sys.version_info >= (3, 12) or sys.platform != "linux":
            pytest.skip("tflite-runtime has no wheels for this Python or system")
        missing("tflite-runtime in an environment of its own", "`make test` makes one")
    return local_device(BoardEntry("local", "local", python=python))


def test_a_table_is_built_by_the_same_worker(tflite: Device, tmp_path: Path) -> None:
    table = build_table(tmp_path / "t", tflite, small_plan(), QUICK)
    assert table.conditions["runtime"] == "tflite-runtime"
    assert table.conditions["runtime_version"] == "2.14.0"
    assert len(table.operators) == len({layer.signature for layer in small_plan().layers})


def test_values_of_two_runtimes_never_mix(tflite: Device, tmp_path: Path) -> None:
    """A build that LiteRT began, and that has not come to its end, cannot go on in another one."""
    litert = local_device(BoardEntry("local", "local"))

    class Enough(Exception):
        pass

    def stop(step: object) -> None:
        if "loading models" in getattr(step, "detail", ""):
            raise Enough

    with pytest.raises(Enough):
        build_table(tmp_path / "t", litert, small_plan(), QUICK, report=stop)
    with pytest.raises(ConditionsChanged, match="runtime: was 'ai-edge-litert', is 'tflite-ru"):
        build_table(tmp_path / "t", tflite, small_plan(), QUICK)
