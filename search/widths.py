"""Which sub-networks a training step runs: ordered dropout, single path, and the sandwich rule.

A `Draw` is an int64 array [images, coordinates]: row n is the architecture that image n is run
through. Kernel columns hold one value for all images, since a convolution has one kernel for a
batch. Every sampler hands out a list of draws, one forward-backward pass each, whose gradients
are added up before the optimiser's step.

Sources: ordered dropout (each image has its own widths) is NetAdaptV2 (Yang, Liao, Sze, CVPR
2021); single path is Guo et al., "Single Path One-Shot" (ECCV 2020); the sandwich rule (full,
smallest and some random ones in each step) is Yu and Huang, "Universally Slimmable Networks"
(ICCV 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ..devices.errors import SpaceError
from .space import Architecture, SearchSpace

Draw = NDArray[np.int64]
Law = Literal["mixed", "uniform", "tied", "even"]
SPREAD = 0.25  # of a coordinate around its image's scale, as a part of the coordinate's range


class Sampler(Protocol):
    """Where a training step gets its sub-networks from."""

    def draw(self, batch: int) -> list[Draw]:
        """The draws of one step on a batch of that many images; one pass for each."""


def repeat(architecture: Architecture, batch: int) -> Draw:
    """The draw that runs every image through one architecture."""
    return np.tile(np.asarray(architecture, dtype=np.int64), (batch, 1))


def draw_rows(space: SearchSpace, rng: np.random.Generator, law: Law, rows: int) -> Draw:
    """Random architectures, one a row, kernels in common and uniform. The law of the widths:

    `uniform`: each is uniform over its values, independently of the others (NetAdaptV2, recalled),
    so that nearly all networks are of middle size.
    `tied`: one scale for the whole row, uniform; all widths are that part of their range.
    `mixed`: tied, and each width deviates from the scale (normal, standard deviation 0.25 of its
    range), so that small and large networks of every shape are seen.
    `even`: mixed, but the scale is the root of a uniform number: operations grow with the product
    of two widths, so that these, and not the widths, are about uniform.
    """
    coordinates = space.coordinates
    last = np.array([len(c.values) - 1 for c in coordinates])
    if law == "uniform":
        indices = rng.integers(0, last + 1, (rows, len(last)))
    else:
        scale = rng.uniform(0.0, 1.0, (rows, 1))
        if law == "even":
            scale = np.sqrt(scale)
        if law != "tied":
            scale = scale + rng.normal(0.0, SPREAD, (rows, len(last)))
        indices = np.rint(np.clip(scale, 0.0, 1.0) * last).astype(np.int64)
    common = np.array([not c.is_width for c in coordinates])
    indices[:, common] = rng.integers(0, last[common] + 1)
    values = np.zeros((len(last), last.max() + 1), dtype=np.int64)
    for column, coordinate in enumerate(coordinates):
        values[column, : len(coordinate.values)] = coordinate.values
    drawn: Draw = values[np.arange(len(last)), indices]
    return drawn


def check_law(law: str) -> None:
    """Raise `SpaceError` where no law has that name."""
    if law not in get_args(Law):
        raise SpaceError(f"no law is called {law!r}; known: {', '.join(get_args(Law))}")


def check_dropout(full_fraction: float, groups: int | None) -> None:
    """Raise `SpaceError` where ordered dropout has no such settings."""
    if not 0.0 <= full_fraction <= 1.0:
        raise SpaceError(f"full_fraction is {full_fraction}; it has to lie in [0, 1]")
    if groups is not None and groups < 1:
        raise SpaceError(f"groups is {groups}; it has to be 1 or more")


@dataclass(frozen=True)
class OrderedDropout:
    """Every image its own widths: one pass averages the gradients of as many sub-networks.

    `full_fraction` is the chance of an image to be run at full width (kernels stay as drawn),
    `groups` the number of groups of neighbouring images that share their widths (`None`: every
    image its own).
    """

    space: SearchSpace
    generator: np.random.Generator
    law: Law = "even"
    full_fraction: float = 0.0
    groups: int | None = None

    def __post_init__(self) -> None:
        check_law(self.law)
        check_dropout(self.full_fraction, self.groups)

    def draw(self, batch: int) -> list[Draw]:
        """One draw, with a row of its own for each image or group."""
        groups = batch if self.groups is None else min(self.groups, batch)
        rows = draw_rows(self.space, self.generator, self.law, groups)
        draw = rows[np.arange(batch) * groups // batch]
        full = self.generator.random(batch) < self.full_fraction
        widths = np.array([c.is_width for c in self.space.coordinates])
        return [np.where(full[:, None] & widths, np.array(self.space.full), draw)]


@dataclass(frozen=True)
class SinglePath:
    """One random sub-network for the whole batch."""

    space: SearchSpace
    generator: np.random.Generator
    law: Law = "uniform"

    def __post_init__(self) -> None:
        check_law(self.law)

    def draw(self, batch: int) -> list[Draw]:
        """One draw, with one row repeated."""
        return [np.repeat(draw_rows(self.space, self.generator, self.law, 1), batch, axis=0)]


@dataclass(frozen=True)
class Sandwich:
    """The full network, the smallest, and `between` random ones, each on the whole batch."""

    space: SearchSpace
    generator: np.random.Generator
    law: Law = "uniform"
    between: int = 2

    def __post_init__(self) -> None:
        check_law(self.law)
        if self.between < 0:
            raise SpaceError(f"between is {self.between}; it has to be 0 or more")

    def draw(self, batch: int) -> list[Draw]:
        """`between` + 2 draws, each with one row repeated."""
        ends = [repeat(self.space.full, batch), repeat(self.space.smallest, batch)]
        random = [
            np.repeat(draw_rows(self.space, self.generator, self.law, 1), batch, axis=0)
            for _ in range(self.between)
        ]
        return ends + random
