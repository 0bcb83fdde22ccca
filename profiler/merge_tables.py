"""One table from several of the same board: other spaces, or one plan that was measured in parts.

What is united are samples, not results. A session (see `session_identity.py`) that several files
hold counts once. Runs that share a session are one run. A network that calibrates one table and
judges another only judges: otherwise the merged table would be judged by what it was fitted to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from ..devices.conditions import mismatch
from ..devices.errors import ConditionsChanged, InputError, TableFileError
from .board_record import board_record
from .judge import judge
from .new_store import whole_store
from .session_identity import Identity, session_identities
from .store import Entry, Store
from .table import LookupTable
from .table_placement import united
from .table_result import describe_result
from .visits import Visit

Row = tuple[Any, ...]  # round, number, warmup, session, at, repeats, seconds


@dataclass(frozen=True)
class _Part:
    """What is taken from one file: `runs` maps a run to its sessions, `rows` (run, key) to its
    samples, `evidence` a session to what was seen of the board."""

    table: LookupTable
    schedule: Mapping[str, Any]
    donor: Any
    entries: tuple[Entry, ...]
    conditions: Mapping[str, Any]
    sessions: Mapping[int, Identity]
    runs: Mapping[int, frozenset[Identity]]
    rows: Mapping[tuple[int, str], tuple[Row, ...]]
    evidence: Mapping[int, tuple[Mapping[str, Any], ...]]


def merge_tables(out: Path, paths: Sequence[Path]) -> LookupTable:
    """Unite finished tables in a new one at `out`, which appears whole or not at all.

    The calibration is fitted to all calibration networks and judged on all held-out ones. Raises
    `ConditionsChanged` where the tables were measured under different conditions, and
    `TableFileError` where one cannot be read or `out` is there already.
    """
    if not paths:
        raise InputError("nothing to merge; name the tables after the file that is to be made")
    parts = [_read(path) for path in paths]
    _require_equal_conditions(parts)
    runs = _unite_runs(parts)
    entries = _unite_entries(parts)
    with whole_store(out) as store:
        plan = {
            "kind": "table",
            "provenance": _provenance(parts),
            "schedule": {**parts[0].schedule, "runs": len(runs)},
            "entries": len(entries),
            **({"donor": donor} if (donor := _donor(parts)) else {}),
        }
        store.begin(entries, plan)
        _copy(store, parts, runs)
        judged = judge(store, runs=len(runs))
        outside = united(part.table for part in parts)
        record = board_record(store)
        result = describe_result(judged, runs=len(runs), outside=outside, record=record)
        store.write_document("result", result)
        LookupTable.open(store.path)  # what could not be read is not made
    return LookupTable.open(out)


def spaces_of(provenance: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The search spaces that a table was built for, each with its options.

    Several for a merged table, none for one that was imported.
    """
    parts = [part["provenance"] for part in provenance.get("parts", [])] or [provenance]
    found: list[tuple[str, dict[str, Any]]] = []
    for part in parts:
        space = part.get("space"), dict(part.get("options") or {})
        if space[0] is not None and space not in found:
            found.append(space)
    return found


def _read(path: Path) -> _Part:
    table = LookupTable.open(path)  # says what is wrong with a file that is none, or not finished
    with Store.open(path) as store:
        try:
            return _read_store(store, table)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise TableFileError(
                f"{path} is damaged: its samples cannot be read ({error!r}); build it again, or "
                "restore a copy"
            ) from error


def _read_store(store: Store, table: LookupTable) -> _Part:
    # More entries, or a further run, may have been begun; they are no part of the result.
    entries = tuple(store.entries().values())[: table.entries]
    keys = {entry.key for entry in entries}
    samples = [row for row in store.samples() if int(row[2]) < table.runs and row[0] in keys]
    sessions = {
        number: identity
        for number, (run, identity) in session_identities(store).items()
        if run < table.runs
    }
    rows: dict[tuple[int, str], list[Row]] = {}
    runs: dict[int, set[Identity]] = {}
    for key, _, run, *row in samples:
        taken = (*map(int, row[:4]), float(row[4]), int(row[5]), float(row[6]))
        rows.setdefault((int(run), key), []).append(taken)
        runs.setdefault(int(run), set()).add(sessions[int(row[3])])
    evidence: dict[int, list[Mapping[str, Any]]] = {}
    for seen in store.evidence():
        content = {n: value for n, value in seen.items() if n not in {"session", "run"}}
        evidence.setdefault(seen["session"], []).append(content)
    plan = store.document("plan") or {}
    return _Part(
        table,
        dict(plan.get("schedule") or {}),
        plan.get("donor"),
        entries,
        store.conditions() or {},
        sessions,
        {run: frozenset(found) for run, found in runs.items()},
        {place: tuple(found) for place, found in rows.items()},
        {number: tuple(found) for number, found in evidence.items() if number in sessions},
    )


def _require_equal_conditions(parts: Sequence[_Part]) -> None:
    for part in parts if len(parts) > 1 else ():
        unknown = [name for name in ("board", "runtime") if part.conditions.get(name) is None]
        if unknown and "imported" in part.table.provenance:
            raise ConditionsChanged(
                f"{part.table.path} was imported without its {' and '.join(unknown)}, which may be "
                "any; import it again and say them, with --board and --runtime"
            )
    for part in parts[1:]:
        if differences := mismatch(parts[0].conditions, part.conditions):
            raise ConditionsChanged(
                f"{part.table.path} was measured under other conditions than "
                f"{parts[0].table.path}: {'; '.join(differences)}. Values under different "
                "conditions are never mixed; `boardfit table diff` compares them"
            )


def _donor(parts: Sequence[_Part]) -> Any:
    """The donor that lends prices to the parts, None where none does."""
    donors = {json.dumps(part.donor, sort_keys=True): part.donor for part in parts if part.donor}
    if len(donors) > 1:
        raise InputError(
            "two of the tables were transferred from different donors, whose prices cannot be "
            "united; merge those of one donor"
        )
    return next(iter(donors.values()), None)


def _unite_runs(parts: Sequence[_Part]) -> list[frozenset[Identity]]:
    """The runs of all parts, the earliest first; those that share a session are one."""
    united: list[frozenset[Identity]] = []
    for part in parts:
        for sessions in part.runs.values():
            same = [run for run in united if run & sessions]
            united = [run for run in united if run not in same]
            united.append(sessions.union(*same))
    return sorted(united, key=lambda run: min(run))


def _unite_entries(parts: Sequence[_Part]) -> list[Entry]:
    """The entries of all parts by key; what judges in one of them calibrates in none."""
    united: dict[str, Entry] = {}
    for entry in (entry for part in parts for entry in part.entries):
        if entry.key not in united or entry.role == "validation":
            united[entry.key] = entry
    return list(united.values())


def _copy(store: Store, parts: Sequence[_Part], runs: Sequence[frozenset[Identity]]) -> None:
    """Write the sessions, samples and evidence of all parts, each once."""
    numbers = {entry.key: number for number, entry in store.entries().items()}
    conditions = parts[0].conditions
    place = {identity: run for run, sessions in enumerate(runs) for identity in sessions}
    sessions = {
        identity: store.begin_session(place[identity], identity[0], conditions)
        for identity in sorted(place)
    }
    seen: set[Identity] = set()
    for part in parts:
        for number, identity in part.sessions.items():
            if identity not in seen:
                seen.add(identity)
                store.commit(
                    [],
                    session=sessions[identity],
                    run=place[identity],
                    round_number=0,
                    evidence=part.evidence.get(number, ()),
                )
    chosen: dict[tuple[int, str], tuple[_Part, tuple[Row, ...]]] = {}
    for part in parts:
        united = {run: place[min(found)] for run, found in part.runs.items()}
        for (run, key), rows in part.rows.items():
            best = chosen.get((united[run], key))
            if best is None or _fuller(rows) < _fuller(best[1]):
                chosen[united[run], key] = part, rows
    visits: dict[tuple[int, int, int], list[tuple[int, Visit]]] = {}
    for (run, key), (part, rows) in chosen.items():
        for (round_number, session), visit in visits_of(key, rows):
            place_of = run, round_number, sessions[part.sessions[session]]
            visits.setdefault(place_of, []).append((numbers[key], visit))
    for (run, round_number, session), found in sorted(visits.items(), key=lambda item: item[0]):
        store.commit(found, session=session, run=run, round_number=round_number)


def _fuller(rows: Sequence[Row]) -> tuple[float, ...]:
    """Smallest for what is kept of two records of one run: the fuller one, then the faster."""
    seconds = [row[6] for row in rows]
    return -len(rows), min(seconds), sum(seconds)


def visits_of(key: str, rows: Iterable[Row]) -> Iterable[tuple[tuple[int, int], Visit]]:
    """Samples as the visits that they were taken in, each with its round and session."""
    for (round_number, session), group in groupby(rows, key=lambda row: (row[0], row[3])):
        taken = list(group)
        warmup = tuple(row[6] for row in taken if row[2] == 1)
        timed = [row for row in taken if row[2] != 1]
        yield (
            (round_number, session),
            Visit(key, taken[0][4], warmup, tuple(row[6] for row in timed), taken[-1][5]),
        )


def _provenance(parts: Sequence[_Part]) -> dict[str, Any]:
    """What all parts have in common, and each part's own."""
    origins: dict[str, dict[str, Any]] = {}
    for part in parts:
        own = dict(part.table.provenance)
        for origin in own.pop("parts", None) or [
            {"table": part.table.path.name, "provenance": own}
        ]:
            origins[json.dumps(origin, sort_keys=True)] = origin
    listed = [origins[text] for text in sorted(origins, key=lambda t: (origins[t]["table"], t))]
    first = listed[0]["provenance"]
    common = {
        name: value
        for name, value in first.items()
        if all(origin["provenance"].get(name) == value for origin in listed)
    }
    names = dict.fromkeys(origin["provenance"].get("space") for origin in listed)
    spaces = " + ".join(str(name) for name in names if name is not None)
    return {**({"space": spaces} if spaces else {}), **common, "parts": listed}
