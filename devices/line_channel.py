"""Commands and lines over a process, wherever it runs, whose pipes whoever waits for it moves.

There is no thread: whoever sends or receives moves the bytes of all pipes, so that neither side
waits for the other with full ones.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from typing import Protocol

from .base import LINE_LIMIT, Completed
from .errors import DeviceError, DeviceLost, DeviceTimeout
from .process import brief, fate, signal_of

STDERR_KEPT = 8 * 1024  # bytes of what a channel's process writes to stderr; the last ones
_STALLED_AFTER = 60.0  # seconds in which a process takes nothing of a line that is sent to it
_GRACE = 1.0  # seconds in which a process may end by itself


class PumpedProcess(Protocol):
    """A process here or on a board. What it wrote gathers in `stdout` and `stderr`."""

    stdout: bytearray
    stderr: bytearray

    @property
    def can_still_write(self) -> bool:
        """Whether more may come on stdout."""

    @property
    def at_end(self) -> bool:
        """Whether nothing more can come, on stdout or on stderr."""

    def pump(self, wait: float, outgoing: memoryview | None = None) -> int:
        """Wait until bytes can be moved, move them, and return how many of `outgoing` went.

        Raises `BrokenPipeError` where the process reads no more.
        """

    def drain(self, seconds: float) -> int | None:
        """Read to the end and wait for it; the exit code, or None where the process lives on."""

    def end(self, *, grace: float = 0.0) -> None:
        """End the process and give back what reaching it took; ending twice does nothing.

        With `grace` it is asked first, and given so many seconds.
        """


def run_to_end(
    process: PumpedProcess, argv: Sequence[str], *, timeout: float, since: float | None = None
) -> Completed:
    """What a process left that reads nothing; it is ended in any case.

    Raises `DeviceTimeout` `timeout` seconds after `since` (of `time.monotonic`; without it after
    now), and `DeviceError` where it writes more than `LINE_LIMIT`.
    """
    deadline = (time.monotonic() if since is None else since) + timeout
    try:
        while not process.at_end:
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise DeviceTimeout(took_longer(argv, timeout))
            process.pump(wait)
            if len(process.stdout) + len(process.stderr) > LINE_LIMIT:
                raise DeviceError(f"{brief(argv)} wrote more than {LINE_LIMIT} bytes")
        code = process.drain(max(0.0, deadline - time.monotonic()))
        if code is None:
            raise DeviceTimeout(took_longer(argv, timeout))
    finally:
        process.end()
    return Completed(tuple(argv), code, bytes(process.stdout), bytes(process.stderr))


def took_longer(argv: Sequence[str], timeout: float) -> str:
    """What is said of a command that was given up."""
    return (
        f"{brief(argv)} took longer than {timeout:g} s and was ended; run the same command "
        "again, and restart the board if that does not help"
    )


class LineChannel:
    """A process with which lines are exchanged; `name` is what errors call it."""

    def __init__(self, name: str, process: PumpedProcess) -> None:
        self._name = name
        self._process = process
        self._searched = 0  # bytes at the front of stdout that are known to hold no newline
        self._ended: str | None = None  # why no more can be sent
        self._killed = False
        self._released = False

    @property
    def ended(self) -> bool:
        """Whether the process is known to have ended."""
        return self._released

    def send(self, line: bytes) -> None:
        """Write one line (given without its newline).

        Raises `DeviceLost` where the process has ended, `DeviceTimeout` where it takes nothing
        for a minute; it is ended then, since half a line would garble the next one.
        """
        if b"\n" in line:
            raise ValueError("a line cannot hold a newline")
        if self._ended is not None:
            raise DeviceLost(self._ended, killed=self._killed)
        rest = memoryview(line + b"\n")
        deadline = time.monotonic() + _STALLED_AFTER
        while rest:
            try:
                written = self._pump(max(0.0, deadline - time.monotonic()), rest)
            except BrokenPipeError:
                raise self._lost() from None
            if written:
                rest = rest[written:]
                deadline = time.monotonic() + _STALLED_AFTER
            elif time.monotonic() >= deadline:
                self.close()
                raise DeviceTimeout(
                    f"{self._name} has read nothing for {_STALLED_AFTER:g} s and was ended; "
                    "run the same command again"
                )

    def receive(self, *, timeout: float) -> bytes:
        """Read one line (returned without its newline); lines written before an end are kept.

        `timeout` is in seconds. Raises `DeviceTimeout` (what was read so far is kept for the
        next call), `DeviceLost` where the process has ended, `DeviceError` where a line is
        longer than `LINE_LIMIT`; the process is ended then.
        """
        deadline = time.monotonic() + timeout
        expired = False
        while True:
            line = self._take_line()
            if line is not None:
                return line
            if self._ended is not None:
                raise DeviceLost(self._ended, killed=self._killed)
            if not self._process.can_still_write:
                raise self._lost()
            if expired:
                raise DeviceTimeout(
                    f"{self._name} has not answered for {timeout:g} s; it may be busy or hang: "
                    "run the same command again, and restart the board if that does not help"
                )
            wait = deadline - time.monotonic()
            expired = wait <= 0
            self._pump(max(0.0, wait))

    def close(self) -> None:
        """End the process, politely at first. Closing twice does nothing."""
        if self.ended:
            return
        self._ended = self._ended or f"{self._name} was closed; start it again"
        self._released = True
        self._process.end(grace=_GRACE)
        self._process.stdout.clear()

    def _pump(self, wait: float, outgoing: memoryview | None = None) -> int:
        try:
            return self._process.pump(wait, outgoing)
        except DeviceError as error:  # the link broke, or what comes over it cannot be read
            self._ended = str(error)
            self._released = True
            self._process.end()
            raise

    def _take_line(self) -> bytes | None:
        buffer = self._process.stdout
        end = buffer.find(b"\n", self._searched)
        self._searched = len(buffer)
        if max(end, 0 if end >= 0 else len(buffer)) > LINE_LIMIT:
            self.close()
            raise DeviceError(
                f"{self._name} wrote a line of more than {LINE_LIMIT} bytes and was ended; "
                "it is not a worker of boardfit, or another version of one"
            )
        if end < 0:
            return None
        line = bytes(buffer[:end])
        del buffer[: end + 1]
        self._searched = 0
        return line

    def _lost(self) -> DeviceLost:
        """Collect exit code and last words of a process that ended, or closed its pipes."""
        code = self._process.drain(_GRACE)
        self._released = True
        self._process.end()
        words = self._process.stderr.decode(errors="replace").strip()[-1000:]
        ending = f"; its last words: {words}" if words else "; it left no words on stderr"
        self._ended = f"{self._name} {fate(code)}{ending}"
        self._killed = signal_of(code) == signal.SIGKILL
        return DeviceLost(self._ended, killed=self._killed)
