"""Spend what is left of a budget on swaps: shrink one layer, grow another, at an equal metric.

With a guide, half of the candidates that it screens are random networks within the target: swaps
seldom bring back a block that the descent has removed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .descent_settings import DescentSettings
from .guide import most_promising
from .moves import Moves
from .random_search import random_within
from .space import Architecture
from .trial import Evaluate, Trial, rank

FRUITLESS = 20  # batches in a row that bring nothing new, after which a small space has no more


def polish(
    moves: Moves,
    evaluate: Evaluate,
    target: float,
    rng: np.random.Generator,
    settings: DescentSettings,
    trials: dict[Architecture, Trial],
    evaluations: int,
) -> Iterator[Trial]:
    """Swap widths of the best network within the target until `evaluations` are spent.

    `trials` is what was scored so far, with at least one within the target; new ones are added.
    """
    fruitless = 0
    while len(trials) < evaluations and fruitless < FRUITLESS:
        within = [trial for trial in trials.values() if trial.metric <= target]
        best = min(within, key=lambda trial: rank(trial, settings.criterion))
        limit = min(settings.polish_batch, evaluations - len(trials))
        guided = settings.oversample > 1 and len(trials) >= settings.guide_after
        count = settings.polish_batch * settings.oversample // (2 if guided else 1)
        rows, values = moves.swap(moves.repeat(best.architecture, count), target, rng)
        floor = settings.floor * target
        found = moves.canonical(rows[(values <= target) & (values >= floor)])
        if guided:
            found += random_within(moves, target, settings.floor, best.architecture, rng, count)
        found = [a for a in dict.fromkeys(found) if a not in trials]
        fruitless = 0 if found else fruitless + 1
        if guided and len(found) > limit:
            chosen = most_promising(moves.space, list(trials.values()), found, limit)
            found = [found[i] for i in chosen]
        scored = evaluate(found[:limit], "polish")
        trials.update((trial.architecture, trial) for trial in scored)
        yield from scored
