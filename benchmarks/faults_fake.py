"""The simulated board, which fails when so many lines have come from it.

It lives in the process that builds. What it cannot suffer itself is done to the way to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from faults_build import PLAN, SCHEDULE, say, say_end

from boardfit.devices.base import Channel, Completed, Transport
from boardfit.devices.board_entry import BoardEntry
from boardfit.devices.conditions import describe
from boardfit.devices.errors import BoardfitError, DeviceLost, DeviceTimeout, StorageError
from boardfit.devices.fake import FAKE_FILES, FakeTransport, SimulatedClock
from boardfit.devices.fake_board import FakeBoard
from boardfit.devices.reconnecting import ReconnectingTransport
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import fake_device
from boardfit.profiler.simulated import SimulatedWorker

SILENCE = 3.0  # seconds; on simulated time nothing takes longer
KINDS = (
    "link lost",
    "link slow",
    "worker killed",
    "worker hung",
    "garbage line",
    "truncated line",
    "host killed",
    "disk full",
    "server restarted",
    "reboot",
)


class Failing:
    """What goes wrong: kinds, and how many lines have to come from the board before each."""

    def __init__(self, faults: Sequence[tuple[str, int]], seed: int) -> None:
        self.board = FakeBoard(FAKE_FILES, SimulatedClock())
        self.programs = {"python3": partial(SimulatedWorker, seed=0, noise=0.01)}
        self.faults = list(faults)
        self.random = random.Random(seed)
        self.lines = 0  # that came since the last fault
        self.all_lines = 0
        self.full = False
        self.refused = 0  # attempts to connect that fail
        self.boots = 0
        self.slow = 0  # lines that are late
        self.ways: list[FailingTransport] = []

    def connect(self) -> Transport:
        """One more way to the board."""
        if self.refused:
            self.refused -= 1
            raise DeviceLost("the server does not answer; it may be starting")
        inner = FakeTransport(board=self.board, programs=self.programs)
        self.ways.append(FailingTransport(self, inner))
        return self.ways[-1]

    def line(self, channel: FailingChannel, line: bytes) -> bytes:
        """What arrives of a line."""
        if self.slow:
            self.slow -= 1
            time.sleep(0.05)
        self.lines += 1
        self.all_lines += 1
        if not self.faults or self.lines < self.faults[0][1]:
            return line
        kind, _ = self.faults.pop(0)
        self.lines = 0
        print(kind, flush=True)  # while this process can
        return self._happen(kind, channel, line)

    def _happen(self, kind: str, channel: FailingChannel, line: bytes) -> bytes:
        match kind:
            case "garbage line":
                return b"\xff" + self.random.randbytes(31).replace(b"\n", b"\0")
            case "truncated line":
                return line[: self.random.randrange(max(1, len(line)))]
            case "host killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "link slow":
                self.slow = 40
            case "worker hung":
                channel.hangs = True
            case "worker killed":
                channel.close()
            case "disk full":
                self.full = self.board.full = True
                channel.close()  # met by whoever starts the next worker
            case _:
                self.refused = 3 * (kind == "server restarted")
                if kind == "reboot":
                    self.boots += 1
                    self.board.reboot()
                for way in self.ways:
                    way.lose()
        return line


class FailingTransport:
    """A way to a board that fails when `Failing` says so."""

    def __init__(self, failing: Failing, inner: Transport) -> None:
        self._failing = failing
        self._inner = inner
        self._lost = False

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        self.check()
        done = self._inner.run(argv, timeout=timeout)
        boots = self._failing.boots
        if boots and argv[-1] == "/proc/sys/kernel/random/boot_id":
            # Another identifier than before, as a kernel draws one.
            first, end, last = done.stdout.rstrip(b"\n").rpartition(b"\n")
            drawn = hashlib.sha256(last + b"%d" % boots).hexdigest()[:32].encode()
            return replace(done, stdout=first + end + drawn + b"\n")
        return done

    def open(self, argv: Sequence[str]) -> Channel:
        self.check()
        return FailingChannel(self._failing, self, self._inner.open(argv))

    def push(self, local: Path, remote: PurePosixPath) -> None:
        self.check()
        if self._failing.full:
            raise StorageError(f"no space left while writing {remote}; free some there")
        self._inner.push(local, remote)

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        self.check()
        self._inner.pull(remote, local)

    def close(self) -> None:
        self._inner.close()

    def lose(self) -> None:
        """Lose the link, for good."""
        self._lost = True
        self._inner.close()

    def check(self) -> None:
        """Raise `DeviceLost` where the link was lost."""
        if self._lost:
            raise DeviceLost("the link to the board broke; run the same command again")


class FailingChannel:
    """A program on a board that fails."""

    def __init__(self, failing: Failing, way: FailingTransport, inner: Channel) -> None:
        self._failing = failing
        self._way = way
        self._inner = inner
        self.hangs = False

    def send(self, line: bytes) -> None:
        self._way.check()
        self._inner.send(line)

    def receive(self, *, timeout: float) -> bytes:
        self._way.check()
        if self.hangs:
            raise DeviceTimeout(f"the worker has not answered for {timeout:g} s")
        line = self._inner.receive(timeout=min(timeout, SILENCE))
        return self._failing.line(self, line)

    def close(self) -> None:
        self._inner.close()


def build(table: Path, faults: Sequence[tuple[str, int]], seed: int) -> None:
    """Build a table on the board that fails so.

    Says each fault as it happens, and at the end how many lines came, and whether the board's
    governor is another one now.
    """
    failing = Failing(faults, seed)
    transport = ReconnectingTransport(
        failing.connect,
        first_wait=0.01,
        longest_wait=0.2,
        on_reconnect=lambda words: print(f"# {words}"),
    )
    known = fake_device(BoardEntry("fake", "fake", seed=0))
    governor = known.description.governor
    error: BoardfitError | None = None
    with contextlib.closing(transport):
        try:
            build_table(table, replace(known, transport=transport), PLAN, SCHEDULE, report=say)
        except BoardfitError as met:
            error = met
    changed = describe(FakeTransport(board=failing.board)).governor != governor
    say_end(error, lines=failing.all_lines, changed=changed)
