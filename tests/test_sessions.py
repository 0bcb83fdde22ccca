"""Intervals over sessions hold what they promise, shown on simulated sessions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.profiler.sessions import Spread, pooled_spread, prediction_interval


def sessions(entries: int, count: int, deviation: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(np.log(1e-4), deviation, (entries, count)))


def test_the_pooled_spread_finds_the_true_one() -> None:
    spread = pooled_spread(list(sessions(2000, 3, 0.02, 0)))
    assert spread.degrees == 4000
    assert spread.deviation == pytest.approx(0.02, rel=0.05)


@settings(derandomize=True, deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_the_next_session_falls_into_its_interval(count: int, seed: int) -> None:
    values = sessions(1000, count + 1, 0.03, seed)
    spread = pooled_spread(list(values[:, :-1]))
    inside = 0
    for row in values:
        interval = prediction_interval(row[:-1], spread)
        inside += interval.low <= row[-1] <= interval.high
    assert 0.90 < inside / len(values) < 0.99


def test_few_degrees_widen_the_interval() -> None:
    known, guessed = Spread(0.02, math.inf), Spread(0.02, 2)
    assert guessed.half_width(3) > 2 * known.half_width(3)
    assert known.half_width(10**9) == pytest.approx(1.96 * 0.02, rel=1e-3)


def test_one_session_does_not_know_how_it_repeats() -> None:
    spread = pooled_spread([[1e-3], [2e-3]])
    assert spread.degrees == 0
    interval = prediction_interval([1e-3], spread)
    assert interval.low == 0
    assert interval.high > 1e100
