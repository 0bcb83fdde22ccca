"""The machine at hand as a board: processes and files, without a shell in between."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from .base import Completed, Device
from .board_entry import BoardEntry
from .conditions import describe
from .errors import CommandFailed, DeviceLost, InputError, InventoryError
from .files import open_source, write_whole
from .inventory import xdg_folder
from .line_channel import STDERR_KEPT, LineChannel, run_to_end
from .process import Process, brief


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
        benchmark_model=entry.benchmark_model,
    )


class LocalTransport:
    """Run processes and copy files on this machine."""

    def __init__(self) -> None:
        self._channels: list[LineChannel] = []
        self._closed = False

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        """Run a command to its end and return what it wrote; it reads nothing.

        `timeout` is in seconds. The code of a command that was ended by a signal is the signal's
        number, negative. Raises `DeviceTimeout` after having ended the command and all that it
        started, `DeviceError` where it writes more than `LINE_LIMIT`, `CommandFailed` where the
        program does not exist.
        """
        self._check_open()
        return run_to_end(Process(argv, stdin=subprocess.DEVNULL), argv, timeout=timeout)

    def open(self, argv: Sequence[str]) -> LineChannel:
        """Start a process with which lines are exchanged. Raises `CommandFailed`."""
        self._check_open()
        process = Process(argv, stdin=subprocess.PIPE, stderr_kept=STDERR_KEPT)
        channel = LineChannel(brief(argv), process)
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
