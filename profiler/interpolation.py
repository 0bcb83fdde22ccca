"""The time of operators that were not measured, from others of their family, with its uncertainty.

A Gaussian process on logarithms: a trend (a constant and a slope in each channel count), a smooth
deviation from it, and one deviation for each class of channel counts, which is the staircase
(Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, sections 2.2, 2.7, 5.4).
Scales are fitted to the family's own measurements under priors, so that three of them suffice for
a guess with honest limits. Nothing is extrapolated: `covers` says where the measured ones end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from .families import step_class

Values = NDArray[np.float64]
Counts = NDArray[np.int64]

# Prior variances of the trend: a factor of e^4 either way, and a slope of 1 in log-log.
_CONSTANT = 16.0
_SLOPE = 1.0
# Priors of the scales: the logarithm's mean and standard deviation.
_AMPLITUDE = (math.log(0.10), 0.7)  # of the smooth deviation, relative
_LENGTH = (math.log(2.0), 0.5)  # octaves of channels over which it changes
_STEP = (math.log(0.05), 0.8)  # of the staircase, relative
_NOISE = (0.0, 0.4)  # a factor on the noise that is handed in
_MOST_MEMBERS = 400  # of a family; more say nothing new, and the cost grows with their cube
_SMALLEST_NOISE = 2e-3  # relative; no two kernels repeat better than this


@dataclass(frozen=True)
class Scales:
    """How a family varies: relative amplitudes, lengths in octaves of channels, and a factor on
    the measurements' noise."""

    amplitude: float
    lengths: tuple[float, ...]
    steps: tuple[float, ...]
    noise: float

    def __post_init__(self) -> None:
        values = [self.amplitude, *self.lengths, *self.steps, self.noise]
        if len(self.lengths) != len(self.steps) or not all(
            math.isfinite(value) and value > 0 for value in values
        ):
            raise ValueError("scales are positive numbers, as many lengths as steps")

    @classmethod
    def from_logs(cls, logs: Values, dimensions: int) -> Scales:
        """Unpack what the optimiser varies."""
        values = [math.exp(float(value)) for value in logs]
        return cls(
            values[0],
            tuple(values[1 : 1 + dimensions]),
            tuple(values[1 + dimensions : 1 + 2 * dimensions]),
            values[-1],
        )


class Places:
    """Channel counts `[n, dimensions]` as the process sees them: octaves and step classes."""

    def __init__(self, counts: ArrayLike) -> None:
        self.counts: Counts = np.atleast_2d(np.asarray(counts, np.int64))
        self.octaves: Values = np.log2(self.counts.astype(float))
        self.classes: Counts = np.vectorize(step_class, otypes=[np.int64])(self.counts)

    def __len__(self) -> int:
        return len(self.counts)


class Pairs:
    """What the covariance of log times between two sets of places is made of, but for the scales:
    a smooth part (Matern, 5/2) over octaves, higher within a step class, and a trend."""

    def __init__(self, a: Places, b: Places) -> None:
        # [dimensions, len(a), len(b)]
        self._squares: Values = (a.octaves.T[:, :, None] - b.octaves.T[:, None, :]) ** 2
        self._alike: Values = (a.classes.T[:, :, None] == b.classes.T[:, None, :]).astype(float)
        self._trend: Values = _CONSTANT + _SLOPE * ((a.octaves - 5.0) @ (b.octaves - 5.0).T)

    def covariance(self, scales: Scales) -> Values:
        """The prior covariance `[len(a), len(b)]`."""
        _, distance, decay = self._distances(scales)
        total: Values = self._trend + self._height(scales) * _near(distance, decay)
        return total

    def slopes(self, scales: Scales) -> tuple[Values, Values]:
        """The prior covariance, and its derivatives by the logarithms of amplitude, lengths and
        steps `[1 + 2 dimensions, len(a), len(b)]`."""
        shares, distance, decay = self._distances(scales)
        near, height = _near(distance, decay), self._height(scales)
        steps = np.square(scales.steps)[:, None, None]
        parts = [
            (2.0 * scales.amplitude**2 * near)[None],
            # d near / d log length: the distance's own cancels, so that nothing is divided by 0.
            (5.0 / 3.0) * height * (1.0 + distance) * decay * shares,
            2.0 * steps * self._alike * near,
        ]
        return self._trend + height * near, np.concatenate(parts)

    def _distances(self, scales: Scales) -> tuple[Values, Values, Values]:
        shares = self._squares / np.square(scales.lengths)[:, None, None]
        distance = np.sqrt(5.0 * shares.sum(axis=0))
        return shares, distance, np.exp(-distance)

    def _height(self, scales: Scales) -> Values:
        height: Values = scales.amplitude**2 + np.tensordot(
            np.square(scales.steps), self._alike, axes=1
        )
        return height


def _near(distance: Values, decay: Values) -> Values:
    near: Values = (1.0 + distance + distance**2 / 3.0) * decay
    return near


def covariance(a: Places, b: Places, scales: Scales) -> Values:
    """The prior covariance of log times between two sets of places."""
    return Pairs(a, b).covariance(scales)


class Interpolator:
    """A family's measured operators, and what follows for the others.

    `counts` are channels `[n, dimensions]`, `logs` natural logarithms of seconds `[n]` (of the
    ratio to another table, where one is transferred), `noise` their standard deviations `[n]`.
    `scales` are those of an earlier fit to the same values; without them they are fitted.
    """

    def __init__(
        self, counts: ArrayLike, logs: ArrayLike, *, noise: Values, scales: Scales | None = None
    ) -> None:
        every = np.atleast_2d(np.asarray(counts, np.int64))
        self._low, self._high = every.min(axis=0), every.max(axis=0)
        kept = _enough(every)
        self._places = Places(every[kept])
        self._logs: Values = np.asarray(logs, float)[kept]
        self._mean = float(self._logs.mean())
        self._noise = np.maximum(noise, _SMALLEST_NOISE)[kept]
        self.scales = scales or _fit_scales(self._places, self._logs - self._mean, self._noise)
        self._factor = _factor(self._places, self.scales, self._noise)
        self._weights: Values = cho_solve(self._factor, self._logs - self._mean)

    @property
    def noise(self) -> float:
        """The standard deviation of one more measurement, on logarithms."""
        return float(np.median(self._noise)) * self.scales.noise

    def covers(self, counts: ArrayLike) -> NDArray[np.bool_]:
        """Whether places lie within the range of what was measured, in each channel count."""
        places = np.atleast_2d(np.asarray(counts, np.int64))
        inside: NDArray[np.bool_] = ((places >= self._low) & (places <= self._high)).all(axis=1)
        return inside

    def predict(self, counts: ArrayLike) -> tuple[Values, Values]:
        """Logarithms and their standard deviations (without measurement noise) at places."""
        places = Places(counts)
        cross = covariance(places, self._places, self.scales)
        middle: Values = self._mean + cross @ self._weights
        prior = _prior_variance(places, self.scales)
        known = np.einsum("ij,ji->i", cross, cho_solve(self._factor, cross.T))
        deviation: Values = np.sqrt(np.maximum(prior - known, 0.0))
        return middle, deviation

    def posterior(self, a: ArrayLike, b: ArrayLike) -> Values:
        """The covariance between places `a` and `b` that the measurements leave."""
        first, second = Places(a), Places(b)
        known = covariance(first, self._places, self.scales) @ cho_solve(
            self._factor, covariance(self._places, second, self.scales)
        )
        left: Values = covariance(first, second, self.scales) - known
        return left


def _enough(counts: Counts) -> Counts:
    """The numbers of the members that are looked at: all, or the ends and others at random."""
    if len(counts) <= _MOST_MEMBERS:
        return np.arange(len(counts))
    ends = [*counts.argmin(axis=0), *counts.argmax(axis=0)]
    order = [*ends, *np.random.default_rng(0).permutation(len(counts))]
    return np.sort(np.array(list(dict.fromkeys(order))[:_MOST_MEMBERS], np.int64))


def _prior_variance(places: Places, scales: Scales) -> Values:
    slope = _SLOPE * ((places.octaves - 5.0) ** 2).sum(axis=1)
    variance: Values = (
        _CONSTANT + slope + scales.amplitude**2 + sum(step**2 for step in scales.steps)
    )
    return variance


def _factor(places: Places, scales: Scales, noise: Values) -> tuple[Values, bool]:
    return _factored(covariance(places, places, scales), scales, noise)


def _factored(matrix: Values, scales: Scales, noise: Values) -> tuple[Values, bool]:
    matrix[np.diag_indices(len(matrix))] += (scales.noise * noise) ** 2
    factor: tuple[Values, bool] = cho_factor(matrix, lower=True, check_finite=False)
    return factor


def _fit_scales(places: Places, logs: Values, noise: Values) -> Scales:
    """The scales of the highest posterior density: marginal likelihood times their priors."""
    dimensions = places.octaves.shape[1]
    priors = np.array([_AMPLITUDE, *[_LENGTH] * dimensions, *[_STEP] * dimensions, _NOISE])
    loss = partial(scales_loss, Pairs(places, places), logs, noise, priors)
    bounds = [(mean - 4 * spread, mean + 4 * spread) for mean, spread in priors]
    found = minimize(
        loss, priors[:, 0], jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 50}
    )
    return Scales.from_logs(found.x, dimensions)


def scales_loss(
    pairs: Pairs, logs: Values, noise: Values, priors: Values, values: Values
) -> tuple[float, Values]:
    """Minus the logarithm of the posterior density (but for a constant), and its derivatives.

    `values` are the logarithms of the scales in the order of `Scales`, `priors` the mean and the
    standard deviation of each. Rasmussen and Williams, equations 5.8 and 5.9.
    """
    scales = Scales.from_logs(values, (len(values) - 2) // 2)
    matrix, slopes = pairs.slopes(scales)
    try:
        factor = _factored(matrix, scales, noise)
    except np.linalg.LinAlgError:
        return 1e9, np.zeros(len(values))
    weights = cho_solve(factor, logs, check_finite=False)
    volume = float(np.log(np.diag(factor[0])).sum())
    away = (values - priors[:, 0]) / priors[:, 1]
    loss = 0.5 * float(logs @ weights) + volume + 0.5 * float(away @ away)
    inverse = cho_solve(factor, np.eye(len(logs)), check_finite=False)
    change = 0.5 * (inverse - np.outer(weights, weights))
    by_noise = 2.0 * float(np.diag(change) @ (scales.noise * noise) ** 2)
    slope = np.append(np.tensordot(slopes, change, axes=2), by_noise)
    return loss, slope + away / priors[:, 1]
