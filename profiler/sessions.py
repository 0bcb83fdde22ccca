"""What sessions say beyond what a single one can: where will another session's value fall?

A session is a fresh worker process at a later time. Spread inside one understates the truth:
processes differ (addresses, caches, the machine's mood), and what is believed must hold for the
next one. Values are compared on logarithms, so that deviations are relative.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from .interval import Interval


@dataclass(frozen=True)
class Spread:
    """The standard deviation between sessions of one value, relative (on logarithms), and the
    degrees of freedom that it was estimated with (infinite where it is known)."""

    deviation: float
    degrees: float

    def half_width(self, sessions: int, *, level: float = 0.95) -> float:
        """Half of the prediction interval of one more session, relative to the geometric mean of
        `sessions` earlier ones: t s sqrt(1 + 1 / n), on logarithms.

        Infinite without a degree of freedom: one session does not know how it repeats.
        """
        if self.degrees <= 0:
            return math.inf
        student = float(stdtrit(self.degrees, 0.5 + level / 2))
        return student * self.deviation * math.sqrt(1 + 1 / sessions)


def pooled_spread(groups: Sequence[ArrayLike]) -> Spread:
    """The spread between sessions, pooled over entries.

    Each group holds one entry's value of each session (seconds). Three sessions of one entry say
    little about their spread; three of a thousand entries say a lot. Groups of one value add
    nothing.
    """
    squares, degrees = 0.0, 0
    for group in groups:
        logs = np.log(np.asarray(group, float))
        if len(logs) > 1:
            squares += float(((logs - logs.mean()) ** 2).sum())
            degrees += len(logs) - 1
    return Spread(math.sqrt(squares / degrees) if degrees else 0.0, float(degrees))


def pooled_spread_together(groups: Sequence[ArrayLike]) -> Spread:
    """The spread between sessions, pooled over entries that were measured in the same sessions.

    Each group holds one entry's value of each session (seconds), all of the same sessions. A
    session that is slow for one is slow for the others: they are no independent evidence, and the
    degrees of freedom are fewer than `pooled_spread` counts. They follow from how the entries vary
    together (Satterthwaite 1946): (tr S)^2 / tr S^2 for each degree of a single entry, S being
    their covariance.
    """
    logs = np.log(np.array([np.asarray(group, float) for group in groups]))
    if logs.size == 0 or logs.shape[1] < 2:
        return Spread(0.0, 0.0)
    sessions = logs.shape[1]
    centred = logs - logs.mean(axis=1, keepdims=True)
    covariance = centred @ centred.T / (sessions - 1)
    total, squares = float(np.trace(covariance)), float((covariance**2).sum())
    effective = total**2 / squares if squares > 0 else 1.0
    return Spread(math.sqrt(total / len(logs)), effective * (sessions - 1))


def prediction_interval(values: ArrayLike, spread: Spread, *, level: float = 0.95) -> Interval:
    """Where another session's value will fall, from an entry's values of some sessions (seconds).

    The middle is their geometric mean; the limits are those of `Spread.half_width`.
    """
    logs: NDArray[np.float64] = np.log(np.asarray(values, float))
    middle = float(logs.mean())
    width = spread.half_width(len(logs), level=level)
    return Interval(math.exp(middle), math.exp(middle - width), math.exp(min(middle + width, 700)))


@dataclass(frozen=True)
class SpreadBySize:
    """The spread between sessions as it depends on how long something takes: short times repeat
    worse. `limits` are the largest seconds of each class but the last."""

    limits: tuple[float, ...]
    spreads: tuple[Spread, ...]

    @classmethod
    def of(cls, groups: Sequence[NDArray[np.float64]], *, classes: int = 4) -> SpreadBySize:
        """Pool entries (each with its value of each session, seconds) in classes of equal counts.

        Without entries the spread is unknown: no degree of freedom.
        """
        order = sorted(groups, key=lambda values: float(values.min()))
        parts = [order[i * len(order) // classes : (i + 1) * len(order) // classes]
                 for i in range(classes)]  # fmt: skip
        parts = [part for part in parts if part] or [[]]
        limits = tuple(float(part[-1].min()) for part in parts[:-1])
        return cls(limits, tuple(pooled_spread(part) for part in parts))

    def __call__(self, seconds: float) -> Spread:
        """The spread of something that takes `seconds`."""
        return self.spreads[bisect.bisect_left(self.limits, seconds)]
