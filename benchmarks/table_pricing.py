"""Architectures priced a second: a table compiled for a space against sums in a dictionary."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bars import bar
from table_line import built

from boardfit.profiler.connect import connect
from boardfit.profiler.table import LookupTable
from boardfit.search.metrics import as_architectures, latency
from boardfit.search.mobilenetv3 import LARGE, mobilenetv3
from boardfit.search.space import SearchSpace
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

COUNT = 200_000
COMPARED = 2_000
REPEATS = 5
AGAIN = (2, 5, 9, 9, 14)  # blocks that come once more, so that there are twenty
RATE = 300_000  # architectures a second at least
APART = 1e-9  # the results of both ways at most, relative


def longer(space: SearchSpace) -> SearchSpace:
    """The space with some blocks twice, which have the operators that the table knows."""
    rows = [row for i, row in enumerate(LARGE.rows) for _ in range(1 + AGAIN.count(i))]
    return mobilenetv3(
        "mobilenetv3-large with 20 blocks",
        LARGE._replace(rows=tuple(rows)),
        classes=space.classes,
        input_size=160,
        width_factor=1.25,
        kernels=(3, 5),
    )


def main(folder: Path) -> bool:
    """Print rates, their ratio and how far the results are apart; whether the bars are met."""
    space = open_space("mobilenetv3-large", input_size=160, kernels=[3, 5])
    path = folder / "large-35-700.boardfit"
    if not path.exists():
        built("the table", path, connect("local"), plan_table(space, calibration=40))
    table = LookupTable.open(path)
    space = longer(space)
    rng = np.random.default_rng(0)
    rows = np.array([space.random(rng) for _ in range(COMPARED)])
    # As a search has them: each architecture is another one with some coordinates changed.
    many = rows[rng.integers(COMPARED, size=COUNT)]
    for axis in rng.integers(rows.shape[1], size=4):
        many[:, axis] = rng.permuted(many[:, axis])
    begin = time.perf_counter()
    metric = latency(space, table)
    metric(many)
    print(f"compiling as it is first asked: {time.perf_counter() - begin:.1f} s, once a search")
    few = as_architectures(rows)
    layers = {x.signature: x for row in few for x in space.network(row).layers}
    prices = {
        name: (table.price(x), float(x.parameter_bytes), float(x.bytes_moved))
        for name, x in layers.items()
    }
    keys = [[x.signature for x in space.network(row).layers] for row in few]

    def total(names: list[str]) -> float:
        seconds = weights = moved = 0.0
        for name in names:
            price = prices[name]
            seconds += price[0]
            weights += price[1]
            moved += price[2]
        return table.constant + seconds + table.crowding(weights, moved)

    def prepared() -> list[float]:
        return [total(names) for names in keys]

    def built_keys() -> list[float]:
        return [total([x.signature for x in space.network(row).layers]) for row in few[:200]]

    rates = {
        "compiled": rate(lambda: metric(many), COUNT),
        "dictionary, keys prepared": rate(prepared, COMPARED),
        "dictionary, keys built": rate(built_keys, 200),
    }
    for name, value in rates.items():
        slower = f"{rates['compiled'] / value:,.1f} times slower than compiled"
        words = f"{len(space.stages) - 2} blocks, one core" if name == "compiled" else slower
        print(f"{name}: {value:,.0f} architectures a second ({words})")
    difference = float(np.abs(metric(rows) / np.array(prepared()) - 1).max())
    met = [
        bar("compiled, architectures a second", rates["compiled"], RATE, least=True, form=",.0f"),
        bar("largest relative difference", difference, APART, least=False, form=".1e"),
    ]
    return all(met)


def rate(job: Callable[[], object], count: int) -> float:
    """The best of some repeats, in architectures a second."""
    best = float("inf")
    for _ in range(REPEATS):
        begin = time.perf_counter()
        job()
        best = min(best, time.perf_counter() - begin)
    return count / best
