"""A table of 25,000 operators under the default cap on memory: how fast, and in how much memory.

All distinct operators of `mobilenetv3-large` for two input sizes, in batches that each stay below
the cap. Some of them are measured in one batch, too, before all of them and after: the batches must
not have cost accuracy.
"""

from __future__ import annotations

import math
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from bars import bar
from measure_throughput import COST, SCHEDULES, Values, campaign, store_of

from boardfit.devices.base import Device
from boardfit.profiler.campaign import MEMORY_CAP
from boardfit.profiler.connect import connect
from boardfit.profiler.layers import Layer
from boardfit.profiler.table_values import run_values
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

ENTRIES = 25_000
AGAIN = 500
SIZES = (160, 224)
OVER_CAP = 1.10  # times the cap on models that the whole worker may take


def main() -> int:
    found: dict[str, Layer] = {}
    for size in SIZES:
        space = open_space("mobilenetv3-large", input_size=size, kernels=[3, 5, 7])
        layers = plan_table(space, calibration=5, validation=5).layers
        found |= {layer.signature: layer for layer in layers}
    every = list(found.values())
    if len(every) < ENTRIES:
        print(f"MISSED: {len(every)} distinct operators, {ENTRIES} are needed: give more SIZES")
        return 1
    rng = np.random.default_rng(0)
    chosen = [every[i] for i in rng.permutation(len(every))[:ENTRIES]]
    some = rng.choice(len(chosen), AGAIN, replace=False)
    few = [chosen[i] for i in some]
    with tempfile.TemporaryDirectory() as name, connect("local") as device:
        folder = Path(name)
        before, _ = measure(device, f"{AGAIN} of them, a", few, folder)
        values, resident = measure(device, "in batches", chosen, folder)
        after, _ = measure(device, f"{AGAIN} of them, b", few, folder)
    values = values[some]
    control = apart("one batch, b against a", after, before)
    limit = COST * control
    difference = {
        "in batches against one batch, a": apart("in batches against a", values, before),
        "in batches against one batch, b": apart("in batches against b", values, after),
    }
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"the host took {host / 1e6:.0f} MB at most")
    # A board that does not tell its worker's memory shows nothing about the cap.
    megabytes = resident / 1e6 if resident else math.nan
    met = [
        bar("the worker's MB", megabytes, OVER_CAP * MEMORY_CAP / 1e6, least=False, form=",.0f"),
        *(bar(name, mean, limit, least=False, form=".3%") for name, mean in difference.items()),
    ]
    return int(not all(met))


def apart(name: str, one: Values, two: Values) -> float:
    """Print how far two measurements of the same operators are apart; the mean, relative."""
    ratio = one / two
    off = np.abs(ratio - 1)
    print(
        f"{name}: median ratio {np.median(ratio):.4f}, mean difference {off.mean():.2%}, 95 % "
        f"within {np.quantile(off, 0.95):.2%} ({len(ratio)} operators)"
    )
    return float(off.mean())


def measure(
    device: Device, name: str, layers: Sequence[Layer], folder: Path
) -> tuple[Values, float]:
    """The value of each operator in seconds, in the order given, and the most bytes that the
    worker took (0: not known); prints what it cost."""
    with store_of(layers, folder / name) as store:
        summary = campaign(store, device, layers, SCHEDULES["brief"], cap=MEMORY_CAP)
        values = list(run_values(store, runs=SCHEDULES["brief"].runs).values())
    print(
        f"{name}: {len(layers)} entries, {SCHEDULES['brief'].runs} sessions: "
        f"{summary.wall_seconds:.0f} s, {len(layers) / summary.wall_seconds:.0f} entries/s, "
        f"{summary.share_inside:.0%} inside; cap {MEMORY_CAP / 1e6:.0f} MB, the worker took "
        f"{summary.resident_bytes / 1e6:.0f} MB at most; {len(summary.restarts)} workers lost",
        flush=True,
    )
    return np.array([value.min() for value in values]), summary.resident_bytes


if __name__ == "__main__":
    sys.exit(main())
