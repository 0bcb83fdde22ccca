"""Was the board in a steady state while it measured? A test of trend over several sessions.

The test is Mann and Kendall's (Kendall 1975): it only asks which of two visits was the slower, so
that outliers and slow states of a board, which have no direction, do not pass for a trend. A trend
counts where it is beyond chance and large enough to matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_CHANGE = 0.02  # from a session's first third to its last; what is smaller matters to nobody
LEAST_SCORE = 3.3  # standard deviations: once in a thousand by chance
LEAST_VISITS = 6  # of a session, so that a third has two


@dataclass(frozen=True)
class Trend:
    """How a value changes within sessions: `change` is the last third's median relative to the
    first third's, minus one (the median over sessions); `score` is how many standard deviations
    the order of the visits is away from no trend (positive: it becomes slower)."""

    change: float
    score: float

    @property
    def matters(self) -> bool:
        """Whether it is beyond chance, large enough, and both say the same direction."""
        certain = abs(self.score) > LEAST_SCORE and abs(self.change) > LEAST_CHANGE
        return certain and (self.score > 0) == (self.change > 0)


def trend(sessions: Sequence[NDArray[np.float64]]) -> Trend:
    """The trend that sessions share; each holds its visits' times in order.

    Sessions of fewer than `LEAST_VISITS` visits say nothing about a trend.
    """
    chosen = [visits for visits in sessions if len(visits) >= LEAST_VISITS]
    if not chosen:
        return Trend(0.0, 0.0)
    changes, scores, chance = [], [], 0.0
    for visits in chosen:
        third = len(visits) // 3
        changes.append(float(np.median(visits[-third:]) / np.median(visits[:third])) - 1)
        score, variance = _kendall(visits)
        scores.append(score)
        chance += variance
    # Neighbouring visits are alike on a board with slow states, and scores then vary more than
    # chance allows. Such scores disagree between sessions, which shows how much they really vary.
    if len(scores) > 1:
        chance = max(chance, len(scores) * float(np.var(scores, ddof=1)))
    total = sum(scores)
    return Trend(float(np.median(changes)), total / math.sqrt(chance) if chance else 0.0)


def _kendall(visits: NDArray[np.float64]) -> tuple[float, float]:
    """Pairs that rise minus pairs that fall, and the variance of that without a trend (ties
    corrected)."""
    count = len(visits)
    rises = np.sign(visits[None, :] - visits[:, None])
    score = float(rises[np.triu_indices(count, 1)].sum())
    _, ties = np.unique(visits, return_counts=True)
    variance = count * (count - 1) * (2 * count + 5)
    variance -= int((ties * (ties - 1) * (2 * ties + 5)).sum())
    return score, variance / 18
