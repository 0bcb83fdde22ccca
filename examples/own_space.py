"""A search space of one's own: plain convolutions with bypass, the example of docs/own_space.md.

python examples/own_space.py                                 checks the space
boardfit profile --device local --space examples/own_space.py
boardfit search --device local --space examples/own_space.py --latency 50%
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.search.check_space import check_space
from boardfit.search.space import Choice, Coordinate, SearchSpace
from boardfit.search.supernet import FindLayer, masked, width_mask
from boardfit.search.widths import Draw


def widths(full: int) -> tuple[int, ...]:
    """Multiples of 8, up to the full width."""
    return tuple(range(8, full + 1, 8))


@dataclass(frozen=True)
class Down:
    """A 3x3 convolution that halves the image; its number of filters is searched."""

    name: str
    filters: int

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return (Coordinate(f"{self.name}.filters", "filters", widths(self.filters)),)

    def canonical(self, choice: Choice) -> Choice:
        return choice  # every width gives other layers

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        (filters,) = choice
        return builder.conv_2d(
            x, filters, kernel=3, stride=2, activation="relu", name=f"{self.name}.conv",
            batch_norm=True,
        )  # fmt: skip


@masked.register
def _(stage: Down, layer: FindLayer, x: Tensor, draw: Draw) -> Tensor:
    return layer(f"{stage.name}.conv")(x, mask=width_mask(draw[:, 0], stage.filters, x))


@dataclass(frozen=True)
class Pair:
    """Two 3x3 convolutions of equal width. Where the second has fewer filters, channels of the
    input take the places of the removed ones; without any the pair is gone."""

    name: str
    filters: int

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return (
            Coordinate(f"{self.name}.filters", "filters", (0, *widths(self.filters))),
            Coordinate(f"{self.name}.inner", "expansion", widths(self.filters)),
        )

    def canonical(self, choice: Choice) -> Choice:
        return (0, self.filters) if choice[0] == 0 else choice

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        filters, inner = choice
        if filters == 0:
            return x
        channels = builder.shape(x)[-1]
        y = builder.conv_2d(
            x, inner, kernel=3, activation="relu", name=f"{self.name}.first", batch_norm=True
        )
        y = builder.conv_2d(
            y, filters, kernel=3, activation="relu", name=f"{self.name}.second", batch_norm=True
        )
        if channels <= filters:
            return y
        return builder.concatenation([y, builder.slice_channels(x, filters, channels)])


@masked.register
def _(stage: Pair, layer: FindLayer, x: Tensor, draw: Draw) -> Tensor:
    kept = width_mask(draw[:, 0], stage.filters, x)
    y = layer(f"{stage.name}.first")(x, mask=width_mask(draw[:, 1], stage.filters, x))
    y = layer(f"{stage.name}.second")(y, mask=kept)
    return y + x * (1 - kept)


@dataclass(frozen=True)
class Classifier:
    """The average over the image, and a matrix; nothing to choose."""

    name: str
    classes: int

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return ()

    def canonical(self, choice: Choice) -> Choice:
        return choice

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        x = builder.mean(x, keep_dimensions=False)
        return builder.fully_connected(x, self.classes, name=f"{self.name}.matrix")


@masked.register
def _(stage: Classifier, layer: FindLayer, x: Tensor, draw: Draw) -> Tensor:
    logits: Tensor = layer(f"{stage.name}.matrix")(x.mean((2, 3)))
    return logits


def space(*, classes: int = 12, input_size: int = 32, width: int = 32) -> SearchSpace:
    """What `--space` opens; `--set` sets these fields."""
    stages = (
        Down("stem", width),
        Pair("a1", width),
        Pair("a2", width),
        Down("down", 2 * width),
        Pair("b1", 2 * width),
        Pair("b2", 2 * width),
        Classifier("head", classes),
    )
    return SearchSpace("plain", (input_size, input_size, 3), classes, stages)


if __name__ == "__main__":
    print(check_space(space()))
