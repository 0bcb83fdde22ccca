"""Files that arrive whole or not at all, shared by every transport."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import BinaryIO

from .errors import BoardfitError, StorageError, storage_errors

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
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as reason:
            raise StorageError(
                f"cannot write {target}: {reason.filename} is a file, not a folder"
            ) from reason
        # Short and independent of the target's name, which may be as long as a name can be.
        temporary = target.with_name(f".boardfit-{secrets.token_hex(8)}")
        try:
            with temporary.open("xb") as sink:
                shutil.copyfileobj(source, sink, _BLOCK)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
