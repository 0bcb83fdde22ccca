"""What measured networks say about the prices of others like them.

A table's error is the same for like networks: log(measured / predicted) is a Gaussian process over
architectures (Rasmussen and Williams 2006, chapter 2). A part of its variance is common to all
networks, the rest falls off with their distance, so that one measured network corrects its
neighbours almost fully and the others a little; far from all of them the table's own error remains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..profiler.table import LookupTable
from .metrics import Architectures, Metric, Rows, Values, as_rows
from .space import Architecture, SearchSpace

COMMON = 0.5  # the part of the variance that all networks share
REACH = 0.15  # root mean square distance over coordinates, each from 0 to 1, at which likeness ends
UNKNOWN_ERROR = 0.03  # of a table without held-out networks
LEAST_ERROR = 0.005


@dataclass(frozen=True)
class Correction:
    """The correction of a table's predictions from measured networks of one space.

    `error` is the table's own, as a standard deviation of log(measured / predicted). `networks`
    were measured: `logs` are their logarithms of measured over predicted, `noise` the standard
    deviations of these.
    """

    space: SearchSpace
    error: float
    networks: tuple[Architecture, ...] = ()
    logs: tuple[float, ...] = ()
    noise: tuple[float, ...] = ()
    _places: NDArray[np.float64] = field(init=False, repr=False, compare=False)
    _factor: NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.error > 0 or not all(value > 0 for value in self.noise):
            raise ValueError("the error of a table and the noise of a measurement are above 0")
        if not len(self.networks) == len(self.logs) == len(self.noise):
            raise ValueError("each measured network needs its value and its noise")
        places = self._normalised(as_rows(self.space, self.networks))
        covariance = self._covariance(places, places) + np.diag(np.square(self.noise))
        object.__setattr__(self, "_places", places)
        object.__setattr__(self, "_factor", np.linalg.inv(covariance))

    def measured(
        self, networks: Sequence[Architecture], ratios: Sequence[float], noise: Sequence[float]
    ) -> Correction:
        """This with further networks; `ratios` are measured over predicted."""
        return Correction(
            self.space,
            self.error,
            (*self.networks, *networks),
            (*self.logs, *(math.log(ratio) for ratio in ratios)),
            (*self.noise, *noise),
        )

    def __call__(self, architectures: Architectures) -> tuple[Values, Values]:
        """Of each architecture the mean of log(true / predicted), and its standard deviation."""
        rows = as_rows(self.space, architectures)
        if not self.networks:
            return np.zeros(len(rows)), np.full(len(rows), self.error)
        with_known = self._covariance(self._normalised(rows), self._places)
        weights = with_known @ self._factor
        mean: Values = weights @ np.array(self.logs)
        variance = self.error**2 - (weights * with_known).sum(axis=1)
        return mean, np.sqrt(np.maximum(variance, 0.0))

    def corrected(self, metric: Metric) -> Metric:
        """The metric times what is expected of it."""

        def found(architectures: Architectures) -> Values:
            values: Values = metric(architectures) * np.exp(self(architectures)[0])
            return values

        return found

    def _normalised(self, rows: Rows) -> NDArray[np.float64]:
        """Each coordinate from 0 to 1 over its values."""
        ends = [(c.values[0], c.values[-1]) for c in self.space.coordinates]
        low, high = np.array(ends, float).reshape(-1, 2).T
        places: NDArray[np.float64] = (rows - low) / np.maximum(high - low, 1)
        return places

    def _covariance(self, a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
        near = np.exp(-np.maximum(squares, 0.0) / max(1, a.shape[1]) / (2 * REACH**2))
        found: NDArray[np.float64] = self.error**2 * (COMMON + (1 - COMMON) * near)
        return found


def table_error(table: LookupTable) -> float:
    """The standard deviation of log(measured / predicted) on the table's held-out networks."""
    if table.validation is None or not len(table.validation.measured):
        return UNKNOWN_ERROR
    logs = np.log(table.validation.measured / table.validation.predicted)
    return max(LEAST_ERROR, float(np.sqrt((logs**2).mean())))
