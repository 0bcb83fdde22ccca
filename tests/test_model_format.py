"""ONNX beside TFLite: the same campaign, files told apart, and values that never mix."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from boardfit.devices.errors import (
    BoardfitError,
    InputError,
    ModelFileError,
    PlacementError,
    TableFileError,
    WorkerError,
)
from boardfit.profile_summary import operator_table, profile_words
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.emit_onnx import emit_onnx
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.model_format import (
    TFLITE,
    format_of_file,
    format_of_runtime,
    onnx_format,
)
from boardfit.profiler.profile_model import open_profile, profile_model
from boardfit.profiler.read_onnx import inspect_onnx
from boardfit.profiler.store import Store
from boardfit.profiler.tie import measure_tied
from boardfit.profiler.worker_onnx import CPU
from boardfit.reports.about_profile import profile_section
from boardfit.reports.sources import ProfileSource, open_source

from .small_board import QUICK, board, small_network, small_plan

AZURE = "AzureExecutionProvider"
SCHEDULE = replace(QUICK, warmup_seconds=0.01)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(emit_onnx(small_network(16)))
    return path


# Who runs the operators


def test_words_about_operators_name_the_provider(model: Path, tmp_path: Path) -> None:
    machine = connect("local")
    try:
        found = profile_model(model, machine, SCHEDULE, operators=True)
        assert f"{CPU} runs all operators." in profile_words(found)
        # The Azure provider is in every CPU build and runs none of these operators.
        wanted, out = "onnxruntime:azure,cpu", tmp_path / "p"
        with pytest.raises(PlacementError, match=f"{AZURE} does not take .* not {AZURE}'s"):
            profile_model(model, machine, SCHEDULE, runtime=wanted)
        found = profile_model(
            model, machine, SCHEDULE, runtime=wanted, out=out, operators=True, allow_fallback=True
        )
    finally:
        machine.transport.close()
    (words,) = [w for w in profile_words(found) if w.startswith(f"Outside of {AZURE} run: ")]
    assert words.endswith("(100.0% of their time).")
    shown = [row for row in operator_table(found) if row["us"] != "< 1"]
    assert all(row["ran as"].endswith(f" ({CPU})") for row in shown)
    source = open_source(out)
    assert isinstance(source, ProfileSource)
    (finding,) = [f for f in profile_section(source).findings if "outside of" in f.text]
    assert f"run outside of {AZURE}" in finding.text
    assert f"operators that {AZURE} takes" in finding.advice


# Which format


@pytest.mark.parametrize("runtime", ["auto", "ai-edge-litert", "tflite-runtime", "simulated"])
def test_runtimes_for_tflite(runtime: str) -> None:
    assert format_of_runtime(runtime) is TFLITE


@pytest.mark.parametrize("runtime", ["onnxruntime", "onnxruntime:CUDAExecutionProvider,cpu"])
def test_runtimes_for_onnx(runtime: str) -> None:
    assert format_of_runtime(runtime) == onnx_format()


@pytest.mark.parametrize("runtime", ["tvm", "", "onnxruntime2", "auto:cpu", None])
def test_another_runtime_is_refused_with_those_there_are(runtime: str | None) -> None:
    with pytest.raises(
        InputError, match=r"no runtime .*; give auto, ai-edge-litert, .*onnxruntime"
    ):
        format_of_runtime(runtime)


def test_a_file_is_told_by_its_mark_and_then_by_its_name() -> None:
    tflite, other = emit(small_network(8)), emit_onnx(small_network(8))
    assert format_of_file(Path("a.tflite"), tflite) is TFLITE
    assert format_of_file(Path("a.onnx"), tflite) is TFLITE  # whoever renamed it
    assert format_of_file(Path("a.ONNX"), other) == onnx_format()
    with pytest.raises(ModelFileError, match=r"a\.bin is not a TFLite model"):
        format_of_file(Path("a.bin"), other).inspect(other, source="a.bin")


def test_without_its_package_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("emit_onnx", "read_onnx"):
        monkeypatch.delitem(sys.modules, f"boardfit.profiler.{module}")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(BoardfitError, match=r"needs onnx, .*pip install 'boardfit\[onnx\]'"):
        format_of_runtime("onnxruntime")


# Profiles


def test_an_onnx_model_is_measured_in_onnx_runtime(model: Path, tmp_path: Path) -> None:
    device = connect("local")
    out = tmp_path / "p.boardfit"
    profile = profile_model(model, device, SCHEDULE, out=out)
    assert profile.model == inspect_onnx(model.read_bytes())
    assert profile.conditions["runtime"] == "onnxruntime"
    assert profile.conditions["runtime_version"] == onnxruntime.__version__
    assert 1e-7 < profile.measurement.minimum < 1.0
    assert open_profile(out).measurement.minimum == profile.measurement.minimum
    device.transport.close()


def test_a_runtime_that_cannot_is_refused_before_the_board_is_used(
    model: Path, tmp_path: Path
) -> None:
    gone = board()
    gone.transport.close()
    with pytest.raises(InputError, match=r"small\.onnx is .* ONNX, which ai-edge-litert cannot"):
        profile_model(model, gone, runtime="ai-edge-litert")
    (tmp_path / "t.tflite").write_bytes(emit(small_network(8)))
    with pytest.raises(InputError, match=r"t\.tflite is .* TFLite, which onnxruntime cannot run"):
        profile_model(tmp_path / "t.tflite", gone, runtime="onnxruntime")
    with pytest.raises(InputError, match=r"no runtime 'tvm'"):
        profile_model(model, gone, runtime="tvm")
    model.write_bytes(b"not a model")
    with pytest.raises(ModelFileError, match=r"small\.onnx is not an ONNX model"):
        profile_model(model, gone, out=tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_the_fake_board_says_that_it_takes_tflite_only(model: Path) -> None:
    with pytest.raises(WorkerError, match="fake runs models in simulated, not in onnxruntime"):
        profile_model(model, board())


# Tables


def test_a_table_is_built_on_onnx_runtime_and_ties_to_it(tmp_path: Path) -> None:
    device = connect("local")
    table = build_table(tmp_path / "t", device, small_plan(), SCHEDULE, runtime="onnxruntime")
    assert table.conditions["runtime"] == "onnxruntime"
    assert table.validation is not None
    tie = tmp_path / "tie"
    found = {"found": small_network(16, 3, 2)}
    tied = measure_tied(table, device, found, schedule=SCHEDULE, path=tie)
    assert tied["found"].seconds > 0
    with Store.open(tie) as store:
        conditions = store.conditions() or {}
    assert conditions["runtime"] == "onnxruntime"  # the table's, without being told
    for other in ("auto", "tflite-runtime"):
        with pytest.raises(TableFileError, match=r"begun with another plan \(runtime differ\)"):
            build_table(tmp_path / "t", device, small_plan(), SCHEDULE, runtime=other)
    device.transport.close()
