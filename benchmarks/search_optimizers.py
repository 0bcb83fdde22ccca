"""Optimisers at equal numbers of evaluations of a trained super-network, judged on fresh pictures.

python benchmarks/search_optimizers.py [--compute CASE SECONDS]

Every search is a cell of `results/optimizers.jsonl`; without arguments what is missing is computed
(hours of one core), and the tables are printed. Settings were tuned on super-network A; B is judged
untouched. A difference is paired by search seed; its interval is Student's t at 95 %.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from cells import Cells
from scipy import stats
from search_cases import Case, open_case, remembered

from boardfit.search.baseline import uniform_baseline
from boardfit.search.coordinate_descent import coordinate_descent
from boardfit.search.descent_settings import DEFAULT, PAPER, SINGLE_LAYER, DescentSettings, scaled
from boardfit.search.evaluation import Evaluator
from boardfit.search.evolution import EvolutionSettings, evolution
from boardfit.search.nondominated_sorting import NsgaSettings, nsga
from boardfit.search.random_search import RandomSettings, random_search
from boardfit.search.trial import Trial, best_trial

CASES = ("A", "B")
SHARES = (0.25, 0.40, 0.60)  # of the full network's latency
SEARCH_SEEDS = range(10)
EVALUATIONS = 120
LONG = 300  # evaluations, at the smallest share only
GUIDE = 12  # candidates for each that is scored
REFERENCE = "descent, default"


class Method(NamedTuple):
    """An optimiser with its settings, given evaluations, share and the number of coordinates."""

    run: Callable[..., Iterator[Trial]]
    settings: Callable[[int, float, int], Any]
    long: bool = True  # whether it is run with `LONG` evaluations, too


def descent(preset: DescentSettings, **changes: Any) -> Method:
    def settings(evaluations: int, share: float, coordinates: int) -> DescentSettings:
        return scaled(replace(preset, **changes), evaluations, share, coordinates)

    return Method(coordinate_descent, settings, long=False)


def default(**changes: Any) -> Method:
    return Method(
        coordinate_descent, lambda count, *_: replace(DEFAULT, evaluations=count, **changes)
    )


def other(run: Callable[..., Iterator[Trial]], kind: Callable[..., Any], **changes: Any) -> Method:
    return Method(run, lambda count, *_: kind(evaluations=count, **changes))


METHODS = {
    REFERENCE: default(),
    "descent, without guide": default(oversample=1),
    "descent, paper (scaled)": descent(PAPER),
    "descent, paper (scaled), guide": descent(PAPER, oversample=GUIDE),
    "single layer (scaled)": descent(SINGLE_LAYER),
    "single layer (scaled), guide": descent(SINGLE_LAYER, oversample=GUIDE),
    "evolution": other(evolution, EvolutionSettings),
    "evolution, guide": other(evolution, EvolutionSettings, oversample=GUIDE),
    "NSGA-II": other(nsga, NsgaSettings),
    "NSGA-II, guide": other(nsga, NsgaSettings, oversample=GUIDE),
    "random": other(random_search, RandomSettings),
    "random, guide": other(random_search, RandomSettings, oversample=GUIDE),
}


class Search(NamedTuple):
    """One search: a cell."""

    case: str
    method: str
    share: float
    evaluations: int
    seed: int

    def settings(self, case: Case) -> Any:
        coordinates = len(case.space.coordinates)
        return METHODS[self.method].settings(self.evaluations, self.share, coordinates)

    def key(self, case: Case) -> dict[str, Any]:
        fields = asdict(self.settings(case))
        return {**self._asdict(), "settings": {name: str(v) for name, v in fields.items()}}


def searches(
    case: str, methods: Sequence[str], seeds: Sequence[int], shares: Sequence[float] = SHARES
) -> Iterator[Search]:
    """All searches on a super-network, those that matter most first."""
    for share in shares:
        for seed in seeds:
            for method in methods:
                yield Search(case, method, share, EVALUATIONS, seed)
    for seed in seeds:
        for method in methods:
            if METHODS[method].long and SHARES[0] in shares:
                yield Search(case, method, SHARES[0], LONG, seed)


def run(case: Case, search: Search, holdout: Evaluator, fresh: Evaluator) -> dict[str, Any]:
    """Run one search; what it chose, on images that it saw and on images that it did not see."""
    target = search.share * float(case.latency([case.space.full])[0])
    evaluate = Evaluator(case.space, remembered(holdout), case.latency)
    rng = np.random.default_rng(search.seed)
    optimizer = METHODS[search.method].run
    begin = time.process_time()
    found = optimizer(case.space, evaluate, case.latency, target, rng, search.settings(case))
    trials = list(found)
    spent = time.process_time() - begin
    assert evaluate.evaluations <= search.evaluations
    judged = chosen(best_trial(trials, target), fresh)
    return {**judged, "evaluations": evaluate.evaluations, "core_seconds": round(spent, 2)}


def chosen(best: Trial, fresh: Evaluator) -> dict[str, Any]:
    """What was chosen, and how it does."""
    judged = fresh([best.architecture])[0]
    return {
        "architecture": list(best.architecture),
        "latency": best.metric,
        "loss": best.loss,
        "accuracy": best.accuracy,
        "fresh_loss": judged.loss,
        "fresh_accuracy": judged.accuracy,
    }


def compute(
    name: str, seconds: float, methods: Sequence[str], seeds: Sequence[int], shares: Sequence[float]
) -> bool:
    """Compute missing cells for so long; whether all are there."""
    end = time.monotonic() + seconds
    case, store = open_case(name), Cells("optimizers")
    holdout, fresh = case.holdout_memo(), case.fresh_memo()
    full = float(case.latency([case.space.full])[0])
    for share in (1.0, *SHARES):
        uniform = uniform_baseline(case.space, case.latency, share * full)
        trial = Evaluator(case.space, remembered(holdout), case.latency)([uniform])[0]
        key = {"case": name, "method": "uniform", "share": share}
        store.compute(key, partial(chosen, trial, fresh))
    done = {str(key) for key, _ in store.read()}
    for search in searches(name, methods, seeds, shares):
        if str(search.key(case)) in done:
            continue
        if time.monotonic() > end:
            return False
        store.compute(search.key(case), partial(run, case, search, holdout, fresh))
    return True


Values = dict[int, dict[str, Any]]  # by search seed


def table(name: str, share: float, evaluations: int) -> None:
    """Print how each method did on one super-network and target."""
    found: dict[str, Values] = {}
    uniform: dict[str, Any] = {}
    for key, value in Cells("optimizers").read():
        if (key["case"], key["share"]) != (name, share):
            continue
        if key["method"] == "uniform":
            uniform = value
        elif key["evaluations"] == evaluations:
            found.setdefault(key["method"], {})[key["seed"]] = value
    if not found:
        return
    print(f"\n{name}, {share:.0%} of the full latency, {evaluations} evaluations; mean over search "
          "seeds (standard deviation); fresh loss minus that of the default descent")  # fmt: skip
    print(f"{'':32}{'fresh loss':>15}{'fresh accuracy':>18}{'holdout':>9}{'seeds':>6}  difference")
    reference = found.get(REFERENCE, {})
    for method in sorted(found, key=lambda m: mean(found[m], "fresh_loss")[0]):
        values = found[method]
        (loss, spread), (right, apart) = mean(values, "fresh_loss"), mean(values, "fresh_accuracy")
        print(f"{method:32}{loss:8.4f} ({spread:.3f}){right:10.2%} ({apart:.2%})"
              f"{mean(values, 'loss')[0]:9.4f}{len(values):6}  "
              f"{difference(values, reference)}")  # fmt: skip
    if uniform:
        print(f"{'uniform narrowing':32}{uniform['fresh_loss']:8.4f}        "
              f"{uniform['fresh_accuracy']:10.2%}        {uniform['loss']:9.4f}")  # fmt: skip


def pooled(cases: Sequence[str]) -> None:
    """Print each method beside the default descent, over all targets."""
    found: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
    for key, value in Cells("optimizers").read():
        if key["case"] in cases and key.get("evaluations") == EVALUATIONS:
            place = key["case"], key["share"], key["seed"]
            found.setdefault(key["method"], {})[place] = value
    print(f"\n{' and '.join(cases)}, all targets, {EVALUATIONS} evaluations: beside the default "
          "descent, means of pairs with their 95 % intervals")  # fmt: skip
    reference = found.get(REFERENCE, {})
    for method, values in found.items():
        places = sorted(values.keys() & reference.keys())
        if method == REFERENCE or len(places) < 2:
            continue
        pairs = [(values[place], reference[place]) for place in places]
        losses = [np.log(a["fresh_loss"] / b["fresh_loss"]) for a, b in pairs]
        points = [100 * (a["fresh_accuracy"] - b["fresh_accuracy"]) for a, b in pairs]
        (loss, half), (right, apart) = interval(losses), interval(points)
        low, middle, high = np.expm1([loss - half, loss, loss + half])
        print(
            f"{method:32}loss {middle:+7.1%} [{low:+.1%}, {high:+.1%}]  accuracy {right:+.1f} "
            f"[{right - apart:+.1f}, {right + apart:+.1f}] points, {len(places)} pairs"
        )


def mean(values: Values, field: str) -> tuple[float, float]:
    """Mean and standard deviation over seeds."""
    numbers = np.array([value[field] for value in values.values()])
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0


def difference(ours: Values, reference: Values) -> str:
    """The mean paired difference of fresh losses, with its 95 % interval."""
    seeds = sorted(ours.keys() & reference.keys())
    if len(seeds) < 2 or ours is reference:
        return "-"
    middle, half = interval([ours[s]["fresh_loss"] - reference[s]["fresh_loss"] for s in seeds])
    low, high = middle - half, middle + half
    verdict = "worse" if low > 0 else "better" if high < 0 else ""
    return f"{middle:+.4f} [{low:+.4f}, {high:+.4f}] {verdict}"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compute", nargs=2, metavar=("CASE", "SECONDS"))
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="*", default=list(SEARCH_SEEDS))
    parser.add_argument("--shares", type=float, nargs="*", default=list(SHARES))
    parser.add_argument("--print", action="store_true")
    given = parser.parse_args()
    chosen_ones = (given.methods, given.seeds, given.shares)
    if given.compute:
        name, seconds = given.compute
        return int(not compute(name, float(seconds), *chosen_ones))
    for name in () if given.print else CASES:
        compute(name, float("inf"), *chosen_ones)
    for name in CASES:
        for share in SHARES:
            table(name, share, EVALUATIONS)
        table(name, SHARES[0], LONG)
    for cases in (CASES, CASES[1:]):
        pooled(cases)
    return 0


if __name__ == "__main__":
    sys.exit(main())
