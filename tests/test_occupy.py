"""A job has its board alone: campaigns, builds and profiles hold the lease, and notice its loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boardfit.devices.base import Device
from boardfit.devices.errors import (
    BoardInUse,
    ConditionsChanged,
    DeviceLost,
    InputError,
    StorageError,
    WorkerLost,
)
from boardfit.devices.fake import FAKE_FILES, FakeTransport, SimulatedClock
from boardfit.devices.fake_board import FakeBoard
from boardfit.devices.lease import held_lease, leased
from boardfit.devices.lease_place import Owner
from boardfit.devices.occupy import WAIT, occupied, waiting_time
from boardfit.devices.reconnecting import ReconnectingTransport
from boardfit.profiler.build import build_table
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.profile_model import profile_model
from boardfit.profiler.progress import Progress
from boardfit.profiler.simulated import SimulatedWorker
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable

from .other_jobs import entered_elsewhere
from .small_board import QUICK, board, samples, small_network, small_plan

Samples = list[tuple[Any, ...]]


class Shared:
    """A fake board that several jobs reach."""

    def __init__(self) -> None:
        self.state = FakeBoard(FAKE_FILES, SimulatedClock(100.0))

    def way(self) -> FakeTransport:
        return FakeTransport(board=self.state, programs={"python3": SimulatedWorker})

    def device(self, **options: Any) -> Device:
        """A way to it that is found again after each loss."""
        transport = ReconnectingTransport(self.way, sleep=self.state.clock.sleep, **options)
        return replace(board(), transport=transport)

    def held(self) -> contextlib.ExitStack:
        """Another host's job on it."""
        return entered_elsewhere(leased(self.way(), "x", owner=Owner("eve@far: a build"), beat=1e6))

    @property
    def holder(self) -> str:
        (name,) = (path for path in self.state.folders if "/lock/" in path)
        return name.rpartition("/")[2].partition(",")[0]


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOARDFIT_WAIT", "0")


class Meddler:
    """Does something once, at the n-th report of a job."""

    def __init__(self, number: int, act: Any) -> None:
        self.left = number
        self.act = act
        self.told: list[str] = []

    def __call__(self, progress: Progress) -> None:
        self.told.append(progress.detail)
        self.left -= 1
        if self.left == 0:
            self.act()


def table(path: Path, device: Device, report: Any = lambda progress: None) -> LookupTable:
    plan: TablePlan = small_plan()
    return build_table(path, device, plan, QUICK, report=report)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """The samples of an undisturbed build."""
    path = tmp_path_factory.mktemp("whole") / "t"
    table(path, board())
    return samples(path)


def test_a_build_is_refused_while_another_job_measures(shared: Shared, tmp_path: Path) -> None:
    with shared.held(), pytest.raises(BoardInUse, match=r"^fake: .* eve@far: a build has held it"):
        table(tmp_path / "t", shared.device())
    assert not samples(tmp_path / "t")
    table(tmp_path / "t", shared.device())  # the same command
    assert shared.holder == "free"


def test_a_job_holds_its_board_from_the_first_model_to_the_result(
    shared: Shared, tmp_path: Path
) -> None:
    seen: list[str] = []
    names: set[str] = set()

    def watch(progress: Progress) -> None:
        seen.append(shared.holder)
        names.update(path.split(",")[1] for path in shared.state.folders if "/lock/held" in path)

    table(tmp_path / "t", shared.device(), watch)
    assert set(seen) == {"held"}
    assert len(names) == 1  # one lease, however many campaigns
    assert shared.holder == "free"


def test_a_model_is_profiled_by_one_job_at_a_time(shared: Shared, tmp_path: Path) -> None:
    from boardfit.profiler.emit_tflite import emit

    (tmp_path / "m.tflite").write_bytes(emit(small_network(8)))
    with shared.held(), pytest.raises(BoardInUse):
        profile_model(tmp_path / "m.tflite", shared.device(), QUICK)
    profile_model(tmp_path / "m.tflite", shared.device(), QUICK, sustained=1.0, operators=True)


def test_what_is_finished_needs_no_board(shared: Shared, tmp_path: Path) -> None:
    table(tmp_path / "t", shared.device())
    with shared.held():
        table(tmp_path / "t", shared.device())


def test_a_job_that_lost_its_board_keeps_nothing_that_it_measured_since(
    shared: Shared, tmp_path: Path, whole: Samples
) -> None:
    device = shared.device()
    other = contextlib.ExitStack()

    def take_over() -> None:
        shared.state.clock.advance(31)
        other.enter_context(shared.held())
        lease = held_lease(device.transport)
        assert lease is not None
        lease.renew()  # as the thread does sooner or later

    meddler = Meddler(2, take_over)
    with pytest.raises(BoardInUse, match=r"this job has lost the board, .*: eve@far"):
        table(tmp_path / "t", device, meddler)
    kept = samples(tmp_path / "t")
    assert kept
    assert not [words for words in meddler.told[2:] if "round" in words]  # told when it is kept
    assert shared.holder == "held"
    other.close()
    table(tmp_path / "t", shared.device())
    assert samples(tmp_path / "t") == whole
    assert set(kept) <= set(samples(tmp_path / "t"))


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_board_that_restarts_costs_no_value(
    shared: Shared, tmp_path: Path, whole: Samples, moment: int
) -> None:
    meddler = Meddler(moment, shared.state.reboot)
    table(tmp_path / "t", shared.device(), meddler)
    assert samples(tmp_path / "t") == whole
    assert "fake has restarted and was looked at anew" in meddler.told
    assert shared.holder == "free"
    with Store.open(tmp_path / "t") as store:
        warm = [row for row in store.evidence() if "warmup_seconds" in row]
        assert {row[6] for row in store.samples()} <= {row["session"] for row in warm}


def test_a_board_that_restarts_with_another_governor_is_not_measured_on(
    shared: Shared, tmp_path: Path
) -> None:
    def act() -> None:
        for core in range(4):
            path = f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"
            shared.state.files[path] = b"ondemand\n"
        shared.state.reboot()

    with pytest.raises(ConditionsChanged, match="governor: was 'performance', is 'ondemand'"):
        table(tmp_path / "t", shared.device(), Meddler(2, act))


def test_links_that_break_again_and_again_end_with_how_often(
    shared: Shared, tmp_path: Path, whole: Samples
) -> None:
    ways: list[FakeTransport] = []

    def connect() -> FakeTransport:
        ways.append(shared.way())
        return ways[-1]

    device = replace(board(), transport=ReconnectingTransport(connect, sleep=lambda s: None))
    words = r"was lost 2 times within \d+ s and is given up: .* the same command goes on"
    with pytest.raises((DeviceLost, WorkerLost), match=words):
        table(tmp_path / "t", device, lambda progress: ways[-1].break_link())
    table(tmp_path / "t", shared.device())
    assert samples(tmp_path / "t") == whole


def test_a_full_disk_on_the_board_is_told_and_the_same_command_goes_on(
    shared: Shared, tmp_path: Path, whole: Samples
) -> None:
    device = shared.device()

    def act() -> None:
        shared.state.full = True
        shared.state.reboot()

    with pytest.raises(StorageError, match="no space left"):
        table(tmp_path / "t", device, Meddler(2, act))
    shared.state.full = False
    table(tmp_path / "t", shared.device())
    assert samples(tmp_path / "t") == whole


def test_settings_lie_inside_of_the_lease(shared: Shared) -> None:
    seen: list[str] = []

    @contextlib.contextmanager
    def settings() -> Iterator[None]:
        seen.append(shared.holder)
        yield
        seen.append(shared.holder)

    device = shared.device()
    with occupied(device, "outer", settings=settings), occupied(device, "inner"):
        assert seen == ["held"]
    assert seen == ["held", "held"]
    assert shared.holder == "free"
    with shared.held(), pytest.raises(BoardInUse), occupied(device, "x", settings=settings):
        pass
    assert len(seen) == 2


@pytest.mark.parametrize("said", ["", "soon", "-1", "nan", "1e9"])
def test_a_waiting_time_that_is_none_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOARDFIT_WAIT", said)
    with pytest.raises(InputError, match=r"BOARDFIT_WAIT=.*: give the seconds"):
        waiting_time()


def test_jobs_wait_a_day_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waiting_time() == 0
    monkeypatch.delenv("BOARDFIT_WAIT")
    assert waiting_time() == WAIT == 24 * 3600
