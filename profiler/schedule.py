"""What is visited next, and when it is enough: pure functions of what was measured so far.

A campaign has runs; each is a fresh worker process, since processes differ more than rounds
within one. A run has rounds; each visits every entry that is not settled yet, in random order.
Nothing here looks at a clock: budgets count the seconds that the board has spent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

PROBE_ROUND = -1  # it only finds how many repeats a sample needs, and is warm-up as a whole


@dataclass(frozen=True)
class Schedule:
    """How long to measure.

    `runs` fresh processes; in each between `minimum_rounds` and `maximum_rounds` visits to an
    entry, each `warmup` inferences and `samples` samples of at least `sample_seconds`. An entry is
    settled in a run when its lowest visits agree within `precision` (relative). The board is
    warmed up for `warmup_seconds` and at least `warmup_visits` visits to the reference model. Once
    the board has spent `budget_seconds`, no entry gets more than the minimum of rounds. Between
    two runs the board rests for `pause_seconds`: the later the next run, the more its values say
    about those of another day.
    """

    runs: int = 3
    minimum_rounds: int = 4
    maximum_rounds: int = 8
    precision: float = 0.02
    warmup: int = 1
    samples: int = 2
    sample_seconds: float = 50e-6
    warmup_seconds: float = 1.0
    warmup_visits: int = 20
    budget_seconds: float = 600.0
    pause_seconds: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.runs, self.minimum_rounds, self.samples, self.warmup, self.warmup_visits)
        if min(counts) < 1 or self.maximum_rounds < self.minimum_rounds:
            raise ValueError(
                "runs, rounds, samples, warm-up and its visits must be 1 or more, and the maximum "
                "of rounds no smaller than the minimum"
            )
        if not 0 < self.precision < 1 or self.sample_seconds <= 0 or self.budget_seconds <= 0:
            raise ValueError("precision lies between 0 and 1, seconds above 0")
        if not 0 <= self.pause_seconds < math.inf:
            raise ValueError("a pause takes 0 seconds or more")


def settled(visits: Sequence[float], schedule: Schedule) -> bool:
    """Whether an entry's visits of one run (seconds) suffice.

    They do when there are enough of them and the lowest is confirmed: a third of them lies within
    `precision` of it, so that it is no freak and not the only one in the board's fast state.
    """
    if len(visits) < schedule.minimum_rounds:
        return False
    if len(visits) >= schedule.maximum_rounds:
        return True
    lowest = min(visits)
    near = sum(value <= lowest * (1 + schedule.precision) for value in visits)
    return near >= max(2, math.ceil(len(visits) / 3))


def repeats(probe_seconds: float, schedule: Schedule) -> int:
    """Inferences a sample, so that it lasts long enough for the clock."""
    return max(1, math.ceil(schedule.sample_seconds / max(probe_seconds, 1e-9)))


def sample_seconds(resolution: float, schedule: Schedule) -> float:
    """How long a sample must last on a board whose clock has this resolution (seconds).

    Two readings of the clock are wrong by at most one step each: 500 steps keep that below 0.4 %.
    """
    return max(schedule.sample_seconds, 500 * resolution)


def next_round(
    entries: Sequence[int], seen: Mapping[int, Mapping[int, float]], schedule: Schedule
) -> tuple[int, list[int]] | None:
    """The round of a run that is not finished, with the entries that it still has to visit.

    `seen` maps entries to rounds to seconds, as far as this run has come. Round `PROBE_ROUND` is
    the first: it visits everything once to find the repeats. None when all entries are settled.
    """
    for number in range(PROBE_ROUND, schedule.maximum_rounds):
        todo = []
        for entry in entries:
            rounds = seen.get(entry, {})
            if number not in rounds:
                earlier = [s for r, s in rounds.items() if PROBE_ROUND < r < number]
                if not settled(earlier, schedule):
                    todo.append(entry)
        if todo:
            return number, todo
    return None


def visiting_order(
    entries: Sequence[int], schedule: Schedule, *, run: int, round_number: int
) -> list[int]:
    """The entries of one round in random order, the same after a restart."""
    rng = np.random.default_rng([schedule.seed, run, round_number - PROBE_ROUND])
    return [entries[i] for i in rng.permutation(len(entries))]


def batches(order: Sequence[int], sizes: Mapping[int, int], cap_bytes: int) -> list[list[int]]:
    """Split entries into runs that fit the memory cap each (one that is larger goes alone)."""
    groups: list[list[int]] = []
    used = 0
    for entry in order:
        if not groups or used + sizes[entry] > cap_bytes:
            groups.append([])
            used = 0
        groups[-1].append(entry)
        used += sizes[entry]
    return groups
