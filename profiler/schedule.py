"""What is visited next, and when it is enough: pure functions of what was measured so far.

A campaign has runs; each is a fresh worker process, since processes differ more than rounds
within one. A run has rounds; each visits every entry that is not settled yet, in random order.
Nothing here looks at a clock: budgets count the seconds that the board has spent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

# Seconds that an inference can take; what lies beyond is a fault of a clock, or of a file.
SHORTEST_INFERENCE, LONGEST_INFERENCE = 1e-12, 1e9
ROUNDS_AT_ONCE = 4  # beyond the minimum; a board far away would wait for us after each round
PROBE_ROUND = -1  # it only finds how many repeats a sample needs, and is warm-up as a whole


@dataclass(frozen=True)
class Schedule:
    """How long to measure.

    `runs` fresh processes; in each between `minimum_rounds` and `maximum_rounds` visits to an
    entry, each `warmup` inferences and `samples` samples of at least `sample_seconds`. An entry is
    settled in a run when its lowest visits agree within `precision` (relative). The board is
    warmed up for `warmup_seconds` and at least `warmup_visits` visits to the reference model. Once
    the board has spent `budget_seconds`, no entry gets more than the minimum of rounds (judged for
    each batch of models by what was spent before its last certain round). Between
    two runs the board rests for `pause_seconds`: the later the next run, the more its values say
    about those of another day.
    """

    runs: int = 3
    minimum_rounds: int = 8
    maximum_rounds: int = 16
    precision: float = 0.02
    warmup: int = 1
    samples: int = 8
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


def settled(visits: Sequence[float], schedule: Schedule, slow: int = 0) -> bool:
    """Whether an entry's visits of one run (seconds) suffice.

    They do when there are enough of them and the lowest is confirmed. `slow` of them met the
    board in a slow state and are made up for by further ones.
    """
    if len(visits) >= schedule.maximum_rounds:
        return True
    return len(visits) - slow >= schedule.minimum_rounds and confirmed(visits, schedule)


def confirmed(visits: Sequence[float], schedule: Schedule) -> bool:
    """Whether a third of the visits lies within `precision` of the lowest, at least two.

    Then it is no freak and not the only one in the board's fast state.
    """
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


def wanted_rounds(
    rounds: Mapping[int, float], schedule: Schedule, slow: Set[int] = frozenset()
) -> list[int]:
    """The rounds of a run that one entry is certain to need, in order; none where it is settled.

    `rounds` maps those that it has to seconds, `slow` are the ones of them that met the board in a
    slow state. `PROBE_ROUND` is the first, which finds the repeats, and the minimum follows. Then
    come groups of `ROUNDS_AT_ONCE`, of which each is needed whole where the rounds before it do not
    suffice: what a group needs does not depend on how much of it is there already, so that a run
    which was interrupted asks for the same.
    """
    first = [n for n in range(PROBE_ROUND, schedule.minimum_rounds) if n not in rounds]
    if first:
        return first
    most = schedule.maximum_rounds
    for begin in range(schedule.minimum_rounds, most, ROUNDS_AT_ONCE):
        before = [number for number in rounds if PROBE_ROUND < number < begin]
        visits = [rounds[number] for number in before]
        if settled(visits, schedule, sum(number in slow for number in before)):
            return []
        group = range(begin, min(begin + ROUNDS_AT_ONCE, most))
        if missing := [number for number in group if number not in rounds]:
            return missing
    return []


def visiting_order(
    entries: Sequence[int], schedule: Schedule, *, run: int, round_number: int
) -> list[int]:
    """The entries of one round in random order, the same after a restart."""
    rng = np.random.default_rng([schedule.seed, run, round_number - PROBE_ROUND])
    return [entries[i] for i in rng.permutation(len(entries))]


def random_batches(
    entries: Sequence[int],
    sizes: Mapping[int, int],
    cap_bytes: int,
    schedule: Schedule,
    *,
    run: int,
) -> list[list[int]]:
    """Split the entries of a run at random into batches that fit the memory cap each.

    The same after a restart. The batches are of similar size: a small one would be visited in a
    short time.
    """
    rng = np.random.default_rng([schedule.seed, run, 0, 1])  # no round's stream
    order = [entries[i] for i in rng.permutation(len(entries))]
    groups = batches(order, sizes, cap_bytes)
    if len(groups) > 1:
        whole = sum(sizes[entry] for entry in order)
        even = whole // len(groups) + max(sizes[entry] for entry in order)
        evenly = batches(order, sizes, min(cap_bytes, even))
        return evenly if len(evenly) <= len(groups) else groups
    return groups


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
