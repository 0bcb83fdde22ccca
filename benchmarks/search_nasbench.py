"""NAS-Bench-201 on a Raspberry Pi 4 and a Pixel 3: searches whose accuracies and latencies were
measured by others, and are read from a file (`nasbench201_boards.csv.gz` in `BOARDFIT_DATA`).

Six coordinates: nothing here speaks for or against an optimiser that is made for dozens of widths.
The first tables compare optimisers under the measured latency, with the settings that are shipped
(made for other spaces; none was tuned here). The others search under a model that was fitted to 300
measured networks, and count the picks that break the budget.
"""

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from cells import Cells, Key, Value
from numpy.typing import NDArray
from scipy.stats import spearmanr

from boardfit.search.additive import fit_additive
from boardfit.search.evaluation import Evaluator
from boardfit.search.measured_cells import MeasuredCells, read_measured_cells
from boardfit.search.nasbench201 import Removal, all_cells, nasbench201, numbers
from boardfit.search.settings import OptimizerName
from boardfit.search.strategies import optimize
from boardfit.search.trial import best_trial, rank

BOARDS = ("raspi4", "pixel3")
QUARTILES = (25, 50, 75)
EVALUATIONS = (100, 300)
SEEDS = range(100)
SEARCHED, JUDGED = "cifar100_val", "cifar100_test"
MEASURED_NETWORKS = 300  # that a model is fitted to
FITTED_EVALUATIONS = 100
FINALISTS = (1, 3, 10)
REMOVALS: tuple[Removal, ...] = ("nothing", "unread")


@dataclass(frozen=True)
class Optimizer:
    """A row of the table; one that is `incremental` with 300 evaluations does the same with its
    first 100 as with 100 alone."""

    name: str
    strategy: OptimizerName
    incremental: bool
    guide: bool = False
    evaluations: tuple[int, ...] = EVALUATIONS


OPTIMIZERS = (
    Optimizer("random", "random", True),
    Optimizer("ageing evolution", "evolution", True),
    Optimizer("coordinate descent", "coordinate-descent", False),
    # The guide is dear beside a look-up, and at 300 evaluations little is left to be gained.
    Optimizer("random, guided", "random", True, True, (100,)),
    Optimizer("ageing evolution, guided", "evolution", True, True, (100,)),
    Optimizer("coordinate descent, guided", "coordinate-descent", False, True),
)


def budget(cells: MeasuredCells, board: str, quartile: int) -> float:
    """A quartile of the latencies of all networks that differ."""
    return float(np.percentile(cells.seconds[board][np.unique(cells.stands_for)], quartile))


def comparison_key(board: str, quartile: int, optimizer: Optimizer) -> Key:
    return {"board": board, "quartile": quartile, "optimizer": optimizer.name, "seeds": len(SEEDS)}


def fitted_key(board: str, quartile: int, removal: Removal) -> Key:
    return {"board": board, "quartile": quartile, "removal": removal, "seeds": len(SEEDS)}


def compare(cells: MeasuredCells, board: str, quartile: int, optimizer: Optimizer) -> Value:
    """The cells that an optimiser picked, by its number of evaluations."""
    metric, target = cells.latency(board), budget(cells, board, quartile)
    picks: dict[str, list[int]] = {str(count): [] for count in optimizer.evaluations}
    for seed in SEEDS:
        runs = optimizer.evaluations[-1:] if optimizer.incremental else optimizer.evaluations
        for count in runs:
            evaluate = Evaluator(cells.space, cells.score(SEARCHED), metric)
            rng = np.random.default_rng(seed)
            for _ in optimize(
                cells.space, evaluate, metric, [target], rng, optimizer.strategy, count,
                guide=optimizer.guide,
            ):  # fmt: skip
                pass
            for part in optimizer.evaluations if optimizer.incremental else [count]:
                best = best_trial(evaluate.trials[:part], target)
                picks[str(part)].append(int(numbers(np.array([best.architecture]))[0]))
    return {"picks": picks}


def fitted(cells: MeasuredCells, board: str, quartile: int) -> Value:
    """Searches under a model of 300 networks: the finalists of each, best first, and how good the
    models were."""
    everything, measured = all_cells(), cells.seconds[board]
    target = budget(cells, board, quartile)
    finalists, errors, ranks = [], [], []
    for seed in SEEDS:
        rng = np.random.default_rng((seed, 1))
        known = rng.choice(len(everything), MEASURED_NETWORKS, replace=False)
        model = fit_additive(cells.space, everything[known], measured[known])
        predicted = model(everything)
        others = np.setdiff1d(np.unique(cells.stands_for), known)
        errors.append(float(np.median(np.abs(predicted[others] / measured[others] - 1))))
        ranks.append(float(spearmanr(predicted[others], measured[others])[0]))

        def metric(rows: object, predicted: NDArray[np.float64] = predicted) -> NDArray[np.float64]:
            return predicted[cells.canonical(rows)]  # type: ignore[arg-type]

        evaluate = Evaluator(cells.space, cells.score(SEARCHED), metric)
        for _ in optimize(
            cells.space, evaluate, metric, [target], rng, "coordinate-descent", FITTED_EVALUATIONS
        ):
            pass
        within = [trial for trial in evaluate.trials if trial.metric <= target]
        within.sort(key=lambda trial: rank(trial, "accuracy"))
        chosen = np.array([trial.architecture for trial in within[: max(FINALISTS)]])
        finalists.append(numbers(chosen).tolist())
    return {"finalists": finalists, "errors": errors, "ranks": ranks}


def print_comparison(cells: MeasuredCells, board: str, quartile: int, store: Cells) -> None:
    """Test accuracy of what was picked, beside the best that there is."""
    target = budget(cells, board, quartile)
    existing = np.unique(cells.stands_for)
    within = existing[cells.seconds[board][existing] <= target]
    searched, judged = cells.accuracy[SEARCHED], cells.accuracy[JUDGED]
    best = within[np.argmax(searched[within])]
    print(
        f"\n{board}, at most {target * 1e3:.2f} ms (quartile {quartile} %): {len(within):,} of "
        f"{len(existing):,} networks; the best by validation has {searched[best]:.2%} and "
        f"{judged[best]:.2%} in the test, the best in the test {judged[within].max():.2%}"
    )
    print("  evaluations  optimizer                    validation    test: mean (sd)   found best")
    for count in EVALUATIONS:
        for optimizer in OPTIMIZERS:
            value = store.find(comparison_key(board, quartile, optimizer))
            if value is None or count not in optimizer.evaluations:
                continue
            found = value["picks"][str(count)]
            right = judged[found]
            print(
                f"  {count:11d}  {optimizer.name:27s}  {searched[found].mean():10.2%}  "
                f"{right.mean():8.2%} ({right.std(ddof=1) * 100:.2f})  "
                f"{np.mean(np.array(found) == best):10.0%}"
            )


def print_fitted(
    cells: MeasuredCells, board: str, quartile: int, removal: Removal, value: Value
) -> None:
    """Picks that break the budget; without measuring them again, and with."""
    target, seconds = budget(cells, board, quartile), cells.seconds[board]
    for count in FINALISTS:
        picked: list[int] = []
        for finalists in value["finalists"]:
            tried = finalists[:count]
            kept = [number for number in tried if seconds[number] <= target] if count > 1 else []
            picked.append((kept or tried)[0])
        over = seconds[picked] / target - 1
        print(
            f"  {board:7s} {quartile:8d}  {removal:8s} {count:10d} "
            f"{np.mean(over > 0):9.0%} {np.mean(over > 0.05):9.0%} {np.median(over):+9.1%} "
            f"{cells.accuracy[JUDGED][picked].mean():9.2%}   "
            f"{np.mean(value['errors']):.1%}, {np.mean(value['ranks']):.3f}"
        )


def main() -> int:
    folder = os.environ.get("BOARDFIT_DATA")
    if not folder:
        print("skipped: the table of NAS-Bench-201 is not ours to ship; name the folder of "
              "nasbench201_boards.csv.gz in BOARDFIT_DATA")  # fmt: skip
        return 0
    path = Path(folder) / "nasbench201_boards.csv.gz"
    store = Cells("nasbench")
    tables = {r: read_measured_cells(path, nasbench201(removal=r)) for r in REMOVALS}
    places = [(board, quartile) for board in BOARDS for quartile in QUARTILES]
    for board, quartile in places:
        for optimizer in OPTIMIZERS:
            store.compute(
                comparison_key(board, quartile, optimizer),
                partial(compare, tables["unread"], board, quartile, optimizer),
            )
        print_comparison(tables["unread"], board, quartile, store)
    print(f"\nA model of {MEASURED_NETWORKS} measured networks, {FITTED_EVALUATIONS} evaluations; "
          "of several finalists the best that keeps the budget when it is measured")  # fmt: skip
    print("  board   quartile  removal   finalists      over  over 5 %  median of test      model: "
          "median error, Spearman")  # fmt: skip
    for board, quartile in places:
        for removal in REMOVALS:
            key = fitted_key(board, quartile, removal)
            store.compute(key, partial(fitted, tables[removal], board, quartile))
            if (value := store.find(key)) is not None:
                print_fitted(tables[removal], board, quartile, removal, value)
    return 0


if __name__ == "__main__":
    sys.exit(main())
