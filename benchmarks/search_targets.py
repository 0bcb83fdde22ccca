"""Whether found networks keep their latency target: 40 searches of 25 to 80 % of the full latency,
with and without hardware in the loop.

One table of this machine, and one super-network, trained briefly: latency does not depend on how
good the weights are, only which networks are found does. Each search scores 60 networks, and with
the loop may measure 8 candidates and score some more. The searches measure their candidates in
common sessions, which changes nothing but the time it takes. All found networks of both kinds are
measured afterwards, in other sessions, interleaved with anchors.

What is finished is kept in `runs/bench-search-targets`, the figures in `results/`. With an argument
(`table`, `descend`, `measure`, `judge`) only that step is done: what measures can be run alone.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from bars import bar
from cells import Cells
from table_line import validation_of

from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.progress import silent
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.table import LookupTable
from boardfit.profiler.tie import measure_tied
from boardfit.search.compute import Compute
from boardfit.search.coordinate_descent import coordinate_descent
from boardfit.search.data import open_dataset
from boardfit.search.descent_settings import DescentSettings
from boardfit.search.evaluation import Evaluator
from boardfit.search.examples import first
from boardfit.search.history import History
from boardfit.search.metrics import latency
from boardfit.search.on_board import (
    confirm,
    first_correction,
    measure_for,
    measure_on,
)
from boardfit.search.pipeline import trained_supernet
from boardfit.search.settings import SearchSettings, recipes
from boardfit.search.spaces import open_space
from boardfit.search.strategies import holdout_score
from boardfit.search.tabulate import plan_table
from boardfit.search.trial import Trial, best_trial

SPACE = open_space("mobilenetv3-32")
FOLDER = Path("runs/bench-search-targets")
TARGETS = np.linspace(0.25, 0.80, 40)
EVALUATIONS, CANDIDATES, IMAGES = 60, 8, 64
SUPERNET_STEPS = 150
KEPT = 0.95  # of the networks at least are at most 5 % over their target
CELLS = Cells("search_targets")


def open_table() -> LookupTable:
    """The table of this machine, built where it is not there yet."""
    with connect("local") as device:
        return build_table(FOLDER / "table.boardfit", device, plan_table(SPACE))


class Searches:
    """The 40 searches: trials are read from their histories where they were scored before."""

    def __init__(self, table: LookupTable) -> None:
        self.metric = latency(SPACE, table)
        self.full = float(self.metric([SPACE.full])[0])
        dataset = open_dataset(
            "shapes:5000", input_shape=SPACE.input_shape, classes=SPACE.classes, seed=0
        )
        settings = SearchSettings(supernet=recipes(SUPERNET_STEPS)[0])
        supernet = trained_supernet(SPACE, dataset, settings, FOLDER, {}, Compute(), silent)
        self.score = holdout_score(supernet, first(dataset.holdout, IMAGES), dataset.task)

    def evaluator(self, number: int) -> Evaluator:
        history = History(FOLDER / f"search{number}", {"target": float(TARGETS[number])})
        return Evaluator(SPACE, self.score, self.metric, history)

    def descend(self, number: int, evaluator: Evaluator) -> list[Trial]:
        target = TARGETS[number] * self.full
        settings = DescentSettings(evaluations=EVALUATIONS)
        rng = np.random.default_rng(number)
        return list(coordinate_descent(SPACE, evaluator, self.metric, target, rng, settings))


def descend(table: LookupTable) -> None:
    searches = Searches(table)
    for number in range(len(TARGETS)):
        searches.descend(number, searches.evaluator(number))
        print(f"search {number}: scored", flush=True)


def measure(table: LookupTable) -> None:
    """Choose with and without the loop."""
    searches = Searches(table)
    chosen, loops = {}, {}
    for number, share in enumerate(TARGETS):
        evaluator, target = searches.evaluator(number), share * searches.full
        trials = searches.descend(number, evaluator)
        chosen[number] = best_trial(trials, target).architecture
        loops[str(number)] = confirm(
            SPACE, searches.metric, trials, target, evaluator, first_correction(SPACE, table),
            np.random.default_rng(1000 + number), at_most=CANDIDATES,
        )  # fmt: skip
    with connect("local") as device:
        confirmed = measure_for(loops, measure_on(SPACE, table, device, FOLDER, silent))
    for number, share in enumerate(TARGETS):
        found = confirmed[str(number)]
        CELLS.compute(
            {"target": float(share), "table": table.path.name},
            lambda: {
                "seconds": share * searches.full,  # noqa: B023
                "without": chosen[number],  # noqa: B023
                "with": found.architecture,  # noqa: B023
                "candidates": len(found.candidates),  # noqa: B023
                "scored": len(found.trials),  # noqa: B023
            },
        )


def judge(table: LookupTable) -> int:
    """Measure what was found, in sessions of its own, and print."""
    cells = [value for key, value in CELLS.read() if "without" in value]
    networks = {
        f"{number} {kind}": SPACE.network(tuple(cell[kind]))
        for number, cell in enumerate(cells)
        for kind in ("without", "with")
    }
    with connect("local") as device:
        tied = measure_tied(
            table, device, networks, path=FOLDER / "judged.boardfit",
            schedule=Schedule(runs=3, minimum_rounds=15, maximum_rounds=20, samples=2),
        )  # fmt: skip
    print(f"table: MAPE {validation_of(table).mape:.2%}; anchors "
          f"{next(iter(tied.values())).anchor_ratio:.3f}")  # fmt: skip
    shares = {}
    for kind in ("without", "with"):
        over = np.array(
            [tied[f"{n} {kind}"].seconds / cell["seconds"] - 1 for n, cell in enumerate(cells)]
        )
        error = np.array([tied[f"{n} {kind}"].error for n in range(len(cells))])
        shares[kind] = float((over <= 0.05).mean())
        print(
            f"{kind} the loop: {(over <= 0.05).sum()} of {len(over)} at most 5 % over their "
            f"target, {(over <= 0.02).sum()} at most 2 %, {(over <= 0).sum()} within; over on "
            f"average {over.mean():+.2%}, worst {over.max():+.2%}, furthest below "
            f"{over.min():+.2%}; "
            f"prediction off by {np.abs(error).mean():.2%}",
            flush=True,
        )
    measured = [cell["candidates"] for cell in cells]
    same = sum(cell["with"] == cell["without"] for cell in cells)
    print(f"candidates measured a search: {np.mean(measured):.1f} ({min(measured)} to "
          f"{max(measured)}); {same} of {len(cells)} chose the same network")  # fmt: skip
    met = [
        bar(f"at most 5 % over the target, {kind} the loop", shares[kind], KEPT, least=True)
        for kind in shares
    ]
    return int(not all(met))


def main() -> int:
    steps = sys.argv[1:] or ["descend", "measure", "judge"]
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    table = open_table()
    if "descend" in steps:
        descend(table)
    if "measure" in steps:
        measure(table)
    return judge(table) if "judge" in steps else 0


if __name__ == "__main__":
    sys.exit(main())
