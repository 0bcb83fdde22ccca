"""What a board is to the rest of boardfit: a transport that moves bytes and runs processes.

`Transport` and `Channel` know nothing of networks or of measuring. Every implementation passes
one contract test suite (`tests/test_transport_contract.py`), the shipped fake included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol, Self

from .errors import CommandFailed
from .settings_record import NOTHING, Wanted


@dataclass(frozen=True)
class Completed:
    """What a finished command left: its exit code and its output as bytes.

    The code of a command that was ended by a signal is not 0; which number is the transport's.
    """

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes

    def check(self) -> Completed:
        """Return self, or raise `CommandFailed` with the command's own words."""
        if self.code != 0:
            words = (self.stderr or self.stdout).decode(errors="replace").strip()[-500:]
            raise CommandFailed(f"{' '.join(self.argv)} ended with code {self.code}: {words}")
        return self


class Channel(Protocol):
    """A process on the board with which lines are exchanged."""

    def send(self, line: bytes) -> None:
        """Write one line (given without its newline).

        Raises `DeviceLost` where the process has ended, `DeviceTimeout` where it reads nothing
        for long, `ValueError` where the line holds a newline.
        """

    def receive(self, *, timeout: float) -> bytes:
        """Read one line (returned without its newline).

        Raises `DeviceTimeout` after `timeout` seconds without a whole line (what was read so far
        is kept for the next call), `DeviceLost` where the process has ended, and `DeviceError`
        where a line is longer than `LINE_LIMIT`.
        """

    def close(self) -> None:
        """End the process, also one that does not answer. Closing twice does nothing."""


LINE_LIMIT = 64 * 1024 * 1024  # bytes; a board that never ends a line cannot fill our memory


class Transport(Protocol):
    """The way to one board.

    Commands may run in one thread while another one waits for a line of a channel.
    """

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        """Run a command to its end. Raises `DeviceTimeout`, `DeviceLost`, `CommandFailed` where
        the program does not exist; another exit code than 0 is returned, not raised."""

    def open(self, argv: Sequence[str]) -> Channel:
        """Start a long-lived process with which lines are exchanged.

        Raises `DeviceLost`, and `CommandFailed` where the program does not exist.
        """

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copy a file to the board whole or not at all, making the folders it lies in.

        Raises `InputError` where the file is missing here, `StorageError` where it cannot be
        written there.
        """

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy a file from the board whole or not at all, making the folders it lies in.

        Raises `CommandFailed` where the file is missing there, `StorageError` where it cannot be
        written here.
        """

    def close(self) -> None:
        """Give the link back and end what was opened over it; whoever uses it then meets
        `DeviceLost`. Closing twice does nothing."""


@dataclass(frozen=True)
class Description:
    """What a board says about itself; `None` where it does not say.

    `model` is the board's name, or its processor's where it has none (a PC); `soc` the chip's.
    `governor` is one name where all cores have the same, otherwise the names joined with `+`.
    `boot` is what the kernel drew when the board started: where it is another now, the rest may be.
    """

    model: str | None
    soc: str | None
    cores: int | None
    memory_bytes: int | None
    system: str | None
    kernel: str | None
    machine: str | None
    governor: str | None
    boot: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Device:
    """A board that was reached: its name, the way to it, and what it says about itself.

    `python` is the interpreter that runs the worker there (`None`: it has none), `workspace` the
    folder that boardfit may fill, `core` the one that the worker is pinned to (`None`: left to the
    scheduler). `benchmark_model` is this machine's copy of TFLite's tool for boards without Python.
    `wanted` is what is set there while something is measured, `failures` the file in which jobs
    that lose the board are counted (`None`: nowhere), `wait` the seconds that a job waits for the
    board where another one has it (`None`: the usual ones). A context manager that closes the
    transport.
    """

    name: str
    kind: str
    transport: Transport = field(repr=False)
    description: Description
    python: str | None
    workspace: PurePosixPath
    core: int | None = None
    benchmark_model: Path | None = None
    wanted: Wanted = NOTHING
    failures: Path | None = None
    wait: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.transport.close()
