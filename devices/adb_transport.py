"""An Android board as a `Transport`, over whichever link reaches it."""

from __future__ import annotations

import contextlib
import io
import secrets
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from . import adb_sync
from .adb_shell_v2 import ShellProcess
from .adb_stream import CHUNK, Link
from .base import Completed
from .errors import DeviceError, DeviceLost, InputError, StorageError
from .files import open_source, write_whole
from .line_channel import STDERR_KEPT, LineChannel, run_to_end
from .process import brief

_START = 30.0  # seconds in which a service of the board has to begin
_RENAME = 60.0  # seconds for the check and the rename after a push
# The file is renamed once it is whole and what was sent; a folder in its place stays. adbd lets
# everybody write to what it made.
_PUT = """
found=$(sha256sum < "$1") || exit 1
if [ "${found%% *}" != "$3" ]; then echo "it arrived damaged" >&2
elif [ -d "$2" ]; then echo "$2 is a folder" >&2
else chmod 644 "$1" && mv -f "$1" "$2" && exit 0
fi
exit 1
"""


class AdbTransport:
    """Run programs and copy files on an Android board; `way` says how it is reached.

    What the link loses stays lost: every method raises `DeviceLost` from then on. Raises
    `DeviceError` where the board's adbd is too old.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channels: list[LineChannel] = []
        if "shell_v2" not in link.features:
            link.close()
            raise DeviceError(
                f"the board ({link.way}) has no second shell protocol, without which exit codes "
                "are not known; boardfit needs Android 9 or newer"
            )

    @property
    def way(self) -> str:
        """How the board is reached, in words."""
        return self._link.way

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        """Run a command to its end and return what it wrote; it reads nothing.

        `timeout` is in seconds. The code of a command that was ended by a signal is the signal's
        number and 128. Raises `DeviceTimeout` after having ended the command, `DeviceError` where
        it writes more than `LINE_LIMIT`, `CommandFailed` where there is no such program.
        """
        self._check()
        begin = time.monotonic()
        process = ShellProcess(self._link, argv, timeout=timeout, stdin=False)
        return run_to_end(process, argv, timeout=timeout, since=begin)

    def open(self, argv: Sequence[str]) -> LineChannel:
        """Start a process with which lines are exchanged. Raises `CommandFailed`."""
        self._check()
        process = ShellProcess(self._link, argv, timeout=_START, stderr_kept=STDERR_KEPT)
        channel = LineChannel(brief(argv), process)
        self._channels = [*(other for other in self._channels if not other.ended), channel]
        return channel

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copy a file to the board whole or not at all, making the folders it lies in.

        Raises `InputError` where it is missing here, `StorageError` where it cannot be written.
        """
        self._check()
        target = PurePosixPath("/") / remote
        temporary = target.with_name(f".boardfit-{secrets.token_hex(8)}")
        with open_source(local, InputError) as source:
            try:
                self._put(source, temporary, target)
            except BaseException:
                with contextlib.suppress(DeviceError):
                    self.run(["rm", "-f", str(temporary)], timeout=_START)
                raise

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy an ordinary file from the board whole or not at all, making folders here.

        Raises `CommandFailed` where it is missing or not ordinary, `StorageError` where it cannot
        be written here.
        """
        self._check()
        stream = self._link.open(adb_sync.SERVICE, timeout=_START)
        try:
            source = PurePosixPath("/") / remote
            second = "stat_v2" in self._link.features
            received = adb_sync.Received(stream, source, second=second)
            write_whole(io.BufferedReader(received, CHUNK), local)
        finally:
            stream.close()

    def close(self) -> None:
        """End all processes that are still open, and the link. Closing twice does nothing."""
        for channel in self._channels:
            channel.close()
        self._link.close()

    def _put(self, source: BinaryIO, temporary: PurePosixPath, target: PurePosixPath) -> None:
        stream = self._link.open(adb_sync.SERVICE, timeout=_START)
        try:
            digest = adb_sync.write(stream, source, temporary)
        finally:
            stream.close()
        script = ["sh", "-c", _PUT, "sh", str(temporary), str(target), digest]
        done = self.run(script, timeout=_RENAME)
        if done.code != 0:
            words = done.stderr.decode(errors="replace").strip()[:500]
            raise StorageError(f"cannot write {target} on the board: {words}")

    def _check(self) -> None:
        if self._link.lost is not None:
            raise DeviceLost(self._link.lost)
