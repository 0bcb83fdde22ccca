"""Files that are pushed to a board and verified there by their hash."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ..devices.base import Transport
from ..devices.errors import DeviceError, StorageError, storage_errors

_HASH_TIMEOUT = 600.0  # seconds to read all models of a table on a slow board
_DIGEST = re.compile(r"\\?([0-9a-f]{64})[ *]{1,2}(.+)")


def push_bytes(transport: Transport, data: bytes, remote: PurePosixPath) -> None:
    """Write a file on the board. Raises what a push raises."""
    with tempfile.TemporaryDirectory(prefix="boardfit-") as folder:
        local = Path(folder) / "file"
        with storage_errors(local):
            local.write_bytes(data)
        transport.push(local, remote)


def digests(transport: Transport, folder: PurePosixPath) -> dict[str, str]:
    """The SHA-256 of each file in a folder of the board, by its name; empty where there is none.

    Raises `DeviceError` where the board cannot tell.
    """
    command = ["find", str(folder), "-type", "f", "-exec", "sha256sum", "{}", "+"]
    done = transport.run(command, timeout=_HASH_TIMEOUT)
    found = {}
    for line in done.stdout.decode(errors="replace").splitlines():
        if parts := _DIGEST.fullmatch(line):
            found[PurePosixPath(parts[2]).name] = parts[1]
    words = done.stderr.decode(errors="replace")
    if done.code != 0 and "sha256sum" in words:
        raise DeviceError(
            f"what lies on the board cannot be verified ({words.strip()[-200:]}): it needs "
            "sha256sum, which toybox, busybox and coreutils have"
        )
    return found


def require_digests(
    transport: Transport, folder: PurePosixPath, wanted: Mapping[str, str], name: str
) -> None:
    """Raise `StorageError` where files that were pushed to the board `name` are not what they
    should be."""
    found = digests(transport, folder)
    wrong = [file for file, digest in wanted.items() if found.get(file) != digest]
    if wrong:
        raise StorageError(
            f"{len(wrong)} of {len(wanted)} files did not arrive whole in {folder} on {name} "
            f"(first: {wrong[0]}); see whether its disk is full or damaged, and run the same "
            "command again"
        )
