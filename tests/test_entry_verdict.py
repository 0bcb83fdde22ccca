"""An entry is steady only where two runs agree on its value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.profiler.entry_verdict import CLOSE, ENTRY_ADVICE, entry_verdict, entry_verdicts

values = st.floats(0.5, 2.0)
runs = st.lists(st.lists(values, max_size=6), max_size=4)

CLOSE_TO_1 = 1.0 * (1 + CLOSE)
BEYOND = float(np.nextafter(CLOSE_TO_1, 2))


@pytest.mark.parametrize(
    ("visits", "verdict"),
    [
        ([[1.0, 1.01, 1.4], [1.0, 1.02, 1.0]], "steady"),
        ([[1.0, 1.01, 1.4], [1.4, 1.4], [1.02, 1.0]], "steady"),
        ([[1.0, 1.4, 1.4], [1.0, 1.4, 1.4]], "noisy"),  # each run has seen it once
        ([[1.0, 1.0, 1.0], [1.4, 1.4, 1.4]], "noisy"),  # one run alone
        ([[1.0, 1.0, 1.0]], "noisy"),
        ([[1.0, 1.0], []], "noisy"),
        ([[1.0, CLOSE_TO_1], [CLOSE_TO_1, CLOSE_TO_1]], "steady"),  # the limit itself counts
        ([[1.0, 1.0], [1.0, BEYOND]], "noisy"),
        ([[1.0], [1.0], [1.0, 9.0]], "noisy"),
        ([[1.0], [1.0], [1.0]], "unknown"),  # as imported: no run can confirm anything
        ([[]], "unknown"),
        ([], "unknown"),
    ],
)
def test_two_runs_have_to_agree(visits: list[list[float]], verdict: str) -> None:
    assert entry_verdict([np.array(run) for run in visits]) == verdict
    assert ENTRY_ADVICE[entry_verdict([np.array(run) for run in visits])]


@given(runs, st.floats(1e-6, 1.0), st.randoms())
def test_neither_unit_nor_order_matters(
    visits: list[list[float]], unit: float, random: Any
) -> None:
    lowest = min((value for run in visits for value in run), default=1.0)
    # No ratio so near to the limit that rounding decides.
    visits = [[v for v in run if abs(v / lowest - 1 - CLOSE) > 1e-6] for run in visits]
    shuffled = [[value * unit for value in run] for run in visits]
    for run in shuffled:
        random.shuffle(run)
    random.shuffle(shuffled)
    assert entry_verdict([np.array(run) for run in shuffled]) == entry_verdict(
        [np.array(run) for run in visits]
    )


@given(runs, st.lists(st.floats(2.5, 9.0), max_size=5))
def test_slow_visits_change_nothing(visits: list[list[float]], slow: list[float]) -> None:
    """More of what a disturbed board gives neither confirms nor refutes."""
    arrays = [np.array(run, float) for run in visits if run]
    if any(len(run) > 1 for run in arrays):
        assert entry_verdict([*arrays, np.array(slow, float)]) == entry_verdict(arrays)


@given(st.lists(runs, max_size=5))
def test_all_entries_at_once_are_judged_like_each_alone(entries: list[list[list[float]]]) -> None:
    rows = [
        (number, run, value)
        for number, visits in enumerate(entries)
        for run, values in enumerate(visits)
        for value in values
    ]
    columns = np.array(rows, float).reshape(-1, 3).T
    found = entry_verdicts(columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2])
    assert found == {
        number: entry_verdict([np.array(run, float) for run in visits])
        for number, visits in enumerate(entries)
        if any(visits)
    }
