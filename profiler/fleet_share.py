"""A share of a table: what one board of a fleet is asked to measure, and what it answers.

Both are JSON texts, so that hosts with different Pythons understand another, and so that what
arrives can be checked like the lines of a worker: an answer holds the asked-for entries, each
complete, or it is refused as a whole.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..devices import errors
from ..devices.base import Device
from ..devices.errors import BoardfitError, DeviceError, WorkerError
from .build import sources
from .campaign import run_campaign
from .merge_tables import visits_of
from .progress import Progress, Report, silent
from .schedule import PROBE_ROUND, Schedule
from .store import Entry, Session, Store, sound_evidence
from .table_placement import outside_kinds
from .table_result import Outside, read_outside
from .visits import Visit, read_visit

FORMAT = 1
_MOST_REPEATS = 10**9  # of an inference in a sample
_LONGEST_TEXT = 500  # letters of what a piece of evidence says
_LONGEST_CONDITIONS = 10_000  # letters of JSON
_MOST_FACTS = 256  # of a piece of evidence


@dataclass(frozen=True)
class Share:
    """What a board is asked to measure: entries in one run of a schedule.

    With `placement` it is asked instead what of the entries runs outside of the delegate.
    """

    entries: tuple[Entry, ...]
    schedule: Schedule
    run: int
    threads: int
    runtime: str
    memory_cap: int
    dtype: str
    placement: bool = False


@dataclass(frozen=True)
class Measured:
    """A board's answer: the sessions it took, the seconds it spent inside of inferences, the most
    bytes that a worker had, and why workers were lost."""

    sessions: tuple[Session, ...]
    inside: float
    resident: float
    restarts: tuple[str, ...]

    def smallest(self) -> dict[str, float]:
        """The smallest sample of each entry in seconds, probes left out."""
        found: dict[str, float] = {}
        for session in self.sessions:
            for number, visit in session.visits:
                if number != PROBE_ROUND:
                    best = min(visit.seconds)
                    found[visit.key] = min(best, found.get(visit.key, math.inf))
        return found


def write_share(share: Share) -> str:
    """A share as a text; `read_share` is the inverse."""
    entries = [[entry.key, entry.role, entry.content] for entry in share.entries]
    content = {**vars(share), "entries": entries, "schedule": asdict(share.schedule)}
    return json.dumps({"format": FORMAT, **content})


def read_share(text: str) -> Share:
    """Raises `WorkerError` where the text is no share, or one of another version."""
    try:
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        entries = tuple(Entry(key, role, dict(what)) for key, role, what in content.pop("entries"))
        schedule = Schedule(**content.pop("schedule"))
        return Share(entries, schedule, **content)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise WorkerError(
            "the host that shares out this table has another version of boardfit; install the "
            "same one on all hosts of the fleet"
        ) from error


def answer_share(text: str, device: Device, report: Report = silent) -> str:
    """Do on a board what a share asks for; return the answer as a text.

    What goes wrong there is an answer, too.
    """
    try:
        share = read_share(text)
        content = _placement(share, device) if share.placement else _measure(share, device, report)
    except BoardfitError as error:
        return write_failure(error)
    return json.dumps(content)


def write_failure(error: BoardfitError) -> str:
    """The answer of a board that failed."""
    return json.dumps({"error": type(error).__name__, "message": str(error)})


def _measure(share: Share, device: Device, report: Report) -> dict[str, Any]:
    """Measure in memory: what the host has not seen does not count."""

    def tell(step: Progress) -> None:
        # Runs before this one are counted as done there.
        whole = step.total / (share.run + 1)
        report(replace(step, done=step.done - share.run * whole, total=whole))

    with Store.create(None) as store:
        store.begin(share.entries, {})
        summary = run_campaign(
            store,
            device,
            sources(share.entries, share.runtime),
            replace(share.schedule, runs=share.run + 1),
            first=share.run,
            threads=share.threads,
            runtime=share.runtime,
            memory_cap=share.memory_cap,
            dtype=share.dtype,
            report=tell,
        )
        return {
            "sessions": _sessions(store),
            "inside": summary.inside_seconds,
            "resident": summary.resident_bytes,
            "restarts": list(summary.restarts),
        }


def _sessions(store: Store) -> list[dict[str, Any]]:
    conditions = store.conditions()
    visits: dict[int, list[dict[str, Any]]] = {}
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for key, _, _, *row in store.samples():
        rows.setdefault(key, []).append(tuple(row))
    for key, taken in rows.items():
        for (number, session), visit in visits_of(key, taken):
            about = {"visit": key, "round": number, "repeats": visit.repeats, "at": visit.at}
            visits.setdefault(session, []).append(
                {**about, "warmup": visit.warmup, "seconds": visit.seconds}
            )
    evidence: dict[int, list[dict[str, Any]]] = {}
    for seen in store.evidence():
        content = {name: value for name, value in seen.items() if name not in {"session", "run"}}
        if "batched" not in content:  # numbers of entries, which are others in the table
            evidence.setdefault(seen["session"], []).append(content)
    return [
        {
            "started": started,
            "conditions": conditions,
            "visits": visits.get(number, []),
            "evidence": evidence.get(number, []),
        }
        for number, _, started in store.sessions()
    ]


def _placement(share: Share, device: Device) -> dict[str, Any]:
    emitted = sources(share.entries, share.runtime)
    outside = outside_kinds(
        device, share.entries, emitted, threads=share.threads, runtime=share.runtime
    )
    return {"outside": outside}


def read_measured(text: object, share: Share, board: str) -> Measured:
    """What a board measured, checked: every entry of the share complete, and nothing else.

    Raises the error that the board met, or `WorkerError` where the answer is none.
    """
    content = _content(text, board)
    try:
        sessions = tuple(_session(part, share) for part in _list(content["sessions"]))
        _require_complete(sessions, share)
        restarts = tuple(_text(words) for words in _list(content["restarts"]))
        return Measured(
            sessions, _number(content["inside"]), _number(content["resident"]), restarts
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _foreign(board, error) from error


def read_placement_answer(text: object, board: str) -> Outside | None:
    """What a board said of the delegate. Raises as `read_measured` does."""
    content = _content(text, board)
    try:
        return read_outside(content["outside"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _foreign(board, error) from error


def _content(text: object, board: str) -> dict[str, Any]:
    try:
        content = json.loads(text) if isinstance(text, str) else None
        if not isinstance(content, dict):
            raise ValueError("an object is expected")
    except (ValueError, RecursionError) as error:
        raise _foreign(board, error) from error
    if "error" in content:
        kind = getattr(errors, str(content["error"]), None)
        if not (isinstance(kind, type) and issubclass(kind, BoardfitError)):
            kind = DeviceError
        raise kind(f"{board}: {content.get('message')}")
    return content


def _session(content: Mapping[str, Any], share: Share) -> Session:
    started = _text(content["started"])
    if datetime.datetime.fromisoformat(started).tzinfo is None:
        raise ValueError("a session begins at a time of UTC")
    conditions = dict(content["conditions"])
    if len(json.dumps(conditions, allow_nan=False)) > _LONGEST_CONDITIONS:
        raise ValueError("conditions are a few words")
    return Session(
        started,
        conditions,
        tuple(_visit(visit, share) for visit in _list(content["visits"])),
        tuple(_evidence(seen) for seen in _list(content["evidence"])),
    )


def _visit(content: Mapping[str, Any], share: Share) -> tuple[int, Visit]:
    number, repeats = content["round"], content["repeats"]
    if type(number) is not int or not PROBE_ROUND <= number < share.schedule.maximum_rounds:
        raise ValueError(f"there is no round {number!r:.40}")
    if type(repeats) is not int or not 1 <= repeats <= _MOST_REPEATS:
        raise ValueError(f"no sample has {repeats!r:.40} inferences")
    schedule = share.schedule
    key = _text(content["visit"], longest=10_000)
    return number, read_visit(content, key, repeats, schedule.warmup, schedule.samples)


def _evidence(content: Mapping[str, Any]) -> dict[str, Any]:
    if len(content) > _MOST_FACTS or "batched" in content or {"session", "run"} & set(content):
        raise ValueError("no such evidence")
    found = {
        _text(name): _text(value) if isinstance(value, str) else _number(value)
        for name, value in content.items()
    }
    try:
        return sound_evidence(found, "what arrived")
    except errors.TableFileError as error:
        raise ValueError(str(error)) from error


def _require_complete(sessions: Sequence[Session], share: Share) -> None:
    """Every entry of the share has its probe and enough rounds, each once, and no other has any."""
    rounds: dict[str, set[int]] = {entry.key: set() for entry in share.entries}
    for number, visit in (visit for session in sessions for visit in session.visits):
        if number in rounds[visit.key]:
            raise ValueError(f"round {number} of {visit.key} came twice")
        rounds[visit.key].add(number)
    for key, seen in rounds.items():
        if PROBE_ROUND not in seen or len(seen) <= share.schedule.minimum_rounds:
            raise ValueError(f"{key} is not complete")
    if not sessions or sessions[0].conditions != sessions[-1].conditions:
        raise ValueError("the sessions of a share have the same conditions")


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is expected")
    return value


def _text(value: object, *, longest: int = _LONGEST_TEXT) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise TypeError(f"a text of at most {longest} letters is expected")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError("a number is expected")
    return float(value)


def _foreign(board: str, why: Exception) -> WorkerError:
    return WorkerError(
        f"what {board} sent is no answer to what it was asked ({str(why)[:200]}); install the same "
        "version of boardfit on all hosts of the fleet, and run the same command again"
    )
