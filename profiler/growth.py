"""Grow a table while its first run is measured: add what the networks are most uncertain of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .calibration import predict
from .judge import calibrated
from .layers import Network
from .plan import TablePlan, operator_entry
from .pricing import OperatorTimes
from .selection import Selection
from .store import Entry, Store
from .table_values import operator_times, run_values, split_entries

SETTLED = 0.002  # a batch that changes predictions by less, relative, was the last


def next_operators(store: Store, plan: TablePlan, size: int) -> list[Entry]:
    """The operators to add once `size` of them were measured; none where that is enough.

    It is enough where the plan's number is reached, where this was asked before, or where the
    last batch changed the predictions for the plan's networks by less than `SETTLED` on average
    (predictions alone: what was measured of held-out networks decides nothing). What the first
    run has seen decides, so that a build that was interrupted decides the same again.
    """
    operators, networks = split_entries(store.entries(), run_values(store, runs=1))
    if len(operators) > size:
        return []
    sizes = plan.sizes
    batch = sizes.index(size)
    times = operator_times(operators)
    if batch > 0:
        # With the scales of now: fitting them is what takes time, and they hardly move.
        fewer = dict(list(operators.items())[: sizes[batch - 1]])
        before = operator_times(fewer, times.scales())
        if _change(before, times, networks) < SETTLED:
            return []
    chosen = Selection(plan.layers, plan.usage, times).best(sizes[batch + 1] - len(operators))
    return [operator_entry(layer) for layer in chosen]


def _change(
    before: OperatorTimes,
    now: OperatorTimes,
    networks: Mapping[str, tuple[str, Network, NDArray[np.float64]]],
) -> float:
    """How much predictions of the networks have changed, relative, on average."""
    predictions = []
    for times in (before, now):
        calibration = calibrated(times, networks)
        predictions.append(
            [predict(n.layers, times.alone, calibration).seconds for _, n, _ in networks.values()]
        )
    earlier, later = np.array(predictions)
    return float(np.abs(earlier / later - 1).mean()) if len(later) else float("inf")
