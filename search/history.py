"""The trials of a search in a file of JSON lines that survives any kill.

A search is resumed by replay: begun again with the same seed, it asks for the same networks, the
finished ones are answered from the file, and so it arrives where it was.

The file's first line holds the format, its version, and the identity of the run. Each further
line is one trial with the CRC-32 of its fields. A line is one write, synced to the disk. Version 2
also has trials on a part of the holdout (`images`); files of version 1 are read and continued.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

from ..devices.errors import InUse, RunFolderError, storage_errors
from .space import Architecture
from .trial import Trial

FORMAT = "boardfit search history"
VERSION = 2
READABLE = (1, 2)
FILE_NAME = "history.jsonl"

Identity = Mapping[str, str | int | float]


class History:
    """The trials of one run, in an append-only file that survives any kill.

    `identity` says what the run was begun with (space, seed, target, ...): a file of another run
    is refused. Raises `RunFolderError` for that and for damage (naming the line), `InUse` where
    another process has the file open, `StorageError` where it cannot be written. A torn last line
    is what a kill leaves behind: it is cut off. Use it as a context manager.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.path = folder / FILE_NAME
        self.trials: list[Trial] = []
        self._version = VERSION
        header = {"format": FORMAT, "version": VERSION, "identity": dict(identity)}
        with storage_errors(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InUse(
                    f"{self.path} is open in another process; wait for that search to end, or "
                    "choose another run folder"
                ) from error
            self._read(_line(header))
        except BaseException:
            os.close(self._file)
            raise

    def append(self, trial: Trial) -> None:
        """Add a trial; when this returns it is on the disk."""
        if trial.number != len(self.trials):
            raise ValueError(f"trial {trial.number} cannot follow {len(self.trials)} others")
        if trial.images is not None and self._version < 2:
            raise RunFolderError(
                f"{self.path} was begun by an older program, which could not race; go on without "
                "racing, or choose another run folder"
            )
        self._write(_encode(trial))
        self.trials.append(trial)

    def close(self) -> None:
        """Let other processes open the file. Closing twice does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> History:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def _read(self, header: bytes) -> None:
        content = self.path.read_bytes()
        if not content.endswith(b"\n"):
            whole = content.rfind(b"\n") + 1
            if whole == 0 and not header.startswith(content):
                raise RunFolderError(f"{self.path} is not a search history of boardfit")
            with storage_errors(self.path):
                os.ftruncate(self._file, whole)
            content = content[:whole]
        if not content:
            self._write(header)
            return
        first, *lines = content.splitlines(keepends=True)
        if first not in _headers(header):
            raise RunFolderError(f"{self.path}: {_difference(first, header)}")
        self._version = _headers(header)[first]
        seen: set[tuple[Architecture, int | None]] = set()
        for number, line in enumerate(lines):
            trial = _decode(line)
            if trial is None or not self._fits(trial, number, seen):
                raise RunFolderError(
                    f"{self.path} is damaged in line {number + 2}; cut the file off before that "
                    "line and the search goes on from there"
                )
            seen.add((trial.architecture, trial.images))
            self.trials.append(trial)

    def _fits(self, trial: Trial, number: int, seen: set[tuple[Architecture, int | None]]) -> bool:
        known = (trial.architecture, trial.images) in seen
        return trial.number == number and not known and (trial.images is None or self._version > 1)

    def _write(self, line: bytes) -> None:
        end = os.lseek(self._file, 0, os.SEEK_END)
        with storage_errors(self.path):
            try:
                written = os.write(self._file, line)
                if written < len(line):  # a full disk takes a part first, the rest fails
                    os.write(self._file, line[written:])
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, end)
                raise


def _line(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _headers(ours: bytes) -> dict[bytes, int]:
    """The first lines that a file of this run may have, with the version that each says."""
    return {_line({**json.loads(ours), "version": version}): version for version in READABLE}


def _encode(trial: Trial) -> bytes:
    content = asdict(trial)
    if trial.images is None:  # so that lines of both versions are alike
        del content["images"]
    return _line({**content, "crc32": zlib.crc32(_line(content))})


def _decode(line: bytes) -> Trial | None:
    """The trial of a line, `None` where it is not exactly what `_encode` would write."""
    try:
        content = json.loads(line)
        content["architecture"] = tuple(content["architecture"])
        names = [field.name for field in fields(Trial) if field.name in content]
        trial = Trial(**{name: content[name] for name in names})
        return trial if _encode(trial) == line else None
    except (ValueError, TypeError, KeyError):
        return None


def _difference(found: bytes, expected: bytes) -> str:
    """What is wrong with a first line, in the user's terms."""
    ours = json.loads(expected)
    try:
        theirs = json.loads(found)
        if theirs["format"] != ours["format"]:
            raise ValueError
        if theirs["version"] not in READABLE:
            return (
                f"written in version {theirs['version']} of the format, this program reads up to "
                f"version {ours['version']}; use the program that wrote it, or another run folder"
            )
        old, new = theirs["identity"], ours["identity"]
        changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if changed:
            words = "; ".join(f"{key} {old.get(key)}, now {new.get(key)}" for key in changed)
            return f"this run was begun with other settings ({words}); choose another run folder"
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return "line 1 is not that of a search history of boardfit; choose another run folder"
