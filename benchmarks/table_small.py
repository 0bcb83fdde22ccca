"""`mobilenetv3-32`: all operators measured or few, and fewer calibration networks."""

from pathlib import Path

import numpy as np
from table_line import built, line

from boardfit.profiler.calibration import Calibration, Validation, fit, predict
from boardfit.profiler.connect import connect
from boardfit.profiler.table import LookupTable
from boardfit.profiler.table_values import representative
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

SPACE = "mobilenetv3-32"


def main(folder: Path) -> bool:
    """Print the table's error with all operators measured, and with parts of what it knows; no
    bar is set."""
    device = connect("local")
    space = open_space(SPACE)
    for operators in (None, 300):
        name = "all operators" if operators is None else f"{operators} operators"
        path = folder / f"small-{operators or 'all'}.boardfit"
        table = built(f"{SPACE}, {name}", path, device, plan_table(space, operators=operators))
    table = LookupTable.open(folder / "small-all.boardfit")
    for count in (5, 10, 20):
        line(f"calibrated with {count} networks", refitted(table, count))
    line("raw sums of operators", refitted(table, 0))
    return True


def refitted(table: LookupTable, count: int) -> Validation:
    """The validation with fewer calibration networks (0: the sum as it is)."""
    chosen = [(n, r) for role, n, r in table.networks.values() if role == "calibration"][:count]
    held_out = [(n, r) for role, n, r in table.networks.values() if role == "validation"]
    calibration: Calibration = fit(
        [network.layers for network, _ in chosen],
        np.array([representative(runs) for _, runs in chosen]),
        {x.signature: table.alone(x).seconds for network, _ in chosen for x in network.layers},
    )
    predicted = [predict(network.layers, table.alone, calibration) for network, _ in held_out]
    runs = np.array([values for _, values in held_out])
    return Validation(
        np.array([p.seconds for p in predicted]),
        runs.min(axis=1),
        runs,
        np.array([p.deviation for p in predicted]),
    )
