"""A job whose board has restarted, or has put its settings back, sets them anew and goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from boardfit.devices.base import Completed
from boardfit.devices.errors import ConditionsChanged, DeviceLost, DeviceTimeout
from boardfit.devices.fake import SimulatedClock
from boardfit.devices.local import LocalTransport
from boardfit.devices.settings import Applied, applied, settings_on
from boardfit.devices.settings_record import Wanted
from boardfit.profiler.build import sources
from boardfit.profiler.campaign import run_campaign
from boardfit.profiler.connect import connect
from boardfit.profiler.progress import Progress

from .shimmed_board import CPUFREQ, ShimmedBoard, shimmed_board
from .small_board import QUICK
from .test_campaign import begun, entries

PERFORMANCE = {"policy0": "performance", "policy4": "performance"}
SCHEDUTIL = {"policy0": "schedutil", "policy4": "schedutil"}
WANTED = Wanted(governor="performance")


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShimmedBoard]:
    board = shimmed_board("raspberry_pi", tmp_path, monkeypatch)
    yield board
    kill_watchdog(board)


def kill_watchdog(board: ShimmedBoard) -> None:
    with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
        os.kill(int((board.settings / "watchdog").read_text()), signal.SIGKILL)


def change(
    board: ShimmedBoard, clock: Callable[[], float] = time.monotonic
) -> contextlib.AbstractContextManager[Applied]:
    return applied(
        board.transport, WANTED, board.workspace, root=board.root, beats=False, clock=clock
    )


def restart(board: ShimmedBoard, name: str = "2") -> None:
    """What a restart leaves: the disk, and the kernel's own settings."""
    kill_watchdog(board)
    board.write("proc/sys/kernel/random/boot_id", f"{name * 8}-2222-3333-4444-555555555555\n")
    for policy in SCHEDUTIL:
        board.write(f"{CPUFREQ}/{policy}/scaling_governor", "schedutil\n")


def put_back(board: ShimmedBoard) -> None:
    """What a watchdog does that has heard nothing."""
    (board.settings / "before").unlink()
    restart(board, "1")


def test_settings_that_hold_are_left_alone(pi: ShimmedBoard) -> None:
    with change(pi) as state:
        before = state.before
        assert not state.renew()
        assert state.before is before
        assert settings_on(pi.transport) is state
        assert settings_on(LocalTransport()) is None
    assert settings_on(pi.transport) is None
    assert not state.wanted.changes or pi.governors() == SCHEDUTIL


@pytest.mark.parametrize("what", [restart, put_back])
def test_what_was_undone_is_set_anew_and_put_back_at_the_end(
    pi: ShimmedBoard, what: Callable[[ShimmedBoard], None]
) -> None:
    with change(pi) as state:
        what(pi)
        assert pi.governors() == SCHEDUTIL
        assert state.renew()
        assert pi.governors() == PERFORMANCE
        assert "governor policy4 schedutil" in (pi.settings / "before").read_text()
        assert int((pi.settings / "watchdog").read_text()) > 0
        assert not state.renew()
    assert pi.governors() == SCHEDUTIL
    assert not (pi.settings / "before").exists()


def test_a_watchdog_that_was_ended_is_started_again(pi: ShimmedBoard) -> None:
    with change(pi) as state:
        first = (pi.settings / "watchdog").read_text()
        kill_watchdog(pi)
        time.sleep(0.1)
        assert not state.renew()
        assert (pi.settings / "watchdog").read_text() != first
        assert pi.governors() == PERFORMANCE


def test_nothing_wanted_is_nothing_to_renew(pi: ShimmedBoard) -> None:
    with applied(pi.transport, Wanted(), pi.workspace, root=pi.root) as state:
        assert not state.renew()
        state.require()
    assert not pi.settings.exists()


def test_a_board_is_asked_only_where_it_may_have_put_back(pi: ShimmedBoard) -> None:
    clock = SimulatedClock(100.0)
    with change(pi, clock.now) as state:
        put_back(pi)
        clock.sleep(29.0)
        state.require()
        clock.sleep(2.0)
        with pytest.raises(DeviceLost, match=r"put its settings back.* for 60 s"):
            state.require()
        assert state.renew()
        state.require()


def test_beats_that_are_not_taken_down_do_not_count(pi: ShimmedBoard) -> None:
    clock = SimulatedClock(100.0)
    with change(pi, clock.now) as state:
        (pi.settings / "heartbeat").unlink()
        (pi.settings / "heartbeat").mkdir()  # it can be written no more, as on a full disk
        put_back(pi)
        clock.sleep(31.0)
        state.beat()
        with pytest.raises(DeviceLost):
            state.require()
        (pi.settings / "heartbeat").rmdir()
        assert state.renew()
        state.require()


def test_a_restart_at_the_very_end_is_no_change_of_conditions(pi: ShimmedBoard) -> None:
    with change(pi):
        restart(pi)
    assert pi.governors() == SCHEDUTIL
    assert not (pi.settings / "before").exists()


def test_a_job_that_kept_nothing_unasked_may_end_after_they_were_put_back(pi: ShimmedBoard) -> None:
    with change(pi) as state:
        state.require()
        put_back(pi)
    with pytest.raises(ConditionsChanged, match="put its settings back"), change(pi):
        put_back(pi)


def test_putting_back_is_tried_once_more_where_the_link_is_lost(pi: ShimmedBoard) -> None:
    class Shaky(LocalTransport):
        left = 0

        def run(self, argv, *, timeout) -> Completed:  # type: ignore[no-untyped-def]
            if self.left:
                self.left -= 1
                raise DeviceLost("the link broke") if self.left else DeviceTimeout("silence")
            return super().run(argv, timeout=timeout)

    link = pi.transport = Shaky()
    with change(pi):
        link.left = 1  # met by the last look
    assert pi.governors() == SCHEDUTIL
    with pytest.raises(DeviceTimeout), change(pi):
        link.left = 2
    assert pi.governors() == SCHEDUTIL


def test_putting_back_after_an_error_is_tried_once_more(pi: ShimmedBoard) -> None:
    class Shaky(LocalTransport):
        lost = False

        def push(self, local: Path, remote: PurePosixPath) -> None:
            if self.lost:
                self.lost = False
                raise DeviceLost("the link broke")
            super().push(local, remote)

    link = pi.transport = Shaky()

    def job() -> None:
        with change(pi):
            link.lost = True
            raise RuntimeError("anything")

    with pytest.raises(RuntimeError) as met:
        job()
    assert pi.governors() == SCHEDUTIL
    assert not hasattr(met.value, "__notes__")


def test_a_campaign_keeps_nothing_that_was_measured_meanwhile(pi: ShimmedBoard) -> None:
    device = connect("local")
    assert isinstance(device.transport, LocalTransport)
    pi.transport = device.transport
    device = type(device)(**{**vars(device), "workspace": PurePosixPath(pi.folder / "work")})
    told: list[str] = []
    seen: list[dict[str, str]] = []

    with begun(entries(6)) as store, device, change(pi) as state:

        def report(step: Progress) -> None:
            told.append(step.detail)
            seen.append(pi.governors())
            if step.detail.startswith("loading models") and len(store.sessions()) == 1:
                put_back(pi)
                state._heard = float("-inf")  # half a minute later

        run_campaign(store, device, sources(store.entries().values()), QUICK, report=report)
        lost = [row["lost"] for row in store.evidence() if "lost" in row]
        assert "put its settings back" in lost[0]
        assert len(lost) == 1
        assert seen[-1] == PERFORMANCE
        assert told.count("the settings of local were set anew") == 1
        rows = [(row[0], *row[2:5]) for row in store.samples()]
        assert len(rows) == len(set(rows))
        # Nothing of the session that was in doubt is kept.
        assert not [row for row in store.samples() if row[6] == store.sessions()[0][0]]


def test_other_changes_are_still_told(pi: ShimmedBoard) -> None:
    with pytest.raises(ConditionsChanged), change(pi):
        pi.write(f"{CPUFREQ}/policy0/scaling_governor", "powersave\n")
