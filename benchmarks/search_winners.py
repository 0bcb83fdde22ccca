"""Found networks trained alone, beside the uniformly narrowed one of equal latency.

python benchmarks/search_winners.py [--tiny]

What the default descent chose at 25 % of the full latency (search seeds 0 to 2, cells of
`search_optimizers.py`, which has to be run before) and the uniformly narrowed network are trained
with three seeds each, from scratch and from the super-network's weights (`inherit`), judged on
fresh pictures, and measured interleaved. Cells of `results/winners.jsonl`.
"""

import argparse
import sys
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bars import bar
from cells import Cells
from search_cases import Case, open_case
from search_optimizers import CASES, EVALUATIONS, REFERENCE, SHARES

from boardfit.profiler.connect import connect
from boardfit.profiler.tie import measure_tied
from boardfit.search.network_module import NetworkModule
from boardfit.search.scoring import evaluate
from boardfit.search.settings import FINAL_RECIPE
from boardfit.search.space import Architecture
from boardfit.search.training import train_network

TRAINING_SEEDS = range(3)
STARTS = ("from scratch", "inherited")
GAIN = 0.04  # of accuracy, over uniform narrowing


def winners(name: str) -> dict[str, Architecture]:
    """What searches chose, by search seed, and the uniformly narrowed network."""
    found: dict[str, Architecture] = {}
    for key, value in Cells("optimizers").read():
        if (key["case"], key["share"]) != (name, SHARES[0]):
            continue
        if key["method"] == "uniform":
            found["uniform"] = tuple(value["architecture"])
        elif key["method"] == REFERENCE and key["evaluations"] == EVALUATIONS and key["seed"] < 3:
            found[f"search seed {key['seed']}"] = tuple(value["architecture"])
    return found


def train(
    case: Case, architecture: Architecture, start: str, seed: int, steps: int
) -> dict[str, Any]:
    if start == "inherited":
        module = case.supernet.slice(architecture)
    else:
        generator = torch.Generator().manual_seed(seed)
        module = NetworkModule(case.space.network(architecture), generator)
    train_network(module, case.dataset, replace(FINAL_RECIPE, steps=steps), seed=seed)
    return {"accuracy": evaluate(module, case.fresh, case.dataset.task).accuracy}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="see that it runs, in a minute")
    tiny = parser.parse_args().tiny
    steps = 5 if tiny else FINAL_RECIPE.steps
    store = Cells("winners", Path("runs/bench-search/tiny")) if tiny else Cells("winners")
    met = True
    for name in CASES:
        case = open_case(name)
        chosen = winners(name)
        if len(chosen) < 2:
            print(f"{name}: run search_optimizers.py first")
            return 2
        accuracy: dict[tuple[str, str], list[float]] = {}
        for start, (label, architecture), seed in product(STARTS, chosen.items(), TRAINING_SEEDS):
            key = {"case": name, "network": list(architecture), "start": start, "seed": seed,
                   "steps": steps}  # fmt: skip
            store.compute(key, partial(train, case, architecture, start, seed, steps))
            value = store.find(key)
            accuracy.setdefault((start, label), []).append(value["accuracy"] if value else np.nan)
        networks = {label: case.space.network(a) for label, a in chosen.items()}
        measured = measure_tied(case.table, connect("local"), networks)
        for (start, label), values in accuracy.items():
            print(f"{name}, {label}, {start}: accuracy {np.mean(values):.2%} "
                  f"({np.std(values, ddof=1):.2%}, {len(values)} training seeds), "
                  f"{measured[label].seconds * 1e6:.1f} us "
                  f"(predicted {measured[label].predicted.seconds * 1e6:.1f})")  # fmt: skip
        for start in STARTS:
            found = [v for (s, label), values in accuracy.items() for v in values
                     if s == start and label != "uniform"]  # fmt: skip
            gain = np.mean(found) - np.mean(accuracy[start, "uniform"])
            met &= bar(f"{name}, {start}: points over uniform narrowing", float(gain), GAIN,
                       least=True)  # fmt: skip
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
