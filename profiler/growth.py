"""Grow a table while its first run is measured: add what the networks are most uncertain of."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from .calibration import predict
from .judge import calibrated
from .layers import Network
from .plan import TablePlan, operator_entry
from .selection import Selection
from .store import Entry, Store
from .table import Operator, operator_times, run_values, split_entries

SETTLED = 0.002  # a batch that changes predictions by less, relative, was the last


def next_operators(store: Store, plan: TablePlan, size: int) -> list[Entry]:
    """The operators to add once `size` of them were measured; none where that is enough.

    It is enough where the plan's number is reached, where this was asked before, or where the
    last batch changed the predictions for the plan's calibration networks by less than `SETTLED`
    on average. What the first run has seen decides, so that a build that was interrupted decides
    the same again.
    """
    operators, networks = split_entries(store.entries(), run_values(store, runs=1))
    if len(operators) != size:
        return []
    sizes = plan.sizes
    batch = sizes.index(size)
    if batch > 0 and _change(operators, networks, sizes[batch - 1]) < SETTLED:
        return []
    times = operator_times(operators)
    chosen = Selection(plan.layers, plan.usage, times).best(sizes[batch + 1] - size)
    return [operator_entry(layer) for layer in chosen]


def _change(
    operators: Mapping[str, Operator],
    networks: Mapping[str, tuple[str, Network, NDArray[np.float64]]],
    before: int,
) -> float:
    """How much the operators after the first `before` changed predictions, relative."""
    predictions = []
    for count in (before, len(operators)):
        times = operator_times(dict(list(operators.items())[:count]))
        calibration = calibrated(times, networks)
        predictions.append(
            [predict(n.layers, times.alone, calibration).seconds for _, n, _ in networks.values()]
        )
    earlier, now = np.array(predictions)
    return float(np.abs(earlier / now - 1).mean()) if len(now) else float("inf")
