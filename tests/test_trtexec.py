"""TensorRT's `trtexec`: its three generations of words, its files, and sessions that drive it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from boardfit.devices.base import Device
from boardfit.devices.errors import InputError, WorkerError, WorkerLost
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.open_session import open_session
from boardfit.profiler.profile_model import profile_model
from boardfit.profiler.read_trtexec import (
    TEXT_LIMIT,
    parse_profile,
    parse_summary,
    parse_times,
    parse_version,
)
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.visits import Model, Round, Visit
from boardfit.search.metrics import latency
from boardfit.search.space import SearchSpace
from boardfit.search.tabulate import plan_table

from .program_outputs import PROFILE, TIMES, TRTEXEC_FIVE, TRTEXEC_NEW, TRTEXEC_SEVEN
from .small_board import small_network
from .stand_in_trtexec import write_program
from .toy_space import Convolution

pytest.importorskip("onnxruntime")
from boardfit.profiler.emit_onnx import emit_onnx

SMALL = emit_onnx(small_network(16))
ONCE = Schedule(
    runs=1,
    minimum_rounds=1,
    maximum_rounds=1,
    samples=2,
    warmup_seconds=0.001,
    warmup_visits=1,
)


def test_three_generations_of_words() -> None:
    new = parse_summary(TRTEXEC_NEW)
    assert new.mean == pytest.approx(4.26986e-3)
    assert new.least == pytest.approx(4.23773e-3)
    seven = parse_summary(TRTEXEC_SEVEN)  # not the host's latency, which has the same words
    assert seven.mean == pytest.approx(8.39391e-3)
    assert seven.median == pytest.approx(8.30371e-3)
    five = parse_summary(TRTEXEC_FIVE)
    assert five.mean == pytest.approx(12.8944e-3)
    assert five.least is None
    versions = [parse_version(text) for text in (TRTEXEC_NEW, TRTEXEC_SEVEN, TRTEXEC_FIVE)]
    assert versions == ["8502", "7.2.3", None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "printed no times; its words: none"),
        ("[E] out of memory", "printed no times; its words: .*out of memory"),
        ("GPU Compute Time: min = 4 ms, max = 5 ms", "without a mean"),
        ("GPU Compute Time: min = 4 ms, max = 5 ms, mean = 9 ms", "not between"),
        ("Average over 0 runs is 4 ms", "printed no times"),
        ("Average over 10 runs is 4e99 ms", "which no inference takes"),
        ("x" * (TEXT_LIMIT + 1), "wrote more than"),
    ],
)
def test_words_that_cannot_be_used(text: str, words: str) -> None:
    with pytest.raises(WorkerError, match=words):
        parse_summary(text)


def test_files_of_times_and_layers() -> None:
    assert parse_times(TIMES) == pytest.approx([1.25e-3] * 3)
    layers = parse_profile(PROFILE)
    assert [layer.name for layer in layers] == ["conv1 + relu", "fc"]
    assert layers[0].seconds == pytest.approx(0.8e-3)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[", "{}", "[1]", "[]", "[" * 100_000, '[{"latencyMs": 1.0}]'),
        *(f'[{{"computeMs": {value}}}]' for value in ('"1"', "-1", "NaN", "0", "true", "1e300")),
    ],
)
def test_files_that_cannot_be_read(text: str) -> None:
    with pytest.raises(WorkerError):
        parse_times(text)
    with pytest.raises(WorkerError):
        parse_profile(text)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    """This machine as a board with trtexec in its path."""
    monkeypatch.setattr("boardfit.profiler.run_trtexec._WARM_UP", 1)  # milliseconds a visit
    folder = write_program(tmp_path / "programs").parent
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    device = connect("local")
    yield replace(device, python=None, workspace=PurePosixPath(tmp_path / "work space"))
    device.transport.close()


def test_a_model_is_built_once_and_its_inferences_are_timed(board: Device) -> None:
    with open_session(board, runtime="trtexec") as session:
        assert session.hello["version"] == "8502"
        session.load_one(Model("m", lambda: SMALL))
        engine = next(Path(board.workspace / "engines").iterdir())
        built = engine.stat().st_mtime_ns
        visit, end = session.measure([("m", 5)], samples=4)
        assert session.placements(["m"])[0].outside == ()
        found = session.operators("m", 6)
    assert isinstance(visit, Visit)
    assert isinstance(end, Round)
    assert (len(visit.seconds), visit.repeats) == (4, 5)
    assert 0 < min(visit.seconds) < 0.1
    assert [operator.name for operator in found.operators] == ["first", "rest"]
    with open_session(board, runtime="trtexec") as session:
        session.load_one(Model("m", lambda: SMALL))
    assert [path.name for path in Path(board.workspace / "engines").iterdir()] == [engine.name]
    assert engine.stat().st_mtime_ns == built


@pytest.mark.parametrize("generation", ["5", "7"])
def test_older_generations_are_driven_alike(board: Device, tmp_path: Path, generation: str) -> None:
    write_program(tmp_path / "programs", f"--generation={generation}")
    with open_session(board, runtime="trtexec") as session:
        assert len(str(session.hello["version"])) == 16  # of its bytes
        session.load_one(Model("m", lambda: SMALL))
        (visit, _) = session.measure([("m", 1)])
    assert isinstance(visit, Visit)


def test_a_profile_of_a_model(board: Device, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(SMALL)
    found = profile_model(path, board, ONCE, runtime="trtexec")
    assert found.conditions["runtime"] == "trtexec"
    assert found.measurement.minimum > 0
    tflite = tmp_path / "model.tflite"
    tflite.write_bytes(b"\0\0\0\0TFL3")
    with pytest.raises(InputError):
        profile_model(tflite, board, ONCE, runtime="trtexec")


def test_a_table_of_blocks(board: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boardfit.profiler.build.FURTHER_RUNS", 0)
    stages = (Convolution("a", (8, 16), stride=2), Convolution("b", (8,), kernels=(1, 3)))
    space = SearchSpace("two", (16, 16, 8), 8, stages)
    plan = plan_table(space, calibration=1, validation=1, operators=20, in_blocks=True)
    # Two forms of the first, two of the second on each of two inputs.
    assert len(plan.blocks) == 2 + 2 * 2
    assert plan_table(space, operators=5, in_blocks=True).blocks == ()
    table = build_table(tmp_path / "table", board, plan, ONCE, runtime="trtexec")
    assert table.runtime == "trtexec"
    assert not table.operators
    assert set(table.fragments) == {entry.key for entry in plan.entries()[:6]}
    assert table.validation is not None
    metric = latency(space, table)
    for architecture in (space.full, space.smallest):
        network = space.network(architecture)
        stated = table.constant + table.price_layers(network.layers)
        assert metric([architecture])[0] == pytest.approx(stated)
        assert table.latency(network).seconds == pytest.approx(max(1e-12, stated))


def test_what_goes_wrong_is_named(
    board: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_session(board, runtime="trtexec") as session:
        with pytest.raises(
            WorkerError, match=r"cannot build an engine of bad.*could not be created"
        ):
            session.load_one(Model("bad", lambda: b"no model"))
        assert session.loaded == set()
    program = tmp_path / "programs" / "trtexec"
    program.write_text('#!/bin/sh\ntest "$1" = --help && exit\nkill -SEGV $$\n')
    with (
        open_session(board, runtime="trtexec") as session,
        pytest.raises(WorkerLost, match="SIGSEGV"),
    ):
        session.load_one(Model("m", lambda: SMALL))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(InputError, match="has no trtexec"):
        open_session(board, runtime="trtexec")
