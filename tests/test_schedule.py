"""The laws of when enough was measured: pure functions, so every history can be tried."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.profiler.schedule import (
    PROBE_ROUND,
    ROUNDS_AT_ONCE,
    Schedule,
    batches,
    random_batches,
    repeats,
    settled,
    visiting_order,
    wanted_rounds,
)

seconds = st.floats(1e-6, 1.0)
schedules = st.builds(
    lambda minimum, more, precision: Schedule(
        minimum_rounds=minimum, maximum_rounds=minimum + more, precision=precision
    ),
    st.integers(1, 5),
    st.integers(0, 5),
    st.floats(0.001, 0.5),
)


@given(schedules, st.lists(seconds, max_size=12))
def test_settled_never_before_the_minimum_and_always_by_the_maximum(
    schedule: Schedule, visits: list[float]
) -> None:
    if len(visits) < schedule.minimum_rounds:
        assert not settled(visits, schedule)
    elif len(visits) >= schedule.maximum_rounds:
        assert settled(visits, schedule)


@given(schedules, st.lists(seconds, min_size=1, max_size=8), st.floats(1e-3, 1e3), st.randoms())
def test_settled_knows_neither_unit_nor_order(
    schedule: Schedule, visits: list[float], unit: float, random: Any
) -> None:
    schedule = replace(schedule, precision=0.0171)  # no ratio lies so near that rounding decides
    visits = [round(visit, 4) + 1e-4 for visit in visits]
    shuffled = [visit * unit for visit in visits]
    random.shuffle(shuffled)
    near = [v / min(visits) for v in visits if abs(v / min(visits) - 1.0171) < 1e-9]
    assert near or settled(shuffled, schedule) == settled(visits, schedule)


def test_settled_when_a_third_confirms_the_lowest() -> None:
    schedule = Schedule(minimum_rounds=4, maximum_rounds=9, precision=0.02)
    assert settled([1.0, 1.02, 1.4, 1.4], schedule)
    assert not settled([1.0, 1.021, 1.4, 1.4], schedule)  # the lowest may be a freak
    assert settled([1.4, 1.4, 1.0, 1.4, 1.0, 1.4], schedule)
    assert not settled([1.4, 1.4, 1.0, 1.4, 1.0, 1.4, 1.4], schedule)  # two are no third of seven


@given(schedules, st.floats(1e-9, 1.0), st.floats(1e-6, 1.0))
def test_repeats_fill_the_sample_and_no_more(
    schedule: Schedule, probe: float, sample_seconds: float
) -> None:
    schedule = replace(schedule, sample_seconds=sample_seconds)
    count = repeats(probe, schedule)
    assert count >= 1
    assert count * probe >= sample_seconds * (1 - 1e-9)
    assert count == 1 or (count - 1) * probe <= sample_seconds


def test_a_probe_of_no_time_does_not_repeat_for_ever() -> None:
    assert repeats(0.0, Schedule(sample_seconds=1e-6)) == 1000


@given(schedules, st.data())
def test_an_entry_has_each_round_once_and_whole_groups_wherever_it_was_interrupted(
    schedule: Schedule, data: st.DataObject
) -> None:
    rounds: dict[int, float] = {}
    while wanted := wanted_rounds(rounds, schedule):
        assert not rounds.keys() & set(wanted)
        assert wanted == sorted(wanted)
        # An interruption may come after any of the visits, in whichever order they were made.
        order = data.draw(st.permutations(wanted))
        for number in order[: data.draw(st.integers(1, len(order)))]:
            rounds[number] = data.draw(st.sampled_from([1.0, 1.01, 1.3]))
    assert sorted(rounds) == list(range(PROBE_ROUND, len(rounds) - 1))
    visits = [rounds[number] for number in range(len(rounds) - 1)]
    assert settled(visits, schedule) or schedule.maximum_rounds == len(visits)
    ends = range(schedule.minimum_rounds, schedule.maximum_rounds, ROUNDS_AT_ONCE)
    assert len(visits) in {*ends, schedule.maximum_rounds}
    for end in ends:
        if end < len(visits):
            assert not settled(visits[:end], schedule)


@given(
    st.lists(st.sampled_from([1.0, 1.3]), min_size=14, max_size=14),
    st.sets(st.integers(0, 14)),
    st.sets(st.integers(PROBE_ROUND, 13)),
    schedules,
)
def test_what_an_entry_needs_does_not_depend_on_what_of_it_is_there(
    seconds: list[float], slow: set[int], missing: set[int], schedule: Schedule
) -> None:
    """An entry's rounds show the same whenever they are measured: then an interruption changes
    nothing, whatever it left out."""
    every = {PROBE_ROUND: 1.0, **dict(enumerate(seconds))}

    def finished(rounds: dict[int, float]) -> dict[int, float]:
        while wanted := wanted_rounds(rounds, schedule, slow):
            rounds |= {number: every[number] for number in wanted}
        return rounds

    whole = finished({})
    begun = {number: value for number, value in whole.items() if number not in missing}
    assert finished(begun) == whole


def test_the_minimum_is_certain_and_what_comes_then_depends_on_it() -> None:
    schedule = Schedule(minimum_rounds=2, maximum_rounds=9)
    steady, restless = ({-1: 1.0, 0: 1.0, 1: value} for value in (1.0, 2.0))
    assert wanted_rounds({}, schedule) == [PROBE_ROUND, 0, 1]
    assert wanted_rounds({PROBE_ROUND: 1.0, 1: 1.0}, schedule) == [0]
    assert wanted_rounds(steady, schedule) == []
    assert wanted_rounds(restless, schedule) == [2, 3, 4, 5]
    assert wanted_rounds({**restless, 2: 1.0, 4: 1.0}, schedule) == [3, 5]  # as was decided at 2
    more = {number: 3.0 + number for number in range(2, 6)}
    assert wanted_rounds({**restless, **more}, schedule) == [6, 7, 8]
    assert wanted_rounds({**restless, **dict.fromkeys(more, 1.0)}, schedule) == []


@given(
    st.lists(st.integers(), unique=True, max_size=30),
    st.integers(0, 2**32),
    st.integers(0, 5),
    st.integers(PROBE_ROUND, 9),
)
def test_the_order_is_a_permutation_that_a_restart_repeats(
    entries: list[int], seed: int, run: int, number: int
) -> None:
    schedule = Schedule(seed=seed)
    order = visiting_order(entries, schedule, run=run, round_number=number)
    assert sorted(order) == sorted(entries)
    other = replace(schedule, precision=0.5, samples=7)
    assert order == visiting_order(entries, other, run=run, round_number=number)


def test_the_order_differs_between_seeds_runs_and_rounds() -> None:
    entries = list(range(50))
    orders = {
        tuple(visiting_order(entries, Schedule(seed=seed), run=run, round_number=number))
        for seed in (0, 1)
        for run in (0, 1)
        for number in (PROBE_ROUND, 0, 1)
    }
    assert len(orders) == 12


@given(st.lists(st.integers(1, 100), max_size=30), st.integers(1, 200))
def test_batches_keep_the_order_and_respect_the_cap(sizes: list[int], cap: int) -> None:
    order = list(range(len(sizes)))
    groups = batches(order, dict(enumerate(sizes)), cap)
    assert [entry for group in groups for entry in group] == order
    for group in groups:
        assert len(group) == 1 or sum(sizes[entry] for entry in group) <= cap
    for group, following in pairwise(groups):
        assert sum(sizes[entry] for entry in [*group, following[0]]) > cap


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=40),
    st.integers(1, 300),
    st.integers(0, 3),
    st.integers(0, 2**32),
)
def test_random_batches_hold_each_entry_once_and_are_the_same_after_a_restart(
    sizes: list[int], cap: int, run: int, seed: int
) -> None:
    entries = list(range(10, 10 + len(sizes)))
    size = dict(zip(entries, sizes, strict=True))
    schedule = Schedule(seed=seed)
    groups = random_batches(entries, size, cap, schedule, run=run)
    assert sorted(entry for group in groups for entry in group) == entries
    for group in groups:
        assert len(group) == 1 or sum(size[entry] for entry in group) <= cap
    assert groups == random_batches(entries, size, cap, replace(schedule, samples=9), run=run)


def test_random_batches_differ_between_runs_and_are_alike_in_size() -> None:
    entries = list(range(1000))
    sizes = dict.fromkeys(entries, 10)
    one, two = (random_batches(entries, sizes, 3300, Schedule(), run=run) for run in (0, 1))
    assert [set(group) for group in one] != [set(group) for group in two]
    assert all(240 <= len(group) <= 330 for group in one)  # and no small one at the end


def test_visits_in_slow_states_are_made_up_for_up_to_the_maximum() -> None:
    schedule = Schedule(minimum_rounds=3, maximum_rounds=6)
    visits = [1.0, 1.0, 1.0]
    assert settled(visits, schedule)
    assert not settled(visits, schedule, slow=1)
    assert settled([*visits, 1.0], schedule, slow=1)
    assert settled([1.0] * 6, schedule, slow=6)
    seen = {-1: 1.0, 0: 1.0, 1: 1.0, 2: 1.0}
    assert wanted_rounds(seen, schedule, {2}) == [3, 4, 5]
    assert wanted_rounds(seen, schedule, {-1}) == []  # the probe never counts


@pytest.mark.parametrize(
    "wrong",
    [
        {"runs": 0},
        {"minimum_rounds": 0},
        {"minimum_rounds": 9, "maximum_rounds": 8},
        {"samples": 0},
        {"warmup": 0},
        {"warmup_visits": 0},
        {"precision": 0.0},
        {"precision": 1.0},
        {"precision": float("nan")},
        {"sample_seconds": 0.0},
        {"budget_seconds": -1.0},
    ],
    ids=str,
)
def test_a_schedule_that_cannot_be_followed_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"or more|between 0 and 1"):
        Schedule(**wrong)
