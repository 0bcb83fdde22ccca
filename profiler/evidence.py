"""What the board was like while each sample was taken: the nearest readings before and after.

The worker reads its frequency, temperature and load between rounds, never during one, so that
measuring is not disturbed; board's clock and session then tell which readings enclose a sample.
What the board itself says beside it (`board_record.py`) is joined in the same way.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .board_record import SLOWED_BY, moments
from .store import Store

if TYPE_CHECKING:
    import pandas as pd

LEAST_DROP = 0.10  # of the frequency, from which on a board counts as throttled
STATES = ("frequency", "temperature", "load")  # in hertz, degrees Celsius, runnable processes
_WARMUP = ("no", "warm-up", "probe")  # what the numbers of the column stand for


@dataclass(frozen=True)
class Reading:
    """The board's state at a moment `at` of its clock, in one session; `state` by name.

    `throttled` where its frequency is more than `LEAST_DROP` below what the first reading of the
    file found, or the board says so; then `slowed_by` has its words.
    """

    session: int
    at: float
    state: Mapping[str, float]
    throttled: bool
    slowed_by: str = ""


def readings(store: Store) -> list[Reading]:
    """Every reading that has a time, in the order of sessions and times.

    Raises ValueError or TypeError where one is damaged.
    """
    found: list[Reading] = []
    first: float | None = None
    for row in store.evidence():
        state = {name: _finite(row[name]) for name in STATES if name in row}
        if "reference" in row or "window" in row or SLOWED_BY in row or "at" not in row:
            continue
        frequency = state.get("frequency")
        if first is None:
            first = frequency
        slow = first is not None and frequency is not None and frequency < (1 - LEAST_DROP) * first
        found.append(Reading(int(row["session"]), _finite(row["at"]), state, slow))
    return sorted(found, key=lambda reading: (reading.session, reading.at))


def looks(store: Store) -> list[Reading]:
    """What the board said of itself, in the order of sessions and times; `state` is all of it.

    Raises ValueError or TypeError where one is damaged.
    """
    found = []
    for row in store.evidence():
        if SLOWED_BY in row:
            other = {"session", "run", "at", "throttled", SLOWED_BY}
            state = {name: _finite(value) for name, value in row.items() if name not in other}
            throttled = bool(_finite(row["throttled"]))
            at = _finite(row["at"])
            found.append(Reading(int(row["session"]), at, state, throttled, str(row[SLOWED_BY])))
    return sorted(found, key=lambda reading: (reading.session, reading.at))


def reference_minima(store: Store, runs: Sequence[int]) -> NDArray[np.float64] | None:
    """The reference model's smallest time in each of the runs (seconds); None where it is missing
    from one. Raises ValueError or TypeError where one is damaged."""
    lowest: dict[int, float] = {}
    for row in store.evidence():
        if "reference" in row:
            seconds = _finite(row["reference"])
            if seconds <= 0:
                raise ValueError("the reference model took no time")
            lowest[row["run"]] = min(seconds, lowest.get(row["run"], math.inf))
    if not all(run in lowest for run in runs):
        return None
    return np.array([lowest[run] for run in runs])


def throttled_samples(store: Store, key: str) -> NDArray[np.bool_]:
    """Of each timed sample of an entry, in order, whether the board was throttled at the nearest
    reading before or after it, or said so."""
    enclosing = _Enclosing(readings(store))
    rows = [row for row in store.samples(key) if not row[5]]
    fell = [any(r is not None and r.throttled for r in enclosing(row[6], row[7])) for row in rows]
    session = np.array([row[6] for row in rows], np.int64)
    at = np.array([row[7] for row in rows], np.float64)
    said = moments(store.evidence()).around(session, at)
    return np.array(fell, bool) | said


def samples_frame(store: Store) -> pd.DataFrame:
    """Every sample of a file, one row each, with the states read before and after it.

    Times are in seconds; `at` is the board's clock when the visit began; `warmup` is `no`,
    `warm-up` or `probe`. `throttled` where the frequency had fallen or the board said so; then
    `slowed_by` has its words. Whatever else it said (flags, the chip's temperature, battery) stands
    in columns `board.NAME`, from its look before.
    """
    import pandas as pd

    enclosing, looking = _Enclosing(readings(store)), _Enclosing(looks(store))
    started = {number: begun for number, _, begun in store.sessions()}
    names = ["key", "role", "run", "round", "number", "warmup", "session", "at", "repeats",
             "seconds"]  # fmt: skip
    rows: list[dict[str, Any]] = []
    for values in store.samples():
        row: dict[str, Any] = dict(zip(names, values, strict=True))
        row["warmup"] = _WARMUP[int(row["warmup"])]
        row["session_started"] = started.get(row["session"])
        before, after = enclosing(row["session"], row["at"])
        for name in STATES:
            row[f"{name}_before"] = before.state.get(name) if before else None
            row[f"{name}_after"] = after.state.get(name) if after else None
        told = [look for look in looking(row["session"], row["at"]) if look is not None]
        fell = any(r is not None and r.throttled for r in (before, after))
        row["throttled"] = fell or any(look.throttled for look in told)
        causes = ", ".join(look.slowed_by for look in told if look.slowed_by)
        row[SLOWED_BY] = ", ".join(dict.fromkeys(causes.split(", ")))
        if told:
            row |= {f"board.{name}": value for name, value in told[0].state.items()}
        rows.append(row)
    return pd.DataFrame(rows)


class _Enclosing:
    """Finds the readings around a moment of a session."""

    def __init__(self, found: Sequence[Reading]) -> None:
        self._readings = found
        self._keys = [(reading.session, reading.at) for reading in found]

    def __call__(self, session: int, at: float) -> tuple[Reading | None, Reading | None]:
        place = bisect.bisect_left(self._keys, (session, at))
        around = (place - 1, place)
        before, after = (
            self._readings[i] if 0 <= i < len(self._keys) and self._keys[i][0] == session else None
            for i in around
        )
        return before, after


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
