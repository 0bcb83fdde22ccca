"""Files and lines spoilt on purpose, with knowledge of what they are: bytes in, bytes out.

Random bytes alone are refused at the first check; these mutations get past it. Each takes its
choices from a generator, so that a case can be made again from its seed.
"""

from __future__ import annotations

import contextlib
import json
import random
import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# What would betray that something in a file was run, imported or written to.
HOSTILE_TEXTS = (
    "__import__('os').system('touch executed')",
    "; touch executed; #",
    "$(touch executed)",
    "../../executed",
    "/proc/self/mem",
    "antigravity",
    "os.system",
    "{0.__class__}",
    "%s%n%d",
    "<script>alert(1)</script>",
    "'; DROP TABLE samples; --",
)
_STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 2**31, 2**63, -(2**63), 2**64, 10**30, 10**400),
    *(0.5, 1e-320, 1e300, 1.7e308, -0.0, float("nan"), float("inf"), -float("inf")),
    *("", " ", "0", "NaN", "none", "\0", "\ud800", "\u202e", "x" * 10_000, *HOSTILE_TEXTS),
    *([], {}, [[]], [None], [1, "x"], {"": None}, {"op": []}, [0] * 1000),
)


def strange(rng: random.Random) -> Any:
    """A value that nobody expects where it comes."""
    if rng.random() < 0.05:
        value: Any = 0
        for _ in range(rng.choice([20, 200, 900])):
            value = [value] if rng.random() < 0.5 else {"a": value}
        return value
    return rng.choice(_STRANGE)


def mutate_value(value: Any, rng: random.Random) -> Any:
    """A JSON value, changed in one place."""
    value = json.loads(json.dumps(value))
    places: list[tuple[Any, Any]] = list(_places(value))
    if not places:
        return strange(rng)
    holder, key = rng.choice(places)
    what = rng.randrange(9)
    if what <= 2:
        holder[key] = strange(rng)
    elif what == 3:
        other, place = rng.choice(places)  # possibly what it lies in: then a copy of the whole
        holder[key] = json.loads(json.dumps(other[place]))
    elif what == 4:
        del holder[key]
    elif what == 5 and isinstance(holder, dict):
        holder[rng.choice(["", "x", *map(str, holder)])] = holder.pop(key)
    elif what == 6 and isinstance(holder, list):
        holder.extend([holder[key]] * rng.choice([1, 2, 500]))
    elif what == 7 and isinstance(holder[key], int | float):
        holder[key] = holder[key] * rng.choice([-1, 2, 0.5, 1000, 1e12]) + rng.choice([0, 1, -1])
    else:
        other, place = rng.choice(places)
        holder[key], other[place] = other[place], holder[key]
        try:
            json.dumps(value)
        except (ValueError, RecursionError):  # a value cannot hold itself
            return strange(rng)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each holder and key in a value, however deep, those of a value behind its own."""
    inside = [_own_places(value)]
    while inside:
        for holder, key in inside[-1]:
            yield holder, key
            inside.append(_own_places(holder[key]))
            break
        else:
            inside.pop()


def _own_places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else []
    keys += range(len(value)) if isinstance(value, list) else []
    return ((value, key) for key in keys)


def mutate_json(text: bytes, rng: random.Random) -> bytes:
    """A JSON document, changed in its values or in its letters."""
    if rng.random() < 0.75:
        value = json.loads(text)
        try:
            for _ in range(rng.choice([1, 1, 1, 2, 4])):
                value = mutate_value(value, rng)
            return json.dumps(value).encode()
        except (RecursionError, OverflowError):  # deeper or larger than we can write ourselves
            return b"[" * 100_000
    what = rng.randrange(7)
    at = rng.randrange(len(text) + 1)
    if what == 0:
        return text[:at]
    if what == 1:
        return text[at:]
    if what == 2:
        return text[:at] + rng.randbytes(rng.randrange(1, 9)) + text[at:]
    if what == 3:
        return text + rng.choice([b"\r", b"\0", b"}", text, b" " * 100_000])
    if what == 4:
        return rng.choice([b"[", b'{"a":']) * rng.choice([100, 100_000])
    if what == 5:
        return rng.choice(
            [b"", b"\xff\xfe", b"\xef\xbb\xbf" + text, text.decode().encode("utf-16")]
        )
    return b'{"visit": ' + b"9" * rng.choice([10, 5000, 100_000]) + b"}"


def mutate_line(line: bytes, rng: random.Random) -> bytes:
    """A line of a protocol of JSON lines; it stays one line."""
    return mutate_json(line, rng).replace(b"\n", b" ")


def mutate_bytes(data: bytes, rng: random.Random, unit: int) -> bytes:
    """Bytes flipped, cut off, moved; `unit` is the size of what is swapped (a page)."""
    found = bytearray(data)
    what = rng.randrange(6)
    if what <= 1:
        for _ in range(rng.choice([1, 1, 2, 8, 64])):
            # Sizes and offsets, the vulnerable part, are at the two ends.
            at = rng.choice([rng.randrange(len(found)), rng.randrange(300), -rng.randrange(1, 300)])
            found[at % len(found)] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    elif what == 2:
        del found[rng.randrange(len(found)) :]
    elif what == 3:
        one, two = (unit * rng.randrange(max(1, len(found) // unit)) for _ in range(2))
        found[one : one + unit], found[two : two + unit] = (
            found[two : two + unit],
            found[one : one + unit],
        )
    elif what == 4:
        at = unit * rng.randrange(max(1, len(found) // unit))
        found[at : at + unit] = rng.choice([bytes(unit), rng.randbytes(unit), found[:unit]])
    else:
        at = rng.randrange(len(found))
        found[at:at] = rng.choice([rng.randbytes(rng.randrange(1, 64)), bytes(unit)])
    return bytes(found)


def mutate_model(data: bytes, rng: random.Random) -> bytes:
    """A TFLite file with other offsets, vector sizes and tables, or other bytes."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng, 64)
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        if rng.random() < 0.2:  # an entry of the lists in which tables say where fields are
            at = 2 * rng.randrange(len(found) // 2)
            struct.pack_into("<H", found, at, rng.choice([0, 2, 4, 6, 8, 255, 65_535]))
            continue
        at = 4 * rng.choice([rng.choice(_pointers(found)), rng.randrange(len(found) // 4)])
        old = struct.unpack_from("<I", found, at)[0]
        value = rng.choice(
            [
                *(0, 1, 4, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 4, len(data), old),
                *(old + rng.choice([-8, -4, -1, 1, 4, 8, 64]), old * 2, rng.randrange(len(data))),
                # To where another offset leads: shared, overlapping or in a circle.
                4 * rng.choice(_pointers(found)) - at,
            ]
        )
        struct.pack_into("<I", found, at, value % 2**32)
    return bytes(found)


def _pointers(data: bytearray) -> list[int]:
    """The words (by number) that can be offsets or sizes within the file."""
    words = memoryview(data[: len(data) // 4 * 4]).cast("I")
    return [i for i, word in enumerate(words) if 0 < word < len(data)] or [0]


# Statements that only somebody who means it would run: what reads the tables runs what they say.
_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT "
_HOSTILE_SCHEMA = (
    "DROP TABLE documents; CREATE VIEW documents AS "
    + _ENDLESS
    + "'plan' AS name, i AS content FROM n",
    "DROP TABLE samples; CREATE VIEW samples AS "
    + _ENDLESS
    + "i AS entry, 0 AS run, i AS round, 0 AS number, 0 AS warmup, 1 AS session, 0.0 AS at, "
    "1 AS repeats, 1.0 AS seconds FROM n",
    "ALTER TABLE documents ADD COLUMN more AS (hex(zeroblob(10000000)))",
    "DROP TABLE documents; CREATE TABLE documents (name TEXT PRIMARY KEY, "
    "content AS (hex(zeroblob(10000000)))); INSERT INTO documents VALUES ('plan')",
    "CREATE TRIGGER t AFTER INSERT ON sessions BEGIN DELETE FROM samples; END",
    "CREATE INDEX i ON documents (hex(zeroblob(1000000)))",
    "CREATE TABLE more (x); INSERT INTO more VALUES (zeroblob(1000000))",
    "DROP TABLE evidence; CREATE VIRTUAL TABLE evidence USING fts5(session, content)",
)


def mutate_database(path: Path, rng: random.Random) -> None:
    """An SQLite file of ours, changed in its bytes, its pages, its rows or its documents."""
    if rng.random() < 0.4:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng, 4096))
        return
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.text_factory = bytes  # what is there need not be text
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("PRAGMA synchronous = OFF")
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            edit = rng.choice(_EDITS)
            # An earlier edit may have left no rows, or more nesting than can be read.
            with contextlib.suppress(
                sqlite3.Error, ValueError, OverflowError, IndexError, RecursionError
            ):
                edit(connection, rng)
            if edit is _edit_schema:  # what it made may never end when it is read
                break


def _edit_document(connection: sqlite3.Connection, rng: random.Random) -> None:
    table, column = rng.choice(
        [("documents", "content")] * 3
        + [("entries", "content"), ("sessions", "conditions"), ("evidence", "content")]
    )
    rows = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
    number, text = rng.choice(rows)
    changed = mutate_json(text, rng)
    as_text = changed.decode(errors="surrogateescape") if rng.random() < 0.95 else changed
    connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (as_text, number))


def _edit_cell(connection: sqlite3.Connection, rng: random.Random) -> None:
    table, column = _column(connection, rng)
    value = strange(rng)
    if isinstance(value, list | dict):
        value = json.dumps(value)
    if rng.random() < 0.1:
        value = rng.randbytes(rng.randrange(20))
    where = ""
    if rng.random() < 0.7:
        size = connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]
        key, row = rng.choice(
            [(column, rng.randrange(max(1, size)))] * 2 + [(_columns(connection, table)[0], 0)]
        )
        where = f" WHERE {key} = (SELECT {key} FROM {table} LIMIT 1 OFFSET {row})"
    connection.execute(f"UPDATE OR IGNORE {table} SET {column} = ?{where}", (value,))


def _edit_rows(connection: sqlite3.Connection, rng: random.Random) -> None:
    table, column = _column(connection, rng)
    condition = f"{column} = (SELECT {column} FROM {table} ORDER BY RANDOM() LIMIT 1)"
    connection.execute(
        rng.choice(
            [
                f"DELETE FROM {table}",
                f"DELETE FROM {table} WHERE {condition}",
                f"UPDATE OR REPLACE {table} SET {column} = {column} + 1",
                f"UPDATE OR REPLACE {table} SET {column} = {column} * -1 WHERE {condition}",
                f"UPDATE OR REPLACE {table} SET {column} = {column} * 1e300 WHERE {condition}",
                "UPDATE entries SET role = 'calibration'",
                "UPDATE entries SET role = 'operator'",
                "UPDATE samples SET run = run + 1000000",
                "UPDATE documents SET name = 'result' WHERE name = 'plan'",
            ]
        )
    )


def _edit_schema(connection: sqlite3.Connection, rng: random.Random) -> None:
    table, column = _column(connection, rng)
    connection.executescript(
        rng.choice(
            [
                f"DROP TABLE {table}",
                f"ALTER TABLE {table} RENAME COLUMN {column} TO other",
                f"ALTER TABLE {table} DROP COLUMN {column}",
                f"ALTER TABLE {table} ADD COLUMN other",
                f"PRAGMA user_version = {rng.randrange(5)}",
                *_HOSTILE_SCHEMA,
            ]
        )
    )


_EDITS: list[Callable[[sqlite3.Connection, random.Random], None]] = [
    *[_edit_document] * 6,
    *[_edit_cell] * 3,
    *[_edit_rows] * 2,
    _edit_schema,
]


def _column(connection: sqlite3.Connection, rng: random.Random) -> tuple[str, str]:
    table = rng.choice(["documents", "entries", "sessions", "evidence", "samples"])
    return table, rng.choice(_columns(connection, table))


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1].decode() for row in connection.execute(f"PRAGMA table_info({table})")] or ["x"]
