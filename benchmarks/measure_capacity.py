"""A table of 25,000 operators under the default cap on memory: how fast, and in how much memory.

All distinct operators of `mobilenetv3-large` for two input sizes, in batches that each stay below
the cap. Some of them are measured twice more in one batch: the batches must not have cost accuracy.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure_throughput import SCHEDULES, Values, campaign, store_of

from boardfit.devices.base import Device
from boardfit.profiler.campaign import MEMORY_CAP
from boardfit.profiler.connect import connect
from boardfit.profiler.layers import Layer
from boardfit.profiler.table import run_values
from boardfit.search.mobilenetv3 import open_space
from boardfit.search.tabulate import plan_table

ENTRIES = 25_000
AGAIN = 500
SIZES = (160, 224)


def main() -> None:
    found: dict[str, Layer] = {}
    for size in SIZES:
        space = open_space("mobilenetv3-large", input_size=size, kernels=[3, 5, 7])
        layers = plan_table(space, calibration=5, validation=5).layers
        found |= {layer.signature: layer for layer in layers}
    every = list(found.values())
    rng = np.random.default_rng(0)
    chosen = [every[i] for i in rng.permutation(len(every))[:ENTRIES]]
    some = rng.choice(len(chosen), AGAIN, replace=False)
    with tempfile.TemporaryDirectory() as folder, connect("local") as device:
        values = measure(device, "in batches", chosen, Path(folder))[some]
        few = [chosen[i] for i in some]
        again = [measure(device, f"{AGAIN} of them, {n}", few, Path(folder)) for n in ("a", "b")]
    for name, one, two in (
        ("in batches against one batch", values, again[0]),
        ("one batch against one batch", again[1], again[0]),
    ):
        ratio = one / two
        apart = np.abs(ratio - 1)
        print(
            f"{name}: median ratio {np.median(ratio):.4f}, mean difference {apart.mean():.2%}, "
            f"95 % within {np.quantile(apart, 0.95):.2%} ({AGAIN} operators)"
        )


def measure(device: Device, name: str, layers: Sequence[Layer], folder: Path) -> Values:
    """The value of each operator in seconds, in the order given; prints what it took."""
    with store_of(layers, folder / name) as store:
        summary = campaign(store, device, layers, SCHEDULES["brief"], cap=MEMORY_CAP)
        values = list(run_values(store, runs=SCHEDULES["brief"].runs).values())
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{name}: {len(layers)} entries, {SCHEDULES['brief'].runs} sessions: "
        f"{summary.wall_seconds:.0f} s, {len(layers) / summary.wall_seconds:.0f} entries/s, "
        f"{summary.share_inside:.0%} inside; cap {MEMORY_CAP / 1e6:.0f} MB, the worker took "
        f"{summary.resident_bytes / 1e6:.0f} MB at most, the host {host / 1e6:.0f} MB; "
        f"{len(summary.restarts)} workers lost",
        flush=True,
    )
    return np.array([value.min() for value in values])


if __name__ == "__main__":
    main()
