"""A board says its state while something else runs there, and nobody waits for it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from boardfit.devices.base import Channel, Completed
from boardfit.devices.board_state import MOST_LINES
from boardfit.devices.board_watch import BoardWatch, Seen, watched
from boardfit.devices.errors import DeviceLost, DeviceTimeout
from boardfit.devices.fake import FakeTransport
from boardfit.devices.local import LocalTransport

from .shimmed_board import ShimmedBoard, shimmed_board, stateful
from .transport_boards import BOARDS


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShimmedBoard:
    board = stateful(shimmed_board("raspberry_pi", tmp_path, monkeypatch))
    board.set("throttled", "0x0")
    return board


def until(watch: BoardWatch, enough: Callable[[list[Seen]], bool]) -> list[Seen]:
    """What is seen until it is enough; ten seconds at most."""
    found: list[Seen] = []
    deadline = time.monotonic() + 10
    while not enough(found):
        assert time.monotonic() < deadline, found
        found += watch.seen()
        time.sleep(0.01)
    return found


def test_what_begins_meanwhile_is_seen_without_waiting(pi: ShimmedBoard) -> None:
    with watched(pi.transport, pause=0, root=pi.root) as watch:
        begin = time.monotonic()
        watch.seen()
        assert time.monotonic() - begin < 0.5
        first = until(watch, lambda found: len(found) >= 2)
        assert watch.tells
        assert {seen.slowed_by for seen in first} == {()}
        assert first[0].state.uptime == 4711.25
        pi.set("throttled", "0x50005")
        until(watch, lambda found: any("under-voltage" in one.slowed_by for one in found))
        # It ends before anybody has looked; the bits that stay tell that it was so.
        pi.set("throttled", "0x50000")
        until(watch, lambda found: bool(found) and not found[-1].slowed_by)
        pi.set("throttled", "0x70000")
        (news,) = {one.slowed_by for one in until(watch, lambda f: any(o.slowed_by for o in f))} - {
            ()
        }
        assert news == ("frequency capped",)


@pytest.mark.parametrize("way", ["ssh", "adb-direct", "adb-server"])
def test_a_board_is_watched_over_any_way(way: str, tmp_path: Path, pi: ShimmedBoard) -> None:
    """The tools of a board that another process reaches are its own; the files are these."""
    with BOARDS[way](tmp_path / "way") as board:
        with watched(board.transport, pause=0, root=pi.root) as watch:
            found = until(watch, lambda found: len(found) >= 2)
            found += watch.look()
        assert {seen.state.facts["temperature"] for seen in found} == {48.312}
        assert {seen.state.uptime for seen in found} == {4711.25}
        board.transport.close()


def test_the_moment_is_asked_for(pi: ShimmedBoard) -> None:
    with watched(pi.transport, pause=60, root=pi.root) as watch:
        until(watch, lambda found: len(found) == 1)
        pi.set("throttled", "0x4")
        (seen,) = watch.look()
        assert seen.slowed_by == ("throttled",)
    watch.close()
    assert watch.seen() == []


@pytest.mark.parametrize(("kind", "seconds"), [("raspberry_pi", "2"), ("android", "6")])
def test_a_phone_is_asked_less_often(
    kind: str, seconds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = stateful(shimmed_board(kind, tmp_path, monkeypatch))
    sleep = board.folder / "bin" / "sleep"
    sleep.write_text('#!/bin/sh\necho "$1" >>"$SHIM_STATE/slept"\nexec /bin/sleep 0.01\n')
    sleep.chmod(0o755)
    with watched(board.transport, pause=2, root=board.root) as watch:
        until(watch, lambda found: len(found) >= 3)
    assert set((board.state / "slept").read_text().split()) == {seconds}


def test_the_script_ends_with_the_watch(pi: ShimmedBoard) -> None:
    with watched(pi.transport, pause=1000, root=pi.root) as watch:
        until(watch, lambda found: len(found) == 1)
        begin = time.monotonic()
    assert time.monotonic() - begin < 0.9  # it is not waited for until it wakes
    words = [Path(f"/proc/{number}/cmdline") for number in os.listdir("/proc") if number.isdigit()]
    running = [path for path in words if path.exists() and pi.root in _text(path)]
    assert running == []


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_a_board_that_tells_nothing_is_not_watched(tmp_path: Path) -> None:
    with watched(FakeTransport()) as watch:
        assert watch.look() == []
        assert not watch.tells
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/uptime").write_text("1.0 1.0\n")
    counted = _Counting()
    with watched(counted, pause=0, root=str(tmp_path)) as watch:
        deadline = time.monotonic() + 10
        while not counted.channels[0].closed:
            assert watch.seen() == []
            assert time.monotonic() < deadline
        assert watch.look() == []
    assert counted.commands == 0


class _Noted:
    """A channel that knows whether it was closed."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.closed = False

    def send(self, line: bytes) -> None:
        self._channel.send(line)

    def receive(self, *, timeout: float) -> bytes:
        return self._channel.receive(timeout=timeout)

    def close(self) -> None:
        self.closed = True
        self._channel.close()


class _Counting:
    """This machine, with what is asked of it."""

    def __init__(self) -> None:
        self._machine = LocalTransport()
        self.commands = 0
        self.channels: list[_Noted] = []
        self.push, self.pull, self.close = (
            self._machine.push,
            self._machine.pull,
            self._machine.close,
        )

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        self.commands += 1
        return self._machine.run(argv, timeout=timeout)

    def open(self, argv: Sequence[str]) -> Channel:
        self.channels.append(_Noted(self._machine.open(argv)))
        return self.channels[-1]


class _Endless:
    """A hostile board's script, or one whose link is lost after so many lines."""

    def __init__(self, line: bytes, lost_after: int | None = None) -> None:
        self._line = line
        self._lost_after = lost_after
        self.taken = 0
        self.closed = False

    def send(self, line: bytes) -> None:
        raise AssertionError("nothing is sent")

    def receive(self, *, timeout: float) -> bytes:
        assert timeout == 0
        self.taken += 1
        if self._lost_after is not None and self.taken > self._lost_after:
            raise DeviceLost("the link is lost; look after it")
        return self._line

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("line", "most"), [(b"state 1.0", MOST_LINES + 1), (b"|x", MOST_LINES + 1), (b"end", 1)]
)
def test_a_hostile_board_is_left_alone(line: bytes, most: int) -> None:
    channel = _Endless(line)
    watch = BoardWatch(FakeTransport(), channel, "")
    assert watch.seen() == []
    assert channel.closed
    assert channel.taken == most


def test_a_lost_link_ends_it_quietly() -> None:
    channel = _Endless(b"state 1.0", lost_after=3)
    watch = BoardWatch(FakeTransport(), channel, "")
    assert watch.seen() == watch.seen() == []
    assert channel.closed


class _Says(_Endless):
    """A script that says this and nothing more for now."""

    def __init__(self, *lines: str) -> None:
        super().__init__(b"")
        self.lines = [line.encode() for line in lines]

    def receive(self, *, timeout: float) -> bytes:
        if not self.lines:
            raise DeviceTimeout("nothing yet; look again")
        return self.lines.pop(0)


def limit(share: float) -> tuple[str, ...]:
    """What a board says of how much of its clock it may use."""
    policy = "file /sys/devices/system/cpu/cpufreq/policy0"
    hertz = f"{policy}/scaling_max_freq\t{share * 1000:.0f}"
    return "state 1.0", hertz, f"{policy}/cpuinfo_max_freq\t1000", "end"


def flags(bits: str) -> tuple[str, ...]:
    return "state 1.0", "file /x\t1", "tool get_throttled", f"|throttled={bits}", "end"


def test_what_a_tool_did_not_say_is_compared_with_what_it_said_last() -> None:
    silent = *limit(1.0), *limit(1.0)
    channel = _Says(*flags("0x0"), *silent, *flags("0x40000"), *silent, *flags("0x40000"))
    found = BoardWatch(FakeTransport(), channel, "").seen()
    assert [seen.slowed_by for seen in found] == [(), (), (), ("throttled",), (), (), ()]


def test_a_clock_that_sinks_little_by_little_is_limited() -> None:
    channel = _Says(*limit(1.0), *limit(0.95), *limit(0.91), *limit(0.88), *limit(1.0))
    found = BoardWatch(FakeTransport(), channel, "").seen()
    assert [seen.slowed_by for seen in found] == [(), (), (), ("clock limited",), ()]
    assert not channel.closed


def answers(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield from (b"state 1.0", b"file /sys/class/thermal/thermal_zone0/temp\t50000", b"end")


def test_a_board_that_floods_does_not_hold_up_the_host() -> None:
    lines = answers(1_000_000)

    class Flood(_Endless):
        def receive(self, *, timeout: float) -> bytes:
            self.taken += 1
            return next(lines)

    channel = Flood(b"")
    watch = BoardWatch(FakeTransport(), channel, "")
    assert len(watch.seen()) <= 10 * MOST_LINES
    assert channel.taken == 10 * MOST_LINES
