"""What each process of `test_ranks.py` runs, started by torchrun: a short training.

    torchrun --nproc_per_node N train_on_ranks.py FOLDER [STOP]

Each process leaves its weights and the first step's gradients in FOLDER; with STOP the last one
ends by itself at that step, as if it had been killed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch

from boardfit.devices.errors import BoardfitError
from boardfit.profiler.progress import Progress
from boardfit.search.augmentation import Augmentation
from boardfit.search.compute import Compute
from boardfit.search.data import open_dataset
from boardfit.search.ranks import Ranks, joined_ranks
from boardfit.search.recipe import Recipe
from boardfit.search.spaces import open_space
from boardfit.search.supernet import SuperNetwork
from boardfit.search.training import train_supernet
from boardfit.search.widths import Sandwich

STEPS = 3


def train(ranks: Ranks, folder: Path, *, accumulation: int, stop: int | None = None) -> None:
    """Two passes of all sub-networks' kind in each step, mixed images, on half-batches."""
    space = open_space("mobilenetv3-32", width_factor=0.2)
    data = open_dataset("shapes:40", input_shape=space.input_shape, classes=12, seed=0)
    recipe = Recipe(
        steps=STEPS, batch_size=8, full_first=0.25, accumulation=accumulation,
        learning_rate=1e-3, augmentation=Augmentation(mixup=0.2, shift=2),
    )  # fmt: skip
    supernet = SuperNetwork(space, torch.Generator().manual_seed(3))
    rng = np.random.default_rng(4)
    name = f"rank{ranks.rank}of{ranks.count}"

    def report(progress: Progress) -> None:
        done = int(progress.done)
        gradients = [p.grad for p in supernet.parameters() if p.grad is not None]
        torch.save(gradients, folder / f"{name}-step{done}.pt")
        if done == stop and ranks.rank == ranks.count - 1:
            os._exit(7)

    train_supernet(
        supernet, Sandwich(space, rng, between=0), data, recipe, rng, seed=5,
        checkpoint=folder / "training.pt" if ranks.leads else None,
        compute=Compute("cpu", checkpoint_seconds=0.0, ranks=ranks), report=report,
    )  # fmt: skip
    torch.save(supernet.state_dict(), folder / f"{name}-weights.pt")


def main() -> None:
    torch.set_num_threads(1)
    stop = int(sys.argv[2]) if len(sys.argv) > 2 else None
    try:
        with joined_ranks(gpu=False) as ranks:
            train(ranks, Path(sys.argv[1]), accumulation=1, stop=stop)
    except BoardfitError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
