"""What the search itself costs: making and pricing samples, and what a race saves.

python benchmarks/search_samples.py

J = 200 samples with L = 10 draws of `mobilenetv3-large`, priced by multiply-accumulate operations
(the look-ups are those of a table), all at once and, in turn, one by one. Then races on
super-network A (see `search_cases.py`): batches of samples are scored on all images and on slices,
and the regret is how much worse than the batch's best the chosen one is.
"""

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from bars import bar
from search_cases import HOLDOUT, Case, open_case

from boardfit.search.coordinate_descent import propose
from boardfit.search.descent_settings import PAPER
from boardfit.search.examples import first
from boardfit.search.metrics import macs
from boardfit.search.moves import Moves
from boardfit.search.space import Architecture
from boardfit.search.spaces import open_space
from boardfit.search.strategies import holdout_score
from boardfit.search.trial import Trial

ROUNDS = 15
BATCHES, BATCH = 12, 16
SLICES = (64, 128, 256)
KEEP = 0.3


def price() -> bool:
    """Core time to make and price the samples of an iteration, all at once and one by one."""
    space = open_space("mobilenetv3-large")
    metric = macs(space)
    moves = Moves(space, metric)
    full = float(metric([space.full])[0])
    best = Trial(0, space.full, 0.5, 1.0, full, "iterate")
    reduction = PAPER.initial_reduction * full
    rng = np.random.default_rng(0)

    def at_once() -> None:
        propose(moves, best, reduction, PAPER.samples, rng, PAPER)

    def one_by_one() -> None:
        for _ in range(PAPER.samples):
            propose(moves, best, reduction, 1, rng, PAPER)

    for _ in range(3):  # until the cells that random samples reach are compiled
        at_once()
    times: dict[str, list[float]] = {"at once": [], "one by one": []}
    for number in range(ROUNDS):
        times["at once"].append(seconds(at_once))
        if number % 5 == 0:
            times["one by one"].append(seconds(one_by_one))
    print(f"{PAPER.samples} samples of {space.name} with {PAPER.layers} draws "
          f"({len(space.coordinates)} coordinates)")  # fmt: skip
    for name, values in times.items():
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9]) * 1e3
        print(f"  {name}: median {middle:.1f} ms (10 to 90 %: {low:.1f} to {high:.1f}; "
              f"{len(values)} times)")  # fmt: skip
    name = "core seconds to make and price the samples of an iteration"
    return bar(name, float(np.median(times["at once"])), 0.050, least=False, form=".4f")


def seconds(function: Callable[[], None]) -> float:
    """Of one core: what else runs on the machine counts for little."""
    begin = time.process_time()
    function()
    return time.process_time() - begin


def race(case: Case) -> None:
    """The regret of choosing the best of a batch after a race, against the images saved."""
    full = float(case.latency([case.space.full])[0])
    moves = Moves(case.space, case.latency)
    rng = np.random.default_rng(0)
    scores = {n: score_on(case, n) for n in (*SLICES, HOLDOUT)}
    regrets: dict[int, list[float]] = {n: [] for n in SLICES}
    alone: dict[int, list[float]] = {n: [] for n in SLICES}
    for number in range(BATCHES):
        start = case.space.narrowed(rng.uniform(0.4, 1.0))
        value = float(case.latency([start])[0])
        trial = Trial(number, start, 0.5, 1.0, value, "iterate")
        rows, _ = propose(moves, trial, 0.1 * full, 4 * BATCH, rng, PAPER)
        batch = moves.canonical(rows)[:BATCH]
        whole = scores[HOLDOUT](batch)
        for images in SLICES:
            order = np.argsort(scores[images](batch), kind="stable")
            kept = order[: max(1, int(np.ceil(KEEP * len(batch))))]
            regrets[images].append(whole[kept].min() - whole.min())
            alone[images].append(whole[order[0]] - whole.min())
    print(f"races of {BATCHES} batches of {BATCH} samples on super-network {case.name}; regret in "
          f"loss on {HOLDOUT} images: mean (standard deviation)")  # fmt: skip
    for images in SLICES:
        used = BATCH * images + np.ceil(KEEP * BATCH) * HOLDOUT
        found, single = np.array(regrets[images]), np.array(alone[images])
        print(f"  {images} images for all, {HOLDOUT} for the best {KEEP:.0%}: "
              f"{1 - used / (BATCH * HOLDOUT):.0%} fewer images, regret {found.mean():.5f} "
              f"({found.std(ddof=1):.5f}); the slice alone {single.mean():.5f} "
              f"({single.std(ddof=1):.5f})")  # fmt: skip


def score_on(case: Case, images: int) -> Callable[[Sequence[Architecture]], np.ndarray]:
    """Losses of architectures on the first images of the holdout."""
    score = holdout_score(case.supernet, first(case.holdout, images), case.dataset.task)
    return lambda batch: np.array([score(architecture)[1] for architecture in batch])


def main() -> int:
    met = price()
    race(open_case("A"))
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
