"""Whether found networks keep their target: 40 searches from 25 to 80 % of the full latency.

One table of this machine and one super-network, trained briefly (latency does not depend on how
good the weights are). Each search descends to a target of its own with a seed of its own, and
chooses in two ways: by the table alone, and after measuring up to `CANDIDATES` networks (what
`--measure-candidates` does). Then all that were chosen are measured once more, interleaved with
anchors that tie the session to the table's; no search has seen these figures.
"""

import itertools
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bars import bar
from table_line import validation_of

from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.tie import measure_tied
from boardfit.search.data import open_dataset
from boardfit.search.evaluation import Evaluator
from boardfit.search.examples import first
from boardfit.search.metrics import latency
from boardfit.search.on_board import confirm, first_correction, measure_for, measure_on
from boardfit.search.settings import recipes
from boardfit.search.space import Architecture
from boardfit.search.spaces import open_space
from boardfit.search.strategies import holdout_score, make_sampler, optimize
from boardfit.search.supernet import SuperNetwork
from boardfit.search.tabulate import plan_table
from boardfit.search.training import train_supernet
from boardfit.search.trial import best_trial

SPACE = "mobilenetv3-32"
SEARCHES = 40
SHARES = np.linspace(0.25, 0.80, SEARCHES)  # of the full network's latency
TOGETHER = 10  # searches whose candidates are measured in the same sessions
CANDIDATES = 4
KEPT = 0.95  # of the searches at least,
OVER = 0.05  # at most so much over the target
SUPERNET_STEPS, EVALUATIONS, HOLDOUT = 300, 60, 100


def main() -> int:
    torch.set_num_threads(1)
    space, device = open_space(SPACE), connect("local")
    data = open_dataset("shapes:5000", input_shape=space.input_shape, classes=space.classes, seed=0)
    supernet = SuperNetwork(space, torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    recipe, _ = recipes(SUPERNET_STEPS)
    sampler = make_sampler(space, "ordered-dropout", rng)
    train_supernet(supernet, sampler, data, recipe, rng, seed=0)
    score = holdout_score(supernet, first(data.holdout, HOLDOUT), data.task)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = build_table(folder / "table.boardfit", device, plan_table(space))
        print(f"table: MAPE {validation_of(table).mape:.2%}")
        metric = latency(space, table)
        targets = SHARES * float(metric([space.full])[0])
        by_table: list[Architecture] = []
        searches = {}
        for seed, target in enumerate(targets):
            evaluator = Evaluator(space, score, metric)
            generator = np.random.default_rng(seed)
            trials = list(
                optimize(
                    space, evaluator, metric, [target], generator, "coordinate-descent", EVALUATIONS
                )
            )
            by_table.append(best_trial(trials, target).architecture)
            searches[str(seed)] = confirm(
                space, metric, trials, target, evaluator, first_correction(space, table),
                generator, at_most=CANDIDATES,
            )  # fmt: skip
        measured_first, begin = [], time.monotonic()
        for number in range(0, SEARCHES, TOGETHER):
            sessions = folder / f"sessions{number}"
            sessions.mkdir()
            some = {seed: searches[seed] for seed in list(searches)[number : number + TOGETHER]}
            measure = measure_on(space, table, device, sessions, lambda _: None)
            measured_first += measure_for(some, measure).values()
        candidates = [len(chosen.candidates) for chosen in measured_first]
        print(f"{sum(candidates)} candidates of {SEARCHES} searches were measured in "
              f"{time.monotonic() - begin:.0f} s")  # fmt: skip
        chosen = {
            "by the table alone": by_table,
            "after measuring candidates": [found.architecture for found in measured_first],
        }
        distinct = list(dict.fromkeys(itertools.chain(*chosen.values())))
        tied = measure_tied(table, device, {str(a): space.network(a) for a in distinct})
        met = True
        for how, architectures in chosen.items():
            seconds = np.array([tied[str(a)].seconds for a in architectures])
            predicted = metric(architectures)
            over = seconds / targets - 1
            print(
                f"{how}: over the target by {np.median(over):+.1%} in the median, {over.max():+.1%}"
                f" at most; {np.mean(over <= 0):.0%} keep it exactly; predicted and measured differ"
                f" by {np.mean(np.abs(predicted / seconds - 1)):.1%} on average"
            )
            for share in range(0, SEARCHES, TOGETHER):
                part = slice(share, share + TOGETHER)
                print(f"  targets of {SHARES[part][0]:.0%} to {SHARES[part][-1]:.0%}: "
                      + " ".join(f"{value:+.1%}" for value in over[part]))  # fmt: skip
            met &= bar(f"{how}: searches of {SEARCHES} at most 5 % over their target",
                       float(np.mean(over <= OVER)), KEPT, least=True, form=".1%")  # fmt: skip
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
