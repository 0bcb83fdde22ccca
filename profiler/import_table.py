"""Make a table from a file: one that `export_table` wrote as JSON, or a public one.

Nothing in the file is believed before it was checked, and nothing is executed. What a file does
not say (the board, the runtime) is told by the caller or stays unknown.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..devices.errors import InputError, TableFileError
from .description import describe_layer, read_layer
from .export_table import FORMAT, VERSION
from .fragments import ROLE, Fragment, describe_fragment, read_fragment
from .judge import judge
from .new_store import whole_store
from .public_tables import (
    UNITS,
    PublicEntry,
    Unit,
    is_once_for_all,
    read_block,
    read_entries,
)
from .schedule import Schedule
from .store import Entry
from .table import LookupTable
from .table_result import describe_result
from .visits import Visit

SIZE_LIMIT = 256 * 1024**2  # bytes, unpacked
ENDINGS = (".csv", ".json", ".yaml", ".yml")
CONDITIONS = (
    "board", "soc", "machine", "cores", "system", "kernel", "governor", "runtime",
    "runtime_version", "threads", "core", "dtype",
)  # fmt: skip
RUNS_LIMIT = 10_000
ROLES = ("operator", ROLE, "calibration", "validation")

# Multiply-accumulates a second at batch 1. A microcontroller reaches some ten million, a large
# accelerator some ten tera in a block of a mobile network.
SLOWEST, FASTEST = 1e7, 2e13
_SLOWEST_ENTRY, _FASTEST_ENTRY = 1e5, 1e15


@dataclass(frozen=True)
class Imported:
    """What came of a file: the table, the speed that its entries imply (median, in
    multiply-accumulates a second; NaN for a table of ours), and the keys that were left out."""

    table: LookupTable
    speed: float
    skipped: tuple[str, ...]


def import_table(
    source: Path,
    out: Path,
    *,
    unit: Unit | None = None,
    conditions: Mapping[str, object] | None = None,
    skip_unknown: bool = False,
) -> Imported:
    """Make the table `out`, which appears whole or not at all, from the file `source`.

    `unit` is that of a public table where the file does not say it, `conditions` what is known
    of its board (names as in `CONDITIONS`). `skip_unknown` leaves out keys that name no block we
    know. Raises `InputError` where the file cannot be used, and `TableFileError` where `out` is
    there already.
    """
    text, ending, digest = _read(source)
    known = {name: value for name, value in (conditions or {}).items() if value is not None}
    if foreign := set(known) - set(CONDITIONS):
        raise ValueError(f"no condition is called {', '.join(sorted(foreign))}")
    if ending == ".json" and f'"{FORMAT}"' in text[:1000]:
        if known or unit is not None:
            raise InputError(
                f"{source} says its unit and conditions itself; leave these options out"
            )
        return Imported(_import_own(text, source, out), math.nan, ())
    entries, stated = read_entries(text, ending, str(source))
    if stated is not None and unit not in {None, stated}:
        raise InputError(f"{source} says that its times are in {stated}; leave --unit out")
    wanted = stated or unit
    if wanted is None:
        raise InputError(
            f"{source} does not say the unit of its times; the tables of ProxylessNAS and "
            "Once-for-all are in milliseconds: --unit ms"
        )
    fragments, skipped = _fragments(entries, source, skip_unknown)
    speed = _plausible(fragments, wanted, source)
    table = _write_public(
        out, fragments, UNITS[wanted], {name: known.get(name) for name in CONDITIONS},
        {"imported": source.name, "sha256": digest, "unit": wanted},
    )  # fmt: skip
    return Imported(table, speed, skipped)


def _read(source: Path) -> tuple[str, str, str]:
    """The text of a file (unpacked where it ends in .gz), its ending, and its SHA-256."""
    name = source.name.removesuffix(".gz")
    ending = Path(name).suffix
    if ending not in ENDINGS:
        raise InputError(f"{source}: the ending says the format; use {', '.join(ENDINGS)}")
    if not source.is_file():
        what = "is not an ordinary file" if source.exists() else "does not exist"
        raise InputError(f"cannot read {source}: it {what}; check the name")
    try:
        with source.open("rb") as file:
            stream = gzip.GzipFile(fileobj=file) if name != source.name else file
            data = stream.read(SIZE_LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {source}: {error}") from error
    if len(data) > SIZE_LIMIT:
        raise InputError(f"{source} is larger than {SIZE_LIMIT >> 20} MB; it should be a table")
    try:
        return data.decode("utf-8-sig"), ending, hashlib.sha256(data).hexdigest()
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not UTF-8 text (byte {error.start})") from error


# Public tables


def _fragments(
    entries: Sequence[PublicEntry], source: Path, skip_unknown: bool
) -> tuple[list[tuple[Fragment, PublicEntry]], tuple[str, ...]]:
    once_for_all = is_once_for_all(entry.key for entry in entries)
    found: dict[str, tuple[Fragment, PublicEntry]] = {}
    skipped = []
    for entry in entries:
        try:
            fragment = read_block(entry.key, once_for_all=once_for_all)
        except ValueError as error:
            if not skip_unknown:
                raise InputError(
                    f"{source}: {entry.key!r:.160} cannot be priced: {error}; --skip-unknown "
                    "leaves such entries out"
                ) from error
            skipped.append(entry.key)
            continue
        if fragment.signature in found:
            raise InputError(
                f"{source}: {entry.key!r:.160} and {found[fragment.signature][1].key!r:.160} are "
                "the same layers; remove one"
            )
        found[fragment.signature] = fragment, entry
    if not found:
        raise InputError(f"{source} holds no block that could be priced")
    return list(found.values()), tuple(skipped)


def _plausible(
    fragments: Sequence[tuple[Fragment, PublicEntry]], unit: Unit, source: Path
) -> float:
    """The median speed in multiply-accumulates a second. Raises `InputError` where no board has
    such a speed: the unit is wrong."""
    speeds = {
        entry.key: fragment.macs / (entry.mean * UNITS[unit])
        for fragment, entry in fragments
        if fragment.macs
    }
    if not speeds:
        return math.nan
    middle = float(np.median(list(speeds.values())))
    if not SLOWEST <= middle <= FASTEST:
        fitting = [
            name
            for name, scale in UNITS.items()
            if SLOWEST <= middle * UNITS[unit] / scale <= FASTEST
        ]
        advice = f"; in {' or '.join(fitting)} it would" if fitting else ""
        raise InputError(
            f"{source}: in {unit} its blocks run at {middle:.3g} multiply-accumulates a second "
            f"(median), which no board does ({SLOWEST:.0e} to {FASTEST:.0e}){advice}: check --unit"
        )
    for key, speed in speeds.items():
        if not _SLOWEST_ENTRY <= speed <= _FASTEST_ENTRY:
            raise InputError(
                f"{source}: {key!r:.160} would run at {speed:.3g} multiply-accumulates a second, "
                "which no board does; correct or remove it"
            )
    return middle


def _write_public(
    out: Path,
    fragments: Sequence[tuple[Fragment, PublicEntry]],
    scale: float,
    conditions: Mapping[str, object],
    provenance: Mapping[str, Any],
) -> LookupTable:
    entries, visits = [], []
    for fragment, row in fragments:
        content: dict[str, Any] = {"imported_key": row.key}
        if row.variance is not None:
            content["standard_deviation"] = math.sqrt(row.variance) * scale  # seconds
        if len(fragment.layers) == 1:
            content |= describe_layer(fragment.layers[0])
        else:
            content |= describe_fragment(fragment)
        role = "operator" if len(fragment.layers) == 1 else ROLE
        entries.append(Entry(fragment.signature, role, content))
        # A mean of so many inferences is one sample with so many repeats.
        visits.append(Visit(row.key, 0.0, (), (row.mean * scale,), round(row.count or 1)))
    plan = {
        "kind": "table",
        "provenance": dict(provenance),
        "schedule": asdict(Schedule(runs=1)),
        "entries": len(entries),
    }
    with whole_store(out) as store:
        store.begin(entries, plan)
        started = f"unknown ({provenance['sha256'][:16]})"  # the file, so that it is known again
        session = store.begin_session(0, started, conditions)
        numbers = {entry.key: number for number, entry in store.entries().items()}
        store.commit(
            [(numbers[e.key], visit) for e, visit in zip(entries, visits, strict=True)],
            session=session,
            run=0,
            round_number=0,
        )
        store.write_document("result", describe_result(judge(store, runs=1), runs=1))
        LookupTable.open(store.path)
    return LookupTable.open(out)


# Our own


def _import_own(text: str, source: Path, out: Path) -> LookupTable:
    try:
        content = json.loads(text)
        _check_texts(content)
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            raise ValueError(
                f"format {content.get('format')!r:.40}, version {content.get('version')!r:.40}; "
                f"this boardfit reads {FORMAT!r}, version {VERSION}"
            )
        plan, result = dict(content["plan"]), dict(content["result"])
        plan["provenance"] = {**dict(plan["provenance"]), "imported": source.name}
        conditions = dict(content["conditions"])
        if not isinstance(content["entries"], list) or not content["entries"]:
            raise ValueError("it has no entries")
        entries = [_own_entry(row) for row in content["entries"]]
        sessions = [
            (_run(row["run"]), str(row["started"]), _time(row["at"], least=0.0))
            for row in content["sessions"]
        ]
        values: dict[int, list[tuple[str, float]]] = {}
        for entry, row in zip(entries, content["entries"], strict=True):
            for run, seconds in row["seconds_of_runs"].items():
                values.setdefault(_run(int(run)), []).append((entry.key, _time(seconds)))
        if missing := set(values) - {run for run, _, _ in sessions}:
            raise ValueError(f"no session belongs to run {min(missing)}")
        if len({entry.key for entry in entries}) < len(entries):
            raise ValueError("a key stands there twice")
    except (
        AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError,
        TableFileError,
    ) as error:  # fmt: skip
        raise InputError(f"{source} cannot be read as an exported table: {error!s:.500}") from error
    with whole_store(out) as store:
        store.begin(entries, plan)
        first: dict[int, tuple[int, float]] = {}
        for run, started, at in sessions:
            number = store.begin_session(run, started, conditions)
            first.setdefault(run, (number, at))
        numbers = {entry.key: number for number, entry in store.entries().items()}
        for run, found in sorted(values.items()):
            session, at = first[run]
            visits = [(numbers[key], Visit(key, at, (), (s,), 1)) for key, s in found]
            store.commit(visits, session=session, run=run, round_number=0)
        store.write_document("result", result)
        LookupTable.open(store.path)  # a result that cannot be read is refused here
    return LookupTable.open(out)


def _own_entry(row: Mapping[str, Any]) -> Entry:
    """An entry whose key is the signature of what it holds."""
    entry = Entry(str(row["key"]), str(row["role"]), dict(row["content"]))
    if entry.role not in ROLES:
        raise ValueError(f"no entry is there for {entry.role!r:.40}")
    signature = entry.key
    if entry.role == "operator":
        signature = read_layer(entry.content).signature
    elif entry.role == ROLE:
        signature = read_fragment(entry.content).signature
    if signature != entry.key:
        raise ValueError(f"{entry.key!r:.120} is the key of {signature!r:.120}")
    return entry


def _run(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < RUNS_LIMIT:
        raise ValueError(f"{value!r:.40} is no run")
    return value


def _time(value: object, *, least: float = 1e-12) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < 1e12:
        raise ValueError(f"{value!r:.40} is no time in seconds")
    return float(value)


def _check_texts(content: object) -> None:
    """Raise ValueError for a text that would do more than be seen when it is printed."""
    if isinstance(content, str) and not content.isprintable():
        raise ValueError(f"{content!r:.80} has characters that cannot be printed")
    if isinstance(content, Mapping):
        for name, value in content.items():
            _check_texts(name)
            _check_texts(value)
    elif isinstance(content, list):
        for value in content:
            _check_texts(value)
