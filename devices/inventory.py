"""Which boards there are: `boards.toml`, read strictly, and the choice of one of them.

    [boards.pi5]
    transport = "local"          # or "fake", or "adb" (Android)
    python = "/usr/bin/python3"  # optional: the interpreter that runs the worker
    workspace = "~/boardfit"     # optional: the folder that boardfit may fill
    core = 3                     # optional: the core that the worker is pinned to
    tags = ["arm", "lab"]        # optional: `tag:lab` chooses the board
    serial = "10.0.0.7:5555"     # adb, optional where one board is attached: see `adb devices`
    server = false               # adb, optional: use an adb server (true), or go around it

The file is `$BOARDFIT_BOARDS`, otherwise `boards.toml` in `$XDG_CONFIG_HOME/boardfit`
(`~/.config/boardfit`). Two boards need no file: `local`, this machine, and `fake`, a simulated one.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import DeviceAmbiguous, DeviceNotFound, InventoryError

TRANSPORTS = ("local", "fake", "adb")
SIZE_LIMIT = 1024 * 1024  # bytes
_NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*")
_NAME_RULE = "use letters, digits, '.', '_' and '-', and do not begin with '-'"
_TYPES: Mapping[str, tuple[type, str]] = {
    "transport": (str, "a text"),
    "python": (str, "a text"),
    "workspace": (str, "a text"),
    "core": (int, "a whole number"),
    "tags": (list, "a list of texts"),
    "seed": (int, "a whole number"),
    "serial": (str, "a text"),
    "server": (bool, "true or false"),
}


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and text not in {".", ".."}


def _is_text(text: str) -> bool:
    return bool(text.strip()) and "\0" not in text


@dataclass(frozen=True)
class BoardEntry:
    """How one board is reached, as the inventory has it.

    `None` leaves the choice to the transport; `seed` (fake boards only) decides the simulated
    noise; `serial` and `server` (Android only) say which board, and whether an adb server is used.
    Raises `InventoryError` where a value cannot be used.
    """

    name: str
    transport: str
    python: str | None = None
    workspace: PurePosixPath | None = None
    core: int | None = None
    tags: tuple[str, ...] = ()
    seed: int | None = None
    serial: str | None = None
    server: bool | None = None

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise InventoryError(f"board {self.name!r}: not a usable name; {_NAME_RULE}")
        if self.transport not in TRANSPORTS:
            known = " and ".join(f'"{transport}"' for transport in TRANSPORTS)
            raise self._wrong(
                "transport", f"{self.transport!r} is not known; this version has {known}"
            )
        if self.python is not None and not _is_text(self.python):
            raise self._wrong("python", "give the path or the name of an interpreter")
        if self.workspace is not None:
            text = str(self.workspace)
            if not _is_text(text) or not text.startswith(("/", "~/")):
                raise self._wrong("workspace", "give a path that begins with / or ~/")
        if self.core is not None and self.core < 0:
            raise self._wrong("core", f"{self.core} is no core; the first one is 0")
        for tag in self.tags:
            if not _is_name(tag):
                raise self._wrong("tags", f"{tag!r} is not a usable tag; {_NAME_RULE}")
        if self.seed is not None and self.transport != "fake":
            raise self._wrong("seed", "only fake boards have one; remove the line")
        if self.seed is not None and self.seed < 0:
            raise self._wrong("seed", f"{self.seed} is negative; give 0 or more")
        for field, value in (("serial", self.serial), ("server", self.server)):
            if value is not None and self.transport != "adb":
                raise self._wrong(field, "only boards over adb have one; remove the line")
        if self.serial is not None and not re.fullmatch(r"[!-~]{1,255}", self.serial):
            raise self._wrong("serial", f"{self.serial!r:.80} is none; `adb devices` shows them")

    def _wrong(self, field: str, problem: str) -> InventoryError:
        return InventoryError(f"board {self.name!r}, {field}: {problem}")


BUILT_IN = (BoardEntry("local", "local"), BoardEntry("fake", "fake", seed=0))


@dataclass(frozen=True)
class Inventory:
    """The boards that were written down, and the choice of one by name or tag.

    `path` is the file they come from (`None`: there is none).
    """

    entries: tuple[BoardEntry, ...] = ()
    path: Path | None = None

    def __post_init__(self) -> None:
        for number, entry in enumerate(self.entries):
            if entry.name in {other.name for other in self.entries[:number]}:
                raise InventoryError(f"board {entry.name!r}: written down twice; rename one")
            if entry.name in TRANSPORTS and entry.transport != entry.name:
                raise InventoryError(
                    f"board {entry.name!r}, transport: this name always means the transport "
                    f'"{entry.name}"; rename the board'
                )

    @classmethod
    def load(cls, path: Path | None = None) -> Inventory:
        """Read an inventory; without `path` the user's own, which may be missing.

        Raises `InventoryError` naming the file, the board and the field, with the fix.
        """
        source = path or _default_path()
        if source is None:
            return cls()
        try:
            return cls(_read(source), source)
        except FileNotFoundError:
            if path is None and not os.environ.get("BOARDFIT_BOARDS"):
                return cls()
            raise InventoryError(f"{source}: there is no such file; check the name") from None
        except OSError as error:
            raise InventoryError(f"{source}: cannot be read: {error.strerror}") from error
        except InventoryError as error:
            raise InventoryError(f"{source}: {error}") from error

    @property
    def all_entries(self) -> tuple[BoardEntry, ...]:
        """The boards written down, then the built-in ones that they do not replace."""
        names = {entry.name for entry in self.entries}
        return (*self.entries, *(entry for entry in BUILT_IN if entry.name not in names))

    def get(self, name: str | None = None) -> BoardEntry:
        """Choose a board: by its name, by `tag:NAME`, or without either the only one there is.

        Where no board is written down that is `local`; the built-in boards are never in doubt
        with others. Raises `DeviceNotFound` or `DeviceAmbiguous`, both listing the boards.
        """
        if name is None:
            found = self.entries or BUILT_IN[:1]
            asked = "no board was named"
        elif name.startswith("tag:"):
            tag = name.removeprefix("tag:")
            found = tuple(entry for entry in self.entries if tag in entry.tags)
            asked = f"the tag {tag!r}"
        else:
            found = tuple(entry for entry in self.all_entries if entry.name == name)
            asked = f"the name {name!r}"
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(entry.name for entry in found)
            raise DeviceAmbiguous(f"{asked}, and several boards fit: {names}; choose one by name")
        raise DeviceNotFound(f"no board has {asked}; {self._what_there_is(name or '')}")

    def _what_there_is(self, name: str) -> str:
        names = [entry.name for entry in self.all_entries]
        tags = sorted({f"tag:{tag}" for entry in self.entries for tag in entry.tags})
        close = difflib.get_close_matches(name, names + tags, n=1)
        question = f"did you mean {close[0]!r}? " if close else ""
        place = f" in {self.path}" if self.path else ""
        return f"{question}there are{place}: {', '.join(names + tags)}"


def xdg_folder(variable: str, default: str) -> Path | None:
    """Where the XDG base directory specification puts a user's files of one kind.

    `default` is relative to the home folder. `None`: the user has no home folder.
    """
    value = os.environ.get(variable, "")
    if os.path.isabs(value):  # the specification has relative ones ignored
        return Path(value)
    try:
        return Path.home() / default
    except RuntimeError:
        return None


def _default_path() -> Path | None:
    if named := os.environ.get("BOARDFIT_BOARDS"):
        return Path(named).expanduser()
    folder = xdg_folder("XDG_CONFIG_HOME", ".config")
    return None if folder is None else folder / "boardfit" / "boards.toml"


def _read(path: Path) -> tuple[BoardEntry, ...]:
    if path.exists() and not path.is_file():
        raise InventoryError("is not an ordinary file")
    with path.open("rb") as file:
        data = file.read(SIZE_LIMIT + 1)
    if len(data) > SIZE_LIMIT:
        raise InventoryError(f"is larger than {SIZE_LIMIT} bytes; it should list a few boards")
    try:
        # Editors on Windows put a byte order mark in front.
        document = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InventoryError(f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except ValueError as error:
        raise InventoryError(f"is not valid TOML: {error}") from error
    except RecursionError:
        raise InventoryError("is not valid TOML: brackets are nested too deep") from None
    for key in document:
        if key != "boards":
            raise InventoryError(f"{key!r} is not known; boards begin with [boards.NAME]")
    boards = document.get("boards", {})
    if not isinstance(boards, dict):
        raise InventoryError("'boards' is a value; write each board below a line [boards.NAME]")
    return tuple(_entry(name, fields) for name, fields in boards.items())


def _entry(name: str, fields: object) -> BoardEntry:
    if not isinstance(fields, dict):
        raise InventoryError(f"board {name!r}: is a value; write its fields below [boards.{name}]")
    for field, value in fields.items():
        if field not in _TYPES:
            close = difflib.get_close_matches(field, _TYPES, n=1)
            question = f"did you mean {close[0]!r}? " if close else ""
            raise InventoryError(
                f"board {name!r}, {field}: not a field; {question}known: {', '.join(_TYPES)}"
            )
        expected, words = _TYPES[field]
        # `type() is`, since True would pass for an int.
        fits = type(value) is expected
        if not fits or (isinstance(value, list) and any(type(tag) is not str for tag in value)):
            raise InventoryError(f"board {name!r}, {field}: {value!r:.80} is not {words}")
    if "transport" not in fields:
        raise InventoryError(f'board {name!r}, transport: is missing; write transport = "local"')
    workspace = fields.get("workspace")
    return BoardEntry(
        name=name,
        transport=fields["transport"],
        python=fields.get("python"),
        workspace=None if workspace is None else PurePosixPath(workspace),
        core=fields.get("core"),
        tags=tuple(fields.get("tags", ())),
        seed=fields.get("seed"),
        serial=fields.get("serial"),
        server=fields.get("server"),
    )
