"""Whether the stated 95 % intervals contain the values of sessions that nobody had seen."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from bars import bar
from table_line import built

from boardfit.profiler.build import sources
from boardfit.profiler.campaign import run_campaign
from boardfit.profiler.connect import connect
from boardfit.profiler.plan import operator_entry
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.profiler.table_values import run_values
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

ENTRIES = 300
SESSIONS = 2
INSIDE = 0.90  # of the operators in each session at least
HALF_WIDTH = 0.05  # the median at most, relative


def main(folder: Path) -> bool:
    """Measure 300 operators of a table in two fresh sessions; whether the bars are met."""
    device = connect("local")
    space = open_space("mobilenetv3-large", input_size=160, kernels=[3, 5])
    path = folder / "large-35-700.boardfit"
    if not path.exists():
        built("the table", path, device, plan_table(space, calibration=40))
    table = LookupTable.open(path)
    names = sorted(table.operators)
    rng = np.random.default_rng(0)
    chosen = [names[i] for i in rng.choice(len(names), min(ENTRIES, len(names)), replace=False)]
    entries = [operator_entry(table.operators[name].layer) for name in chosen]
    with Store.create(None) as store:
        store.begin(entries, {"kind": "coverage"})
        run_campaign(store, device, sources(entries), replace(Schedule(), runs=SESSIONS, seed=1))
        found = {
            store.entries()[number].key: values
            for number, values in run_values(store, runs=SESSIONS).items()
        }
    intervals = [table.session_interval(name) for name in chosen]
    widths = [interval.half_width for interval in intervals]
    met = []
    for session in range(SESSIONS):
        values = np.array([found[name][session] for name in chosen])
        inside = [i.low <= v <= i.high for i, v in zip(intervals, values, strict=True)]
        old = np.array([interval.seconds for interval in intervals])
        print(
            f"session {session}: {np.mean(inside):.1%} of {len(chosen)} operators inside of their "
            f"95 % intervals, median ratio to the table {np.median(values / old):.4f}"
        )
        name = f"session {session}, inside of the intervals"
        met.append(bar(name, float(np.mean(inside)), INSIDE, least=True))
    print(
        f"half-widths: median {np.median(widths):.2%}, 90th percentile "
        f"{np.quantile(widths, 0.9):.2%}; pooled over {table.runs} sessions of "
        f"{len(table.operators)} operators"
    )
    met.append(bar("median half-width", float(np.median(widths)), HALF_WIDTH, least=False))
    return all(met)
