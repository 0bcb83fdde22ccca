"""A board without a board: files in memory, commands and programs as functions, faults on demand.

It behaves as real transports do (the same contract tests run over it), never starts a process,
never sleeps: waiting moves a `SimulatedClock` (a `SleepingClock` does sleep). What runs on it is
handed in as `Program`s.
"""

from __future__ import annotations

import io
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal, Protocol

from .base import LINE_LIMIT, Completed
from .errors import CommandFailed, DeviceError, DeviceLost, DeviceTimeout, InputError
from .fake_board import FakeBoard
from .files import open_source, write_whole

FAKE_UNAME: Mapping[str, str] = MappingProxyType(
    {"-s": "Linux", "-r": "6.6.0-fake", "-m": "aarch64"}
)
FAKE_FILES: Mapping[str, bytes] = MappingProxyType(
    {
        "/proc/cpuinfo": b"".join(b"processor\t: %d\n\n" % core for core in range(4)),
        "/proc/meminfo": b"MemTotal:        4194304 kB\nMemFree:         3145728 kB\n",
        "/proc/device-tree/model": b"Fake board, simulated by boardfit\0",
        "/proc/device-tree/compatible": b"boardfit,fake-board\0boardfit,fake\0",
        "/etc/os-release": b'PRETTY_NAME="Fake Linux 1"\n',
        "/sys/devices/system/cpu/online": b"0-3\n",
        **{
            f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor": b"performance\n"
            for core in range(4)
        },
    }
)


class SimulatedClock:
    """Time that passes only when it is told to: a day is simulated in an instant."""

    def __init__(self, start: float = 0.0) -> None:
        self._start = start
        self._elapsed = 0.0

    @property
    def start(self) -> float:
        """The time at which the clock began, in seconds."""
        return self._start

    def now(self) -> float:
        """The time in seconds."""
        return self._start + self._elapsed

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises ValueError for less than nothing, or for ever."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"time cannot pass by {seconds} s")
        self._elapsed += seconds

    def sleep(self, seconds: float) -> None:
        """Stand in for `time.sleep`."""
        self.advance(seconds)


class SleepingClock(SimulatedClock):
    """Simulated time that really passes: whoever lets time pass sleeps as long.

    What is owed is slept once it is a millisecond or more; shorter sleeps last longer than asked.
    """

    def __init__(self, start: float = 0.0) -> None:
        super().__init__(start)
        self._owed = 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass, here as on the simulated board."""
        super().advance(seconds)
        self._owed += seconds
        if self._owed >= 1e-3:
            begin = time.monotonic()
            time.sleep(self._owed)
            self._owed -= time.monotonic() - begin


class Program(Protocol):
    """What runs on a fake board: lines in, lines out; it ends by raising `ProgramExit`."""

    def start(self) -> Iterator[bytes]:
        """The lines written before anything is read."""

    def handle(self, line: bytes) -> Iterator[bytes]:
        """The answers to a line; each is asked for when the host wants to receive it."""


class ProgramExit(Exception):
    """Raised by a `Program` where a real one would end."""

    def __init__(self, code: int = 0, stderr: str = "") -> None:
        super().__init__(code, stderr)
        self.code = code
        self.stderr = stderr


Command = Callable[[tuple[str, ...]], Completed]
Fault = Literal["lose", "hang", "garbage", "truncate"]


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and when: at the n-th line that the transport's channels deliver.

    Lines are counted from 1 over all channels of a transport, so that a fault happens once and a
    second attempt can be seen to go on. `lose`: the link breaks instead. `hang`: the program says
    nothing from there on. `garbage`: random bytes come instead. `truncate`: the line's beginning
    comes. `seed` decides the random bytes and the cuts.
    """

    lose: frozenset[int] = frozenset()
    hang: frozenset[int] = frozenset()
    garbage: frozenset[int] = frozenset()
    truncate: frozenset[int] = frozenset()
    seed: int = 0

    def __post_init__(self) -> None:
        lines = [*self.lose, *self.hang, *self.garbage, *self.truncate]
        if any(line < 1 for line in lines):
            raise ValueError("lines are counted from 1")
        if len(set(lines)) < len(lines):
            raise ValueError("one line cannot suffer two faults")

    def at(self, line: int) -> Fault | None:
        """What happens to the line of that number."""
        if line in self.lose:
            return "lose"
        if line in self.hang:
            return "hang"
        if line in self.garbage:
            return "garbage"
        return "truncate" if line in self.truncate else None


class FakeTransport:
    """A board in memory.

    `files` are its files at the beginning (`self.files` those of the moment), `commands` answer
    `run` besides the built-in `uname`, `true`, `false`, `sleep` and those of `FakeBoard`, and
    `programs` are what `open` can start; both are found by the first word of the command. Where a
    `board` is given, this is one more way to it, and `files` and `clock` are the board's.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] = FAKE_FILES,
        commands: Mapping[str, Command] = MappingProxyType({}),
        programs: Mapping[str, Callable[[], Program]] = MappingProxyType({}),
        faults: Faults = Faults(),
        *,
        clock: SimulatedClock | None = None,
        uname: Mapping[str, str] = FAKE_UNAME,
        board: FakeBoard | None = None,
    ) -> None:
        self.board = board or FakeBoard(files, clock or SimulatedClock())
        self.board.attach(self)
        self.files = self.board.files
        self.clock = self.board.clock
        self._uname = uname
        self._commands = dict(commands)
        self._programs = dict(programs)
        self._line_noise = _LineNoise(faults)
        self._channels: list[FakeChannel] = []
        self._lost: str | None = None

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        """Answer a command. Raises `CommandFailed` where there is none of that name."""
        self._check_open()
        name, *arguments = argv
        if name in self._commands:
            return self._commands[name](tuple(argv))
        if (done := self.board.run(argv)) is not None:
            return done
        if name == "uname" and arguments and arguments[0] in self._uname:
            return Completed(tuple(argv), 0, f"{self._uname[arguments[0]]}\n".encode(), b"")
        if name in {"true", "false"}:
            return Completed(tuple(argv), int(name == "false"), b"", b"")
        if name == "sleep":
            seconds = float(arguments[0])
            self.clock.advance(min(seconds, timeout))
            if seconds > timeout:
                raise DeviceTimeout(f"{name} took longer than {timeout:g} s; allow it more time")
            return Completed(tuple(argv), 0, b"", b"")
        raise _no_program(name)

    def open(self, argv: Sequence[str]) -> FakeChannel:
        """Start the program that is called `argv[0]`. Raises `CommandFailed`."""
        self._check_open()
        if argv[0] not in self._programs:
            raise _no_program(argv[0])
        channel = FakeChannel(argv[0], self._programs[argv[0]](), self.clock, self._line_noise)
        self._channels.append(channel)
        return channel

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copy a file into memory. Raises `InputError` where it is missing."""
        self._check_open()
        with open_source(local, InputError) as source:
            self.board.write(str(remote), source.read())

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy a file from memory. Raises `CommandFailed` where it is missing, `StorageError`."""
        self._check_open()
        if str(remote) not in self.files:
            raise CommandFailed(f"cannot copy {remote}: it does not exist; check the name")
        write_whole(io.BytesIO(self.files[str(remote)]), local)

    def close(self) -> None:
        """End all programs. Closing twice does nothing."""
        self._end("the way to the fake board was closed; connect again")

    def break_link(self) -> None:
        """Lose the link, as where a cable is pulled: whoever uses it then meets `DeviceLost`."""
        self._end("the link to the fake board broke; run the same command again")

    def _end(self, why: str) -> None:
        self._lost = self._lost or why
        for channel in self._channels:
            channel.end(why)

    def _check_open(self) -> None:
        if self._lost is not None:
            raise DeviceLost(self._lost)


class FakeChannel:
    """A program on the fake board, with which lines are exchanged."""

    def __init__(
        self, name: str, program: Program, clock: SimulatedClock, line_noise: _LineNoise
    ) -> None:
        self._name = name
        self._program = program
        self._clock = clock
        self._line_noise = line_noise
        self._answers: deque[Iterator[bytes]] = deque([program.start()])
        self._ended: str | None = None
        self._hangs = False

    def send(self, line: bytes) -> None:
        """Hand a line to the program. Raises `DeviceLost` where it has ended."""
        if b"\n" in line:
            raise ValueError("a line cannot hold a newline")
        if self._ended is not None:
            raise DeviceLost(self._ended)
        # Called only once its answers are wanted, in order: a program handles one line at a time.
        self._answers.append(_later(self._program, line))

    def receive(self, *, timeout: float) -> bytes:
        """Ask the program for its next line; where it has none, `timeout` seconds pass at once.

        Raises `DeviceTimeout`, `DeviceLost`, and `DeviceError` for a line beyond `LINE_LIMIT`.
        """
        if self._ended is not None:
            raise DeviceLost(self._ended)
        fault = self._line_noise.upcoming
        if fault == "lose":
            self._line_noise.delivered(b"")
            self._ended = f"the link to {self._name} broke; run the same command again"
            raise DeviceLost(self._ended)
        if fault == "hang":
            self._line_noise.delivered(b"")
            self._hangs = True
        line = None if self._hangs else self._next_line()
        if line is None:
            self._clock.advance(timeout)
            raise DeviceTimeout(
                f"{self._name} has not answered for {timeout:g} s; run the same command again"
            )
        if len(line) > LINE_LIMIT:
            self.close()
            raise DeviceError(f"{self._name} wrote a line of more than {LINE_LIMIT} bytes")
        return self._line_noise.delivered(line)

    def close(self) -> None:
        """End the program. Closing twice does nothing."""
        self.end(f"{self._name} was closed; start it again")

    def end(self, why: str) -> None:
        """End the program; `why` is told to whoever still asks it something."""
        self._ended = self._ended or why
        self._answers.clear()

    def _next_line(self) -> bytes | None:
        try:
            while self._answers:
                for line in self._answers[0]:
                    return line
                self._answers.popleft()
        except ProgramExit as reason:
            words = f"; its last words: {reason.stderr}" if reason.stderr else ""
            self._ended = f"{self._name} ended with code {reason.code}{words}"
            raise DeviceLost(self._ended) from None
        return None


class _LineNoise:
    """Counts delivered lines, and spoils those that `Faults` names."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._random = random.Random(faults.seed)
        self._count = 0

    @property
    def upcoming(self) -> Fault | None:
        """The fault of the next line, if it has one."""
        return self._faults.at(self._count + 1)

    def delivered(self, line: bytes) -> bytes:
        """Count a line, and return what arrives of it."""
        fault = self.upcoming
        self._count += 1
        if fault == "garbage":
            # 0xff is in no UTF-8 text, so the line cannot be a valid one by chance.
            return b"\xff" + self._random.randbytes(31).replace(b"\n", b"\0")
        if fault == "truncate":
            return line[: self._random.randrange(max(1, len(line)))]
        return line


def _later(program: Program, line: bytes) -> Iterator[bytes]:
    yield from program.handle(line)


def _no_program(name: str) -> CommandFailed:
    return CommandFailed(
        f"there is no program {name!r} on the fake board; hand it in when making it"
    )
