"""Spend evaluations on promising networks: predict the loss from those evaluated so far.

Ridge regression in closed form on the normalised coordinates (0 where a block is gone) and their
squares; an operator has a feature of its own instead, 1 where it is chosen. What is predicted is
the logarithm of the loss, so that networks that have lost everything do not decide the fit. The
regression's strength is chosen by leave-one-out errors, which the singular value decomposition
gives without refitting (Golub, Heath, Wahba: "Generalized cross-validation", Technometrics 1979,
section 2). The predictions only sort proposals; nothing is ever chosen without being scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .metrics import Architectures, Values, as_rows
from .moves import gates, relevant
from .space import SearchSpace
from .trial import Trial

STRENGTHS = tuple(float(strength) for strength in 10.0 ** np.arange(-3, 4))


@dataclass(frozen=True)
class Guide:
    """A prediction of the loss's logarithm: linear in an architecture's standardised features."""

    space: SearchSpace
    centre: Values
    scale: Values
    weights: Values
    offset: float

    def predict(self, architectures: Architectures) -> Values:
        """The expected logarithm of each canonical architecture's loss, float64 [n]."""
        features = _features(self.space, architectures)
        return (features - self.centre) / self.scale @ self.weights + self.offset


def fit(space: SearchSpace, trials: Sequence[Trial]) -> Guide:
    """Learn from all trials so far. Raises ValueError for fewer than two.

    Where a loss is not positive, losses themselves are what is predicted.
    """
    if len(trials) < 2:
        raise ValueError("a guide needs at least two trials")
    features = _features(space, [trial.architecture for trial in trials])
    loss = np.array([trial.loss for trial in trials])
    if loss.min() > 0:
        loss = np.log(loss)
    centre, scale, offset = features.mean(axis=0), features.std(axis=0), float(loss.mean())
    scale[scale == 0] = 1.0  # never varied so far: it can say nothing
    left, singular, right = np.linalg.svd((features - centre) / scale, full_matrices=False)
    projected = left.T @ (loss - offset)

    def error(strength: float) -> float:
        kept = singular**2 / (singular**2 + strength)
        leverage = (left**2 @ kept) + 1 / len(trials)  # the mean is estimated, too
        residual = (loss - offset - left @ (kept * projected)) / np.maximum(1 - leverage, 1e-9)
        return float(residual @ residual)

    strength = min(STRENGTHS, key=error)
    weights = right.T @ (singular / (singular**2 + strength) * projected)
    return Guide(space, centre, scale, weights, offset)


def most_promising(
    space: SearchSpace, trials: Sequence[Trial], candidates: Architectures, count: int
) -> NDArray[np.intp]:
    """The positions of the `count` candidates with the smallest predicted loss, best first."""
    predicted = fit(space, trials).predict(candidates)
    return np.argsort(predicted, kind="stable")[:count]


def _features(space: SearchSpace, architectures: Architectures) -> Values:
    largest = np.array([coordinate.values[-1] for coordinate in space.coordinates])
    rows = as_rows(space, architectures)
    sizes = rows / largest * relevant(rows, gates(space))
    ordered = np.array([coordinate.kind != "operator" for coordinate in space.coordinates])
    chosen = [
        rows[:, [column]] == np.array(coordinate.values[1:])
        for column, coordinate in enumerate(space.coordinates)
        if not ordered[column]
    ]
    return np.hstack([sizes[:, ordered], sizes[:, ordered] ** 2, *chosen]).astype(np.float64)
