"""How much faster two boards build a table than one, and that it is the same table.

Fake boards that really take the time they report (`real_time`), with real scheduler and worker
processes on loopback: plainly on one board, through Dask on one, and through Dask on two.
Networks of 128 pixels keep the boards busy: what the host and the fakes compute themselves is
little beside, and both boards may share a core. Comparing the boards counts. Reaching them
(starting the scheduler and the workers) is printed apart: it is the same for a table of minutes and
for one of a day.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bars import bar

from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.fleet_build import build_fleet_table
from boardfit.profiler.fleet_dask import local_cluster
from boardfit.profiler.fleet_dispatch import Boards
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.store import Store
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

SPACE, PIXELS = "mobilenetv3-32", 128
OPERATORS = 300
LEAST = 1.8  # times the entries a second of one board
BOARDS = ("one", "two")
WAYS = ("plainly", "fleet of 2", "fleet of 1")


def main() -> int:
    space = open_space(SPACE, input_size=PIXELS)
    plan = plan_table(space, options={"input_size": PIXELS}, operators=OPERATORS)
    rates: dict[str, float] = {}
    tables: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as folder:
        inventory = Path(folder) / "boards.toml"
        inventory.write_text(
            "".join(
                f'[boards.{name}]\ntransport = "fake"\nseed = 1\nreal_time = true\n'
                for name in BOARDS
            )
        )
        for way in WAYS:
            path = Path(folder) / f"{way}.boardfit"
            if way == "plainly":
                seconds = plainly(path, plan, inventory)
            else:
                seconds = together(path, plan, BOARDS[: int(way[-1])], inventory)
            tables[way] = path
            entries = visited(path)
            rates[way] = entries / seconds
            print(f"{way}: {entries} entries and runs in {seconds:.1f} s", flush=True)
        return int(not judge(rates, tables))


def judge(rates: Mapping[str, float], tables: Mapping[str, Path]) -> bool:
    """Print the ratios, and whether the bars are met."""
    ratios = {way: rates["fleet of 2"] / rate for way, rate in rates.items()}
    name = "entries a second, two to fleet of 1"
    met = bar(name, ratios["fleet of 1"], LEAST, least=True, form=".2f")
    print(f"entries a second, two to plainly: {ratios['plainly']:.2f}")
    expected = samples(tables["plainly"])
    different = sum(samples(path) != expected for path in tables.values())
    return met & bar("tables with other samples", different, 0, least=False, form="g")


def plainly(path: Path, plan: TablePlan, inventory: Path) -> float:
    """Seconds that one board takes by itself."""
    with connect(BOARDS[0], inventory=inventory) as device:
        begin = time.monotonic()
        build_table(path, device, plan)
        return time.monotonic() - begin


def together(path: Path, plan: TablePlan, names: Sequence[str], inventory: Path) -> float:
    """Seconds that a fleet takes once its boards are reached, comparing them included."""
    reached: list[float] = []

    @contextlib.contextmanager
    def reach() -> Iterator[Boards]:
        begin = time.monotonic()
        with local_cluster(names, inventory=inventory) as boards:
            reached.append(time.monotonic())
            print(f"  {len(names)} reached within {reached[0] - begin:.1f} s", flush=True)
            yield boards
            reached.append(time.monotonic())

    build_fleet_table(path, plan, names, reach)
    return reached[1] - reached[0]


def visited(path: Path) -> int:
    """Entries that were measured, once for each run."""
    with Store.open(path) as store:
        return len({(row[0], row[2]) for row in store.samples()})


def samples(path: Path) -> list[tuple[object, ...]]:
    """Every sample, without the session and the time at which it was taken."""
    with Store.open(path) as store:
        return [(*row[:6], *row[8:]) for row in store.samples()]


if __name__ == "__main__":
    sys.exit(main())
