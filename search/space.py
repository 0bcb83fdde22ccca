"""A search space: stages in a row, each with the widths and kernels that may be chosen.

An architecture is a tuple with one value for each coordinate, in the order of
`SearchSpace.coordinates`. A space is data: stages know how to write themselves down as layers
(`Stage.append`), and nothing here knows of PyTorch. How a stage is trained is said in
`supernet.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from ..devices.errors import SpaceError
from ..profiler.layers import Network, Shape
from ..profiler.network_builder import NetworkBuilder

Architecture = tuple[int, ...]
Choice = tuple[int, ...]


@dataclass(frozen=True)
class Coordinate:
    """One thing that can be chosen: the number of filters, the expansion width, the kernel, or one
    of several operators.

    `values` ascend; the last is what the full network has. A width of 0 means that the block may
    vanish. Operators are numbered in the order of what they cost, so that a smaller number is a
    step towards a faster network; their numbers have no other meaning.
    """

    name: str
    kind: Literal["filters", "expansion", "kernel", "operator"]
    values: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.values or list(self.values) != sorted(set(self.values)):
            raise SpaceError(f"{self.name}: the values {self.values} do not ascend")
        if self.values[0] < (0 if self.kind in {"filters", "operator"} else 1):
            raise SpaceError(f"{self.name}: {self.values[0]} is too small")

    @property
    def is_width(self) -> bool:
        """Whether it is a number of channels. Images of a batch can differ in widths only."""
        return self.kind in {"filters", "expansion"}


class Stage(Protocol):
    """A part of the network with one input and one output."""

    @property
    def name(self) -> str:
        """The prefix of the names of its layers."""

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """What can be chosen in it."""

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        """Write the stage's layers for one choice; return the number of its output tensor."""

    def canonical(self, choice: Choice) -> Choice:
        """The one choice that stands for all that give the same layers."""


@runtime_checkable
class Join(Protocol):
    """Where a skip connection ends: a stage that takes, beside the output of the stage before it,
    that of an earlier one."""

    @property
    def name(self) -> str:
        """The prefix of the names of its layers."""

    @property
    def source(self) -> str:
        """The name of the stage whose output is taken."""

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """What can be chosen in it."""

    def join(self, builder: NetworkBuilder, x: int, skip: int, choice: Choice) -> int:
        """Write the stage's layers for one choice; return the number of its output tensor."""

    def canonical(self, choice: Choice) -> Choice:
        """The one choice that stands for all that give the same layers."""


def append_stage(
    stage: Stage | Join, builder: NetworkBuilder, inputs: Sequence[int], choice: Choice
) -> int:
    """Write a stage's layers on the tensors that it reads; return the number of its output."""
    if isinstance(stage, Join):
        x, skip = inputs
        return stage.join(builder, x, skip, choice)
    (x,) = inputs
    return stage.append(builder, x, choice)


@dataclass(frozen=True)
class SearchSpace:
    """Every network that the search may find.

    `classes` is the length of the network's output. Stages run in a row, each on the output of the
    one before it; a `Join` takes the output of an earlier one, too.
    """

    name: str
    input_shape: Shape
    classes: int
    stages: tuple[Stage | Join, ...]

    def __post_init__(self) -> None:
        names = [coordinate.name for coordinate in self.coordinates]
        if len(set(names)) < len(names):
            raise SpaceError(f"{self.name}: two coordinates have one name: {names}")
        _ = self.reads  # raises where a join has no source
        # The largest network is built once, so that a mistake in a stage shows here.
        output = self.network(self.full).output_shape
        if output[-1] != self.classes:
            raise SpaceError(f"{self.name}: the output {output} does not end in {self.classes}")

    @cached_property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """All coordinates, stage by stage."""
        return tuple(c for stage in self.stages for c in stage.coordinates)

    @cached_property
    def reads(self) -> tuple[tuple[int, ...], ...]:
        """For each stage the tensors that it reads: 0 is the network's input, i + 1 the output of
        stage i."""
        found: list[tuple[int, ...]] = []
        for number, stage in enumerate(self.stages):
            if not isinstance(stage, Join):
                found.append((number,))
                continue
            earlier = [other.name for other in self.stages[:number]]
            if earlier.count(stage.source) != 1:
                raise SpaceError(
                    f"{self.name}: {stage.name} joins the output of {stage.source!r}, but "
                    f"{earlier.count(stage.source)} stages before it have that name"
                )
            found.append((number, earlier.index(stage.source) + 1))
        return tuple(found)

    @cached_property
    def full(self) -> Architecture:
        """The largest network."""
        return tuple(c.values[-1] for c in self.coordinates)

    @cached_property
    def smallest(self) -> Architecture:
        """Every coordinate at its smallest value."""
        return self.canonical(tuple(c.values[0] for c in self.coordinates))

    def choices(self, architecture: Architecture) -> Iterator[tuple[Stage | Join, Choice]]:
        """Each stage with its part of the architecture."""
        begin = 0
        for stage in self.stages:
            end = begin + len(stage.coordinates)
            yield stage, architecture[begin:end]
            begin = end

    def check(self, architecture: Architecture) -> None:
        """Raise `SpaceError` where the architecture is not in the space."""
        if len(architecture) != len(self.coordinates):
            raise SpaceError(
                f"an architecture of {self.name} has {len(self.coordinates)} values, "
                f"this one has {len(architecture)}"
            )
        for coordinate, value in zip(self.coordinates, architecture, strict=True):
            if value not in coordinate.values:
                raise SpaceError(
                    f"{coordinate.name} = {value} is not allowed; allowed: {coordinate.values}"
                )

    def canonical(self, architecture: Architecture) -> Architecture:
        """The one architecture that stands for all that give the same network."""
        return tuple(
            value
            for stage, choice in self.choices(architecture)
            for value in stage.canonical(choice)
        )

    def network(self, architecture: Architecture) -> Network:
        """The layers of one architecture, as they will run on the board."""
        self.check(architecture)
        builder = NetworkBuilder(self.input_shape)
        tensors = [0]
        for (stage, choice), reads in zip(self.choices(architecture), self.reads, strict=True):
            tensors.append(append_stage(stage, builder, [tensors[i] for i in reads], choice))
        return builder.build()

    def narrowed(self, scale: float) -> Architecture:
        """The full network with every width multiplied by `scale` and rounded to the nearest
        allowed value that is not 0; the baseline that any search has to beat."""
        values = []
        for coordinate in self.coordinates:
            if not coordinate.is_width:
                values.append(coordinate.values[-1])
                continue
            wanted = coordinate.values[-1] * scale
            values.append(min((v for v in coordinate.values if v), key=lambda v: abs(v - wanted)))
        return self.canonical(tuple(values))

    def random(self, rng: np.random.Generator) -> Architecture:
        """A random network; sizes from the smallest to the full one are about equally likely.

        One scale is drawn for the network and each width gets its own deviation (normal, a standard
        deviation of 0.25 of its range); independent draws would leave all networks at middle size.
        """
        scale = rng.uniform(0.0, 1.0)
        values = []
        for coordinate in self.coordinates:
            last = len(coordinate.values) - 1
            if not coordinate.is_width:
                values.append(int(rng.choice(coordinate.values)))
                continue
            position = np.clip(scale + rng.normal(0.0, 0.25), 0.0, 1.0) * last
            values.append(coordinate.values[int(np.rint(position))])
        return self.canonical(tuple(values))
