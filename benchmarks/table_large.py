"""`mobilenetv3-large` at 160 pixels: few operators measured, held-out networks, an hour later.

The space has 15 blocks with bypass; with kernels 3 and 5, and again with 7. The same campaign
measures operators, calibration and held-out networks.
"""

import time
from datetime import datetime
from pathlib import Path

import numpy as np
from table_line import built, line

from boardfit.profiler.calibration import Validation
from boardfit.profiler.connect import connect
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.profiler.tie import measure_tied
from boardfit.search.mobilenetv3 import open_space
from boardfit.search.tabulate import plan_table

KERNELS = {"3, 5": [3, 5], "3, 5, 7": [3, 5, 7]}
OPERATORS = (700, 300)
ANCHORS = 5


def main(folder: Path) -> None:
    """Build the tables and say how right they are on 60 held-out networks."""
    device = connect("local")
    for name, kernels in KERNELS.items():
        space = open_space("mobilenetv3-large", input_size=160, kernels=kernels)
        for operators in OPERATORS:
            plan = plan_table(space, calibration=40, validation=60, operators=operators)
            built(f"kernels {name}, {operators} operators",
                  path_of(folder, kernels, operators), device, plan)  # fmt: skip


def later(folder: Path) -> None:
    """Measure the held-out networks again, with anchors, and compare with the old tables."""
    device = connect("local")
    for name, kernels in KERNELS.items():
        path = path_of(folder, kernels, OPERATORS[0])
        table = LookupTable.open(path)
        with Store.open(path) as store:
            begun = datetime.fromisoformat(store.sessions()[0][2])
        hours = (datetime.now(begun.tzinfo) - begun).total_seconds() / 3600
        networks = {
            key: network
            for key, (role, network, _) in table.networks.items()
            if role == "validation"
        }
        begin = time.monotonic()
        found = measure_tied(table, device, networks, anchors=ANCHORS)
        predicted = np.array([tied.predicted.seconds for tied in found.values()])
        deviation = np.ones(len(predicted))
        ratio = next(iter(found.values())).anchor_ratio
        runs = np.array([tied.measurement.run_minima / ratio for tied in found.values()])
        print(
            f"kernels {name}: {hours:.1f} hours later, {time.monotonic() - begin:.0f} s, anchors "
            f"{ratio:.3f}"
        )
        measured = np.array([tied.seconds for tied in found.values()])
        line(
            f"kernels {name}, reopened, {ANCHORS} anchors",
            Validation(predicted, measured, runs, deviation),
        )


def path_of(folder: Path, kernels: list[int], operators: int) -> Path:
    """Where a table of this benchmark lies."""
    return folder / f"large-{''.join(map(str, kernels))}-{operators}.boardfit"
