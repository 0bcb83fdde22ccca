"""What a run has seen so far, and what each of its entries still needs.

It is read from the store at first and goes on with what is measured, so that both say the same:
what remains to be done after an interruption is what would have been done without it.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .board_record import SLOWED_BY, moments
from .drift import SLOW, drift, in_slow_stretch
from .schedule import PROBE_ROUND, Schedule, confirmed, wanted_rounds
from .store import Store
from .visits import Visit


class RunRecord:
    """The visits of one run, and which of them met the board in a slow state."""

    def __init__(self, store: Store, schedule: Schedule, run: int) -> None:
        self._schedule = schedule
        self._at_least = replace(schedule, maximum_rounds=schedule.minimum_rounds)
        self._rounds: dict[int, dict[int, float]] = {number: {} for number in store.entries()}
        visits = store.visits(run, probes=True)
        for entry, number, seconds in zip(
            visits.entry.tolist(), visits.round.tolist(), visits.seconds.tolist(), strict=True
        ):
            self._rounds[entry][number] = seconds
        self._spent_before = store.board_seconds(run)
        times = store.visit_times(run)
        self._inside = {(entry, number): inside for entry, number, _, _, inside in times}
        self._slow: dict[int, set[int]] = {}
        evidence = [row for row in store.evidence() if row["run"] == run]
        if times:
            sessions = np.array([session for _, _, session, _, _ in times], np.int64)
            at = np.array([at for _, _, _, at, _ in times], np.float64)
            slow = in_slow_stretch(drift(evidence).stretches, sessions, at)
            slow |= moments(evidence).before(sessions, at)
            for (entry, number), met in zip(self._inside, slow.tolist(), strict=True):
                if met:
                    self._slow.setdefault(entry, set()).add(number)
        seen = [row[name] for row in evidence for name in ("best", "reference") if name in row]
        # The reference model: the best of the run, and the last visit to it of this session.
        self._best: float = min(seen, default=math.inf)
        self._last = math.nan
        self._open: list[tuple[int, int, float]] = []  # visits since then, and when they were
        self._told: list[tuple[float, bool]] = []  # when the board said whether it was slowed

    def __getitem__(self, entry: int) -> dict[int, float]:
        """The smallest sample of each round that an entry has, in seconds."""
        return self._rounds[entry]

    @property
    def visits(self) -> int:
        """How many visits of the certain rounds there are; the others come on top where needed."""
        certain = self._schedule.minimum_rounds + 1
        return sum(min(len(rounds), certain) for rounds in self._rounds.values())

    def add(self, entry: int, number: int, visit: Visit) -> None:
        """Add a visit, which comes after all others."""
        self._rounds[entry][number] = min(visit.seconds)
        inside = [*visit.warmup, *(seconds * visit.repeats for seconds in visit.seconds)]
        self._inside[entry, number] = math.fsum(inside)
        self._open.append((entry, number, visit.at))

    def add_warm_up(self, best: float) -> None:
        """Add the best visit to the reference model while the board was warmed up."""
        self._best = min(self._best, best)

    def add_state(self, evidence: Iterable[Mapping[str, Any]]) -> None:
        """Add what the board said of its own state in this session (see `board_record`)."""
        for row in evidence:
            if SLOWED_BY in row:
                bisect.insort(self._told, (row["at"], bool(row["throttled"])))

    def add_reference(self, seconds: float) -> list[int]:
        """Add a visit to the reference model; return the entries of the visits of which is known
        since then whether they met a slow state, as `drift` and `Moments.before` have it."""
        self._best = min(self._best, seconds)
        # Before the first one of a session there is nothing but itself.
        faster = min(seconds, self._last) if self._last == self._last else seconds
        for entry, number, at in self._open:
            if faster / self._best > SLOW or self._was_slowed(at):
                self._slow.setdefault(entry, set()).add(number)
        self._last = seconds
        judged = [entry for entry, _, _ in self._open]
        self._open.clear()
        return judged

    def _was_slowed(self, at: float) -> bool:
        """Whether the board was slowed when it was last looked at before a moment."""
        place = bisect.bisect_right(self._told, (at, True))
        return place > 0 and self._told[place - 1][1]

    def needs(self, entry: int, *, spent: bool) -> list[int]:
        """The rounds that an entry is certain to need; only the minimum where the budget is
        spent."""
        schedule = self._at_least if spent else self._schedule
        return wanted_rounds(self._rounds[entry], schedule, self._slow.get(entry, frozenset()))

    def is_confirmed(self, entry: int) -> bool:
        """Whether the lowest visits of an entry repeated within the precision asked for."""
        visits = [s for number, s in self._rounds[entry].items() if number != PROBE_ROUND]
        return not visits or confirmed(visits, self._schedule)

    def spent(self, batch: Sequence[int]) -> bool:
        """Whether the board's budget was spent before the last certain round of a batch began.

        Known before anything beyond that round is asked for, and the same ever after.
        """
        mine = set(batch)
        last = self._schedule.minimum_rounds - 1
        inside = math.fsum(
            seconds
            for (entry, number), seconds in self._inside.items()
            if number < last or entry not in mine
        )
        return self._spent_before + inside > self._schedule.budget_seconds
