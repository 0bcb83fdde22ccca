"""Boards that job after job has lost are left alone, and say so; and how that ends."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from boardfit.devices.base import Device
from boardfit.devices.discover import state_of
from boardfit.devices.errors import (
    BoardfitError,
    BoardInUse,
    BoardQuarantined,
    DeviceLost,
    DeviceTimeout,
    MeasurementError,
    WorkerError,
    WorkerLost,
)
from boardfit.devices.fake import Faults
from boardfit.devices.inventory import Inventory
from boardfit.devices.occupy import occupied
from boardfit.devices.quarantine import (
    FAILURES,
    REST,
    Failure,
    answered_for,
    failures,
    failures_finding,
    lift,
    quarantine,
    require_free,
)
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect, fake_device

from .small_board import QUICK, small_plan

LOST = "the link to far broke"


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "lab" / "boards.toml"
    path.parent.mkdir()
    path.write_text(
        '[boards.far]\ntransport = "fake"\ntags = ["lab"]\n[boards.near]\ntransport = "fake"\n'
    )
    return path


def lose(inventory: Path, error: BoardfitError | None = None, times: int = 1) -> None:
    """Jobs that end so (None: well)."""
    known = Inventory.load(inventory)
    for _ in range(times):
        device = replace(
            fake_device(known.get("far")), failures=known.failures_of(known.get("far"))
        )
        try:
            with occupied(device, "a job"):
                if error is not None:
                    raise error
        except BoardfitError:
            assert error is not None


def file_of(inventory: Path) -> Path:
    return inventory.parent / "failures" / "far.json"


@pytest.mark.parametrize(
    "error", [DeviceLost(LOST), DeviceTimeout(LOST), WorkerLost(f"{LOST}\nand more")]
)
def test_a_board_that_three_jobs_in_a_row_lost_is_refused(
    inventory: Path, error: BoardfitError, caplog: pytest.LogCaptureFixture
) -> None:
    lose(inventory, error, FAILURES - 1)
    connect("far", inventory=inventory).transport.close()
    assert not caplog.messages
    with caplog.at_level(logging.WARNING, logger="boardfit"):
        lose(inventory, error)
    with pytest.raises(BoardQuarantined, match=rf"3 jobs in a row .*: {LOST}\).*doctor far") as met:
        connect("far", inventory=inventory)
    assert caplog.messages == [str(met.value)]  # whoever lost it is told, too
    assert "60 more minutes" in str(met.value)
    assert met.value.exit_code == 3
    with pytest.raises(BoardQuarantined):
        connect("tag:lab", inventory=inventory)
    connect("near", inventory=inventory).transport.close()


def test_a_job_that_ends_well_begins_the_count_anew(inventory: Path) -> None:
    lose(inventory, DeviceLost(LOST), FAILURES - 1)
    lose(inventory)
    assert not file_of(inventory).exists()
    lose(inventory, DeviceLost(LOST), FAILURES - 1)
    connect("far", inventory=inventory).transport.close()


@pytest.mark.parametrize(
    "error", [BoardInUse("held"), WorkerError("refused a model"), MeasurementError("too warm")]
)
def test_what_is_not_a_loss_neither_counts_nor_forgives(
    inventory: Path, error: BoardfitError
) -> None:
    lose(inventory, DeviceLost(LOST))
    lose(inventory, error)
    assert len(failures(file_of(inventory))) == 1
    with pytest.raises(KeyboardInterrupt), answered_for(connected(inventory)):
        raise KeyboardInterrupt
    assert len(failures(file_of(inventory))) == 1


def connected(inventory: Path) -> Device:
    return connect("far", inventory=inventory)


def test_a_job_within_a_job_is_one(inventory: Path) -> None:
    device = connected(inventory)
    with (
        pytest.raises(DeviceLost),
        occupied(device, "a job"),
        occupied(device, "part of it"),
    ):
        raise DeviceLost(LOST)
    assert len(failures(file_of(inventory))) == 1


def test_builds_that_lose_the_board_lead_there(inventory: Path, tmp_path: Path) -> None:
    for number in range(FAILURES):
        faults = Faults(lose=frozenset(range(5, 500)))
        board = connected(inventory)
        lossy = fake_device(Inventory.load(inventory).get("far"), faults=faults)
        with pytest.raises(DeviceLost):
            build_table(
                tmp_path / f"{number}.boardfit",
                replace(lossy, failures=board.failures),
                small_plan(),
                QUICK,
            )
    with pytest.raises(BoardQuarantined):
        connected(inventory)


def test_it_ends_by_itself(tmp_path: Path) -> None:
    device = replace(fake_device(Inventory().get("fake")), failures=tmp_path / "f.json")
    for _ in range(FAILURES):
        with pytest.raises(DeviceLost), answered_for(device, clock=lambda: 1000.0):
            raise DeviceLost(LOST)
    assert "60 more" in (quarantine("b", device.failures, clock=lambda: 1000.5) or "")
    assert "1 more" in (quarantine("b", device.failures, clock=lambda: 999.0 + REST) or "")
    assert quarantine("b", device.failures, clock=lambda: 1000.0 + REST) is None
    assert quarantine("b", device.failures, clock=lambda: 999.0) is None  # the clock was put back
    # Then one job may try; it need not lose the board three times again.
    with pytest.raises(DeviceLost), answered_for(device, clock=lambda: 2000.0 + REST):
        raise DeviceLost("again")
    assert "4 jobs in a row" in (
        quarantine("b", device.failures, clock=lambda: 2001.0 + REST) or ""
    )


def test_the_file_is_short_however_often_a_board_is_lost(tmp_path: Path) -> None:
    device = replace(fake_device(Inventory().get("fake")), failures=tmp_path / "f.json")
    for number in range(30):
        with pytest.raises(DeviceLost), answered_for(device, clock=partial(float, number)):
            raise DeviceLost("x" * 1500)
    found = failures(device.failures)
    assert [failure.at for failure in found] == list(range(20, 30))
    assert all(len(failure.why) == 300 for failure in found)


def test_boards_that_are_not_written_down_are_not_counted() -> None:
    board = connect("fake")
    assert board.failures is None
    with pytest.raises(DeviceLost), occupied(board, "a job"):
        raise DeviceLost(LOST)
    require_free("fake", None)
    assert failures(None) == ()
    lift(None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        "[" * 100_000,
        '{"format": "boardfit failures", "version": 2, "failures": [[1, "x"]]}',
        '{"format": "another", "version": 1, "failures": [[1, "x"]]}',
        '{"format": "boardfit failures", "version": 1, "failures": [["x", "x"]]}',
        '{"format": "boardfit failures", "version": 1, "failures": [[1]]}',
        '{"format": "boardfit failures", "version": 1, "failures": 3}',
        "\xff",
    ],
)
def test_what_cannot_be_read_holds_nobody_up(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    assert failures(path) == ()
    device = replace(fake_device(Inventory().get("fake")), failures=path)
    with pytest.raises(DeviceLost), answered_for(device, clock=lambda: 7.0):
        raise DeviceLost(LOST)
    assert failures(path) == (Failure(7.0, LOST),)


def test_where_nothing_can_be_written_the_loss_is_what_is_told(tmp_path: Path) -> None:
    (tmp_path / "failures").write_text("a file where the folder should be")
    place = tmp_path / "failures" / "far.json"
    device = replace(fake_device(Inventory().get("fake")), failures=place)
    with pytest.raises(DeviceLost, match=LOST), answered_for(device):
        raise DeviceLost(LOST)
    with answered_for(device):
        pass


def test_a_listing_says_so() -> None:
    assert state_of(BoardQuarantined("lost")) == ("quarantined", "lost")


def test_findings_of_a_doctor(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    device = replace(fake_device(Inventory().get("fake")), failures=path)
    assert failures_finding(path, well=False) is None
    for count in range(1, FAILURES + 1):
        with pytest.raises(DeviceLost), answered_for(device):
            raise DeviceLost(LOST)
        found = failures_finding(path, well=False)
        assert found is not None
        assert found.state == ("warning" if count == FAILURES else "note")
        assert LOST in found.words
        assert "60 minutes" in found.fix
    found = failures_finding(path, well=True)
    assert found is not None
    assert (found.state, found.fix) == ("note", "")
    assert "the last 3 jobs" in found.words


def test_commands_show_it_and_a_doctor_lifts_it(
    inventory: Path, boardfit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    lose(inventory, DeviceLost(LOST), FAILURES)
    listed = boardfit("devices", "list", "--json", "--boards", str(inventory))
    states = {row["name"]: row for row in json.loads(listed.stdout)}
    assert states["far"]["state"] == "quarantined"
    assert LOST in states["far"]["words"]
    assert states["near"]["state"] == "ready"
    model = inventory.parent / "m.tflite"
    refused = boardfit("profile", "--device", "far", "--boards", str(inventory), str(model))
    assert refused.returncode == 3
    assert "is left alone for" in refused.stderr
    seen = boardfit("devices", "doctor", "far", "--boards", str(inventory))
    assert seen.returncode == 0
    assert "the last 3 jobs lost it: the link to far broke; forgotten" in " ".join(
        seen.stdout.split()
    )
    connect("far", inventory=inventory).transport.close()


def test_a_doctor_who_finds_a_problem_lifts_nothing(
    inventory: Path, boardfit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    inventory.write_text('[boards.far]\ntransport = "ssh"\nhost = "127.0.0.1"\nport = 1\n')
    known = Inventory.load(inventory)
    device = replace(fake_device(Inventory().get("fake")), failures=known.failures_of(known.get()))
    for _ in range(FAILURES):
        with pytest.raises(DeviceLost), answered_for(device):
            raise DeviceLost(LOST)
    seen = boardfit("devices", "doctor", "far", "--boards", str(inventory), "--json")
    assert seen.returncode == 3
    jobs, link = json.loads(seen.stdout)
    assert (jobs["what"], jobs["state"]) == ("jobs", "warning")
    assert (link["what"], link["state"]) == ("link", "problem")
    assert len(failures(file_of(inventory))) == FAILURES


@pytest.fixture
def boardfit(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "boardfit", *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=tmp_path)

    return run
