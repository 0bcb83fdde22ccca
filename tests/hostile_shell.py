"""A board whose shell answers otherwise than the script that we gave it would."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from boardfit.devices.base import Completed, Description, Device
from boardfit.devices.errors import DeviceError, DeviceLost, DeviceTimeout
from boardfit.profiler.run_programs import STATE, Ended, ProgramDriver, Run

from .program_outputs import NEW, mutate_text

_RUNS = (Run(("--graph=a",)), Run(("--graph=b",), "times.json"), STATE)


class SpoiltShell:
    """A transport and its one channel: the script's answers, some of them spoilt."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._share = rng.choice([0.01, 0.3])
        self._mark = ""
        self._lines: Iterator[bytes] = iter(())
        self._requests: list[list[str]] = []
        self._time = 10.0

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        """Everything succeeds and says nothing."""
        return Completed(tuple(argv), 0, b"", b"")

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Nothing is kept."""

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Nothing is there."""

    def open(self, argv: Sequence[str]) -> SpoiltShell:
        """The script begins."""
        self._mark = argv[2]
        self._lines = iter([f"{self._mark} ready".encode()])
        return self

    def send(self, line: bytes) -> None:
        """A request of the host."""
        self._requests.append(line.decode().split())

    def receive(self, *, timeout: float) -> bytes:
        """The next line, until the board has had enough."""
        if self._rng.random() < 0.002:
            raise self._rng.choice([DeviceLost("the link broke"), DeviceError("a line too long")])
        while (line := next(self._lines, None)) is None:
            if not self._requests:
                raise DeviceTimeout(f"no answer for {timeout:g} s")
            self._lines = iter(self._answers(*self._requests.pop(0)[:2]))
        return line

    def close(self) -> None:
        """Nothing runs."""

    def _answers(self, what: str, number: str) -> list[bytes]:
        self._time += 0.25
        begin, end = f"{self._time:.2f}", f"{self._time + 0.05:.2f}"
        if what == "state":
            lines = [f"{self._mark} state {number} {end} 1.5 1800000 -"]
        else:
            lines = [f"{self._mark} begin {number} {begin}", *NEW.splitlines(), ""]
            lines += [f"{self._mark} end {number} 0 {end}", "[]"]
            lines.append(f"{self._mark} done {number} {end}")
        text = "\n".join(lines)
        if self._rng.random() < self._share:
            text = mutate_text(text, self._rng)
        return [line.encode(errors="surrogateescape") for line in text.split("\n")]


def spoilt_sessions(rng: random.Random, folder: Path) -> None:
    """Drive a program on such a board; what is told of a run must be possible."""
    tempfile.tempdir = str(folder)  # of what is pushed
    try:
        _drive(rng)
    finally:
        tempfile.tempdir = None


def _drive(rng: random.Random) -> None:
    shell = SpoiltShell(rng)
    nothing = Description(None, None, None, None, None, None, None, None)
    device = Device("odd", "odd", shell, nothing, None, PurePosixPath("/boardfit"))
    folder = PurePosixPath("/boardfit/models")
    with ProgramDriver(device, folder / "tool", folder, limit=10.0, core=None) as driver:
        latest = 0.0
        for answer in driver.each(rng.choice(_RUNS) for _ in range(40)):
            if isinstance(answer, Ended):
                assert latest <= answer.at < 1e13
                assert answer.seconds >= 0
                assert 0 <= answer.code <= 255
                latest = answer.at
            else:
                assert all(abs(value) < 1e16 for value in answer.values.values())
                latest = answer.values["at"]
