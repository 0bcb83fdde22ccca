"""Judge what was measured so far: operators' times, the calibration, and how right both are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration, Validation, fit, predict
from .fragments import PriceList
from .layers import Network
from .pricing import Alone, OperatorTimes
from .store import Store
from .table_values import (
    UNKNOWN_DEVIATION,
    in_common,
    operator_times,
    read_fragments,
    representative,
    run_values,
    split_entries,
)
from .transfer import read_donor


@dataclass(frozen=True)
class Judged:
    """What the samples so far say: operators' times, the fit, and how right both are."""

    times: OperatorTimes
    calibration: Calibration
    validation: Validation | None
    entries: int


def judge(store: Store, *, runs: int) -> Judged:
    """Fit the calibration and predict the held-out networks, from the first `runs` runs.

    Where blocks were measured, networks are put together from these, and only what a network takes
    beyond them is fitted.
    """
    entries, values = store.entries(), run_values(store, runs=runs)
    operators, networks = split_entries(entries, values)
    blocks = read_fragments(entries, values).values()
    donor = read_donor((store.document("plan") or {}).get("donor"))
    times = operator_times(operators, donor=donor)
    prices = PriceList(
        lambda layer: times.alone(layer).seconds,
        {block.fragment: representative(block.runs) for block in blocks},
    )
    calibration = beyond_blocks(prices, networks) if blocks else calibrated(times, networks)
    held_out = [(n, values) for role, n, values in networks.values() if role == "validation"]
    if not held_out:
        return Judged(times, calibration, None, len(store.entries()))
    parts = [prices.split(network.layers) for network, _ in held_out]
    predicted = [
        predict(rest, times.alone, calibration, [Alone(s, UNKNOWN_DEVIATION) for s in whole])
        for whole, rest in parts
    ]
    validation = Validation(
        np.array([p.seconds for p in predicted]),
        np.array([representative(values) for _, values in held_out]),
        in_common([values for _, values in held_out]),
        np.array([p.deviation for p in predicted]),
    )
    return Judged(times, calibration, validation, len(store.entries()))


def beyond_blocks(
    prices: PriceList, networks: Mapping[str, tuple[str, Network, NDArray[np.float64]]]
) -> Calibration:
    """What the calibration networks take beyond their blocks, the same for all of them.

    Less than nothing as a rule: a block that is measured alone pays for an invocation of its own.
    """
    chosen = [(n, values) for role, n, values in networks.values() if role == "calibration"]
    if not chosen:
        return Calibration()
    measured = np.array([representative(values) for _, values in chosen])
    sums = np.array([prices(network.layers) for network, _ in chosen])
    constant = float(np.median(measured - sums))
    left = (measured - sums - constant) / measured
    return Calibration(constant, residual=float(np.sqrt((left**2).mean())))


def calibrated(
    times: OperatorTimes, networks: Mapping[str, tuple[str, Network, NDArray[np.float64]]]
) -> Calibration:
    """Fit the calibration networks' times to those of their operators."""
    chosen = [(n, values) for role, n, values in networks.values() if role == "calibration"]
    return fit(
        [network.layers for network, _ in chosen],
        np.array([representative(values) for _, values in chosen]),
        {
            layer.signature: times.alone(layer).seconds
            for network, _ in chosen
            for layer in network.layers
        },
    )
