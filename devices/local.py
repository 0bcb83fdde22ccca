"""The machine at hand as a board: processes and files, without a shell in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .base import LINE_LIMIT, Completed, Device
from .conditions import describe
from .errors import (
    CommandFailed,
    DeviceError,
    DeviceLost,
    DeviceTimeout,
    InputError,
    InventoryError,
)
from .files import open_source, write_whole
from .inventory import BoardEntry, xdg_folder
from .process import Process, brief, fate

_STDERR_KEPT = 8 * 1024  # bytes
_STALLED_AFTER = 60.0  # seconds in which a process takes nothing of a line that is sent to it
_GRACE = 1.0  # seconds in which a process may end by itself, before each harsher step


def local_device(entry: BoardEntry) -> Device:
    """Reach this machine as the inventory's entry says: interpreter, workspace and core.

    Without a core in the entry the worker is pinned to the last one that may be used.

    Raises `InventoryError` where the entry names a core that this process may not use.
    """
    # macOS has no such call, and no way to pin a process either.
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if entry.core is not None and usable is not None and entry.core not in usable:
        raise InventoryError(
            f"board {entry.name!r}: core = {entry.core} is none of the cores that may be used "
            f"here ({', '.join(map(str, sorted(usable)))}); change it, or remove the line"
        )
    if entry.workspace is not None:
        workspace = Path(entry.workspace).expanduser()
    else:
        cache = xdg_folder("XDG_CACHE_HOME", ".cache")
        if cache is None:
            raise InventoryError(
                f"board {entry.name!r}: there is no home folder to work in; set XDG_CACHE_HOME, "
                "or `workspace` in boards.toml"
            )
        workspace = cache / "boardfit"
    # Pinned even where nobody asked: a worker that wanders between cores is slow at random.
    core = entry.core if entry.core is not None or usable is None else max(usable)
    transport = LocalTransport()
    return Device(
        name=entry.name,
        kind="local",
        transport=transport,
        description=describe(transport),
        python=entry.python or sys.executable,
        workspace=PurePosixPath(workspace),
        core=core,
    )


class LocalTransport:
    """Run processes and copy files on this machine."""

    def __init__(self) -> None:
        self._channels: list[LocalChannel] = []
        self._closed = False

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        """Run a command to its end and return what it wrote; it reads nothing.

        `timeout` is in seconds. The code of a command that was ended by a signal is the signal's
        number, negative. Raises `DeviceTimeout` after having ended the command and all that it
        started, `DeviceError` where it writes more than `LINE_LIMIT`, `CommandFailed` where the
        program does not exist.
        """
        self._check_open()
        deadline = time.monotonic() + timeout
        process = Process(argv, stdin=subprocess.DEVNULL)
        try:
            while process.sinks:
                wait = deadline - time.monotonic()
                if wait <= 0:
                    raise DeviceTimeout(_took_longer(argv, timeout))
                process.pump(wait)
                if len(process.stdout) + len(process.stderr) > LINE_LIMIT:
                    raise DeviceError(f"{brief(argv)} wrote more than {LINE_LIMIT} bytes")
            code = process.wait(max(0.0, deadline - time.monotonic()))
            if code is None:
                raise DeviceTimeout(_took_longer(argv, timeout))
        except BaseException:
            process.kill()
            raise
        finally:
            process.release()
        return Completed(tuple(argv), code, bytes(process.stdout), bytes(process.stderr))

    def open(self, argv: Sequence[str]) -> LocalChannel:
        """Start a process with which lines are exchanged. Raises `CommandFailed`."""
        self._check_open()
        channel = LocalChannel(argv)
        # Held until it has ended: a channel that is merely forgotten is still ended by `close`.
        self._channels = [*(other for other in self._channels if not other.ended), channel]
        return channel

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copy a file. Raises `InputError` where it is missing, `StorageError`."""
        self._check_open()
        with open_source(local, InputError) as source:
            write_whole(source, Path(remote))

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy a file. Raises `CommandFailed` where it is missing, `StorageError`."""
        self._check_open()
        with open_source(Path(remote), CommandFailed) as source:
            write_whole(source, local)

    def close(self) -> None:
        """End all processes that are still open. Closing twice does nothing."""
        self._closed = True
        for channel in self._channels:
            channel.close()

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceLost("the way to this machine was closed; connect again")


class LocalChannel:
    """A child process with which lines are exchanged over pipes.

    There is no thread: whoever sends or receives moves the bytes of all three pipes, so that
    neither side waits for the other with full pipes.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._name = brief(argv)
        self._process = Process(argv, stdin=subprocess.PIPE, stderr_kept=_STDERR_KEPT)
        self._searched = 0  # bytes at the front of stdout that are known to hold no newline
        self._ended: str | None = None  # why no more can be sent
        self._killed = False

    @property
    def ended(self) -> bool:
        """Whether the process is known to have ended."""
        return self._process.released

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
                written = self._process.pump(max(0.0, deadline - time.monotonic()), rest)
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
            self._process.pump(max(0.0, wait))

    def close(self) -> None:
        """End the process: politely by closing its input, then by SIGTERM, then by SIGKILL."""
        if self.ended:
            return
        self._ended = self._ended or f"{self._name} was closed; start it again"
        self._process.close_stdin()
        if self._process.drain(_GRACE) is None:
            self._process.signal_group(signal.SIGTERM)
            self._process.drain(_GRACE)
        self._process.kill()
        self._process.release()
        self._process.stdout.clear()

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
        self._process.kill()
        self._process.release()
        words = self._process.stderr.decode(errors="replace").strip()[-1000:]
        ending = f"; its last words: {words}" if words else "; it left no words on stderr"
        self._ended = f"{self._name} {fate(code)}{ending}"
        self._killed = code == -signal.SIGKILL
        return DeviceLost(self._ended, killed=self._killed)


def _took_longer(argv: Sequence[str], timeout: float) -> str:
    return (
        f"{brief(argv)} took longer than {timeout:g} s and was ended; run the same command "
        "again, and restart the board if that does not help"
    )
