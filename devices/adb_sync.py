"""Files to and from an Android board, over adbd's sync service.

Each request and answer begins with four letters and a length or a number (little-endian); file
contents travel in pieces of at most 64 KiB (file_sync_protocol.h in Android's adb). Sizes and
errors are known exactly with the second version of `stat`, which every Android since 8 has.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from .adb_stream import Stream, send, take
from .base import LINE_LIMIT
from .errors import CommandFailed, DeviceError, StorageError

SERVICE = b"sync:"
LONGEST_PATH = 1024  # bytes that a request may hold
_LONGEST_PIECE = 64 * 1024  # bytes of content in one piece
_PIECES = 15  # sent at a time: a bit less than the largest frame
_LONGEST_WORDS = 64 * 1024  # bytes of the board's words about a failure
_REQUEST = struct.Struct("<4sI")
_STAT_1 = struct.Struct("<III")  # mode, size, time of the last change
_STAT_2 = struct.Struct("<IQQIIIIQqqq")  # error, device, inode, mode, links, owners, size, times


@dataclass(frozen=True)
class RemoteFile:
    """What the board says of a path: `error` is Linux' number (0: it is there), size in bytes."""

    mode: int
    size: int
    error: int = 0


def find(stream: Stream, path: bytes, *, second: bool) -> RemoteFile:
    """Look at a path, following links where the board can (`second`: it has `stat_v2`).

    Raises `DeviceError` where the board answers something else, `DeviceLost`, `DeviceTimeout`.
    """
    _ask(stream, b"STA2" if second else b"STAT", path)
    (word,) = struct.unpack("<4s", take(stream, 4))
    if word != (b"STA2" if second else b"STAT"):
        raise _foreign(word)
    if not second:
        mode, size, _ = _STAT_1.unpack(take(stream, _STAT_1.size))
        return RemoteFile(mode, size, 0 if mode else 2)  # ENOENT: it knows no other error
    error, _, _, mode, _, _, _, size, *_ = _STAT_2.unpack(take(stream, _STAT_2.size))
    return RemoteFile(mode, size, error)


class Received(io.RawIOBase):
    """The content of an ordinary file on the board, as a stream that is read once.

    Raises `CommandFailed` where there is no such file, or one that is not ordinary or cannot be
    read: what a board calls a file may have no end. Reading raises `DeviceError` where more comes
    than the board said before, `DeviceLost`, `DeviceTimeout`.
    """

    def __init__(self, stream: Stream, remote: PurePosixPath, *, second: bool) -> None:
        super().__init__()
        path = _path(remote, CommandFailed)
        found = find(stream, path, second=second)
        if found.error == 2:
            raise CommandFailed(f"cannot copy {remote}: it does not exist; check the name")
        if found.error:
            # Beyond Linux' own numbers: only what was garbled has one.
            reason = os.strerror(found.error) if found.error < 4096 else f"error {found.error}"
            raise CommandFailed(f"cannot copy {remote}: {reason}; check its permissions")
        if not stat.S_ISREG(found.mode):
            raise CommandFailed(f"cannot copy {remote}: it is not an ordinary file; check the name")
        self._stream = stream
        self._remote = remote
        # Files of the kernel say that they are empty, logs grow; nothing may fill our disk.
        self._allowed = found.size + LINE_LIMIT
        self._left = 0  # bytes of the piece at hand
        self._done = False
        _ask(stream, b"RECV", path)

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read some bytes; 0 at the end."""
        if not self._left and not self._done:
            self._next_piece()
        if self._done:
            return 0
        count = min(self._left, len(buffer))
        buffer[:count] = take(self._stream, count)
        self._left -= count
        return count

    def _next_piece(self) -> None:
        while not self._left and not self._done:
            word, length = _REQUEST.unpack(take(self._stream, _REQUEST.size))
            if word == b"DONE":
                self._done = True
            elif word == b"FAIL":
                words = _words(self._stream, length)
                raise CommandFailed(f"cannot copy {self._remote} from the board: {words}")
            elif word != b"DATA" or length > _LONGEST_PIECE:
                raise _foreign(word)
            else:
                self._left = length
                self._allowed -= length
                if self._allowed < 0:
                    raise DeviceError(
                        f"the board sends more of {self._remote} than the file holds, and was "
                        "stopped; copy something that does not grow meanwhile"
                    )


def write(stream: Stream, source: BinaryIO, remote: PurePosixPath, *, mode: int = 0o644) -> str:
    """Write a file on the board, making the folders it lies in; the SHA-256 of what was sent.

    Raises `StorageError` with the board's words where it cannot be written there.
    """
    path = _path(remote, StorageError, b",%d" % (stat.S_IFREG | mode))
    _ask(stream, b"SEND", path)
    digest = hashlib.sha256()
    quiet = True  # the board has nothing to say until it has everything, unless it fails
    while quiet and (data := source.read(_PIECES * _LONGEST_PIECE)):
        digest.update(data)
        pieces = bytearray()
        for begin in range(0, len(data), _LONGEST_PIECE):
            piece = data[begin : begin + _LONGEST_PIECE]
            pieces += _REQUEST.pack(b"DATA", len(piece))
            pieces += piece
        quiet = send(stream, pieces)
    if quiet:
        send(stream, _REQUEST.pack(b"DONE", int(time.time()) & 0xFFFFFFFF))
    word, length = _REQUEST.unpack(take(stream, _REQUEST.size))
    if word == b"FAIL":
        words = _words(stream, length)
        raise StorageError(f"cannot write {remote.parent} on the board: {words}")
    if word != b"OKAY" or not quiet:
        raise _foreign(word)
    return digest.hexdigest()


def _ask(stream: Stream, word: bytes, path: bytes) -> None:
    if not send(stream, _REQUEST.pack(word, len(path)) + path):
        raise _foreign(bytes(stream.received[:4]))


def _path(
    remote: PurePosixPath, error: type[DeviceError | StorageError], end: bytes = b""
) -> bytes:
    path = os.fsencode(remote) + end
    if len(path) > LONGEST_PATH:
        raise error(
            f"the path of {remote.name} on the board has {len(path)} bytes, and ADB carries "
            f"{LONGEST_PATH}; choose a shorter workspace or name"
        )
    return path


def _words(stream: Stream, length: int) -> str:
    """What the board says about a failure."""
    if length > _LONGEST_WORDS:
        raise _foreign(b"FAIL")
    return take(stream, length).decode(errors="replace").strip()[:500]


def _foreign(word: bytes) -> DeviceError:
    return DeviceError(
        f"the board answered {word!r} while a file was copied, which the protocol does not have; "
        "it does not speak ADB, or the link garbles: connect it otherwise"
    )
