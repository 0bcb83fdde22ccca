"""A board more in `boards.toml`: a table behind what is there, of which nothing is touched."""

from __future__ import annotations

import dataclasses
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path, PurePath

from .board_entry import BoardEntry
from .errors import InventoryError, storage_errors
from .files import exclusive, write_atomically
from .inventory import Inventory, usual_path

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def add_board(entry: BoardEntry, path: Path | None = None) -> Path:
    """Append a board to an inventory (without `path` to the user's own, made if missing).

    Comments, order and line ends of the file stay as they are; it is replaced as a whole. Returns
    where it was written. Raises `InventoryError` where the file is wrong or has that name already,
    `StorageError`, and `InUse` where another process adds to it.
    """
    target = path or usual_path()
    if target is None:
        raise InventoryError("there is no home folder for boards.toml; give a file with --boards")
    target = Path(os.path.realpath(target))  # a link stays one
    with exclusive(target.with_name(f".{target.name}.lock")):
        before = _bytes(target)
        after = _appended(before, entry, target)
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        write_atomically(target, after)
        if mode is not None:
            with storage_errors(target):
                target.chmod(mode)
    return target


def _bytes(path: Path) -> bytes:
    """What the file holds, which has to be an inventory; nothing where it is missing."""
    if not path.exists():
        return b""
    Inventory.load(path)
    return path.read_bytes()


def _appended(before: bytes, entry: BoardEntry, path: Path) -> bytes:
    if before:
        text = before.decode("utf-8-sig")
        if entry.name in tomllib.loads(text).get("boards", {}):
            raise InventoryError(
                f"{path}: board {entry.name!r} is there already; choose another name, or change "
                "its lines in the file"
            )
    end = b"\r\n" if b"\r\n" in before else b"\n"
    gap = b"" if not before else end if before.endswith(b"\n") else end * 2
    try:
        table = entry_text(entry).encode()
    except UnicodeEncodeError as error:
        raise InventoryError(
            f"board {entry.name!r}: a value holds bytes that are no text; give another one"
        ) from error
    after = before + gap + table.replace(b"\n", end)
    # An inline table (`boards = {...}`) takes no more tables, and no text is trusted unread.
    try:
        found = tomllib.loads(after.decode("utf-8-sig"))["boards"][entry.name]
        same = found == tomllib.loads(entry_text(entry))["boards"][entry.name]
    except tomllib.TOMLDecodeError:
        same = False
    if not same:
        raise InventoryError(
            f"{path}: a table cannot be appended to the way its boards are written; add it by "
            f"hand:\n{entry_text(entry)}"
        )
    return after


def entry_text(entry: BoardEntry) -> str:
    """A board as the table of boards.toml that is read as it: what is not given is left out."""
    name = entry.name if entry.name.replace("-", "").replace("_", "").isalnum() else None
    lines = [f"[boards.{name or _text(entry.name)}]"]
    for field in dataclasses.fields(entry):
        value = getattr(entry, field.name)
        if field.name == "name" or value is None or value == ():
            continue
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {k: v for k, v in dataclasses.asdict(value).items() if v is not None}
            if not value:
                continue
        lines.append(f"{field.name} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {_value(part)}' for name, part in value.items())} }}"
    assert isinstance(value, str | PurePath)
    return _text(str(value))


def _text(text: str) -> str:
    """A basic string of TOML: whatever a value holds, it ends where it should."""
    letters = (
        _ESCAPES.get(letter)
        or (f"\\u{ord(letter):04x}" if ord(letter) < 32 or ord(letter) == 127 else letter)
        for letter in text
    )
    return f'"{"".join(letters)}"'
