"""A table for a sister board: a donor's prices, corrected by a few measurements of its own.

Boards of one kind, or one board with other threads or another runtime, differ by factors that are
alike for operators that are alike. A Gaussian process on the logarithm of the ratio says how
alike: it has a part for each kind of operator, one that follows how long the operator takes (short
ones are overhead, long ones arithmetic), one for each family, and one within it. Where nothing is
measured the donor's price times the ratio of its likes remains, with an honest deviation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from .description import describe_layer, read_layer
from .families import channels, family
from .layers import Layer
from .pricing import Alone
from .selection import Usage, greedy

Values = NDArray[np.float64]

MEASUREMENTS = 200  # operators and calibration networks together, unless it is said otherwise
# Standard deviations of the logarithm of the ratio, and lengths over which its parts change.
_ALL, _KIND, _FAMILY, _SIZE, _WITHIN = 1.0, 0.25, 0.10, 0.15, 0.08
_CANDIDATES = 2_000  # of the donor, that are weighed against each other
_SIZE_LENGTH = 1.5  # of the logarithm of the time
_WITHIN_LENGTH = 2.0  # octaves of channels


@dataclass(frozen=True)
class Donor:
    """What another table knows: each operator it measured, with its time alone there."""

    operators: Mapping[str, tuple[Layer, Alone]]

    def describe(self) -> list[dict[str, Any]]:
        """As JSON; `read_donor` is the inverse."""
        return [
            {**describe_layer(layer), "seconds": alone.seconds, "deviation": alone.deviation}
            for layer, alone in self.operators.values()
        ]


def read_donor(content: Iterable[Mapping[str, Any]] | None) -> Donor | None:
    """The donor that a table's plan describes, if any.

    Raises ValueError, TypeError, KeyError, `TableFileError` where the description is damaged.
    """
    if content is None:
        return None
    operators: dict[str, tuple[Layer, Alone]] = {}
    for entry in content:
        layer = read_layer(entry)
        alone = Alone(float(entry["seconds"]), float(entry["deviation"]))
        if not (0 < alone.seconds < math.inf and 0 <= alone.deviation < math.inf):
            raise ValueError(f"the donor's {layer.signature!r} takes {alone.seconds} s")
        operators[layer.signature] = layer, alone
    return Donor(operators)


def transferred(donor: Donor, measured: Sequence[tuple[Layer, Alone]]) -> list[tuple[Layer, Alone]]:
    """The donor's operators that were not measured here, at their likely times here, flagged.

    `measured` are operators of the donor as they were measured here. Without any there is nothing
    to go by, and the result is empty.
    """
    seen = [(layer, time) for layer, time in measured if layer.signature in donor.operators]
    known = {layer.signature for layer, _ in measured}
    rest = [pair for signature, pair in donor.operators.items() if signature not in known]
    if not seen or not rest:
        return []
    there = [donor.operators[layer.signature][1] for layer, _ in seen]
    ratios = np.log(
        [time.seconds / other.seconds for (_, time), other in zip(seen, there, strict=True)]
    )
    noise = np.hypot([time.deviation for _, time in seen], [other.deviation for other in there])
    places = _Places([layer for layer, _ in seen], there)
    wanted = _Places([layer for layer, _ in rest], [alone for _, alone in rest])
    matrix = _covariance(places, places)
    matrix[np.diag_indices(len(seen))] += np.maximum(noise, 1e-3) ** 2
    factor = cho_factor(matrix, lower=True)
    cross = _covariance(wanted, places)
    middle = ratios.mean() + cross @ cho_solve(factor, ratios - ratios.mean())
    variance = _PRIOR - np.einsum("ij,ji->i", cross, cho_solve(factor, cross.T))
    return [
        (
            layer,
            Alone(
                alone.seconds * math.exp(ratio),
                math.hypot(alone.deviation, math.sqrt(max(left, 0.0))),
                interpolated=True,
            ),
        )
        for (layer, alone), ratio, left in zip(rest, middle, variance, strict=True)
    ]


def choose_measurements(donor: Donor, usage: Usage, count: int) -> list[Layer]:
    """The donor's operators to measure on the new board: those that say most about what networks
    depend on, the first of them first."""
    # Of a donor with every operator those that weigh most in networks; the cost grows with the
    # square of their number.
    weighty = sorted(
        donor.operators.values(), key=lambda pair: -usage[pair[0]] * pair[1].seconds ** 2
    )[:_CANDIDATES]
    layers = [layer for layer, _ in weighty]
    times = [alone for _, alone in weighty]
    places = _Places(layers, times)
    weights = np.array(
        [usage[layer] * alone.seconds**2 for layer, alone in zip(layers, times, strict=True)]
    )
    noise = float(np.median([alone.deviation for alone in times])) ** 2
    chosen = greedy(weights, _covariance(places, places), noise, count)
    return [layers[i] for i in chosen]


_PRIOR = _ALL**2 + _KIND**2 + _FAMILY**2 + _SIZE**2 + _WITHIN**2


class _Places:
    """Operators as the process sees them."""

    def __init__(self, layers: Sequence[Layer], times: Sequence[Alone]) -> None:
        self.kinds = np.array([layer.op for layer in layers])
        self.families = np.array([family(layer).name for layer in layers])
        self.sizes: Values = np.log([time.seconds for time in times])
        self.octaves: Values = np.array(
            [[math.log2(channels(x)[0]), math.log2(channels(x)[-1])] for x in layers]
        )


def _covariance(a: _Places, b: _Places) -> Values:
    """The prior covariance of the logarithms of two sets of ratios."""
    kind = a.kinds[:, None] == b.kinds[None, :]
    alike = a.families[:, None] == b.families[None, :]
    size = np.exp(-0.5 * ((a.sizes[:, None] - b.sizes[None, :]) / _SIZE_LENGTH) ** 2)
    apart = ((a.octaves[:, None, :] - b.octaves[None, :, :]) ** 2).sum(axis=2)
    within = np.exp(-0.5 * apart / _WITHIN_LENGTH**2)
    total: Values = (
        _ALL**2 + kind * (_KIND**2 + _SIZE**2 * size) + alike * (_FAMILY**2 + _WITHIN**2 * within)
    )
    return total
