"""Statistics are right, and the verdict says what the samples deserve."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.profiler.measurement import (
    ADVICE,
    Interval,
    Measurement,
    Verdict,
    quantile_interval,
    seconds_text,
)


def measured(runs: Sequence[Sequence[float]], *, planned: int | None = None) -> Measurement:
    """A measurement with two samples a visit; the values of each run in order."""
    return Measurement(
        "model",
        np.concatenate([np.array(run, float) for run in runs]),
        np.concatenate([np.full(len(run), number) for number, run in enumerate(runs)]),
        np.concatenate([np.arange(len(run)) // 2 for run in runs]),
        np.array([9.0]),
        len(runs) if planned is None else planned,
    )


def noisy(rng: np.random.Generator, relative: float, count: int = 40) -> list[float]:
    return list(1e-3 * np.exp(relative * rng.normal(size=count)))


# Statistics


def test_the_median_and_the_minimum_are_those_of_the_samples() -> None:
    found = measured([[3.0, 1.0, 2.0], [5.0, 4.0]])
    assert (found.minimum, found.median.seconds) == (1.0, 3.0)
    assert found.percentile_90.seconds == pytest.approx(4.6)
    assert found.run_minima.tolist() == [1.0, 4.0]
    assert found.spread_between_runs == pytest.approx(3.0)
    assert found.median.low <= 3.0 <= found.median.high


def test_an_interval_has_a_relative_half_width() -> None:
    assert Interval(2.0, 1.9, 2.3).half_width == pytest.approx(0.1)


def test_equal_samples_leave_no_doubt() -> None:
    found = measured([[2.0] * 6] * 3)
    assert (found.median, found.verdict, found.drift) == (Interval(2.0, 2.0, 2.0), "steady", 0.0)


def test_the_interval_covers_the_true_median_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered, trials = 0, 100
    for _ in range(trials):
        found = measured([np.exp(0.1 * rng.normal(size=40)).tolist() for _ in range(2)])
        interval = quantile_interval(found, 0.5, resamples=200)
        covered += interval.low <= 1.0 <= interval.high  # the median of a log-normal is 1
    assert 0.90 <= covered / trials <= 0.99


def test_samples_of_one_visit_are_no_independent_evidence() -> None:
    rng = np.random.default_rng(0)
    visits = 1 + 0.1 * rng.normal(size=20)
    doubled = measured([np.repeat(visits, 2).tolist()])  # the second sample repeats the first
    alone = Measurement(
        "model", visits, np.zeros(20, int), np.arange(20), np.array([]), planned_runs=1
    )
    assert doubled.median.half_width == pytest.approx(alone.median.half_width, rel=0.25)


def test_the_interval_is_the_same_each_time() -> None:
    found = measured([noisy(np.random.default_rng(0), 0.1)])
    assert quantile_interval(found, 0.5) == quantile_interval(found, 0.5)
    assert quantile_interval(found, 0.5) != quantile_interval(found, 0.5, seed=1)


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=30), st.sampled_from([0.5, 0.9]))
def test_an_interval_holds_its_value(values: list[float], quantile: float) -> None:
    interval = quantile_interval(measured([values]), quantile, resamples=20)
    assert min(values) <= interval.low <= interval.seconds <= interval.high <= max(values)


def test_outliers_are_counted_and_kept() -> None:
    calm = [1.0, 1.01, 1.02, 1.03] * 5
    assert measured([calm]).outliers == 0
    found = measured([[*calm, 1.05, 1.2, 5.0]])
    assert found.outliers == 2  # beyond 1.0225 + 3 * 0.02
    assert found.seconds.max() == 5.0


def test_one_percent_above_equal_samples_is_no_outlier() -> None:
    assert measured([[1.0] * 20 + [1.02]]).outliers == 0
    assert measured([[1.0] * 20 + [1.04]]).outliers == 1


def test_drift_compares_the_end_with_the_beginning() -> None:
    assert measured([[1.0] * 4, [1.1] * 4, [1.2] * 4]).drift == pytest.approx(0.2)
    assert measured([[1.0]]).drift == 0.0


def test_a_measurement_needs_samples_with_run_and_round() -> None:
    with pytest.raises(ValueError, match="model: a measurement needs samples"):
        Measurement("model", np.array([]), np.array([]), np.array([]), np.array([1.0]), 1)
    with pytest.raises(ValueError, match="each with run and round"):
        Measurement("model", np.ones(2), np.zeros(1, int), np.zeros(2, int), np.ones(1), 1)
    for impossible in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="model: a sample took no time"):
            measured([[1.0, impossible]])


# Verdicts


@pytest.mark.parametrize("seed", range(5))
def test_little_noise_is_steady(seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert measured([noisy(rng, 0.01) for _ in range(3)]).verdict == "steady"


def test_a_board_that_becomes_slower_or_faster_is_drifting() -> None:
    rng = np.random.default_rng(0)
    slower = np.linspace(1.0, 1.3, 120) * (1 + 0.005 * rng.normal(size=120))
    runs = [slower[:40].tolist(), slower[40:80].tolist(), slower[80:].tolist()]
    assert measured(runs).verdict == "drifting"
    assert measured([run[::-1] for run in runs[::-1]]).verdict == "drifting"


def test_wide_noise_is_noisy_and_hardly_ever_taken_for_a_drift() -> None:
    rng = np.random.default_rng(0)
    verdicts = [measured([noisy(rng, 0.3, 20) for _ in range(3)]).verdict for _ in range(20)]
    assert verdicts.count("noisy") >= 18
    assert "steady" not in verdicts


def test_runs_that_disagree_are_noisy() -> None:
    rng = np.random.default_rng(0)
    middle_run_slower = [noisy(rng, 0.002), [1.2 * v for v in noisy(rng, 0.002)], noisy(rng, 0.002)]
    assert measured(middle_run_slower).spread_between_runs > 0.15
    assert measured(middle_run_slower).verdict == "noisy"


def test_fewer_runs_than_planned_are_partial_however_steady() -> None:
    assert measured([[1.0] * 8] * 2, planned=3).verdict == "partial"
    assert measured([[1.0] * 8] * 3, planned=3).verdict == "steady"


def test_every_verdict_has_its_advice() -> None:
    assert set(ADVICE) == set(get_args(Verdict))
    assert all(ADVICE.values())


def test_throttled_samples_make_it_throttled_and_single_ones_do_not() -> None:
    found = measured([[1.0] * 40] * 3)
    flags = np.zeros(120, bool)
    flags[:6] = True
    assert replace(found, throttled=flags).verdict == "steady"
    flags[:7] = True
    assert replace(found, throttled=flags).verdict == "throttled"
    assert "6%" in replace(found, throttled=flags).reason


def test_a_precision_that_is_not_reached_is_said() -> None:
    rng = np.random.default_rng(0)
    found = measured([noisy(rng, 0.005) for _ in range(3)])
    assert found.reached is not None
    assert replace(found, precision=found.reached * 1.01).verdict == "steady"
    missed = replace(found, precision=found.reached * 0.99)
    assert missed.verdict == "imprecise"
    assert f"3 runs give ± {found.reached:.1%}" in missed.reason
    alone = replace(measured([[1.0] * 9]), precision=0.5)
    assert (alone.another_session, alone.verdict) == (None, "imprecise")


def test_each_verdict_has_its_figures() -> None:
    rng = np.random.default_rng(0)
    assert measured([[1.0] * 8] * 2, planned=3).reason == "2 of 3 runs were measured"
    warming = [[v * f for v, f in zip(noisy(rng, 0.002), np.linspace(1.05, 1, 40), strict=True)]
               for _ in range(3)]  # fmt: skip
    assert measured(warming).verdict == "drifting"
    assert "faster, so it was still warming up" in measured(warming).reason
    assert "slower" in measured([run[::-1] for run in warming]).reason
    assert "runs lie" in measured([noisy(rng, 0.3) for _ in range(3)]).reason


# Another session


@pytest.mark.parametrize("runs", [3, 5, 8])
@pytest.mark.parametrize("common", [0.0, 1.0])
@pytest.mark.parametrize("companion", [0.4, 1.0, 2.0])
def test_another_session_falls_where_it_is_said(runs: int, common: float, companion: float) -> None:
    """Sessions differ by 2 %; what they share with the reference model, and how much that differs
    itself, is varied."""
    rng = np.random.default_rng(0)
    hits, trials = 0, 400
    for _ in range(trials):
        shared, own, other = 0.02 * rng.normal(size=(3, runs + 1))
        minima = 1e-3 * np.exp(common * shared + math.sqrt(1 - common) * own)
        beside = 1e-5 * np.exp(companion * (common * shared + math.sqrt(1 - common) * other))
        found = measured([[value] for value in minima[:runs]])
        interval = replace(found, companions=(beside[:runs],)).another_session
        assert interval is not None
        hits += interval.low <= minima[runs] <= interval.high
    assert hits / trials >= 0.92
    if companion <= 1.0:  # a restless reference model makes it wider than necessary
        assert hits / trials <= 0.995


def test_the_interval_tells_more_with_every_session() -> None:
    rng = np.random.default_rng(0)
    minima = np.exp(0.02 * rng.normal(size=(200, 20)))

    def width(runs: int) -> float:
        found = [measured([[value] for value in row[:runs]]).reached for row in minima]
        return float(np.mean([value for value in found if value is not None]))

    assert width(2) > width(3) > width(6) > width(20) > 1.96 * 0.019


def test_what_was_measured_beside_it_needs_a_value_for_each_run() -> None:
    with pytest.raises(ValueError, match="a value for each run"):
        replace(measured([[1.0], [2.0]]), companions=(np.ones(3),))
    with pytest.raises(ValueError, match="throttled or not"):
        replace(measured([[1.0], [2.0]]), throttled=np.ones(3, bool))


# Text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.234, "1.23 s"),
        (12.34, "12.3 s"),
        (1.234e-3, "1.23 ms"),
        (0.1234, "123 ms"),
        (123.4e-6, "123 us"),
        (1.5e-6, "1.5 us"),
        (0.9996, "1 s"),
        (0.9996e-3, "1 ms"),
        (0.9994, "999 ms"),
        (119.4, "119 s"),
        (119.6, "2 min 0 s"),
        (605.0, "10 min 5 s"),
        (3600.0, "1 h 0 min"),
        (5000.0, "1 h 23 min"),
    ],
)
def test_times_as_people_read_them(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@given(st.floats(1e-9, 119.4))
def test_a_time_as_text_is_right_to_three_digits(seconds: float) -> None:
    number, unit = seconds_text(seconds).split(" ")
    assert re.fullmatch(r"[\d.]+", number)
    assert float(number) * {"s": 1, "ms": 1e-3, "us": 1e-6}[unit] == pytest.approx(
        seconds, rel=6e-3
    )
