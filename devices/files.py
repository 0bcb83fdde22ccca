"""Files that arrive whole or not at all, and locks that keep second writers out."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import BoardfitError, InUse, StorageError, storage_errors

_BLOCK = 1024 * 1024  # bytes copied at a time


def open_source(path: Path, error: type[BoardfitError]) -> BinaryIO:
    """Open a file that is to be copied, or say in one sentence why it cannot be.

    Raises `error` where the file is missing, is not an ordinary file, or cannot be read: the
    caller knows whether that is the user's mistake (a push) or the board's state (a pull).
    """
    # A pipe or a terminal would block for ever, /dev/zero would never end.
    if not os.path.isfile(path):
        what = "is not an ordinary file" if os.path.lexists(path) else "does not exist"
        raise error(f"cannot copy {path}: it {what}; check the name")
    try:
        return path.open("rb")
    except OSError as reason:
        raise error(f"cannot copy {path}: {reason.strerror}") from reason


def write_whole(source: BinaryIO, target: Path) -> None:
    """Copy a stream into a file so that no reader ever sees half of it.

    The folders that `target` lies in are made; an older file is replaced. Raises `StorageError`
    where the disk is full or the place cannot be written; nothing is left behind then.
    """
    with storage_errors(target):
        _make_folder_of(target)
        # Short and independent of the target's name, which may be as long as a name can be.
        temporary = target.with_name(f".boardfit-{secrets.token_hex(8)}")
        try:
            with temporary.open("xb") as sink:
                shutil.copyfileobj(source, sink, _BLOCK)
                sink.flush()
                os.fsync(sink.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _make_folder_of(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as reason:
        raise StorageError(
            f"cannot write {path}: {reason.filename} is a file, not a folder"
        ) from reason


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data` as a whole. Raises `StorageError` where that is impossible."""
    write_whole(io.BytesIO(data), path)


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold `path` (made if missing, left behind empty) as a lock; it is freed however we end.

    Raises `InUse` where another process holds it.
    """
    with storage_errors(path):
        _make_folder_of(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            place = path.name.removesuffix(".lock") or path.parent
            raise InUse(
                f"another boardfit (process {holder}) works on {place}; "
                "wait for it to end, or end it, and run the same command again"
            ) from None
        with storage_errors(path):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
