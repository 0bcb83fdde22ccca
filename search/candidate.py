"""Networks that were measured during a search: what was expected of each, and what it took."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..profiler.table import Estimate
from .space import Architecture

UNKNOWN_NOISE = 0.01  # of a measurement that does not know how it repeats
LEAST_NOISE = 0.003
DOUBT = 1.96  # standard deviations of an interval of 95 %


@dataclass(frozen=True)
class Reading:
    """One network's measurement: seconds in the table's terms, with the limits of another session
    (95 %), and what the table predicted."""

    predicted: Estimate
    seconds: float
    limits: tuple[float, float] | None
    verdict: str

    @property
    def noise(self) -> float:
        """The standard deviation of the measurement's logarithm."""
        if self.limits is None:
            return UNKNOWN_NOISE
        low, high = self.limits
        return max(LEAST_NOISE, math.log(high / low) / 2 / DOUBT)


@dataclass(frozen=True)
class Candidate:
    """A network that was measured during the search. `expected` is what it was expected to take
    before that: the prediction as corrected by networks that were measured earlier (seconds)."""

    architecture: Architecture
    expected: float
    reading: Reading
