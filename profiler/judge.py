"""Judge what was measured so far: operators' times, the calibration, and how right both are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration, Validation, fit, predict
from .layers import Network
from .pricing import OperatorTimes
from .store import Store
from .table_values import in_common, operator_times, representative, run_values, split_entries
from .transfer import read_donor


@dataclass(frozen=True)
class Judged:
    """What the samples so far say: operators' times, the fit, and how right both are."""

    times: OperatorTimes
    calibration: Calibration
    validation: Validation | None
    entries: int


def judge(store: Store, *, runs: int) -> Judged:
    """Fit the calibration and predict the held-out networks, from the first `runs` runs."""
    operators, networks = split_entries(store.entries(), run_values(store, runs=runs))
    donor = read_donor((store.document("plan") or {}).get("donor"))
    times = operator_times(operators, donor=donor)
    calibration = calibrated(times, networks)
    held_out = [(n, values) for role, n, values in networks.values() if role == "validation"]
    if not held_out:
        return Judged(times, calibration, None, len(store.entries()))
    predicted = [predict(network.layers, times.alone, calibration) for network, _ in held_out]
    validation = Validation(
        np.array([p.seconds for p in predicted]),
        np.array([representative(values) for _, values in held_out]),
        in_common([values for _, values in held_out]),
        np.array([p.deviation for p in predicted]),
    )
    return Judged(times, calibration, validation, len(store.entries()))


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
