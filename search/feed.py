"""The batches of a training run, from any step on, as every one of its processes needs them.

Nothing here has a state: what a step is fed follows from the seed and the step's number. So a
resumed run continues in the middle of an epoch, worker processes change nothing, and each of
several processes takes its rows of the same batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..devices.errors import DataError
from .augmentation import Augmentation, Batch, Draws, draw, holed, mixed, moved, recoloured
from .examples import Examples, Request, normalise


@dataclass(frozen=True)
class Feed:
    """Epochs in random order, each image once in each; an incomplete last batch is left out.

    Raises `DataError` where there are fewer images than one batch needs.
    """

    examples: Examples
    batch_size: int
    augmentation: Augmentation
    seed: int

    def __post_init__(self) -> None:
        count = len(self.examples)
        if not 1 <= self.batch_size <= count:
            raise DataError(
                f"a batch of {self.batch_size} cannot be taken from {count} training images; "
                f"choose a batch size from 1 to {count}"
            )

    @property
    def steps_of_epoch(self) -> int:
        """How many batches one pass over the images has."""
        return len(self.examples) // self.batch_size

    def batches(
        self,
        steps: range,
        device: torch.device,
        *,
        rows: slice = slice(None),
        workers: int = 0,
    ) -> Iterator[tuple[Batch, int]]:
        """The batches of some steps on a device, normalised and augmented: `rows` of each, and how
        many of its images could not be read."""
        drawn: dict[int, Draws] = {}

        def requests() -> Iterator[Request]:  # runs ahead of what is handed out
            order, epoch = np.empty(0, np.int64), -1
            for step in steps:
                if step // self.steps_of_epoch != epoch:
                    epoch = step // self.steps_of_epoch
                    order = self._order(epoch)
                begin = step % self.steps_of_epoch * self.batch_size
                draws = self._draws(step).rows(rows)
                drawn[step] = draws
                yield Request(order[begin : begin + self.batch_size][rows], draws.crops)

        read = self.examples.read(requests(), workers=workers)
        for step, found in zip(steps, read, strict=True):
            draws = drawn.pop(step)
            images = found.images.to(device, non_blocking=True)
            targets = found.targets.to(device, non_blocking=True)
            if targets.dim() > 1:
                targets = moved(targets, draws)
            images = recoloured(normalise(moved(images, draws)), draws)
            images = holed(images, draws, self.augmentation.cutout)
            yield mixed(images, targets, draws), found.replaced

    # The last number of a seed keeps the two kinds of draws apart.

    def _order(self, epoch: int) -> NDArray[np.int64]:
        rng = np.random.default_rng((self.seed, epoch, 1))
        return rng.permutation(len(self.examples))

    def _draws(self, step: int) -> Draws:
        rng = np.random.default_rng((self.seed, step, 2))
        return draw(self.augmentation, self.batch_size, rng)
