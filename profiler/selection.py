"""Which operators to measure: few, chosen so that whole networks are priced well.

First the ends of every family (so that nothing has to be extrapolated), then one by one the
operator whose measurement takes most uncertainty out of the networks that the space is made of,
which is known before it is measured (Cohn, "Neural network exploration using optimal experiment
design", 1996). After each batch the families' scales are fitted anew, so that where interpolation
fails more is measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .families import by_family, channels
from .interpolation import Interpolator
from .layers import Layer, Network
from .pricing import OperatorTimes

Values = NDArray[np.float64]

CANDIDATES = 400  # of a family that are weighed against each other; more hardly differ
_UNUSED = 1e-3  # weight of an operator that none of the sampled networks has, in occurrences


@dataclass(frozen=True)
class Usage:
    """How often each operator occurs in networks of the space, by signature, on average."""

    occurrences: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, networks: Sequence[Network]) -> Usage:
        """Count the operators of sampled networks."""
        counts = Counter(layer.signature for network in networks for layer in network.layers)
        return cls({signature: n / len(networks) for signature, n in counts.items()})

    def __getitem__(self, layer: Layer) -> float:
        return max(self.occurrences.get(layer.signature, 0.0), _UNUSED)


def ends(layers: Iterable[Layer]) -> list[Layer]:
    """The operators that enclose all others of their families: the smallest and largest in each
    channel count, and in both together."""
    chosen: dict[str, Layer] = {}
    for group in by_family(layers).values():
        counts = np.array([channels(layer) for layer in group])
        octaves = np.log2(counts)
        directions = [octaves.sum(axis=1)]
        if counts.shape[1] > 1:
            directions += [octaves[:, 0] - octaves[:, -1]]
            directions += [octaves[:, axis] for axis in range(counts.shape[1])]
        for along in directions:
            for place in (int(along.argmin()), int(along.argmax())):
                chosen.setdefault(group[place].signature, group[place])
    return list(chosen.values())


class Selection:
    """The operators that could be measured, and what is worth measuring next.

    `usage` says how often each of the `layers` occurs, `times` what is known of them so far.
    """

    def __init__(self, layers: Iterable[Layer], usage: Usage, times: OperatorTimes) -> None:
        self._families = []
        for group, members in by_family(layers).items():
            model = times.model(group)
            rest = [layer for layer in members if not times.is_measured(layer)]
            if model is not None and rest:
                self._families.append(_Candidates(rest, model, usage))

    def best(self, count: int) -> list[Layer]:
        """The `count` operators that take most uncertainty out of the networks, best first."""
        chosen: list[Layer] = []
        gains = [family.gain() for family in self._families]
        while len(chosen) < count and gains and max(gains) > 0:
            best = int(np.argmax(gains))
            chosen.append(self._families[best].take())
            gains[best] = self._families[best].gain()
        return chosen


class _Candidates:
    """One family: the covariance left between its operators, which shrinks as some are taken."""

    def __init__(self, rest: Sequence[Layer], model: Interpolator, usage: Usage) -> None:
        weights = np.array([usage[layer] for layer in rest])
        # The most used stand for all; ties keep the order of the plan, so that it repeats.
        order = np.argsort(-weights, kind="stable")[:CANDIDATES]
        scale = weights.sum() / weights[order].sum()
        places = [channels(rest[i]) for i in order]
        middle, _ = model.predict(places)
        self._layers: list[Layer] = [rest[i] for i in order]
        self._left = Remaining(
            weights[order] * scale * np.exp(2 * middle),
            model.posterior(places, places),
            model.noise**2,
        )

    def gain(self) -> float:
        """What the best next measurement takes away, in seconds squared."""
        return self._left.best()[1]

    def take(self) -> Layer:
        """Take the best one."""
        place, _ = self._left.best()
        self._left.take(place)
        return self._layers[place]


class Remaining:
    """The uncertainty of some quantities, as measurements would take it away one by one.

    `weights` say how much each one's variance counts, `covariance` is what is not known of them,
    `noise` the variance of a measurement.
    """

    def __init__(self, weights: Values, covariance: Values, noise: float) -> None:
        self._weights = weights
        self._left = covariance.copy()
        self._noise = noise
        self._open = np.ones(len(weights), bool)

    def best(self) -> tuple[int, float]:
        """The quantity whose measurement takes most away, and how much; 0 where none is left."""
        variance = np.maximum(np.diag(self._left), 0.0) + self._noise
        gains = np.where(self._open, (self._weights @ self._left**2) / variance, 0.0)
        place = int(gains.argmax())
        return place, float(gains[place])

    def take(self, place: int) -> None:
        """The covariance shrinks as if the quantity had been measured."""
        column = self._left[:, place].copy()
        self._left -= np.outer(column, column) / (max(column[place], 0.0) + self._noise)
        self._open[place] = False


def greedy(weights: Values, covariance: Values, noise: float, count: int) -> list[int]:
    """The places of the `count` best quantities to measure, one after the other."""
    remaining = Remaining(weights, covariance, noise)
    chosen = []
    for _ in range(min(count, len(weights))):
        place, _ = remaining.best()
        remaining.take(place)
        chosen.append(place)
    return chosen
