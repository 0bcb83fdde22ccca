"""From what a user and a board say to the board's entry in the inventory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from .adb_server import attached
from .base import Description
from .board_entry import BoardEntry
from .clusters import Cluster
from .errors import DeviceAmbiguous, DeviceNotFound, InventoryError
from .inventory import Inventory, usual_path

_PATIENCE = 5.0  # seconds for the adb server's list


def entry_of(name: str, transport: str | None, **fields: Any) -> BoardEntry:
    """The entry as the user gave it; paths are texts, what is not given is None.

    Without a transport `host` means ssh, and `serial` or `server` adb. A phone without a serial
    number is the only one that is attached. Raises `InventoryError`, `DeviceNotFound`,
    `DeviceAmbiguous`.
    """
    if transport is None:
        implied = {"ssh": ("host", "user", "identity_file"), "adb": ("serial", "server")}
        named = [way for way, own in implied.items() if any(fields.get(name) for name in own)]
        if len(named) != 1:
            raise InventoryError(
                f"board {name!r}: give --host (over ssh) or --serial (a phone over adb), or "
                "--transport"
            )
        transport = named[0]
    for field in ("identity_file", "benchmark_model"):
        if fields.get(field) is not None:
            path = str(fields[field])
            # The file is the user's, here and now; in boards.toml it is found from anywhere.
            fields[field] = Path(path) if path.startswith("~/") else Path(path).absolute()
    if fields.get("workspace") is not None:
        fields["workspace"] = PurePosixPath(fields["workspace"])
    entry = BoardEntry(name, transport, **fields)
    if transport == "adb" and entry.serial is None:
        return replace(entry, serial=_only_phone())
    return entry


def _only_phone() -> str:
    phones = attached(timeout=_PATIENCE)
    if not phones:
        raise DeviceNotFound(
            "the adb server sees no phone; plug it in and allow USB debugging, or give --serial"
        )
    if len(phones) > 1:
        names = ", ".join(phone.serial for phone in phones)
        raise DeviceAmbiguous(f"several phones are attached ({names}); choose one with --serial")
    if not phones[0].ready:
        raise phones[0].refused()
    return phones[0].serial


def free_name(name: str, path: Path | None) -> None:
    """Make sure that an inventory has no board of that name. Raises `InventoryError`.

    The file that `path` or the user's environment names may be missing: it is made.
    """
    source = path or usual_path()
    if source is not None and not source.exists():
        return
    inventory = Inventory.load(path)
    if name in {entry.name for entry in inventory.entries}:
        raise InventoryError(
            f"{inventory.path}: board {name!r} is there already; choose another name, or change "
            "its lines in the file"
        )


def completed(
    entry: BoardEntry, description: Description, clusters: Sequence[Cluster]
) -> BoardEntry:
    """The entry with what the board says of itself: its chip, and its big cores, if any."""
    soc = description.soc
    found = entry
    if entry.soc is None and soc and soc.isprintable() and " " not in soc:
        found = replace(found, soc=soc)
    chosen = entry.core is not None or entry.cluster is not None or entry.cores
    if not chosen and "big" in {cluster.name for cluster in clusters}:
        found = replace(found, cluster="big")
    return found
