"""One model on one board: what it holds, how long it takes, and whether to believe it."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boardfit.devices.errors import (
    ConditionsChanged,
    ModelFileError,
    TableFileError,
    WorkerError,
)
from boardfit.devices.fake import Faults
from boardfit.profiler.connect import connect
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.profile_model import ModelProfile, open_profile, profile_model
from boardfit.profiler.progress import Progress
from boardfit.profiler.read_tflite import inspect
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.simulated import simulated_seconds
from boardfit.profiler.store import Store

from .small_board import QUICK, board, samples, small_network

SCHEDULE = replace(QUICK, runs=3, minimum_rounds=8, maximum_rounds=12, warmup=2, samples=3)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.tflite"
    path.write_bytes(emit(small_network(16)))
    return path


def expect_equal(one: ModelProfile, other: ModelProfile) -> None:
    assert (one.name, one.model, one.conditions) == (other.name, other.model, other.conditions)
    assert one.measurement.verdict == other.measurement.verdict
    for name in ("seconds", "run", "round", "warmup"):
        found, expected = (getattr(profile.measurement, name) for profile in (one, other))
        assert found.tolist() == expected.tolist()


def test_a_profile_knows_model_time_and_conditions(model: Path) -> None:
    profile = profile_model(model, board(), SCHEDULE)
    assert (profile.name, profile.model) == ("small.tflite", inspect(model.read_bytes()))
    assert profile.conditions["board"] == "Fake board, simulated by boardfit"
    found = profile.measurement
    assert found.verdict == "steady"
    assert found.median.seconds == pytest.approx(simulated_seconds(model.read_bytes()), rel=0.03)
    assert found.median.low <= found.median.seconds <= found.median.high
    assert np.unique(found.run).tolist() == [0, 1, 2]
    rounds = {run: len(np.unique(found.round[found.run == run])) for run in (0, 1, 2)}
    assert all(8 <= count <= 12 for count in rounds.values())
    assert len(found.seconds) == 3 * sum(rounds.values())
    # Two warm-up inferences a visit, and all five of each run's probe.
    assert len(found.warmup) == 2 * sum(rounds.values()) + 3 * 5


def test_a_disturbed_board_is_not_believed(model: Path) -> None:
    noisy = profile_model(model, board(noise=3.0), replace(SCHEDULE, sample_seconds=1e-6))
    assert noisy.measurement.verdict == "noisy"


def test_the_default_schedule_stays_within_its_budget(model: Path) -> None:
    told: list[Progress] = []
    profile = profile_model(model, board(), report=told.append)
    assert profile.measurement.verdict == "steady"
    assert told[-1].done == told[-1].total


def test_this_machine_is_profiled_as_well(model: Path) -> None:
    device = connect("local")
    profile = profile_model(model, device, replace(QUICK, warmup_seconds=0.01))
    device.transport.close()
    assert profile.conditions["runtime"] == "ai-edge-litert"
    assert 1e-7 < profile.measurement.minimum < 1.0
    assert profile.measurement.verdict in {"steady", "noisy", "drifting"}


def test_a_file_keeps_every_sample_and_is_read_back(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "p.boardfit"
    profile = profile_model(model, board(), SCHEDULE, out=out)
    expect_equal(open_profile(out), profile)
    expect_equal(profile_model(model, board(), SCHEDULE), profile)


def test_a_finished_profile_is_returned_without_the_board(model: Path, tmp_path: Path) -> None:
    profile = profile_model(model, board(), SCHEDULE, out=tmp_path / "p")
    gone = board()
    gone.transport.close()
    expect_equal(profile_model(model, gone, SCHEDULE, out=tmp_path / "p"), profile)


def test_a_profile_of_another_runtime_needs_a_file_of_its_own(model: Path, tmp_path: Path) -> None:
    profile_model(model, board(), SCHEDULE, out=tmp_path / "p")
    with pytest.raises(TableFileError, match=r"another plan \(runtime"):
        profile_model(model, board(), SCHEDULE, runtime="tflite-runtime", out=tmp_path / "p")


def test_what_was_interrupted_is_partial_and_goes_on(model: Path, tmp_path: Path) -> None:
    expected = profile_model(model, board(), SCHEDULE, out=tmp_path / "whole")
    device = board(faults=Faults(garbage=frozenset({40, 150})))
    for runs in (1, 2):
        with pytest.raises(WorkerError):
            profile_model(model, device, SCHEDULE, out=tmp_path / "p")
        found = open_profile(tmp_path / "p").measurement
        assert len(np.unique(found.run)) == runs
        assert found.verdict == "partial"
    expect_equal(profile_model(model, device, SCHEDULE, out=tmp_path / "p"), expected)
    assert samples(tmp_path / "p") == samples(tmp_path / "whole")


def test_another_board_does_not_go_on_with_it(model: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkerError):
        profile_model(
            model, board(faults=Faults(garbage=frozenset({40}))), SCHEDULE, out=tmp_path / "p"
        )
    with pytest.raises(ConditionsChanged, match="cores: was 4, is 8"):
        profile_model(model, board(cores=8), SCHEDULE, out=tmp_path / "p")


def test_another_model_or_schedule_needs_another_file(model: Path, tmp_path: Path) -> None:
    profile_model(model, board(), SCHEDULE, out=tmp_path / "p")
    with pytest.raises(TableFileError, match=r"another plan \(schedule differ\)"):
        profile_model(model, board(), Schedule(), out=tmp_path / "p")
    model.write_bytes(emit(small_network(32)))
    with pytest.raises(TableFileError, match=r"another plan \(model differ\); give another path"):
        profile_model(model, board(), SCHEDULE, out=tmp_path / "p")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\0\0\0\0TFL3 and then nothing"])
def test_what_is_no_model_is_refused_before_the_board_is_used(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "x.tflite").write_bytes(content)
    gone = board()
    gone.transport.close()
    with pytest.raises(ModelFileError, match=r"x\.tflite is "):
        profile_model(tmp_path / "x.tflite", gone, out=tmp_path / "p")
    with pytest.raises(ModelFileError, match="there is no model file"):
        profile_model(tmp_path / "none.tflite", gone, out=tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_a_model_that_the_runtime_refuses_is_named(model: Path) -> None:
    data = model.read_bytes()
    assert data.count(b"input") == 1  # an operator's code that LiteRT does not have: 4 -> 119
    broken = bytearray(data)
    info = inspect(data)
    changed = None
    for at in range(len(data)):
        broken[at] = (data[at] + 115) % 256
        try:
            found = inspect(bytes(broken))
        except ModelFileError:
            found = info
        names = [operator.name for operator in found.operators]
        if "while" in names:
            changed = bytes(broken)
            break
        broken[at] = data[at]
    assert changed is not None
    model.write_bytes(changed)
    device = connect("local")
    with pytest.raises(WorkerError, match=r"cannot load model .* on local: |ended while it loaded"):
        profile_model(model, device, QUICK)
    device.transport.close()


# Files that are something else


def test_a_file_without_a_profile_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(TableFileError, match="there is no table"):
        open_profile(tmp_path / "none")
    with Store.create(tmp_path / "t") as store:
        store.begin([], {"kind": "table"})
    with pytest.raises(TableFileError, match="does not hold the profile of a model"):
        open_profile(tmp_path / "t")
    with Store.create(tmp_path / "empty"):
        pass
    with pytest.raises(TableFileError, match="does not hold the profile"):
        open_profile(tmp_path / "empty")


SET = "UPDATE documents SET content = json_set(content, {}) WHERE name = 'plan'"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM samples",
        "DELETE FROM entries",
        "UPDATE entries SET content = '{}'",
        "UPDATE samples SET seconds = 'soon'",
        "UPDATE samples SET seconds = 0.0",
        "UPDATE samples SET seconds = -1.0",
        "UPDATE samples SET seconds = 9e999",
        "UPDATE samples SET run = 'x' || run",
        'UPDATE documents SET content = \'{"kind": "profile"}\'',
        SET.format("'$.schedule', 5"),
        SET.format("'$.schedule.runs', 'many'"),
        SET.format("'$.model', 5"),
        SET.format("'$.model.inputs', 5"),
        SET.format("'$.model.inputs[0].shape', 5"),
        SET.format("'$.model.operators', json('[{}]')"),
        SET.format("'$.model.size', 'large'"),
        SET.format("'$.model.operators[0].parameters', json('1e999')"),
    ],
)
def test_a_profile_whose_contents_contradict_is_refused(
    model: Path, tmp_path: Path, statement: str
) -> None:
    profile_model(model, board(), QUICK, out=tmp_path / "p")
    connection = sqlite3.connect(tmp_path / "p")
    assert connection.execute(statement).rowcount > 0
    connection.commit()
    connection.close()
    with pytest.raises(TableFileError):
        open_profile(tmp_path / "p")


def test_damaged_files_never_surprise(model: Path, tmp_path: Path) -> None:
    profile_model(model, board(), QUICK, out=tmp_path / "p")
    whole = (tmp_path / "p").read_bytes()
    rng = random.Random(0)
    used = [at for at in range(len(whole)) if whole[at]]
    opened = 0
    for _ in range(200):
        data = bytearray(whole)
        for at in rng.sample(used, rng.choice([1, 2, 8])):
            data[at] = rng.randrange(256)
        (tmp_path / "p").write_bytes(data)
        try:
            profile = open_profile(tmp_path / "p")
        except TableFileError:
            continue
        opened += 1
        assert profile.measurement.minimum > 0
        assert profile.measurement.verdict
    assert 5 < opened < 195
