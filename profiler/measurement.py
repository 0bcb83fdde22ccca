"""What was measured of one model, every value kept; statistics and the verdict are computed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .interval import Interval as Interval
from .sessions import Spread, pooled_spread, pooled_spread_together, prediction_interval
from .steady import Trend, trend

Verdict = Literal["steady", "drifting", "noisy", "throttled", "imprecise", "partial"]
FloatSeries = NDArray[np.float64]
RUNS_ALONE = 6  # that tell a deviation between runs without the help of others
THROTTLED_SHARE = 0.05  # of the samples, beyond which a measurement counts as throttled

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
    "throttled": (
        "the board lowered its clock while it was measured: cool it, give it enough power, and "
        "measure again (with another --out, where samples are kept); `--sustained 10m` tells what "
        "it does under lasting load"
    ),
    "imprecise": (
        "the precision that was asked for was not reached: run the same command with a longer "
        "--budget, it goes on, or ask for less with --precision"
    ),
    "partial": ("less was measured than was asked for: run the same command again, it goes on"),
}


def seconds_text(seconds: float) -> str:
    """A time as people read it: `10 min 5 s`, `1.23 s`, `1.23 ms` or `123 us`, three digits."""
    if seconds >= 119.5:
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= 0.9995 * scale:  # three digits would round it up to a thousand of the next
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


@dataclass(frozen=True)
class Measurement:
    """The samples of one model: `seconds` a sample, the `run` (fresh process) and `round` of each
    in the order in which they were taken; `warmup` apart. `planned_runs` were asked for.

    Evidence, where there is some: `companions` are the smallest times of other models in the same
    runs (seconds, one array a model), `throttled` says of each sample whether the board was, and
    `precision` is the half-width that was asked of `another_session` (relative).
    """

    key: str
    seconds: FloatSeries
    run: NDArray[np.int64]
    round: NDArray[np.int64]
    warmup: FloatSeries
    planned_runs: int
    companions: tuple[FloatSeries, ...] = ()
    throttled: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    precision: float | None = None

    def __post_init__(self) -> None:
        if not len(self.seconds) == len(self.run) == len(self.round) > 0:
            raise ValueError(f"{self.key}: a measurement needs samples, each with run and round")
        if not ((self.seconds > 0) & np.isfinite(self.seconds)).all():
            raise ValueError(f"{self.key}: a sample took no time")
        runs = len(np.unique(self.run))
        if any(len(values) != runs for values in self.companions):
            raise ValueError(f"{self.key}: what was measured beside it needs a value for each run")
        if len(self.throttled) not in (0, len(self.seconds)):
            raise ValueError(
                f"{self.key}: either each sample is said to be throttled or not, or none"
            )

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

    @cached_property
    def spread(self) -> Spread:
        """How far the smallest samples of sessions lie apart, and how well that is known.

        Few runs say little about it, so that `companions` are pooled with them; they may repeat
        better than the model itself, whose own deviation is therefore the least.
        """
        own = pooled_spread([self.run_minima])
        if len(self.run_minima) >= RUNS_ALONE or not self.companions:
            return own
        pooled = pooled_spread_together([self.run_minima, *self.companions])
        return Spread(max(own.deviation, pooled.deviation), pooled.degrees)

    @cached_property
    def another_session(self) -> Interval | None:
        """Where the smallest sample of another session will fall: a prediction interval of 95 %.

        None with a single run, which does not know how it repeats.
        """
        spread = self.spread
        return prediction_interval(self.run_minima, spread) if spread.degrees else None

    @property
    def reached(self) -> float | None:
        """The relative half-width of `another_session`; None with a single run."""
        return None if self.another_session is None else self.another_session.half_width

    @cached_property
    def trend(self) -> Trend:
        """How the visits change within the runs: whether the state was steady after warm-up."""
        sessions = []
        for run in np.unique(self.run):
            rounds, values = self.round[self.run == run], self.seconds[self.run == run]
            sessions.append(np.array([values[rounds == n].min() for n in np.unique(rounds)]))
        return trend(sessions)

    @property
    def throttled_share(self) -> float:
        """The share of samples during which the board was throttled, as far as it tells."""
        return float(self.throttled.mean()) if len(self.throttled) else 0.0

    @property
    def verdict(self) -> Verdict:
        """Whether the numbers can be believed; `ADVICE` says what to do where not."""
        if len(np.unique(self.run)) < self.planned_runs:
            return "partial"
        if self.throttled_share > THROTTLED_SHARE:
            return "throttled"
        if self._drifts_between_runs or self.trend.matters:
            return "drifting"
        if self.median.half_width > 0.05 or self.spread_between_runs > 0.10:
            return "noisy"
        if (
            self.precision is not None
            and not (math.inf if self.reached is None else self.reached) <= self.precision
        ):
            return "imprecise"
        return "steady"

    @property
    def reason(self) -> str:
        """The figures behind the verdict, in words."""
        verdict, runs = self.verdict, len(self.run_minima)
        if verdict == "partial":
            return f"{runs} of {self.planned_runs} runs were measured"
        if verdict == "throttled":
            return (
                f"the clock was lowered, or the board said that it was slowed, during "
                f"{self.throttled_share:.0%} of the samples"
            )
        if verdict == "drifting" and self.trend.matters:
            if self.trend.change < 0:
                return (
                    f"within the runs it became {-self.trend.change:.1%} faster, so it was still "
                    "warming up"
                )
            return f"within the runs it became {self.trend.change:.1%} slower"
        if verdict == "drifting":
            return f"the last third is {self.drift:+.1%} against the first"
        if verdict == "noisy":
            return (
                f"the runs lie {self.spread_between_runs:.1%} apart, the interval of the median is "
                f"± {self.median.half_width:.1%}"
            )
        if verdict == "imprecise":
            assert self.precision is not None
            found = "nothing" if self.reached is None else f"± {self.reached:.1%}"
            return f"± {self.precision:.1%} were asked for, {runs} runs give {found}"
        return f"the runs lie {self.spread_between_runs:.1%} apart"

    @property
    def _drifts_between_runs(self) -> bool:
        # Thirds differ by noise alone: by 2.4 standard errors of the median as one standard
        # deviation. Three half-widths (5.9 standard errors) are met by chance once in sixty times.
        return abs(self.drift) > max(0.10, 3 * self.median.half_width)


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
