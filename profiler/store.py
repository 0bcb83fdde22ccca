"""Every sample on disk the moment it counts: one SQLite file is the journal and the record.

The file holds what was to be measured (`entries`), under which conditions (`sessions`), each
sample in seconds (`samples`), what was seen of the board meanwhile (`evidence`), and documents
about them (`documents`, JSON). A visit is committed
whole or not at all; its primary key makes a second copy impossible. Nothing that can be computed
from the samples is the truth: statistics are derived on reading.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..devices.conditions import mismatch
from ..devices.errors import ConditionsChanged, TableFileError
from ..devices.files import exclusive
from .schedule import LONGEST_INFERENCE, PROBE_ROUND, SHORTEST_INFERENCE
from .store_file import SCHEMA, damage, lock_of, reach, write_empty
from .visits import Visit

SUSTAINED_RUN = -1  # a session under lasting load belongs to no run of the campaign
_LARGEST = 1e18  # of any number in a file
_MOST_RUNS = 10_000  # of a file; a table has three, a precise profile thirty
_POSITIVE = ("reference", "best")  # no inference takes no time


@dataclass(frozen=True)
class Entry:
    """Something to be measured: `role` says what for (operator, calibration, validation, model,
    reference), `content` describes it well enough to be emitted again."""

    key: str
    role: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class Visits:
    """All visits to the entries, one row each: the smallest sample of the visit in seconds."""

    entry: NDArray[np.int64]
    run: NDArray[np.int64]
    round: NDArray[np.int64]
    seconds: NDArray[np.float64]

    def before(self, run: int) -> Visits:
        """Those of the runs before a run."""
        mine = self.run < run
        return Visits(self.entry[mine], self.run[mine], self.round[mine], self.seconds[mine])


@dataclass(frozen=True)
class Session:
    """A worker process that has ended, with all that it saw: `visits` are pairs of a round and a
    visit, `started` is the time (UTC, ISO 8601) at which it began."""

    started: str
    conditions: Mapping[str, Any]
    visits: tuple[tuple[int, Visit], ...]
    evidence: tuple[Mapping[str, Any], ...]


class Store:
    """An open file of samples; a context manager. Use `Store.create` or `Store.open`."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        lock: contextlib.ExitStack,
        writes: bool,
    ) -> None:
        self._connection = connection
        self._writes = writes
        self._lock = lock
        self.path = path

    @classmethod
    def create(cls, path: Path | None) -> Store:
        """Make an empty file, or one in memory where `path` is None.

        Raises `StorageError`, `InUse` where another process writes it, and `TableFileError` where
        there is one already.
        """
        lock = contextlib.ExitStack()
        if path is None:
            connection = sqlite3.connect(":memory:", isolation_level=None)
            connection.executescript(SCHEMA)
            return cls(connection, Path(":memory:"), lock, True)
        lock.enter_context(exclusive(lock_of(path)))
        try:
            if path.exists():
                raise TableFileError(f"{path} exists; give another path, or remove it")
            write_empty(path)
            connection = reach(path, write=True)
        except BaseException:
            lock.close()
            raise
        return cls(connection, path, lock, True)

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Store:
        """Open a file that exists.

        Raises `TableFileError` where it is missing, foreign, damaged, or of another version,
        `InUse` where it is to be written and another process does so, and `StorageError` where it
        cannot be written.
        """
        if not path.is_file():
            raise TableFileError(
                f"there is no table {path}; build one with `boardfit profile --space NAME`"
            )
        if not os.access(path, os.R_OK):
            raise TableFileError(f"cannot read {path}; ask whom it belongs to")
        lock = contextlib.ExitStack()
        if write:
            lock.enter_context(exclusive(lock_of(path)))
        try:
            connection = reach(path, write)
        except BaseException:
            lock.close()
            raise
        return cls(connection, path, lock, write)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was committed is in it. Closing twice does nothing."""
        with self._lock:
            if self._writes:
                # At rest a table is one file. Where somebody reads it just now, or the disk is
                # full, the side files stay; they do no harm.
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA journal_mode = DELETE")
                self._writes = False
            self._connection.close()

    def begin(self, entries: Iterable[Entry], plan: Mapping[str, Any]) -> None:
        """Write down what is to be measured, and the document "plan", in one transaction."""
        with self._transaction():
            self._insert(entries)
            self._connection.execute(
                "INSERT INTO documents VALUES ('plan', ?)", (json.dumps(plan, sort_keys=True),)
            )

    def add(self, entries: Iterable[Entry]) -> None:
        """Write down more that is to be measured, in one transaction."""
        with self._transaction():
            self._insert(entries)

    def _insert(self, entries: Iterable[Entry]) -> None:
        rows = [(e.key, e.role, json.dumps(e.content, sort_keys=True)) for e in entries]
        self._connection.executemany(
            "INSERT INTO entries (key, role, content) VALUES (?, ?, ?)", rows
        )

    def entries(self) -> dict[int, Entry]:
        """All entries by their number."""
        rows = self._all("SELECT id, key, role, content FROM entries ORDER BY id")
        return {
            number: Entry(key, role, _object(content, self.path))
            for number, key, role, content in rows
        }

    def begin_session(self, run: int, started: str, conditions: Mapping[str, object]) -> int:
        """Record a fresh worker process that works on a run; return the session's number.

        Raises `ConditionsChanged` where the conditions differ from those of earlier sessions.
        """
        with self._transaction():
            return self._insert_session(run, started, conditions)

    def _insert_session(self, run: int, started: str, conditions: Mapping[str, object]) -> int:
        earlier = self.conditions()
        if earlier is not None and (differences := mismatch(earlier, conditions)):
            raise ConditionsChanged(
                f"{self.path} was measured under other conditions: {'; '.join(differences)}. "
                "Restore them, or begin a new file: values under different conditions are never "
                "mixed"
            )
        cursor = self._connection.execute(
            "INSERT INTO sessions (run, started, conditions) VALUES (?, ?, ?)",
            (run, started, json.dumps(conditions, sort_keys=True)),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def adopt(self, run: int, sessions: Iterable[Session]) -> None:
        """Add whole sessions of a run that were measured elsewhere, in one transaction.

        Raises `ConditionsChanged` where the conditions differ from those of earlier sessions.
        """
        numbers = {entry.key: number for number, entry in self.entries().items()}
        with self._transaction():
            for session in sessions:
                number = self._insert_session(run, session.started, session.conditions)
                for round_number, visit in session.visits:
                    self._insert_visits([(numbers[visit.key], visit)], number, run, round_number)
                self._insert_evidence(number, session.evidence)

    def conditions(self) -> dict[str, Any] | None:
        """The conditions that all samples share, or None before the first session."""
        row = self._one("SELECT conditions FROM sessions ORDER BY id LIMIT 1")
        return None if row is None else _object(row[0], self.path)

    def sessions(self) -> list[tuple[int, int, str]]:
        """All sessions: number, run, and the time (UTC, ISO 8601) of the beginning.

        Raises `TableFileError` where one cannot be.
        """
        rows = self._all("SELECT id, run, started FROM sessions ORDER BY id")
        for _, run, started in rows:  # a column of SQLite takes any type
            if (
                not isinstance(run, int)
                or not SUSTAINED_RUN <= run < _MOST_RUNS
                or not isinstance(started, str)
            ):
                raise TableFileError(
                    f"{self.path} is damaged: a session of the run {run!r:.40} cannot be; build "
                    "it again, or restore a copy"
                )
        return rows

    def evidence(self) -> list[dict[str, Any]]:
        """What was seen of the board between the visits, each with its session and run.

        Raises `TableFileError` where a time in it is none.
        """
        rows = self._all(
            "SELECT session, run, content FROM evidence JOIN sessions ON sessions.id = session "
            "ORDER BY evidence.rowid"
        )
        return [
            {
                "session": session,
                "run": run,
                **sound_evidence(_object(content, self.path), self.path),
            }
            for session, run, content in rows
        ]

    def commit(
        self,
        visits: Sequence[tuple[int, Visit]],
        *,
        session: int,
        run: int,
        round_number: int,
        evidence: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Add visits, each with its entry, and evidence about the board, in one transaction.

        Visits of `PROBE_ROUND` are warm-up as a whole.
        """
        self.commit_rounds({round_number: visits}, session=session, run=run, evidence=evidence)

    def commit_rounds(
        self,
        rounds: Mapping[int, Sequence[tuple[int, Visit]]],
        *,
        session: int,
        run: int,
        evidence: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Add visits of several rounds as `commit` does those of one."""
        with self._transaction():
            for number, visits in rounds.items():
                self._insert_visits(visits, session, run, number)
            self._insert_evidence(session, evidence)

    def _insert_visits(
        self, visits: Sequence[tuple[int, Visit]], session: int, run: int, round_number: int
    ) -> None:
        rows: list[tuple[Any, ...]] = []
        probe = int(round_number == PROBE_ROUND)
        for entry, visit in visits:
            values = [(1, 1, seconds) for seconds in visit.warmup]
            values += [(2 * probe, visit.repeats, seconds) for seconds in visit.seconds]
            rows += [
                (entry, run, round_number, i, warmup, session, visit.at, repeats, seconds)
                for i, (warmup, repeats, seconds) in enumerate(values)
            ]
        self._connection.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def _insert_evidence(self, session: int, evidence: Iterable[Mapping[str, Any]]) -> None:
        self._connection.executemany(
            "INSERT INTO evidence VALUES (?, ?)",
            [(session, json.dumps(content, sort_keys=True)) for content in evidence],
        )

    def visits(self, run: int | None = None, *, probes: bool = False) -> Visits:
        """All finished visits (of one run, or of all), in the order of entry, run and round.

        Each with its smallest sample; the probe rounds are left out unless asked for.
        """
        rows = self._all(
            "SELECT entry, run, round, MIN(seconds) FROM samples "
            "WHERE (warmup = 0 OR (:probes AND warmup = 2)) "
            "AND (:run IS NULL OR run = :run) "
            "GROUP BY entry, run, round ORDER BY entry, run, round",
            {"run": run, "probes": probes},
        )
        columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
        try:  # a column of SQLite takes any type
            entry, number, round_number = (np.array(column, np.int64) for column in columns[:3])
            seconds = np.array(columns[3], np.float64)
            if not ((seconds >= SHORTEST_INFERENCE) & (seconds <= LONGEST_INFERENCE)).all():
                raise ValueError("no inference takes as long as it says")
        except (TypeError, ValueError, OverflowError) as error:
            raise self._damaged_sample(error) from error
        return Visits(entry, number, round_number, seconds)

    def board_seconds(self, run: int) -> float:
        """Seconds that the board has spent in inferences before this run."""
        row = self._one(
            "SELECT TOTAL(seconds * repeats) FROM samples WHERE run < :run", {"run": run}
        )
        return 0.0 if row is None else float(row[0])

    def visit_times(self, run: int) -> list[tuple[int, int, int, float, float]]:
        """Each visit of a run: entry, round, session, the board's time at which it began, and the
        seconds that it spent in inferences. Raises `TableFileError` where one cannot be."""
        rows = self._all(
            "SELECT entry, round, MIN(session), MIN(at), TOTAL(seconds * repeats) FROM samples "
            "WHERE run = :run GROUP BY entry, round ORDER BY entry, round",
            {"run": run},
        )
        for row in rows:
            self._check_numbers(row)
        return rows

    def _check_numbers(self, row: tuple[Any, ...]) -> None:
        if not all(isinstance(value, int | float) and abs(value) <= _LARGEST for value in row):
            raise self._damaged_sample(f"one of {row!r:.60} is no number that can be")

    def _damaged_sample(self, why: object) -> TableFileError:
        return TableFileError(
            f"{self.path} is damaged: a sample in it cannot be read ({why}); build it again, or "
            "restore a copy"
        )

    def first_moments(self) -> dict[int, tuple[int, float]]:
        """Of each session with samples its run, and the board's time of the first. Raises
        `TableFileError` where one cannot be."""
        rows = self._all("SELECT session, MIN(run), MIN(at) FROM samples GROUP BY session")
        for row in rows:
            self._check_numbers(row)
        return {session: (run, float(at)) for session, run, at in rows}

    def samples(self, key: str | None = None) -> list[tuple[Any, ...]]:
        """Every sample (of one entry, or of all): key, role, run, round, number, warmup, session,
        at, repeats, seconds."""
        return self._all(
            "SELECT key, role, run, round, number, warmup, session, at, repeats, seconds "
            "FROM samples JOIN entries ON entries.id = entry "
            "WHERE :key IS NULL OR key = :key ORDER BY entry, run, round, number",
            {"key": key},
        )

    def document(self, name: str) -> dict[str, Any] | None:
        """A JSON document of the file, or None."""
        row = self._one("SELECT content FROM documents WHERE name = :name", {"name": name})
        return None if row is None else _object(row[0], self.path)

    def write_document(self, name: str, content: Mapping[str, Any]) -> None:
        """Write or replace a JSON document."""
        with self._transaction():
            self._connection.execute(
                "INSERT OR REPLACE INTO documents VALUES (?, ?)",
                (name, json.dumps(content, sort_keys=True)),
            )

    def _all(self, query: str, values: Mapping[str, object] | None = None) -> list[tuple[Any, ...]]:
        with damage(self.path):
            return self._connection.execute(query, values or {}).fetchall()

    def _one(
        self, query: str, values: Mapping[str, object] | None = None
    ) -> tuple[Any, ...] | None:
        rows = self._all(query, values)
        return rows[0] if rows else None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with damage(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk may have ended it already
                    self._connection.execute("ROLLBACK")
                raise


def sound_evidence(evidence: dict[str, Any], source: object) -> dict[str, Any]:
    """A piece of evidence as it is. Raises `TableFileError` where a time in it, by which visits
    are judged, cannot be; `source` is where it is from."""
    moment: tuple[str, ...] = ("at",) if "reference" in evidence else ()
    if "slowed_by" in evidence:  # what the board says of itself is all numbers, but for that
        moment = ("at", "throttled", *(name for name in evidence if name != "slowed_by"))
    for name in ("reference", "best", "wall", "inside", "warmup_seconds", *moment):
        if name not in evidence and name not in moment:
            continue
        value: Any = evidence.get(name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not abs(value) <= _LARGEST or (name in _POSITIVE and value <= 0):
            raise TableFileError(
                f"{source} is damaged: {name} in what was seen of the board is {value!r:.60}; "
                "build it again, or restore a copy"
            )
    batched = evidence.get("batched", [1, 1])
    if not (isinstance(batched, list) and list(map(type, batched)) == [int, int]):
        raise TableFileError(
            f"{source} is damaged: entries that came together are {batched!r:.60}; build it again, "
            "or restore a copy"
        )
    return evidence


def _object(text: str, path: Path, kind: type = dict) -> Any:
    try:
        content = json.loads(text)
        if not isinstance(content, kind):
            raise ValueError(f"{kind.__name__} expected")
    except (ValueError, TypeError, RecursionError) as error:
        raise TableFileError(
            f"{path} is damaged: a document in it cannot be read ({error}); build it again, or "
            "restore a copy"
        ) from error
    return content
