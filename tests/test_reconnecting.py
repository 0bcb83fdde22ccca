"""A board whose link breaks is found again, nothing begins twice, and nobody waits in silence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.base import Completed, Transport
from boardfit.devices.errors import CommandFailed, DeviceAmbiguous, DeviceLost, DeviceTimeout
from boardfit.devices.fake import FAKE_FILES, FakeTransport, SimulatedClock
from boardfit.devices.fake_board import FakeBoard
from boardfit.devices.reconnecting import Machine, ReconnectingTransport, machine

from .transport_boards import PROGRAMS


class Lab:
    """A fake board, the ways that were made to it, what was said, and how long was waited."""

    def __init__(self, **options: Any) -> None:
        self.board = FakeBoard({**FAKE_FILES, "/etc/machine-id": b"4711\n"}, SimulatedClock(100.0))
        self.ways: list[FakeTransport] = []
        self.away = 0  # attempts that fail
        self.told: list[str] = []
        self.waits: list[float] = []
        self.began: list[tuple[str, ...]] = []
        self.broken_by: set[str] = set()
        self.transport = ReconnectingTransport(
            self.connect, sleep=self.sleep, on_reconnect=self.told.append, **options
        )

    def connect(self) -> Transport:
        if self.away:
            self.away -= 1
            raise DeviceLost("nothing answers at 10.0.0.7; look whether the board is on")
        self.ways.append(FakeTransport(board=self.board, programs=PROGRAMS))
        return Frail(self, self.ways[-1])

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def break_link(self) -> None:
        self.ways[-1].break_link()


class Frail:
    """A way that breaks once while it does what `Lab.broken_by` names."""

    def __init__(self, lab: Lab, inner: FakeTransport) -> None:
        self._lab = lab
        self._inner = inner
        self.close = inner.close

    def _begin(self, *what: str) -> None:
        if what[0] != "cat":
            self._lab.began.append(what)
        if what[0] in self._lab.broken_by:
            self._lab.broken_by.clear()
            self._inner.break_link()

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        self._begin(*argv)
        return self._inner.run(argv, timeout=timeout)

    def open(self, argv: Sequence[str]) -> Any:
        self._begin("open")
        return self._inner.open(argv)

    def push(self, local: Path, remote: PurePosixPath) -> None:
        self._begin("push")
        self._inner.push(local, remote)

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        self._begin("pull")
        self._inner.pull(remote, local)


def test_a_command_that_may_have_begun_is_not_repeated() -> None:
    lab = Lab()
    lab.broken_by = {"true"}
    with pytest.raises(DeviceLost, match="link to the fake board broke"):
        lab.transport.run(["true"], timeout=1)
    assert lab.began.count(("true",)) == 1
    assert lab.transport.run(["true"], timeout=1).code == 0
    assert len(lab.ways) == 2
    assert lab.waits == []  # the first attempt is made at once
    assert lab.told == ["the board was lost and is there again (attempt 1)"]


def test_a_program_is_not_started_twice() -> None:
    lab = Lab()
    lab.broken_by = {"open"}
    with pytest.raises(DeviceLost):
        lab.transport.open(["greeter"])
    assert lab.began.count(("open",)) == 1
    assert lab.transport.open(["greeter"]).receive(timeout=1) == b"hello"


def test_copies_are_repeated_once(tmp_path: Path) -> None:
    lab = Lab()
    (tmp_path / "source").write_bytes(b"1")
    remote = PurePosixPath("/data/file")
    lab.broken_by = {"push"}
    lab.transport.push(tmp_path / "source", remote)
    lab.broken_by = {"pull"}
    lab.transport.pull(remote, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"1"
    assert [lab.began.count((what,)) for what in ("push", "pull")] == [2, 2]


def test_a_copy_is_not_repeated_for_ever(tmp_path: Path) -> None:
    lab = Lab(attempts=2)
    (tmp_path / "source").write_bytes(b"1")
    lab.broken_by = {"push"}
    lab.away = 2
    with pytest.raises(DeviceLost, match="did not come back in 2 attempts"):
        lab.transport.push(tmp_path / "source", PurePosixPath("/data/file"))
    assert lab.began.count(("push",)) == 1
    assert lab.waits == [0.5]


def test_a_program_whose_link_broke_is_followed_by_one_on_a_new_link() -> None:
    lab = Lab()
    channel = lab.transport.open(["echo"])
    lab.break_link()
    with pytest.raises(DeviceLost):
        channel.receive(timeout=1)
    again = lab.transport.open(["echo"])  # already on the new one
    again.send(b"1")
    assert again.receive(timeout=1) == b"1"
    assert len(lab.ways) == 2


def test_a_program_that_merely_ended_costs_no_link() -> None:
    lab = Lab()
    channel = lab.transport.open(["mortal"])
    channel.send(b"1")
    channel.receive(timeout=1)
    with pytest.raises(DeviceLost, match="ended with code 3"):
        channel.receive(timeout=1)
    lab.transport.run(["true"], timeout=1)
    assert len(lab.ways) == 1


def test_a_link_that_is_silent_is_given_up() -> None:
    """Not every loss is told by the system: a cable that was pulled, a phone that was taken."""
    lab = Lab()
    silent = {"true": lambda argv: hang(), "uname": lambda argv: hang()}
    lab.ways[0]._commands.update(silent)
    with pytest.raises(DeviceTimeout):
        lab.transport.run(["uname", "-r"], timeout=1)
    assert lab.transport.run(["uname", "-r"], timeout=1).code == 0
    assert len(lab.ways) == 2


def hang() -> Completed:
    raise DeviceTimeout("took longer than 1 s")


def test_waits_grow_and_each_is_told_before_it_begins() -> None:
    lab = Lab(attempts=7, first_wait=1.0, longest_wait=10.0)
    lab.break_link()
    with pytest.raises(DeviceLost):
        lab.transport.run(["true"], timeout=1)
    lab.away = 6
    assert lab.transport.run(["true"], timeout=1).code == 0
    assert lab.waits == [1, 2, 4, 8, 10, 10]
    assert len(lab.told) == 7
    assert lab.told[2].startswith("the board is lost, attempt 4 of 7 to reach it in 4 s: nothing")


@given(st.integers(1, 12), st.floats(0, 100), st.floats(0, 100))
def test_the_waits_are_bounded(attempts: int, one: float, two: float) -> None:
    first, longest = sorted((one, two))
    lab = Lab(attempts=attempts, first_wait=first, longest_wait=longest)
    lab.broken_by = {"true"}
    with pytest.raises(DeviceLost):
        lab.transport.run(["true"], timeout=1)
    lab.away = 1000
    with pytest.raises(DeviceLost, match=f"did not come back in {attempts} attempts: nothing"):
        lab.transport.run(["true"], timeout=1)
    assert 1000 - lab.away == attempts
    assert len(lab.waits) == attempts - 1
    assert lab.waits == sorted(lab.waits)
    assert all(first <= wait <= longest for wait in lab.waits)
    lab.away = 0  # a later call tries again
    assert lab.transport.run(["true"], timeout=1).code == 0


def test_a_board_that_restarted_is_the_same() -> None:
    lab = Lab()
    lab.board.reboot()
    with pytest.raises(DeviceLost):
        lab.transport.run(["true"], timeout=1)
    assert lab.transport.run(["true"], timeout=1).code == 0


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/etc/machine-id", "identifier"),
        ("/proc/device-tree/model", "model"),
    ],
)
def test_another_machine_is_refused(file: str, name: str) -> None:
    lab = Lab()
    lab.board.files[file] = b"another\0"
    lab.break_link()
    with pytest.raises(DeviceLost):
        lab.transport.run(["true"], timeout=1)
    with pytest.raises(DeviceLost, match=f"another machine answers .*{name}: was .* 'another'"):
        lab.transport.run(["true"], timeout=1)
    assert lab.waits == []
    with pytest.raises(DeviceLost, match="closed"):
        lab.ways[-1].run(["true"], timeout=1)


def test_what_a_board_does_not_say_is_no_difference() -> None:
    known = Machine("1", "pi", "", "aarch64")
    assert known.differences(Machine("", "pi", "77", "aarch64")) == []
    assert known.differences(Machine("2", "pi", "77", "armv7l")) == [
        "identifier: was '1', is '2'",
        "architecture: was 'aarch64', is 'armv7l'",
    ]


def test_android_tells_its_serial_number() -> None:
    def getprop(argv: tuple[str, ...]) -> Completed:
        return Completed(argv, 0, b"8A1X\n" if argv[1:] == ("ro.serialno",) else b"", b"")

    assert machine(FakeTransport(commands={"getprop": getprop})).serial == "8A1X"


@pytest.mark.parametrize("error", [DeviceAmbiguous("two boards fit; choose one"), ValueError()])
def test_what_waiting_cannot_mend_is_told_at_once(error: Exception) -> None:
    lab = Lab()
    lab.broken_by = {"true"}
    with pytest.raises(DeviceLost):
        lab.transport.run(["true"], timeout=1)

    def refuse() -> Transport:
        raise error

    lab.transport._connect = refuse
    with pytest.raises(type(error)):
        lab.transport.run(["true"], timeout=1)
    assert lab.waits == []


def test_the_first_way_is_not_waited_for() -> None:
    lab = Lab()

    def refuse() -> Transport:
        raise CommandFailed("refused")

    with pytest.raises(CommandFailed):
        ReconnectingTransport(refuse, sleep=lab.sleep)
    assert lab.waits == []


def test_a_closed_one_stays_closed_also_while_it_waits() -> None:
    lab = Lab()
    lab.break_link()
    with pytest.raises(DeviceLost):
        lab.transport.run(["true"], timeout=1)
    lab.away = 1000

    def sleep(seconds: float) -> None:
        lab.transport.close()

    lab.transport._sleep = sleep
    with pytest.raises(DeviceLost, match="closed"):
        lab.transport.run(["true"], timeout=1)
    assert lab.away == 999
    lab.away = 0
    with pytest.raises(DeviceLost, match="closed"):
        lab.transport.run(["true"], timeout=1)
    assert len(lab.ways) == 1


def test_threads_that_meet_the_loss_together_make_one_new_way() -> None:
    lab = Lab()
    lab.break_link()
    with pytest.raises(DeviceLost):
        lab.transport.run(["true"], timeout=1)
    codes: list[int] = []
    barrier = threading.Barrier(8)

    def use() -> None:
        barrier.wait(10)
        codes.append(lab.transport.run(["true"], timeout=1).code)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert codes == [0] * 8
    assert len(lab.ways) == 2


@pytest.mark.parametrize("options", [{"attempts": 0}, {"first_wait": 2, "longest_wait": 1}])
def test_bounds_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    connect: Callable[[], Transport] = FakeTransport
    with pytest.raises(ValueError, match="at least"):
        ReconnectingTransport(connect, **options)
