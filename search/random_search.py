"""The baseline that any optimiser has to beat: random networks just within the target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .guide import most_promising
from .metrics import Metric, as_rows, reachable
from .moves import Moves
from .space import Architecture, SearchSpace
from .trial import Evaluate, Trial


@dataclass(frozen=True)
class RandomSettings:
    """How many networks are scored, and how far below the target they may lie.

    With `oversample` above 1 that many times more are drawn, and from `guide_after` trials on the
    ones predicted to be best are scored. `attempts` bounds the draws in a row that bring nothing
    new: a small space has no more networks to offer.
    """

    evaluations: int = 120
    floor: float = 0.9
    oversample: int = 1
    guide_after: int = 10
    attempts: int = 20

    def __post_init__(self) -> None:
        if min(self.evaluations, self.oversample, self.attempts) < 1 or self.guide_after < 2:
            raise ValueError("evaluations, oversample and attempts are at least 1")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"the floor {self.floor} is not a fraction of the target")


DRAWN_AT_ONCE = 16  # moves are priced for many networks in one call, so that few is not cheaper


def random_search(
    space: SearchSpace,
    evaluate: Evaluate,
    metric: Metric,
    target: float,
    rng: np.random.Generator,
    settings: RandomSettings | None = None,
) -> Iterator[Trial]:
    """Trials of random networks with a metric of `floor * target` to `target`.

    Yields every trial; `best_trial` finds the result. The full network alone where it meets the
    target. Raises `ConstraintNotMet` before anything is scored where no network does.
    """
    settings = settings or RandomSettings()
    full = space.canonical(space.full)
    if metric([full])[0] <= target:
        yield evaluate([full], "random")[0]
        return
    moves = Moves(space, metric)
    small = reachable(space, metric, target)
    trials: dict[Architecture, Trial] = {}
    fruitless = 0
    while len(trials) < settings.evaluations and fruitless < settings.attempts:
        count = DRAWN_AT_ONCE * settings.oversample
        found = [
            a
            for a in random_within(moves, target, settings.floor, small, rng, count)
            if a not in trials
        ]
        fruitless = 0 if found else fruitless + 1
        limit = min(DRAWN_AT_ONCE, settings.evaluations - len(trials))
        if settings.oversample > 1:
            if len(trials) < settings.guide_after:
                limit = min(limit, settings.guide_after)
            elif len(found) > limit:
                chosen = most_promising(space, list(trials.values()), found, limit)
                found = [found[i] for i in chosen]
        for architecture in found[:limit]:
            trial = evaluate([architecture], "random")[0]
            trials[trial.architecture] = trial
            yield trial


def random_within(
    moves: Moves,
    target: float,
    floor: float,
    small: Architecture,
    rng: np.random.Generator,
    count: int,
) -> list[Architecture]:
    """At most `count` different random networks (canonical) that meet the target.

    Those below `floor * target` are left out where others are above. `small` must meet the target.
    """
    drawn = as_rows(moves.space, [moves.space.random(rng) for _ in range(count)])
    rows, values = moves.settle(drawn, target, floor * target, small, rng)
    above = values >= floor * target
    return moves.canonical(rows[above] if above.any() else rows)
