"""Which of many values changed between two occasions, told from what sessions differ by anyhow.

Each value was measured in a few sessions on both occasions. Three sessions say little about the
spread of one value, a thousand values say a lot: the spread of each is drawn towards the common
one (Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression
in microarray experiments", section 6). Everything is compared on logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, digamma, polygamma, stdtr, stdtrit

from .sessions import pooled_spread

Values = NDArray[np.float64]
FALSE_DISCOVERIES = 0.05  # share of wrong ones that is accepted among those called changed
_ENOUGH = 10  # values that tell how fast a session was as a whole
_LARGEST_PRIOR = 1e6  # degrees of freedom; beyond, all values have one spread


@dataclass(frozen=True)
class Ratio:
    """A factor between two occasions, with the limits of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Changes:
    """What became of each value, in the order in which they were given.

    `ratio` is after relative to before; `beyond` is the ratio relative to the common one;
    `probability` is how often chance alone would do that, corrected for the number of values
    (Benjamini and Hochberg 1995); NaN where no value was measured in two sessions, since then
    nobody knows what sessions differ by. `deviation` is the pooled relative standard deviation
    between sessions of one occasion.
    """

    common: Ratio
    ratio: Values
    beyond: Values
    probability: Values
    deviation: float

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which values changed otherwise than all of them did."""
        return self.probability <= FALSE_DISCOVERIES


def find_changes(before: Sequence[Values], after: Sequence[Values]) -> Changes:
    """Compare values before and after, each an array over sessions (seconds).

    Values are compared beyond the ratio that half of them exceed: a board that is slower as a
    whole has not changed in one operator. Raises ValueError for no values.
    """
    if not before or len(before) != len(after):
        raise ValueError("values before and after are compared one by one, and there is none")
    common = common_ratio(before, after)
    # What is shown is the ratio of the smallest samples, the tables' statistic; what is tested is
    # the difference of the means, whose distribution is known.
    pairs = list(zip(before, after, strict=True))
    ratio = _ratios(np.array([np.log(b.min()) - np.log(a.min()) for a, b in pairs]))
    logs = list(zip(_without_moods(before), _without_moods(after), strict=True))
    difference = np.array([b.mean() - a.mean() for a, b in logs])
    difference -= np.median(difference)
    squares = np.array([len(a) * a.var() + len(b) * b.var() for a, b in logs])
    degrees = np.array([len(a) + len(b) - 2.0 for a, b in logs])
    inverse = np.array([1 / len(a) + 1 / len(b) for a, b in logs])
    total = float(degrees.sum())
    deviation = math.sqrt(float(squares.sum()) / total) if total else math.nan
    probability = np.full(len(ratio), math.nan)
    if total:
        variance, freedom = _moderated(squares, degrees)
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = np.abs(difference) / np.sqrt(variance * inverse)
        statistic = np.where(np.abs(difference) < 1e-12, 0.0, statistic)
        probability = _corrected(2 * stdtr(freedom, -statistic))
    beyond = _ratios(np.log(ratio) - math.log(common.value))
    return Changes(common, ratio, beyond, probability, deviation)


def common_ratio(before: Sequence[Values], after: Sequence[Values]) -> Ratio:
    """The median ratio of values after to before, each an array over sessions (seconds).

    The interval joins two things that are not known: which value the median is (order statistics
    of the ratios, no distribution assumed), and how fast the sessions of each occasion happened
    to be as a whole. The second is left out where there was one session only.
    """
    pairs = zip(before, after, strict=True)
    logs = np.sort([np.log(b.min()) - np.log(a.min()) for a, b in pairs])
    middle = float(np.median(logs))
    below = bdtr(np.arange(len(logs)), len(logs), 0.5)  # chance that so few lie below the median
    rank = max(0, int(np.searchsorted(below, 0.025)) - 1)
    low, high = middle - logs[rank], logs[len(logs) - 1 - rank] - middle
    session = _session_half_width([_moods(before), _moods(after)])
    limits = [middle, middle - math.hypot(low, session), middle + math.hypot(high, session)]
    return Ratio(*_ratios(np.array(limits)).tolist())


def _ratios(logs: Values) -> Values:
    """Logarithms as ratios; absurd ones stay finite."""
    return np.exp(np.clip(logs, -300.0, 300.0))


def _moods(values: Sequence[Values]) -> Values:
    """How fast each session was as a whole, on logarithms, relative to the others.

    Only values of the usual number of sessions tell: what was measured in more or fewer (parts of
    a merged table) was measured in other ones.
    """
    counts = [len(value) for value in values]
    usual = max(set(counts), key=lambda count: (counts.count(count), count))
    logs = np.log(np.array([value for value in values if len(value) == usual]))
    moods: Values = np.median(logs - logs.mean(axis=1, keepdims=True), axis=0)
    return moods


def _without_moods(values: Sequence[Values]) -> list[Values]:
    """The logarithms without what their sessions have in common, where enough values tell that."""
    moods = _moods(values)
    shift = moods if len(values) >= _ENOUGH else np.zeros_like(moods)
    return [np.log(value) - (shift if len(value) == len(shift) else 0.0) for value in values]


def _session_half_width(occasions: Sequence[Values]) -> float:
    """Half of the 95 % interval of two occasions' ratio, on logarithms, from their moods."""
    spread = pooled_spread([np.exp(moods) for moods in occasions])
    if spread.degrees <= 0:
        return 0.0
    inverse = sum(1 / len(moods) for moods in occasions)
    return float(stdtrit(spread.degrees, 0.975)) * spread.deviation * math.sqrt(inverse)


def _moderated(squares: Values, degrees: Values) -> tuple[Values, Values]:
    """Each value's variance drawn towards the common one, and its degrees of freedom.

    `squares` are sums of squared deviations. The prior is fitted to the logarithms of the
    variances, which spread more than chance makes them where values differ in their noise.
    """
    known = degrees > 0
    half = degrees[known] / 2
    # Equal values have a variance without a logarithm; no clock resolves a millionth.
    variance = np.maximum(squares[known] / degrees[known], 1e-12)
    shifted = np.log(variance) - digamma(half) + np.log(half)
    excess = -math.inf
    if len(shifted) > 1:
        excess = float(shifted.var(ddof=1) - polygamma(1, half).mean())
    prior = _inverse_trigamma(excess) * 2 if excess > 0 else math.inf
    if prior >= _LARGEST_PRIOR:
        common = float(squares.sum() / degrees.sum())
        return np.full(len(squares), common), np.full(len(squares), float(degrees.sum()))
    common = math.exp(float(shifted.mean()) + float(digamma(prior / 2)) - math.log(prior / 2))
    moderated: Values = (prior * common + squares) / (prior + degrees)
    return moderated, np.minimum(prior + degrees, degrees.sum())


def _inverse_trigamma(value: float) -> float:
    """The x for which trigamma(x) is `value`, between 1e-8 and half of `_LARGEST_PRIOR`."""
    low, high = math.log(1e-8), math.log(_LARGEST_PRIOR / 2)
    for _ in range(60):  # the function falls; halve the interval until nothing is left of it
        middle = (low + high) / 2
        if polygamma(1, math.exp(middle)) > value:
            low = middle
        else:
            high = middle
    return math.exp(high)


def _corrected(probabilities: Values) -> Values:
    """Probabilities corrected for their number, after Benjamini and Hochberg (1995)."""
    order = np.argsort(probabilities)[::-1]
    count = len(probabilities)
    corrected = np.empty(count)
    corrected[order] = np.minimum.accumulate(probabilities[order] * count / np.arange(count, 0, -1))
    return np.minimum(corrected, 1.0)
