"""Ordered dropout's laws by the length of the training: which of them a default should be.

python benchmarks/search_laws.py [--tiny]

Super-network A of `search_cases.py` trained with each law for several lengths, judged by its full
network and by slices of three bands of equal latency on fresh pictures. Half of the slices are
drawn by the law `uniform`, half by `mixed`, so that neither is at home in all of them. Cells of
`results/laws.jsonl`.
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
from cells import Cells
from search_cases import RECIPE, Case, open_case

from boardfit.search.examples import Images, first
from boardfit.search.scoring import evaluate_on_batch_statistics
from boardfit.search.space import Architecture
from boardfit.search.strategies import make_sampler
from boardfit.search.supernet import SuperNetwork
from boardfit.search.training import train_supernet
from boardfit.search.widths import Law, draw_rows

LAWS: tuple[Law, ...] = ("even", "mixed", "uniform")
SLICES: tuple[Law, ...] = ("uniform", "mixed")
LENGTHS = {1500: 2, 4500: 1}  # steps, and how many seeds
BANDS, EACH, WIDTH = (0.25, 0.40, 0.60), 4, 0.02  # of the full latency, +- 2 % of it
IMAGES = 1000


def slices(case: Case) -> list[list[Architecture]]:
    """For each of `SLICES` the networks of all bands."""
    full = float(case.latency([case.space.full])[0])
    rng, chosen = np.random.default_rng(0), []
    for law in SLICES:
        bands: list[list[Architecture]] = [[] for _ in BANDS]
        while min(len(band) for band in bands) < EACH:
            rows = draw_rows(case.space, rng, law, 20).tolist()  # kernels in common
            drawn = [case.space.canonical(tuple(row)) for row in rows]
            for share, architecture in zip(case.latency(drawn) / full, drawn, strict=True):
                for centre, band in zip(BANDS, bands, strict=True):
                    if abs(share - centre) <= WIDTH * centre and len(band) < EACH:
                        band.append(architecture)
        chosen.append([architecture for band in bands for architecture in band])
    return chosen


def train(
    case: Case, judges: Images, law: Law, steps: int, seed: int, chosen: list[list[Architecture]]
) -> dict[str, Any]:
    """Accuracies of a super-network's full network and slices."""
    supernet = SuperNetwork(case.space, torch.Generator().manual_seed(seed))
    rng = np.random.default_rng(seed)
    sampler = make_sampler(case.space, "ordered-dropout", rng, law=law)
    train_supernet(supernet, sampler, case.dataset, replace(RECIPE, steps=steps), rng, seed=seed)

    def accuracy(architecture: Architecture) -> float:
        module = supernet.slice(architecture)
        return evaluate_on_batch_statistics(module, judges, case.dataset.task).accuracy

    parts = {law: [accuracy(a) for a in row] for law, row in zip(SLICES, chosen, strict=True)}
    return {"full": accuracy(case.space.full), **parts}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="see that it runs, in a minute")
    tiny = parser.parse_args().tiny
    lengths = {5: 1} if tiny else LENGTHS
    store = Cells("laws", Path("runs/bench-search/tiny")) if tiny else Cells("laws")
    case = open_case("A")
    judges, chosen = first(case.fresh, IMAGES), slices(case)
    print(f"{'steps':>6} {'law':8} seeds{'full network':>17}"
          + "".join(f"{f'slices, {law}':>19}" for law in SLICES))  # fmt: skip
    for (steps, seeds), law in product(lengths.items(), LAWS):
        values = []
        for seed in range(seeds):
            key = {"case": "A", "law": law, "steps": steps, "seed": seed}
            store.compute(key, partial(train, case, judges, law, steps, seed, chosen))
            if (value := store.find(key)) is not None:
                values.append(value)
        if values:
            columns = [[np.mean(value[name]) for value in values] for name in ("full", *SLICES)]
            print(f"{steps:6} {law:8} {len(values):5}"
                  + "".join(f"{np.mean(c):11.3f} ({np.std(c):.3f})" for c in columns))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
