"""Several limits at once: what every optimiser takes as one metric and one target.

    fast = Constraint("latency", latency(space, table), 3e-3)
    metric = tightest([fast, limit_of("macs=20M", space)])
    best = best_trial(coordinate_descent(space, evaluate, metric, 3e-3, rng), 3e-3)

The metric is that of the first constraint, or what another one that is tighter would be in its
unit: at most the first limit where all are met.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..devices.errors import InputError
from .metrics import Architectures, Metric, Values, macs, parameters, peak_memory
from .space import SearchSpace

COUNTED: dict[str, Callable[[SearchSpace], Metric]] = {
    "macs": macs,
    "parameters": parameters,
    "memory": peak_memory,
}
_UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "%": 0.01}


@dataclass(frozen=True)
class Constraint:
    """A metric that may be at most `limit`, in the metric's unit."""

    name: str
    metric: Metric
    limit: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit) and self.limit > 0):
            raise ValueError(f"the limit of {self.name} is {self.limit}; it has to be above 0")


def tightest(constraints: Sequence[Constraint]) -> Metric:
    """One metric for all constraints, in the unit of the first: the largest of the parts of the
    limits that are used, times the first limit. Raises ValueError without any."""
    if not constraints:
        raise ValueError("there is no constraint")
    if len(constraints) == 1:
        return constraints[0].metric
    unit = constraints[0].limit

    def metric(architectures: Architectures) -> Values:
        found = constraints[0].metric(architectures)
        for other in constraints[1:]:
            found = np.maximum(found, other.metric(architectures) * (unit / other.limit))
        return found

    return metric


def limit_of(text: str, space: SearchSpace) -> Constraint:
    """A constraint in the user's words: `macs=20M`, `parameters=300k`, `memory=200k` (bytes of
    activations at the worst moment), or a share of the full network's, `macs=40%`.

    Raises `InputError` where it is none.
    """
    name, number, unit = split_limit(text)
    metric = COUNTED[name](space)
    whole = float(metric([space.full])[0]) if unit == "%" else 1.0
    return Constraint(name, metric, number * _UNITS[unit] * whole)


def split_limit(text: str) -> tuple[str, float, str]:
    """The name, the number and the unit of a limit. Raises `InputError`."""
    match = re.fullmatch(r"\s*(\w+)\s*=\s*(\d+(?:\.\d*)?|\.\d+)\s*([kMG%]?)B?\s*", text)
    if match is None or match[1] not in COUNTED or float(match[2]) <= 0:
        raise InputError(
            f"{text!r} is not a limit: write for example macs=20M, parameters=300k, memory=200k "
            f"(bytes), or macs=40% of the full network's; known are {', '.join(COUNTED)}"
        )
    return match[1], float(match[2]), match[3]
