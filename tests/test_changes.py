"""What changed is told from what sessions differ by anyhow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from boardfit.profiler.changes import _corrected, common_ratio, find_changes

Sessions = list[NDArray[np.float64]]


def occasions(
    rng: np.random.Generator, effects: NDArray[np.float64], *, noise: float = 0.01, runs: int = 3
) -> tuple[Sessions, Sessions]:
    """Values before and after, of unequal noise, in sessions that are fast or slow as a whole."""
    count = len(effects)
    seconds = np.exp(rng.normal(-11, 1, (count, 1)))
    spread = noise * np.exp(rng.normal(0, 0.5, (count, 1)))

    def occasion(effect: NDArray[np.float64]) -> Sessions:
        moods = rng.normal(0, 0.02, runs)
        deviations = spread * rng.normal(size=(count, runs))
        return list(seconds * np.exp(effect[:, None] + deviations + moods))

    return occasion(np.zeros(count)), occasion(effects)


def test_few_are_called_changed_that_did_not_and_few_that_did_are_missed() -> None:
    rng = np.random.default_rng(0)
    wrong, found, covered = [], [], 0
    for _ in range(40):
        effects = np.zeros(500)
        effects[:25] = np.log(1.12)
        before, after = occasions(rng, effects)
        changes = find_changes(before, after)
        wrong.append(changes.changed[25:].sum() / max(1, changes.changed.sum()))
        found.append(changes.changed[:25].mean())
        covered += changes.common.low <= 1.0 <= changes.common.high
    assert np.mean(wrong) < 0.10  # 0.05 is asked for
    assert np.mean(found) > 0.85
    assert covered >= 34  # of 40, at 95 %


def test_a_board_that_is_slower_as_a_whole_has_changed_in_no_operator() -> None:
    before, after = occasions(np.random.default_rng(1), np.full(300, np.log(3.0)))
    changes = find_changes(before, after)
    assert changes.common.value == pytest.approx(3.0, rel=0.05)
    assert changes.changed.sum() <= 3
    assert changes.beyond == pytest.approx(changes.ratio / changes.common.value)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_nothing_changed_between_an_occasion_and_itself(seed: int, count: int, runs: int) -> None:
    values, _ = occasions(np.random.default_rng(seed), np.zeros(count), runs=runs)
    changes = find_changes(values, values)
    assert changes.common.value == 1.0
    assert changes.common.low <= 1.0 <= changes.common.high
    assert not changes.changed.any()
    assert changes.ratio.tolist() == [1.0] * count


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_going_back_is_the_inverse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = occasions(rng, rng.normal(0, 0.1, 30))
    there, back = find_changes(before, after), find_changes(after, before)
    assert there.common.value * back.common.value == pytest.approx(1.0)
    assert there.common.low * back.common.high == pytest.approx(1.0)
    assert there.ratio * back.ratio == pytest.approx(1.0)
    assert there.probability == pytest.approx(back.probability)


def test_single_sessions_know_the_ratio_and_not_who_changed() -> None:
    before = [np.array([s]) for s in (1e-6, 2e-6, 4e-6)]
    after = [np.array([s]) for s in (2e-6, 4e-6, 4e-6)]
    changes = find_changes(before, after)
    assert changes.common.value == 2.0
    assert np.isnan(changes.probability).all()
    assert not changes.changed.any()


def test_the_correction_for_many_values_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    raw = rng.uniform(size=300) ** 3
    assert _corrected(raw) == pytest.approx(false_discovery_control(raw))


def test_values_without_any_spread_change_at_once() -> None:
    before = [np.array([s, s]) for s in np.linspace(1e-6, 3e-6, 20)]
    after = [*before[:-1], before[-1] * 1.01]
    assert np.flatnonzero(find_changes(before, after).changed).tolist() == [19]


def test_parts_measured_in_different_runs_are_compared() -> None:
    rng = np.random.default_rng(2)
    before, after = occasions(rng, np.zeros(60), runs=6)
    before = [values[: 3 if i < 20 else 6] for i, values in enumerate(before)]
    assert find_changes(before, after).changed.sum() <= 3


def test_nothing_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="one by one"):
        find_changes([], [])
    with pytest.raises(ValueError, match="one by one"):
        find_changes([np.ones(2)], [])


def test_few_ratios_have_a_wide_interval() -> None:
    before = [np.array([1.0, 1.0]) for _ in range(3)]
    after = [np.array([ratio, ratio]) for ratio in (0.9, 1.0, 1.3)]
    found = common_ratio(before, after)
    assert (found.low, found.value, found.high) == pytest.approx((0.9, 1.0, 1.3))
