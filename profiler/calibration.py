"""From operators timed alone to whole networks: a few factors, fitted and then judged.

Raw sums of operators are 10 % off: an operator alone runs with warm weights and pays the cost of
an invocation each time. The fit gives each kind of operator a factor, a cost for each operator
and each byte of weights that only stays in a cache while an operator runs alone, and a constant.
It is a linear regression with Gaussian priors (ridge regression towards "the sum is right"), so
that twenty networks suffice for a dozen parameters, and with residuals of Student's t, so that a
network that was measured in a bad moment does not bend the fit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .crowding import (
    CACHES,
    NO_CROWDING,
    PER_BYTE_BEYOND,
    PER_PRODUCT,
    Crowding,
    crowding_row,
    footprint,
)
from .layers import Layer
from .pricing import Alone
from .schedule import SHORTEST_INFERENCE

BAR = 0.90  # share of held-out networks that must be predicted within 10 %
COLD_BYTES = 32 * 1024  # weights beyond this do not stay in a first-level cache
STREAMED_BYTES = 512 * 1024  # weights beyond this come from memory also when an operator is alone
NORMAL = 1.96  # standard deviations within which 95 % of a normal distribution lie

# Prior mean and standard deviation of each parameter, in its unit. The smallest operator of a table
# is hardly more than an invocation.
_LARGEST_INVOCATION = 5e-6  # seconds
_FACTOR = (1.0, 0.2)
_PER_OPERATOR = (-0.8, 0.5)  # invocations; an operator alone pays for one each time
_PER_COLD_BYTE = (0.0, 3e-11)  # seconds; 30 GB/s
_CROWDING = (PER_PRODUCT, *[PER_BYTE_BEYOND] * len(CACHES))
_CONSTANT = (1.0, 5.0)  # invocations; the network's own
_RESIDUAL = 0.015  # relative scale of what is left of a network's time
_STUDENT = 4.0  # degrees of freedom of what is left
_REWEIGHTED = 30  # times; the weights have long settled by then
_SMALLEST_RESIDUAL = 1e-3
_LARGEST = 1e12  # of any parameter; products of larger ones might not be finite


def kind(layer: Layer) -> str:
    """The group of operators that share a factor: the operator, apart where there is no space.

    Layers on 1x1 positions (squeeze-excite, classifiers) are bound by memory, others are not;
    each kernel of a depthwise convolution can run by an algorithm of its own.
    """
    shape = layer.inputs[0]
    if len(shape) == 3 and shape[:2] == (1, 1):
        return f"{layer.op} 1x1"
    if layer.op == "conv_2d" and layer.kernel > 1:
        return f"{layer.op} spatial"
    if layer.op == "depthwise_conv_2d":
        return f"{layer.op} {layer.kernel}x{layer.kernel}"
    return layer.op


def cold_bytes(layer: Layer) -> float:
    """Bytes of weights that are fetched anew in each inference of a whole network, and not while
    the operator runs alone."""
    return max(0.0, float(min(layer.parameter_bytes, STREAMED_BYTES) - COLD_BYTES))


@dataclass(frozen=True)
class Calibration:
    """The fitted parameters: seconds, seconds an operator, seconds a byte, and factors by kind.

    `crowding` is what layers lose to each other beyond that; `residual` is the relative standard
    deviation that the fit leaves to networks (each predicted from the others).
    """

    constant: float = 0.0
    per_operator: float = 0.0
    per_cold_byte: float = 0.0
    factors: Mapping[str, float] = field(default_factory=dict)
    crowding: Crowding = NO_CROWDING
    residual: float = _RESIDUAL

    def __post_init__(self) -> None:
        values = [self.constant, self.per_operator, self.per_cold_byte, *self.factors.values()]
        values += [self.crowding.per_product, *self.crowding.per_byte_beyond, self.residual]
        if not all(isinstance(value, int | float) and abs(value) <= _LARGEST for value in values):
            raise ValueError("a calibration consists of finite numbers")

    def price(self, layer: Layer, seconds_alone: float) -> float:
        """What a layer adds to a network, in seconds, given its time alone. Never negative."""
        factor = self.factors.get(kind(layer), _FACTOR[0])
        corrected = factor * seconds_alone + self.per_operator
        return max(0.0, corrected + self.per_cold_byte * cold_bytes(layer))


@dataclass(frozen=True)
class Predicted:
    """A network's latency as its operators say: seconds, the relative standard deviation, and how
    many of its operators were interpolated."""

    seconds: float
    deviation: float
    interpolated: int


def predict(
    layers: Sequence[Layer],
    alone: Callable[[Layer], Alone],
    calibration: Calibration,
    fragments: Sequence[Alone] = (),
) -> Predicted:
    """The calibrated sum of a network's operators, and of fragments as they were measured."""
    seconds = calibration.constant + calibration.crowding(*footprint(layers))
    seconds += sum(fragment.seconds for fragment in fragments)
    interpolated = 0
    signatures = [layer.signature for layer in layers]
    distinct = dict(zip(signatures, layers, strict=True))
    for signature, count in Counter(signatures).items():
        time = alone(distinct[signature])
        seconds += count * calibration.price(distinct[signature], time.seconds)
        interpolated += count * time.interpolated
    seconds = max(seconds, SHORTEST_INFERENCE)
    spread = variance(layers, alone, calibration, fragments)
    deviation = math.sqrt(spread / seconds**2 + calibration.residual**2)
    return Predicted(seconds, deviation, interpolated)


def variance(
    layers: Sequence[Layer],
    alone: Callable[[Layer], Alone],
    calibration: Calibration,
    fragments: Sequence[Alone] = (),
) -> float:
    """Of the sum of operators' prices, in square seconds. Deviations are independent; an operator
    that occurs twice counts twice as much."""
    found = sum((f.seconds * f.deviation) ** 2 for f in fragments)
    signatures = [layer.signature for layer in layers]
    distinct = dict(zip(signatures, layers, strict=True))
    for signature, count in Counter(signatures).items():
        time = alone(distinct[signature])
        price = calibration.price(distinct[signature], time.seconds)
        found += (count * price * time.deviation) ** 2
    return found


@dataclass(frozen=True)
class Validation:
    """Predicted against measured seconds of networks that the fit has not seen.

    `runs` holds each network's value in each run `[networks, runs]`, the measurement's own noise;
    `deviation` the relative standard deviation that was stated for each prediction.
    """

    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]
    runs: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def __post_init__(self) -> None:
        shapes = (
            self.predicted.shape,
            self.measured.shape,
            self.runs.shape[:1],
            self.deviation.shape,
        )
        if len(set(shapes)) > 1 or self.predicted.size == 0 or self.runs.ndim != 2:
            raise ValueError("a validation needs networks, each predicted and measured")
        if not (self.measured > 0).all() or not (self.runs > 0).all():
            raise ValueError("a network was measured to take no time")
        if not (self.deviation > 0).all():
            raise ValueError("a prediction without uncertainty")

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

    @property
    def stretch(self) -> float:
        """How many stated deviations 95 % of the errors stay within; at least a normal one's.

        Held-out networks judge the stated deviations, too (split conformal prediction).
        """
        return max(NORMAL, float(np.quantile(np.abs(self.errors) / self.deviation, 0.95)))


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
    invocation = min(_LARGEST_INVOCATION, *alone.values())
    first = 3 + len(_CROWDING)  # of the factors
    priors = np.array(
        [_CONSTANT, _PER_OPERATOR, _PER_COLD_BYTE, *_CROWDING, *[_FACTOR] * len(kinds)]
    )
    scale = np.array([invocation, invocation, *[1.0] * (len(priors) - 2)])
    mean, deviation = (priors * scale[:, None]).T
    design = np.zeros((len(networks), len(priors)))
    for row, layers in zip(design, networks, strict=True):
        row[0] = 1.0
        row[3:first] = crowding_row(*footprint(layers))
        for layer in layers:
            row[1] += 1.0
            row[2] += cold_bytes(layer)
            row[first + kinds.index(kind(layer))] += alone[layer.signature]
    # Relative residuals, and parameters in units of their priors' deviations.
    scaled = design / seconds[:, None] * deviation / _RESIDUAL
    target = (1.0 - design @ mean / seconds) / _RESIDUAL
    weights = np.ones(len(networks))
    for _ in range(_REWEIGHTED):
        gram = (scaled.T * weights) @ scaled + np.eye(len(priors))
        solution = np.linalg.solve(gram, scaled.T @ (weights * target))
        weights = (_STUDENT + 1) / (_STUDENT + (target - scaled @ solution) ** 2)
    values = mean + deviation * solution
    factors = dict(zip(kinds, values[first:].tolist(), strict=True))
    product, *beyond = values[3:first].tolist()
    crowding = Crowding(product, tuple(beyond))
    # What is left where each network is predicted from the others (the hat matrix says it).
    leverage = weights * np.einsum("ij,ji->i", scaled, np.linalg.solve(gram, scaled.T))
    left = (1.0 - design @ values / seconds) / np.maximum(1.0 - leverage, 0.05)
    residual = max(_SMALLEST_RESIDUAL, float(np.sqrt((left**2).mean())))
    constant, per_operator, per_cold_byte = values[:3].tolist()
    return Calibration(constant, per_operator, per_cold_byte, factors, crowding, residual)
