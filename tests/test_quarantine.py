"""A board that fails again and again is left out for a while."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.quarantine import Quarantine

times = st.lists(st.integers(0, 5000).map(float), max_size=12).map(sorted)


def after(failures: list[float], board: str = "pi5", **options: float) -> Quarantine:
    found = Quarantine(**options)  # type: ignore[arg-type]
    for at in failures:
        found = found.failed(board, at, f"lost at {at:g}")
    return found


def test_a_board_is_left_out_after_three_failures_and_comes_back() -> None:
    found = after([0.0, 100.0, 200.0])
    assert found.fit(["a", "pi5", "b"], 200.0) == ["a", "b"]
    assert found.words("pi5", 200.0) == (
        "pi5 failed 3 times within 200 s and is left out for 1800 s; the last time: lost at 200"
    )
    assert found.words("a", 200.0) == ""
    assert found.fit(["pi5"], 1999.0) == []
    assert found.fit(["pi5"], 2000.0) == ["pi5"]


def test_failures_that_are_far_apart_do_not_count() -> None:
    assert after([0.0, 400.0, 800.0]).fit(["pi5"], 800.0) == ["pi5"]


def test_work_that_ended_well_is_believed() -> None:
    found = after([0.0, 1.0]).failed("other", 1.0, "x").recovered("pi5").failed("pi5", 2.0, "x")
    assert found.fit(["pi5", "other"], 2.0) == ["pi5", "other"]


def test_nothing_is_changed_in_place() -> None:
    before = after([0.0, 1.0])
    before.failed("pi5", 2.0, "x")
    assert before.fit(["pi5"], 2.0) == ["pi5"]


@given(times, st.integers(1, 4), st.integers(1, 1000), st.integers(1, 1000))
def test_it_is_as_its_definition_says(
    failures: list[float], most: int, within: int, rest: int
) -> None:
    found = after(failures, most=most, within=within, rest=rest)
    now = failures[-1] if failures else 0.0
    groups = (failures[n : n + most] for n in range(len(failures) - most + 1))
    held = any(group[-1] - group[0] <= within and now < group[-1] + rest for group in groups)
    assert (found.until("pi5", now) is not None) == held
    assert (found.words("pi5", now) != "") == held
    for one, two in itertools.pairwise(f.at for f in found.failures):
        assert one <= two
    assert all(now - failure.at <= within + rest for failure in found.failures)


@pytest.mark.parametrize("options", [{"most": 0}, {"within": 0}, {"rest": -1}])
def test_limits_that_make_no_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="quarantine"):
        Quarantine(**options)  # type: ignore[arg-type]
