"""From operators timed alone to whole networks: a few factors, fitted and then judged.

Raw sums of operators are 10 % off: an operator alone runs with warm weights and pays the cost of
an invocation each time. The fit gives each kind of operator a factor, a cost for each operator
and each byte of weights too large to stay in the first cache, and a constant. It is a linear
regression with Gaussian priors (ridge regression towards "the sum is right"), so that twenty
networks suffice for a dozen parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .layers import BYTES_PER_ELEMENT, Layer

BAR = 0.90  # share of held-out networks that must be predicted within 10 %
COLD_BYTES = 32 * 1024  # weights beyond this do not stay in a first-level cache

# Prior mean and standard deviation of each parameter, in its unit.
_FACTOR = (1.0, 0.2)
_PER_OPERATOR = (-0.5e-6, 1e-6)  # seconds; an operator alone pays for an invocation each time
_PER_COLD_BYTE = (0.0, 1e-10)  # seconds; 10 GB/s
_CONSTANT = (0.5e-6, 5e-6)  # seconds; the network's own invocation
_RESIDUAL = 0.02  # relative standard deviation of a network's time


def kind(layer: Layer) -> str:
    """The group of operators that share a factor: the operator, apart where there is no space.

    Layers on 1x1 positions (squeeze-excite, classifiers) are bound by memory, others are not.
    """
    shape = layer.inputs[0]
    if len(shape) == 3 and shape[:2] == (1, 1):
        return f"{layer.op} 1x1"
    if layer.op == "conv_2d" and layer.kernel > 1:
        return f"{layer.op} spatial"
    return layer.op


def cold_bytes(layer: Layer) -> float:
    """Bytes of weights that are fetched anew in each inference of a whole network."""
    return max(0.0, layer.parameters * BYTES_PER_ELEMENT - COLD_BYTES)


@dataclass(frozen=True)
class Calibration:
    """The fitted parameters: seconds, seconds an operator, seconds a byte, and factors by kind."""

    constant: float = 0.0
    per_operator: float = 0.0
    per_cold_byte: float = 0.0
    factors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = [self.constant, self.per_operator, self.per_cold_byte, *self.factors.values()]
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            raise ValueError("a calibration consists of finite numbers")

    def price(self, layer: Layer, seconds_alone: float) -> float:
        """What a layer adds to a network, in seconds, given its time alone. Never negative."""
        factor = self.factors.get(kind(layer), _FACTOR[0])
        corrected = factor * seconds_alone + self.per_operator
        return max(0.0, corrected + self.per_cold_byte * cold_bytes(layer))


@dataclass(frozen=True)
class Validation:
    """Predicted against measured seconds of networks that the fit has not seen.

    `runs` holds each network's value in each run `[networks, runs]`, the measurement's own noise.
    """

    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]
    runs: NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = (self.predicted.shape, self.measured.shape, self.runs.shape[:1])
        if len(set(shapes)) > 1 or self.predicted.size == 0 or self.runs.ndim != 2:
            raise ValueError("a validation needs networks, each predicted and measured")
        if not (self.measured > 0).all() or not (self.runs > 0).all():
            raise ValueError("a network was measured to take no time")

    @property
    def errors(self) -> NDArray[np.float64]:
        """Relative errors, signed."""
        return self.predicted / self.measured - 1

    @property
    def mape(self) -> float:
        """The mean absolute relative error."""
        return float(np.abs(self.errors).mean())

    @property
    def worst(self) -> float:
        """The largest absolute relative error."""
        return float(np.abs(self.errors).max())

    def share_within(self, limit: float) -> float:
        """The share of networks with an error of at most `limit`."""
        return float((np.abs(self.errors) <= limit).mean())

    @property
    def passes(self) -> bool:
        """Whether enough networks are predicted within 10 % for the table to be relied on."""
        return self.share_within(0.10) >= BAR

    @property
    def spearman(self) -> float:
        """The rank correlation of predicted and measured; NaN where all of either are equal."""
        predicted, measured = _ranks(self.predicted), _ranks(self.measured)
        if np.ptp(predicted) == 0 or np.ptp(measured) == 0:
            return math.nan
        return float(np.corrcoef(predicted, measured)[0, 1])

    @property
    def noise_floor(self) -> float:
        """How far two runs of the measurement itself lie apart, as a mean relative difference.

        No prediction of another run's value can be better. NaN with fewer than two runs.
        """
        pairs = [
            np.abs(self.runs[:, i] / self.runs[:, j] - 1)
            for i in range(self.runs.shape[1])
            for j in range(i)
        ]
        return float(np.mean(pairs)) if pairs else math.nan

    @property
    def margin(self) -> float:
        """The relative error that 95 % of the networks stay within."""
        return float(np.quantile(np.abs(self.errors), 0.95))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The place of each value in their order; equal ones share the mean of their places."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[place]
    return ranks


def fit(
    networks: Sequence[Sequence[Layer]],
    seconds: NDArray[np.float64],
    alone: Mapping[str, float],
) -> Calibration:
    """Fit the parameters to measured networks.

    `networks` are the layers of each, `seconds` their measured times, `alone` the measured time
    of each operator signature. Returns the sum as it is (with nothing fitted) for no networks.
    """
    if not networks:
        return Calibration()
    kinds = sorted({kind(layer) for layers in networks for layer in layers})
    columns = ["constant", "per_operator", "per_cold_byte", *kinds]
    priors = np.array([_CONSTANT, _PER_OPERATOR, _PER_COLD_BYTE, *[_FACTOR] * len(kinds)])
    design = np.zeros((len(networks), len(columns)))
    for row, layers in zip(design, networks, strict=True):
        row[0] = 1.0
        for layer in layers:
            row[1] += 1.0
            row[2] += cold_bytes(layer)
            row[3 + kinds.index(kind(layer))] += alone[layer.signature]
    # Relative residuals, and parameters in units of their priors' deviations.
    mean, deviation = priors[:, 0], priors[:, 1]
    scaled = design / seconds[:, None] * deviation
    target = 1.0 - design @ mean / seconds
    gram = scaled.T @ scaled / _RESIDUAL**2 + np.eye(len(columns))
    solution = np.linalg.solve(gram, scaled.T @ target / _RESIDUAL**2)
    values = mean + deviation * solution
    factors = dict(zip(kinds, values[3:].tolist(), strict=True))
    return Calibration(float(values[0]), float(values[1]), float(values[2]), factors)
