"""What a board says of itself stands beside the samples, and slowed visits are repeated."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from boardfit.board_summary import record_row, record_words
from boardfit.devices.base import Device
from boardfit.devices.board_state import BoardState
from boardfit.devices.board_watch import BoardWatch, Seen
from boardfit.devices.errors import TableFileError
from boardfit.devices.fake import FakeTransport
from boardfit.profiler.board_record import (
    BoardRecord,
    BoardRecorder,
    board_record,
    causes_of,
    moments,
    read_board_record,
)
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.evidence import samples_frame
from boardfit.profiler.profile_model import open_profile, profile_model
from boardfit.profiler.progress import Progress
from boardfit.profiler.store import SUSTAINED_RUN, Store
from boardfit.profiler.table import LookupTable
from boardfit.reports.page import write_report

from .shimmed_board import ShimmedBoard, shimmed_board, stateful
from .small_board import QUICK, small_network, small_plan

RECORD = BoardRecord(
    120, 0.25, ("under-voltage", "throttled"), (48.0, 61.5), 0.8, True, {"VDD_IN": 7.125}
)
THROTTLED = "0x50005"


class Told(BoardWatch):
    """A watch that has seen what a test says."""

    def __init__(self, *seen: Seen) -> None:
        super().__init__(FakeTransport(), None, "")
        self.waiting = list(seen)

    def seen(self) -> list[Seen]:
        found, self.waiting = self.waiting, []
        return found


def seen(uptime: float, *slowed_by: str, **facts: float) -> Seen:
    return Seen(BoardState(uptime, facts), slowed_by)


def test_what_is_seen_waits_until_the_clocks_are_known() -> None:
    watch = Told(seen(100.0, temperature=50.0))
    recorder = BoardRecorder(watch)
    assert recorder.rows() == []
    recorder.learn({"at": 7.0, "load": 1.0})  # of one clock alone nothing follows
    assert recorder.rows() == []
    recorder.learn({"at": 8.0, "uptime": 104.0})
    watch.waiting = [seen(101.5, "under-voltage", "throttled")]
    assert recorder.rows() == [
        {"temperature": 50.0, "at": 4.0, "throttled": 0.0, "slowed_by": ""},
        {"at": 5.5, "throttled": 1.0, "slowed_by": "under-voltage, throttled"},
    ]
    assert recorder.rows() == recorder.last_rows() == []


def test_a_visit_is_judged_by_the_looks_around_it() -> None:
    rows = [
        {"session": session, "at": at, "throttled": flag, "slowed_by": "x"}
        for session, at, flag in ((2, 1.0, 0.0), (1, 2.0, 1.0), (1, 1.0, 0.0), (1, 3.0, 0.0))
    ]
    found = moments([*rows, {"session": 1, "at": 9.0, "reference": 1.0}])
    session = np.array([1, 1, 1, 1, 2, 3])
    at = np.array([0.5, 1.5, 2.5, 3.5, 1.5, 1.5])
    assert found.around(session, at).tolist() == [False, True, True, False, False, False]
    # What is repeated does not depend on what comes later.
    assert found.before(session, at).tolist() == [False, False, True, False, False, False]
    # A look at the very moment counts.
    assert found.before(np.array([1, 1]), np.array([2.0, 3.0])).tolist() == [True, False]
    nothing = moments([])
    assert not nothing.around(session, at).any()


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ShimmedBoard, Device]]:
    """This machine, whose `vcgencmd` is a Raspberry Pi's."""
    pytest.importorskip("ai_edge_litert")
    shims = stateful(shimmed_board("raspberry_pi", tmp_path, monkeypatch))
    device = connect("local")
    with replace(device, workspace=PurePosixPath(tmp_path / "work")) as found:
        yield shims, found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(emit(small_network(16)))
    return path


def test_a_profile_on_a_throttled_board_is_called_throttled(
    pi: tuple[ShimmedBoard, Device], model: Path, tmp_path: Path
) -> None:
    shims, device = pi
    shims.set("throttled", THROTTLED)
    found = profile_model(model, device, QUICK, out=tmp_path / "p")
    assert found.measurement.verdict == "throttled"
    assert found.measurement.throttled_share == 1.0
    assert found.record is not None
    assert found.record.causes == ("under-voltage", "throttled")
    assert found.record.slowed_share == 1.0
    assert open_profile(tmp_path / "p").record == found.record
    # Slowed visits are repeated, as often as the schedule allows.
    assert np.unique(found.measurement.round).tolist() == list(range(QUICK.maximum_rounds))
    with Store.open(tmp_path / "p") as store:
        frame = samples_frame(store)
    assert frame["throttled"].all()
    assert set(frame["slowed_by"]) == {"under-voltage, throttled"}
    assert set(frame["board.throttled.under_voltage"]) == {1.0}
    write_report([tmp_path / "p"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "The board said that it was slowed (under-voltage, throttled) during 100%" in page


def test_what_was_so_before_the_measurement_flags_nothing(
    pi: tuple[ShimmedBoard, Device], model: Path
) -> None:
    shims, device = pi
    shims.set("throttled", "0x50000")
    found = profile_model(model, device, replace(QUICK, precision=0.5))
    assert found.measurement.throttled_share == 0.0
    assert found.record is not None
    assert (found.record.causes, found.record.slowed_share) == ((), 0.0)
    assert found.record.looks >= 2 * QUICK.runs  # before and behind each session


def test_a_table_says_when_its_board_was_slowed(
    pi: tuple[ShimmedBoard, Device], tmp_path: Path
) -> None:
    shims, device = pi
    shims.set("throttled", "0x0")

    def slow_down(step: Progress) -> None:
        if "loading models" in step.detail:
            shims.set("throttled", THROTTLED)

    schedule = replace(QUICK, minimum_rounds=3)
    table = build_table(tmp_path / "t", device, small_plan(), schedule, report=slow_down)
    assert table.record is not None
    assert table.record.causes == ("under-voltage", "throttled")
    assert 0 < table.record.slowed_share <= 1
    assert LookupTable.open(tmp_path / "t").record == table.record
    write_report([tmp_path / "t"], tmp_path / "report.html")
    assert "under-voltage, throttled" in (tmp_path / "report.html").read_text()


def test_a_lasting_load_is_no_part_of_the_record() -> None:
    look = {"at": 1.0, "throttled": 1.0, "slowed_by": "throttled"}
    with Store.create(None) as store:
        for run in (SUSTAINED_RUN, 0):
            number = store.begin_session(run, "2026-01-01T00:00:00+00:00", {})
            seen = [{**look, "throttled": float(run < 0), "slowed_by": "throttled" * (run < 0)}]
            store.commit([], session=number, run=run, round_number=0, evidence=seen)
        assert board_record(store) == BoardRecord(1, 0.0)


def test_a_record_survives_its_file() -> None:
    again = read_board_record(json.loads(json.dumps(RECORD.content())))
    assert again == RECORD
    bare = BoardRecord(3, 0.0)
    assert read_board_record(json.loads(json.dumps(bare.content()))) == bare
    assert read_board_record(None) is None


@pytest.mark.parametrize("name", ["looks", "slowed_share", "temperature", "battery", "watts"])
@pytest.mark.parametrize("value", ["x", [1], {"a": None}, float("inf")])
def test_a_damaged_record_is_refused(name: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        read_board_record({**RECORD.content(), name: value})


def test_what_a_record_says_to_people_and_programs() -> None:
    assert record_words(RECORD) == [
        "The board said that it was slowed (under-voltage, throttled) during 25% of the visits; "
        "these were repeated while the budget lasted.",
        "The board meanwhile: temperature 48 to 62 °C, battery at least 80%, on a charger, "
        "VDD_IN 7.12 W.",
    ]
    assert record_row(RECORD) == {
        "slowed_%": 25.0,
        "slowed_by": "under-voltage, throttled",
        "warmest_c": 61.5,
        "battery_%": 80.0,
        "watts_VDD_IN": 7.125,
    }
    assert record_words(BoardRecord(9, 0.0)) == record_words(None) == []
    assert record_row(None) == {}
    assert causes_of([{"slowed_by": "a, b"}, {"slowed_by": "b"}, {}]) == ("b", "a")


@pytest.mark.parametrize(
    "content",
    [
        '{"slowed_by": "x", "throttled": 1.0}',
        '{"slowed_by": "x", "at": "noon", "throttled": 1.0}',
        '{"slowed_by": "x", "at": 1.0}',
        '{"slowed_by": "x", "at": 1.0, "throttled": "yes"}',
        '{"slowed_by": "x", "at": 1.0, "throttled": 0.0, "temperature": 1e999}',
        '{"slowed_by": "x", "at": 1.0, "throttled": 0.0, "battery.level": null}',
    ],
)
def test_damaged_evidence_of_a_board_is_named(tmp_path: Path, content: str) -> None:
    with Store.create(tmp_path / "f") as store:
        store.begin_session(0, "2026-01-01T00:00:00+00:00", {})
    connection = sqlite3.connect(tmp_path / "f")
    connection.execute("INSERT INTO evidence VALUES (1, ?)", (content,))
    connection.commit()
    connection.close()
    with Store.open(tmp_path / "f") as store, pytest.raises(TableFileError, match="is damaged"):
        board_record(store)
