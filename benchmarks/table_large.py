"""`mobilenetv3-large` at 160 pixels: few operators measured, held-out networks, an hour later.

The space has 15 blocks with bypass; with kernels 3 and 5, and again with 7. The same campaign
measures operators, calibration and held-out networks.
"""

import time
from datetime import datetime
from pathlib import Path

import numpy as np
from bars import bar
from table_line import built, line, validation_of

from boardfit.profiler.calibration import Validation
from boardfit.profiler.connect import connect
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.profiler.tie import measure_tied
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

KERNELS = {"3, 5": [3, 5], "3, 5, 7": [3, 5, 7]}
OPERATORS = (700, 300)
ANCHORS = 5
MAPE = {700: 0.02, 300: 0.03}  # at most, by the number of operators
FLOORS = 1.3  # noise floors that the error may be where the floor is above the bar of 700
WITHIN_5, WITHIN_10, SPEARMAN = 0.95, 1.0, 0.995  # at least, with 700 operators
LATER_MAPE, LATER_WITHIN_5 = 0.03, 0.90
LATER = 3600.0  # seconds that a table is old at least before it is measured against


def main(folder: Path) -> bool:
    """Build the tables and say how right they are on 60 held-out networks; whether the bars are
    met."""
    device = connect("local")
    met = True
    for name, kernels in KERNELS.items():
        space = open_space("mobilenetv3-large", input_size=160, kernels=kernels)
        for operators in OPERATORS:
            plan = plan_table(space, calibration=40, validation=60, operators=operators)
            label = f"kernels {name}, {operators} operators"
            table = built(label, path_of(folder, kernels, operators), device, plan)
            met &= right(label, operators, validation_of(table))
    return met


def right(label: str, operators: int, found: Validation) -> bool:
    """Print the bars of a table that was just built; whether all are met."""
    limit = MAPE[operators]
    if operators != OPERATORS[0]:
        return bar(f"{label}, MAPE", found.mape, limit, least=False)
    # No prediction can be better than the measurement that judges it repeats.
    if found.noise_floor > limit:
        limit = FLOORS * found.noise_floor
    met = [
        bar(f"{label}, MAPE", found.mape, limit, least=False),
        bar(f"{label}, within 5 %", found.share_within(0.05), WITHIN_5, least=True),
        bar(f"{label}, within 10 %", found.share_within(0.10), WITHIN_10, least=True),
        bar(f"{label}, Spearman", found.spearman, SPEARMAN, least=True, form=".4f"),
    ]
    return all(met)


def later(folder: Path) -> bool:
    """Measure the held-out networks again, with anchors, and compare with the old tables; whether
    the bars are met. Waits until the tables are an hour old."""
    device = connect("local")
    met = True
    for name, kernels in KERNELS.items():
        path = path_of(folder, kernels, OPERATORS[0])
        table = LookupTable.open(path)
        if (missing := LATER - age(path)) > 0:
            print(f"waiting {missing / 60:.0f} minutes, until {path} is an hour old", flush=True)
            time.sleep(missing)
        hours = age(path) / 3600
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
        label = f"kernels {name}, reopened, {ANCHORS} anchors"
        validation = Validation(predicted, measured, runs, deviation)
        line(label, validation)
        met &= bar(f"{label}, MAPE", validation.mape, LATER_MAPE, least=False)
        within = validation.share_within(0.05)
        met &= bar(f"{label}, within 5 %", within, LATER_WITHIN_5, least=True)
    return met


def age(path: Path) -> float:
    """Seconds since the last session of a table began."""
    with Store.open(path) as store:
        begun = max(datetime.fromisoformat(session[2]) for session in store.sessions())
    return (datetime.now(begun.tzinfo) - begun).total_seconds()


def path_of(folder: Path, kernels: list[int], operators: int) -> Path:
    """Where a table of this benchmark lies."""
    return folder / f"large-{''.join(map(str, kernels))}-{operators}.boardfit"
