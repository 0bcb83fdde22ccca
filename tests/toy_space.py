"""A small search space whose best networks are known, for tests of metrics and optimisers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from boardfit.profiler.crowding import NO_CROWDING, Crowding, footprint
from boardfit.profiler.layers import Layer
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.search.metrics import CompiledLatency
from boardfit.search.space import Architecture, Choice, Coordinate, SearchSpace


@dataclass(frozen=True)
class Convolution:
    """One convolution; filters and kernel are searched."""

    name: str
    filters: tuple[int, ...]
    kernels: tuple[int, ...] = (3,)
    stride: int = 1

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return (
            Coordinate(f"{self.name}.filters", "filters", self.filters),
            Coordinate(f"{self.name}.kernel", "kernel", self.kernels),
        )

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        filters, kernel = choice
        return builder.conv_2d(x, filters, kernel=kernel, stride=self.stride, name=self.name)

    def canonical(self, choice: Choice) -> Choice:
        return choice


@dataclass(frozen=True)
class Block:
    """Expand and project with a bypass: M filters, then the input's channels beyond M."""

    name: str
    filters: int
    expansion: int
    kernels: tuple[int, ...] = (3,)
    granule: int = 8

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        found = [
            Coordinate(
                f"{self.name}.filters", "filters", tuple(range(0, self.filters + 1, self.granule))
            ),
            Coordinate(
                f"{self.name}.expansion",
                "expansion",
                tuple(range(self.granule, self.expansion + 1, self.granule)),
            ),
        ]
        if len(self.kernels) > 1:
            found.append(Coordinate(f"{self.name}.kernel", "kernel", self.kernels))
        return tuple(found)

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        filters, expansion, *kernel = choice
        if filters == 0:
            return x
        channels = builder.shape(x)[-1]
        y = builder.conv_2d(x, expansion)
        y = builder.depthwise_conv_2d(y, kernel=kernel[0] if kernel else self.kernels[-1])
        y = builder.conv_2d(y, filters)
        if channels <= filters:
            return y
        return builder.concatenation([y, builder.slice_channels(x, filters, channels)])

    def canonical(self, choice: Choice) -> Choice:
        return (0, *(c.values[-1] for c in self.coordinates[1:])) if choice[0] == 0 else choice


@dataclass(frozen=True)
class Classifier:
    """Average and matrix; nothing to choose."""

    name: str
    classes: int

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return ()

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        return builder.fully_connected(builder.mean(x, keep_dimensions=False), self.classes)

    def canonical(self, choice: Choice) -> Choice:
        return choice


def toy_space(blocks: int = 6) -> SearchSpace:
    """A stem, two stages of blocks with a convolution of stride 2 between them, a classifier."""
    half = blocks // 2
    return SearchSpace(
        "toy",
        (16, 16, 3),
        4,
        (
            Convolution("stem", (8, 16, 24, 32), stride=2),
            *(Block(f"a{i}", 32, 96, kernels=(3, 5)) for i in range(half)),
            Convolution("down", (16, 32, 48, 64), kernels=(1, 3), stride=2),
            *(Block(f"b{i}", 64, 192, kernels=(3, 5)) for i in range(blocks - half)),
            Classifier("head", 4),
        ),
    )


def tiny_space() -> SearchSpace:
    """Two 1x1 convolutions on one pixel: MACs = 4 a + a b + 2 b, small enough for pencil and
    paper."""
    widths = (1, 2, 3, 4)
    return SearchSpace(
        "tiny",
        (1, 1, 4),
        2,
        (
            Convolution("a", widths, kernels=(1,)),
            Convolution("b", widths, kernels=(1,)),
            Classifier("head", 2),
        ),
    )


@dataclass(frozen=True)
class Toll:
    """Made-up prices of a board: a staircase of 16 channels, and a bypass that is not free."""

    constant: float = 1e-5
    crowding: Crowding = NO_CROWDING

    def footprint(self, layers: Sequence[Layer]) -> tuple[float, float]:
        return footprint(layers)

    def price(self, layer: Layer) -> float:
        channels = -(-layer.output[-1] // 16) * 16
        pixels = layer.output[0] * layer.output[1] if len(layer.output) == 3 else 1
        work = channels * pixels * (layer.inputs[0][-1] if layer.op == "conv_2d" else 8)
        return 2e-6 + 1e-10 * work + (4e-6 if layer.op == "concatenation" else 0.0)

    def price_layers(self, layers: Sequence[Layer]) -> float:
        return sum(map(self.price, layers))

    def variance(self, layers: Sequence[Layer]) -> float:
        return sum((0.1 * self.price(layer)) ** 2 for layer in layers)

    def margin(
        self, seconds: NDArray[np.float64], variance: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return 2 * np.sqrt(variance) / seconds


class Objective:
    """A made-up accuracy: grows with every coordinate, each with its weight and less and less.

    Deterministic; counts its calls. `weights` are drawn from the seed.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.space = space
        self.weights = rng.gamma(1.0, 1.0, len(space.coordinates)) + 0.05
        self.weights /= self.weights.sum()
        self.curvature = rng.uniform(2.0, 6.0, len(space.coordinates))
        self.largest = np.array(space.full, float)
        self.calls = 0

    def loss(self, architecture: Architecture) -> float:
        sizes = np.array(architecture) / self.largest
        begin = 0
        for stage in self.space.stages:  # what a removed block would have had counts for nothing
            count = len(stage.coordinates)
            if count and architecture[begin] == 0:
                sizes[begin : begin + count] = 0.0
            begin += count
        gain = (1 - np.exp(-self.curvature * sizes)) / (1 - np.exp(-self.curvature))
        return float(2.0 * (1.0 - self.weights @ gain))

    def __call__(self, architecture: Architecture) -> tuple[float, float]:
        self.calls += 1
        loss = self.loss(architecture)
        return float(np.exp(-loss)), loss


def everything(space: SearchSpace) -> Iterator[Architecture]:
    """Every architecture of a small space."""
    shape = tuple(len(c.values) for c in space.coordinates)
    for index in np.ndindex(shape):
        yield tuple(c.values[i] for c, i in zip(space.coordinates, index, strict=True))


def direct(
    metric: CompiledLatency, prices: Toll, architectures: Sequence[Architecture]
) -> list[float]:
    """What the metric has to give: the sum over the layers of each network, and their crowding."""
    found = []
    for architecture in architectures:
        layers = metric.space.network(architecture).layers
        crowd = prices.crowding(*prices.footprint(layers))
        found.append(prices.constant + sum(map(prices.price, layers)) + crowd)
    return found
