"""Which boards there are: `boards.toml`, read strictly, and the choice of one of them.

    [boards.pi5]
    transport = "ssh"            # or "adb", "local", "fake"
    host = "pi5.local"           # ssh: an address, or an alias of ~/.ssh/config
    user = "pi"                  # all that follows is optional
    port = 22
    identity_file = "~/.ssh/id_ed25519"
    serial = "0A1B2C3D"          # adb: as `adb devices` names it
    server = false               # adb: go through an adb server (true), or around it (false)
    benchmark_model = "~/tools/benchmark_model"  # the host's copy, for boards without Python
    python = "/usr/bin/python3"  # the interpreter that runs the worker
    workspace = "~/boardfit"     # the folder that boardfit may fill
    core = 3                     # the core that the worker is pinned to
    cluster = "big"              # or a cluster of them: "little", "middle" or "big"
    cores = [4, 5, 6, 7]         # or a list of those that it may be pinned to
    soc = "bcm2712"              # what the board's chip should be; another one is warned of
    limits = { start_below = 60.0 }  # degrees Celsius, which are waited for before a job
    settings = { governor = "performance", jetson_clocks = true }  # while something is measured
    tags = ["arm", "lab"]        # `tag:lab` chooses the board

The file is `$BOARDFIT_BOARDS`, otherwise `boards.toml` in `$XDG_CONFIG_HOME/boardfit`
(`~/.config/boardfit`). Two boards need no file: `local`, this machine, and `fake`, a simulated one.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .board_entry import BoardEntry, Limits, Settings
from .errors import DeviceAmbiguous, DeviceNotFound, InventoryError

SIZE_LIMIT = 1024 * 1024  # bytes
_Check = tuple[Callable[[object], bool], str]


def _list_of(expected: type) -> Callable[[object], bool]:
    return lambda value: type(value) is list and all(type(item) is expected for item in value)


# `type() is`, since True would pass for an int.
_TEXT: _Check = (lambda value: type(value) is str, "a text")
_WHOLE: _Check = (lambda value: type(value) is int, "a whole number")
_NUMBER: _Check = (lambda value: type(value) in {int, float}, "a number")
_TRUTH: _Check = (lambda value: type(value) is bool, "true or false")
_TABLE: _Check = (lambda value: type(value) is dict, "a table such as { name = value }")
_TYPES: Mapping[str, _Check] = {
    "transport": _TEXT,
    "python": _TEXT,
    "workspace": _TEXT,
    "core": _WHOLE,
    "tags": (_list_of(str), "a list of texts"),
    "seed": _WHOLE,
    "real_time": _TRUTH,
    "host": _TEXT,
    "user": _TEXT,
    "port": _WHOLE,
    "identity_file": _TEXT,
    "serial": _TEXT,
    "server": _TRUTH,
    "benchmark_model": _TEXT,
    "soc": _TEXT,
    "cluster": _TEXT,
    "cores": (_list_of(int), "a list of whole numbers"),
    "limits": _TABLE,
    "settings": _TABLE,
}
_LIMITS: Mapping[str, _Check] = {"start_below": _NUMBER}
_SETTINGS: Mapping[str, _Check] = {
    "governor": _TEXT,
    "fixed_performance": _TRUTH,
    "nvpmodel": _WHOLE,
    "jetson_clocks": _TRUTH,
}
BUILT_IN = (BoardEntry("local", "local"), BoardEntry("fake", "fake", seed=0))
_ALWAYS = frozenset(entry.name for entry in BUILT_IN)


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
            if entry.name in _ALWAYS and entry.transport != entry.name:
                raise InventoryError(
                    f"board {entry.name!r}, transport: this name always means the transport "
                    f'"{entry.name}"; rename the board'
                )

    @classmethod
    def load(cls, path: Path | None = None) -> Inventory:
        """Read an inventory; without `path` the user's own, which may be missing.

        Raises `InventoryError` naming the file, the board and the field, with the fix.
        """
        source = path or usual_path()
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

    def failures_of(self, entry: BoardEntry) -> Path | None:
        """Where jobs that lose a board are counted; `None` for one that is not written down."""
        if self.path is None or entry not in self.entries:
            return None
        return self.path.parent / "failures" / f"{entry.name}.json"

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


def usual_path() -> Path | None:
    """Where the user's own inventory is, or would be; `None`: there is no home folder."""
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
    _check_fields(name, fields, _TYPES)
    if "transport" not in fields:
        raise InventoryError(f'board {name!r}, transport: is missing; write transport = "local"')
    _check_fields(name, fields.get("limits", {}), _LIMITS, "limits.")
    _check_fields(name, fields.get("settings", {}), _SETTINGS, "settings.")
    if fields.get("cores") == []:
        raise InventoryError(f"board {name!r}, cores: is empty; list cores, or remove the line")
    workspace = fields.get("workspace")
    paths = {
        field: Path(fields[field])
        for field in ("identity_file", "benchmark_model")
        if field in fields
    }
    return BoardEntry(
        **{
            **fields,
            "name": name,
            "workspace": None if workspace is None else PurePosixPath(workspace),
            "tags": tuple(fields.get("tags", ())),
            "cores": tuple(fields.get("cores", ())),
            "limits": Limits(**fields.get("limits", {})),
            "settings": Settings(**fields.get("settings", {})),
            **paths,
        }
    )


def _check_fields(
    name: str, fields: Mapping[str, object], types: Mapping[str, _Check], within: str = ""
) -> None:
    """Raise `InventoryError` for a field that is not known, or whose value is of another type."""
    for field, value in fields.items():
        if field not in types:
            close = difflib.get_close_matches(field, types, n=1)
            question = f"did you mean {close[0]!r}? " if close else ""
            raise InventoryError(
                f"board {name!r}, {within}{field}: not a field; {question}known: {', '.join(types)}"
            )
        fits, words = types[field]
        if not fits(value):
            raise InventoryError(f"board {name!r}, {within}{field}: {value!r:.80} is not {words}")
