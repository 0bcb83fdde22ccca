"""What the reference model's visits say of the board."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.profiler.drift import drift, in_slow_stretch


def rows(session: int, values: list[float], run: int = 0) -> list[dict[str, Any]]:
    """Reference visits at full seconds."""
    return [
        {"session": session, "run": run, "at": float(at), "reference": value}
        for at, value in enumerate(values)
    ]


def test_a_slow_state_is_found_with_its_share_of_the_time() -> None:
    found = drift(rows(1, [1.0, 1.0, 1.4, 1.5, 1.4, 1.0, 1.01]))
    assert [stretch.slow for stretch in found.stretches] == [
        *(False, False, True, True, False, False),
        False,  # after the last one
    ]
    assert found.slow_share == pytest.approx(2 / 6)
    assert found.stretches[2].ratio == pytest.approx(1.4)


def test_a_single_slow_visit_is_no_state() -> None:
    assert drift(rows(1, [1.0, 1.5, 1.0, 1.0])).slow_share == 0


def test_what_comes_later_changes_no_earlier_judgement() -> None:
    values = [1.4, 1.4, 1.0, 1.4, 1.4]
    whole = drift(rows(1, values)).stretches
    for length in range(2, len(values)):
        assert drift(rows(1, values[:length])).stretches[:-1] == whole[: length - 1]


def test_a_new_session_of_a_run_knows_the_best_of_the_earlier_ones() -> None:
    evidence = rows(1, [1.0, 1.0]) + rows(2, [1.4, 1.4])
    assert [stretch.slow for stretch in drift(evidence).stretches if stretch.session == 2] == [
        True,
        True,
    ]
    warm_up = [{"session": 2, "run": 0, "best": 1.0}]
    assert drift(warm_up + rows(2, [1.4, 1.4])).stretches[0].slow


def test_sessions_are_compared_by_their_fast_visits() -> None:
    evidence = rows(1, [1.0] * 9 + [3.0]) + rows(2, [1.1] * 10, run=1)
    found = drift(evidence)
    assert found.session_ratios == pytest.approx({1: 1.0, 2: 1.1})
    assert found.spread_between_sessions == pytest.approx(0.1)


def test_nothing_is_known_of_nothing() -> None:
    found = drift([{"session": 1, "run": 0, "wall": 1.0}])
    assert (found.stretches, found.slow_share, found.spread_between_sessions) == ((), 0.0, 0.0)
    assert not in_slow_stretch((), np.array([1]), np.array([0.0])).any()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), "fast", None])
def test_a_time_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="no time that an inference can take"):
        drift([{"session": 1, "run": 0, "at": 0.0, "reference": value}])


@given(
    st.lists(st.sampled_from([1.0, 1.01, 1.4]), min_size=1, max_size=12),
    st.lists(st.floats(-2, 14), max_size=20),
)
def test_a_visit_is_slow_where_its_stretch_is(values: list[float], times: list[float]) -> None:
    stretches = drift(rows(3, values)).stretches
    at = np.array(times, float)
    slow = in_slow_stretch(stretches, np.full(len(at), 3), at)
    for time, found in zip(times, slow.tolist(), strict=True):
        within = [s for s in stretches if s.begin <= time < s.end]
        (stretch,) = within or [stretches[0] if time < 0 else stretches[-1]]
        assert found == stretch.slow
    assert not in_slow_stretch(stretches, np.full(len(at), 4), at).any()
