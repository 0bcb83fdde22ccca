"""What was measured of one model, every value kept; statistics and the verdict are computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["steady", "drifting", "noisy", "partial"]
FloatSeries = NDArray[np.float64]

ADVICE: dict[Verdict, str] = {
    "steady": "the numbers can be believed",
    "drifting": (
        "the board became faster or slower while it was measured: let it cool down, end other "
        "work on it, and measure again (with another --out, where samples are kept)"
    ),
    "noisy": (
        "other work disturbs the board: end it and measure again, or for longer with --budget "
        "(with another --out, where samples are kept)"
    ),
    "partial": ("less was measured than was asked for: run the same command again, it goes on"),
}


def seconds_text(seconds: float) -> str:
    """A time as people read it: `1.23 s`, `1.23 ms` or `123 us`, three digits."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= 0.9995 * scale:  # three digits would round it up to a thousand of the next
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


@dataclass(frozen=True)
class Interval:
    """A value in seconds with the limits of its 95 % interval."""

    seconds: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width, relative to the value."""
        return (self.high - self.low) / 2 / self.seconds


@dataclass(frozen=True)
class Measurement:
    """The samples of one model: `seconds` a sample, the `run` (fresh process) and `round` of each
    in the order in which they were taken; `warmup` apart. `planned_runs` were asked for."""

    key: str
    seconds: FloatSeries
    run: NDArray[np.int64]
    round: NDArray[np.int64]
    warmup: FloatSeries
    planned_runs: int

    def __post_init__(self) -> None:
        if not len(self.seconds) == len(self.run) == len(self.round) > 0:
            raise ValueError(f"{self.key}: a measurement needs samples, each with run and round")
        if not ((self.seconds > 0) & np.isfinite(self.seconds)).all():
            raise ValueError(f"{self.key}: a sample took no time")

    @property
    def minimum(self) -> float:
        """The smallest sample, in seconds."""
        return float(self.seconds.min())

    @cached_property
    def median(self) -> Interval:
        """The median with its 95 % interval, from a bootstrap over visits.

        Visits are drawn whole, runs within strata: samples of one visit are not independent.
        """
        return quantile_interval(self, 0.5)

    @cached_property
    def percentile_90(self) -> Interval:
        """The time that nine of ten inferences stay under, with its interval."""
        return quantile_interval(self, 0.9)

    @property
    def run_minima(self) -> FloatSeries:
        """The smallest sample of each run."""
        return np.array([self.seconds[self.run == run].min() for run in np.unique(self.run)])

    @property
    def spread_between_runs(self) -> float:
        """How far the runs' minima lie apart, relative to the smallest: what a single run hides."""
        minima = self.run_minima
        return float(minima.max() / minima.min() - 1)

    @property
    def outliers(self) -> int:
        """Samples above the third quartile by more than three interquartile ranges.

        They are counted, never dropped.
        """
        first, third = np.quantile(self.seconds, [0.25, 0.75])
        return int((self.seconds > third + 3 * max(third - first, 0.01 * third)).sum())

    @property
    def drift(self) -> float:
        """The last third's median relative to the first third's, minus one."""
        third = max(1, len(self.seconds) // 3)
        return float(np.median(self.seconds[-third:]) / np.median(self.seconds[:third]) - 1)

    @property
    def verdict(self) -> Verdict:
        """Whether the numbers can be believed; `ADVICE` says what to do where not."""
        if len(np.unique(self.run)) < self.planned_runs:
            return "partial"
        # Thirds differ by noise alone: by 2.4 standard errors of the median as one standard
        # deviation. Three half-widths (5.9 standard errors) are met by chance once in sixty times.
        if abs(self.drift) > max(0.10, 3 * self.median.half_width):
            return "drifting"
        if self.median.half_width > 0.05 or self.spread_between_runs > 0.10:
            return "noisy"
        return "steady"


def quantile_interval(
    measurement: Measurement, quantile: float, *, resamples: int = 1000, seed: int = 0
) -> Interval:
    """A quantile of the samples and the 95 % limits of its bootstrap distribution.

    The bootstrap is consistent for the median and for quantiles inside of the data, not for the
    minimum (Efron and Tibshirani 1993, section 7.4).
    """
    rng = np.random.default_rng(seed)
    groups: list[list[FloatSeries]] = []
    for run in np.unique(measurement.run):
        chosen = measurement.run == run
        rounds, values = measurement.round[chosen], measurement.seconds[chosen]
        groups.append([values[rounds == number] for number in np.unique(rounds)])
    estimates = np.empty(resamples)
    for i in range(resamples):
        drawn = [visits[j] for visits in groups for j in rng.integers(0, len(visits), len(visits))]
        estimates[i] = np.quantile(np.concatenate(drawn), quantile)
    low, high = np.quantile(estimates, [0.025, 0.975])
    value = float(np.quantile(measurement.seconds, quantile))
    return Interval(value, min(float(low), value), max(float(high), value))
