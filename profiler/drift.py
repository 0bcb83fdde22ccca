"""Whether the board kept its speed: what the reference model says between the visits.

One fixed model is visited between all others. Where two neighbouring visits to it took longer
than the best so far, the stretch between them met a slow state of the board; what was measured in
it is measured again, never changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLOW = 1.10  # a stretch is slow beyond this ratio; a steady board stays within 1.02
LEVEL = 0.1  # the quantile of a session's reference visits that stands for the session


@dataclass(frozen=True)
class Stretch:
    """The time between two visits to the reference model, in seconds of the board's clock.

    `ratio` is how much longer the faster of the two took than the best of the run until then. The
    last one of a session has no second visit, and lasts no time that is known.
    """

    session: int
    begin: float
    end: float
    ratio: float

    @property
    def slow(self) -> bool:
        """Whether the board was in a slow state."""
        return self.ratio > SLOW


@dataclass(frozen=True)
class Drift:
    """How steady a board was: its stretches, and each session's level relative to the
    fastest session (1: as fast)."""

    stretches: tuple[Stretch, ...]
    session_ratios: Mapping[int, float]

    @property
    def slow_share(self) -> float:
        """The share of the time that the board was in a slow state; 0 where nothing is known."""
        whole = sum(stretch.end - stretch.begin for stretch in self.stretches)
        slow = sum(stretch.end - stretch.begin for stretch in self.stretches if stretch.slow)
        return slow / whole if whole > 0 else 0.0

    @property
    def spread_between_sessions(self) -> float:
        """How much slower the slowest session was than the fastest, relative."""
        return max(self.session_ratios.values(), default=1.0) - 1


def drift(evidence: Iterable[Mapping[str, Any]]) -> Drift:
    """Read what was seen of the board (`Store.evidence`).

    Raises ValueError or TypeError where a reference visit is not a positive number.
    """
    seconds: dict[int, list[float]] = {}
    found: list[Stretch] = []
    best: dict[int, float] = {}  # by run
    last: dict[int, tuple[float, float, float]] = {}  # by session: when, how long, and its ratio
    for row in evidence:
        if "best" in row:  # of the warm-up
            best[row["run"]] = min(best.get(row["run"], np.inf), _positive(row["best"]))
        if "reference" not in row:
            continue
        session, run = int(row["session"]), int(row["run"])
        at, value = float(row["at"]), _positive(row["reference"])
        best[run] = min(best.get(run, np.inf), value)
        seconds.setdefault(session, []).append(value)
        if session in last:
            found.append(
                Stretch(session, last[session][0], at, min(value, last[session][1]) / best[run])
            )
        last[session] = at, value, value / best[run]
    found += [Stretch(session, at, at, ratio) for session, (at, _, ratio) in last.items()]
    levels = {session: float(np.quantile(values, LEVEL)) for session, values in seconds.items()}
    fastest = min(levels.values(), default=1.0)
    return Drift(tuple(found), {session: level / fastest for session, level in levels.items()})


def in_slow_stretch(
    stretches: Sequence[Stretch], session: NDArray[np.int64], at: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which visits, given by session and time, met the board in a slow state."""
    slow = np.zeros(len(at), bool)
    for number in np.unique(session).tolist():
        mine = [stretch for stretch in stretches if stretch.session == number]
        if not mine:
            continue
        begins = np.array([stretch.begin for stretch in mine])
        flags = np.array([stretch.slow for stretch in mine])
        chosen = session == number
        place = np.searchsorted(begins, at[chosen], side="right") - 1
        # What comes before the first stretch or after the last one goes with that one.
        slow[chosen] = flags[np.clip(place, 0, len(mine) - 1)]
    return slow


def _positive(value: object) -> float:
    if not isinstance(value, int | float) or not 0 < value < np.inf:
        raise ValueError(f"{value!r} is no time that an inference can take")
    return float(value)
