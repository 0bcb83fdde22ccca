"""The SQLite file of samples as a file: made, locked, reached, and checked before it is believed.

What is in it, and how it is asked, is `store.py`.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..devices.errors import InUse, TableFileError, storage_errors

APPLICATION_ID = 0x62666974  # "bfit", so that `file` and we know our own
VERSION = 2

SCHEMA = f"""
BEGIN;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {VERSION};
CREATE TABLE documents (name TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, role TEXT NOT NULL, content TEXT NOT NULL);
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, started TEXT NOT NULL, conditions TEXT NOT NULL);
CREATE TABLE evidence (session INTEGER NOT NULL REFERENCES sessions, content TEXT NOT NULL);
CREATE TABLE samples (
    entry INTEGER NOT NULL REFERENCES entries, run INTEGER NOT NULL, round INTEGER NOT NULL,
    number INTEGER NOT NULL,
    warmup INTEGER NOT NULL,  -- 0: counts, 1: warm-up inference, 2: sample of the probe round
    session INTEGER NOT NULL REFERENCES sessions,
    at REAL NOT NULL, repeats INTEGER NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (entry, run, round, number)) WITHOUT ROWID;
COMMIT;
"""

_ORPHANS = """
SELECT 1 FROM samples WHERE entry NOT IN (SELECT id FROM entries)
    OR session NOT IN (SELECT id FROM sessions) LIMIT 1
"""


def lock_of(path: Path) -> Path:
    """The side file that keeps second writers out of the file at `path`."""
    return path.with_name(path.name + ".lock")


def write_empty(path: Path) -> None:
    """Make a file that holds nothing yet; a killed process leaves none that is half made."""
    temporary = path.with_name(path.name + ".new")
    with storage_errors(path):
        try:
            temporary.unlink(missing_ok=True)
            with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as fresh:
                fresh.execute("PRAGMA journal_mode = MEMORY")  # no side file that could stay
                fresh.executescript(SCHEMA)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def reach(path: Path, write: bool) -> sqlite3.Connection:
    """Connect to a file and check that it is ours and whole."""
    uri = path.resolve().as_uri()

    def connect(how: str) -> sqlite3.Connection:
        connection = sqlite3.connect(f"{uri}?{how}", uri=True, isolation_level=None)
        try:
            _check(connection, path)
            if write:  # only now: a file that is not ours stays as it is
                connection.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            connection.close()
            raise
        return connection

    with damage(path):
        if write:
            return connect("mode=rw")
        try:
            return connect("mode=ro")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            if path.with_name(path.name + "-wal").exists():
                raise TableFileError(
                    f"the newest part of {path} lies beside it in {path.name}-wal, and cannot be "
                    "read in a folder that you may not write; copy the folder and open the copy"
                ) from error
            # In a folder that we may not write, SQLite cannot make its side files; where there is
            # none that would have to be read as well, the file can be read as it is.
            return connect("mode=ro&immutable=1")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise TableFileError(f"{path} is a database, but not one of boardfit's; check the path")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        raise TableFileError(
            f"{path} has format version {version}, this boardfit reads {VERSION}; use the "
            "boardfit that wrote it, or build it again"
        )
    # A file that is not trusted may bring expressions of its own (views, computed columns),
    # which run when it is read, for ever if they like. Ours has tables alone.
    connection.execute("PRAGMA trusted_schema = OFF")
    for kind, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        words = str(sql or "").upper()
        computed = re.search(r"\bAS\b|\bVIRTUAL\b|\bCHECK\b|\bDEFAULT\b|\bON\b", words)
        if kind not in {"table", "index"} or computed or (kind == "index" and sql is not None):
            raise TableFileError(
                f"{path} holds the {kind} {str(name)[:60]!r}, which boardfit did not write; build "
                "it again, or restore a copy"
            )
    if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise sqlite3.DatabaseError("its pages contradict each other")
    if connection.execute(_ORPHANS).fetchone():
        raise sqlite3.DatabaseError("a sample of something that it does not name")


@contextlib.contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a file into `StorageError`, `InUse`, or `TableFileError`."""
    try:
        with storage_errors(path):
            yield
    except (sqlite3.DatabaseError, OverflowError, UnicodeDecodeError) as error:
        if "database is locked" in str(error):
            raise InUse(
                f"another program holds {path}; wait for it to end, or end it, and run the same "
                "command again"
            ) from error
        raise TableFileError(
            f"{path} is not a table of boardfit's, or a damaged one ({error}); build it again, "
            "or restore a copy"
        ) from error
