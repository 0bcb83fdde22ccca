"""Spend what is left of a budget on swaps: shrink one layer, grow another, at an equal metric."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .descent_settings import DescentSettings
from .guide import most_promising
from .metrics import Rows
from .moves import Moves
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
        start = moves.repeat(best.architecture, settings.polish_batch * settings.oversample)
        rows, values = moves.swap(start, target, rng)
        found = _new(moves, rows[(values <= target) & (values >= settings.floor * target)], trials)
        fruitless = 0 if found else fruitless + 1
        if settings.oversample > 1 and len(found) > limit and len(trials) >= settings.guide_after:
            chosen = most_promising(moves.space, list(trials.values()), found, limit)
            found = [found[i] for i in chosen]
        scored = evaluate(found[:limit], "polish")
        trials.update((trial.architecture, trial) for trial in scored)
        yield from scored


def _new(moves: Moves, rows: Rows, trials: dict[Architecture, Trial]) -> list[Architecture]:
    return [a for a in moves.canonical(rows) if a not in trials]
