"""Two trained super-networks and their latency tables, on which optimisers are compared.

Settings are tuned on A and judged untouched on B, another space on other pictures. Both are small,
so that a network is scored on 512 images in some 10 milliseconds of one core, and have 14 and 16
searchable widths. Scores are kept in a memo next to the weights: the same network on the same
images has the same score, so that what one search has asked for is free for all others.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.table import LookupTable
from boardfit.search.data import Dataset, open_dataset
from boardfit.search.evaluation import Evaluator
from boardfit.search.examples import Images
from boardfit.search.history import History
from boardfit.search.metrics import CompiledLatency, latency
from boardfit.search.mobilenetv3 import Plan, Row, mobilenetv3
from boardfit.search.recipe import Recipe
from boardfit.search.settings import SUPERNET_RECIPE
from boardfit.search.shapes import draw
from boardfit.search.space import Architecture, SearchSpace
from boardfit.search.strategies import holdout_score, make_sampler
from boardfit.search.supernet import SuperNetwork
from boardfit.search.tabulate import plan_table
from boardfit.search.training import train_supernet

FOLDER = Path(os.environ.get("BOARDFIT_BENCH", "runs/bench-search"))
HOLDOUT = 512  # images that searches see
RECIPE = replace(SUPERNET_RECIPE, steps=8000, learning_rate=0.03, full_first=0.1)
FRESH = 4000  # images that no search sees

PLANS = {
    "A": Plan(
        stem=16,
        rows=(
            Row(5, 48, 24, False, "relu", 2),
            Row(5, 72, 24, False, "relu", 1),
            Row(5, 96, 48, False, "relu", 2),
            Row(5, 144, 48, False, "relu", 1),
            Row(5, 144, 48, False, "relu", 1),
            Row(5, 192, 64, False, "relu", 1),
        ),
        head=96,
        hidden=None,
    ),
    "B": Plan(
        stem=16,
        rows=(
            Row(5, 64, 32, False, "relu", 2),
            Row(5, 96, 32, False, "relu", 1),
            Row(5, 96, 32, False, "relu", 1),
            Row(5, 128, 48, False, "relu", 2),
            Row(5, 160, 48, False, "relu", 1),
            Row(5, 192, 64, False, "relu", 1),
            Row(5, 192, 64, False, "relu", 1),
        ),
        head=128,
        hidden=None,
    ),
}
SEEDS = {"A": 0, "B": 1}


@dataclass(frozen=True)
class Case:
    """One super-network with what a search needs; everything is made when it is first asked for."""

    name: str
    folder: Path
    recipe: Recipe

    @cached_property
    def seed(self) -> int:
        """Of the weights, the draws and the pictures."""
        return SEEDS[self.name]

    @cached_property
    def space(self) -> SearchSpace:
        """Images of 24x24, kernels 3 and 5."""
        return mobilenetv3(
            f"bench-{self.name}",
            PLANS[self.name],
            classes=12,
            input_size=24,
            width_factor=1.0,
            kernels=(3, 5),
        )

    @cached_property
    def dataset(self) -> Dataset:
        """20,000 pictures of `shapes`."""
        return open_dataset(
            f"shapes:{20_000}", input_shape=self.space.input_shape, classes=12, seed=self.seed
        )

    @cached_property
    def fresh(self) -> Images:
        """Pictures of another seed, which nothing was trained on or chosen by."""
        return self._pictures(1000 + self.seed, 2, FRESH)

    @cached_property
    def holdout(self) -> Images:
        """What searches score networks on: the first images of the data set's holdout."""
        return self._pictures(self.seed, 1, HOLDOUT)

    def _pictures(self, seed: int, split: int, count: int) -> Images:
        images, labels = draw(0, count, size=self.space.input_shape[0], seed=seed, split=split)
        return Images(torch.from_numpy(images), torch.from_numpy(labels))

    @cached_property
    def supernet(self) -> SuperNetwork:
        """Trained with ordered dropout; trained once, then read."""
        supernet = SuperNetwork(self.space, torch.Generator().manual_seed(self.seed))
        rng = np.random.default_rng(self.seed)
        train_supernet(
            supernet,
            make_sampler(self.space, "ordered-dropout", rng),
            self.dataset,
            self.recipe,
            rng,
            seed=self.seed,
            checkpoint=self.folder / "supernet.pt",
        )
        return supernet

    @cached_property
    def table(self) -> LookupTable:
        """This machine's latencies, one thread."""
        path = self.folder / "table.boardfit"
        return build_table(path, connect("local"), plan_table(self.space))

    @cached_property
    def latency(self) -> CompiledLatency:
        """Seconds as the table predicts them."""
        return latency(self.space, self.table)

    def memo(self, kind: str, images: Images) -> Evaluator:
        """Scores that are remembered for all searches; `kind` says on which images."""
        history = History(self.folder / kind, {"case": self.name, "images": kind})
        score = holdout_score(self.supernet, images, self.dataset.task)
        return Evaluator(self.space, score, lambda rows: np.zeros(len(rows)), history)

    def holdout_memo(self) -> Evaluator:
        """Accuracy and loss on the images that searches see."""
        return self.memo("holdout", self.holdout)

    def fresh_memo(self) -> Evaluator:
        """Accuracy and loss on images that no search saw."""
        return self.memo("fresh", self.fresh)


def open_case(name: str, recipe: Recipe = RECIPE, folder: Path = FOLDER) -> Case:
    """The super-network of that name, in a folder of its own."""
    torch.set_num_threads(1)
    return Case(name, folder / name, recipe)


def remembered(memo: Evaluator) -> Callable[[Architecture], tuple[float, float]]:
    """A memo as the score function of an evaluator."""

    def score(architecture: Architecture) -> tuple[float, float]:
        trial = memo([architecture])[0]
        return trial.accuracy, trial.loss

    return score


def prepare(argv: list[str]) -> None:
    """`search_cases.py weights A`, `search_cases.py table A`: make one part now."""
    part, name = argv
    case = open_case(name)
    made: Any = case.supernet if part == "weights" else case.table
    print(f"{name}: {type(made).__name__} in {case.folder}")


if __name__ == "__main__":
    prepare(sys.argv[1:])
