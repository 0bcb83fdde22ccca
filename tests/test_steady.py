"""The test of trend is right about boards whose truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from boardfit.profiler.steady import LEAST_VISITS, Trend, trend

FloatSeries = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], FloatSeries]
VISITS = 20


def white(rng: np.random.Generator, count: int) -> FloatSeries:
    return 0.01 * rng.standard_normal(count)


def with_slow_states(rng: np.random.Generator, count: int) -> FloatSeries:
    """A tenth of the visits meet a state that is 1.4 times slower."""
    slow: FloatSeries = np.where(rng.random(count) < 0.1, np.log(1.4), 0.0)
    return white(rng, count) + slow


def slow_to_change(rng: np.random.Generator, count: int) -> FloatSeries:
    """Visits that resemble their neighbours (0.7)."""
    values = [float(rng.normal())]
    for _ in range(count - 1):
        values.append(0.7 * values[-1] + np.sqrt(1 - 0.7**2) * rng.normal())
    return np.array(values) * 0.01


def found(noise: Noise, *, drift: float, runs: int = 3, trials: int = 200) -> float:
    """How often a drift is told, where visits become slower by `drift` within each session."""
    rng = np.random.default_rng(0)
    line = np.log1p(drift) * np.linspace(0, 1, VISITS)
    told = [trend([np.exp(noise(rng, VISITS) + line) for _ in range(runs)]) for _ in range(trials)]
    return sum(t.matters and (t.change > 0) == (drift > 0) for t in told) / trials


@pytest.mark.parametrize("noise", [white, with_slow_states, slow_to_change])
def test_a_steady_board_is_hardly_ever_taken_for_a_drifting_one(noise: Noise) -> None:
    rng = np.random.default_rng(1)
    sets = ([np.exp(noise(rng, VISITS)) for _ in range(3)] for _ in range(300))
    assert sum(trend(sessions).matters for sessions in sets) <= 4


@pytest.mark.parametrize("noise", [white, with_slow_states, slow_to_change])
@pytest.mark.parametrize("drift", [0.05, -0.05])
def test_a_drift_of_five_per_cent_is_told(noise: Noise, drift: float) -> None:
    assert found(noise, drift=drift) >= 0.9


def test_a_drift_too_small_to_matter_is_not_told() -> None:
    assert found(white, drift=0.01) <= 0.02


def test_sessions_that_contradict_each_other_are_no_trend() -> None:
    up = np.linspace(1.0, 1.2, VISITS)
    assert trend([up, up, up]).matters
    assert not trend([up, up[::-1], up]).matters


@given(st.lists(st.floats(1e-6, 1.0), min_size=LEAST_VISITS, max_size=30), st.floats(1e-3, 1e3))
def test_a_trend_knows_no_unit_and_turns_with_time(values: list[float], unit: float) -> None:
    visits = np.array(values)
    one, other = trend([visits]), trend([visits[::-1]])
    assert one.score == -other.score
    assert trend([visits * unit]).change == pytest.approx(one.change, rel=1e-6, abs=1e-9)


def test_too_few_visits_say_nothing() -> None:
    assert trend([np.arange(1.0, LEAST_VISITS)] * 9) == Trend(0.0, 0.0)
    assert trend([]) == Trend(0.0, 0.0)
    assert not trend([np.ones(40)]).matters
