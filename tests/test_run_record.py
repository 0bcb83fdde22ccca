"""What a run has seen, and the budget that decides whether more of it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from boardfit.profiler.build import begin_or_continue
from boardfit.profiler.run_record import RunRecord
from boardfit.profiler.schedule import PROBE_ROUND, Schedule
from boardfit.profiler.store import Entry, Store
from boardfit.profiler.visits import Visit

SCHEDULE = Schedule(minimum_rounds=3, maximum_rounds=11, precision=1e-6, budget_seconds=10.0)
LAST = SCHEDULE.minimum_rounds - 1  # of the rounds that are certain


def begun(count: int) -> Store:
    found = [Entry(f"operator {number}", "operator", {}) for number in range(count)]
    return begin_or_continue(None, found, {"kind": "test"})


def visit(seconds: float) -> Visit:
    return Visit("", at=0.0, warmup=(), seconds=(seconds,), repeats=1)


def recorded(
    store: Store, visits: Sequence[tuple[int, int, float]], schedule: Schedule = SCHEDULE
) -> RunRecord:
    """A record of visits: entry, round, seconds."""
    record = RunRecord(store, schedule, 0)
    for entry, number, seconds in visits:
        record.add(entry, number, visit(seconds))
    return record


def certain(entry: int, seconds: float) -> list[tuple[int, int, float]]:
    return [(entry, number, seconds) for number in range(PROBE_ROUND, LAST)]


def test_the_budget_is_spent_by_what_came_before_the_last_certain_round() -> None:
    with begun(1) as store:
        (entry,) = store.entries()
        assert not recorded(store, certain(entry, 3.0)).spent([entry])
        assert recorded(store, certain(entry, 4.0)).spent([entry])


@pytest.mark.parametrize("number", [LAST, LAST + 1, SCHEDULE.maximum_rounds - 1])
def test_what_comes_later_in_a_batch_does_not_count(number: int) -> None:
    """Or an interrupted run would be judged otherwise than one that was not."""
    with begun(1) as store:
        (entry,) = store.entries()
        assert not recorded(store, [*certain(entry, 3.0), (entry, number, 99.0)]).spent([entry])


def test_other_batches_count_whole() -> None:
    with begun(2) as store:
        mine, other = store.entries()
        visits = [*certain(mine, 1.0), *certain(other, 1.0), (other, LAST + 1, 9.0)]
        assert recorded(store, visits).spent([mine])
        assert not recorded(store, visits).spent([other])


def test_where_the_budget_is_spent_the_certain_rounds_remain() -> None:
    with begun(1) as store:
        (entry,) = store.entries()
        record = recorded(store, [(entry, PROBE_ROUND, 1.0), (entry, 0, 1.0)])
        assert record.needs(entry, spent=True) == [1, 2]
        restless = [(entry, number, 1.0 + number) for number in range(LAST + 1)]
        record = recorded(store, [(entry, PROBE_ROUND, 1.0), *restless])
        assert record.needs(entry, spent=True) == []
        assert record.needs(entry, spent=False)[0] == LAST + 1


def test_a_visit_is_slow_where_the_reference_is_on_both_sides() -> None:
    with begun(3) as store:
        before, between, after = store.entries()
        record = recorded(store, [])
        record.add_warm_up(1.0)
        for seconds, judged in (
            (1.0, []), (1.5, [before]), (1.5, [between]), (1.0, [after]),
        ):  # fmt: skip
            for entry in judged:
                record.add(entry, 0, visit(1.0))
            assert record.add_reference(seconds) == judged
        for entry in (before, between, after):
            for number in (PROBE_ROUND, 1, LAST):
                record.add(entry, number, visit(1.0))
        assert record.add_reference(1.0) == [before] * 3 + [between] * 3 + [after] * 3
        # Their values are equal: only what was slow is repeated.
        assert record.needs(between, spent=False)
        assert record.needs(before, spent=False) == record.needs(after, spent=False) == []
