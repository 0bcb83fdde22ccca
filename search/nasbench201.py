"""NAS-Bench-201: a space of cells whose every network was trained, and measured on real boards.

Dong and Yang, "NAS-Bench-201" (ICLR 2020). A cell has four nodes; each of its six edges carries one
of five operators, and a node adds up what its edges bring. All cells of a network are alike: five
with 16 channels, five with 32, five with 64. So the network is one stage with six coordinates, each
an operator, numbered by what it costs: to take a smaller number is to shrink.

An operator may be without effect. It is *unread* where no path leads from it to the cell's output,
*unfed* where none leads from the cell's input to it. Networks are written without either.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Literal, get_args

import numpy as np

from ..devices.errors import SpaceError
from ..profiler.network_builder import NetworkBuilder
from .metrics import Rows
from .space import Choice, Coordinate, SearchSpace

OPERATORS = ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
"""In the order of their cost."""
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""Node to node, in the order in which an architecture's text names them."""

OUTPUT = 3
CHANNELS = (16, 32, 64)
CELLS = 5  # of each number of channels

Removal = Literal["all", "unread", "nothing"]


@functools.cache
def unread(choice: Choice) -> Choice:
    """The cell without the operators from which its output cannot be reached."""
    read = {OUTPUT}
    for node in (2, 1):
        if any(choice[e] and edge[1] in read for e, edge in enumerate(EDGES) if edge[0] == node):
            read.add(node)
    return tuple(op if edge[1] in read else 0 for op, edge in zip(choice, EDGES, strict=True))


@functools.cache
def unfed(choice: Choice) -> Choice:
    """The cell without the operators that the cell's input cannot reach."""
    fed = {0}
    for op, (source, node) in zip(choice, EDGES, strict=True):  # sources come before their nodes
        if op and source in fed:
            fed.add(node)
    return tuple(op if edge[0] in fed else 0 for op, edge in zip(choice, EDGES, strict=True))


@dataclass(frozen=True)
class CellNetwork:
    """The whole network: stem, fifteen equal cells with two reductions between, classifier.

    `removal` says which cells count as one: those that differ in operators without effect (`all`),
    only in unread ones (`unread`: the converter of the measured networks dropped these and kept
    the unfed), or none (`nothing`). The layers are the same in each case.
    """

    name: str = "network"
    classes: int = 10
    removal: Removal = "all"

    def __post_init__(self) -> None:
        if self.removal not in get_args(Removal):
            raise SpaceError(
                f"{self.name}: removal is {self.removal!r}; "
                f"allowed: {', '.join(map(repr, get_args(Removal)))}"
            )

    @cached_property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """The operator of each edge."""
        values = tuple(range(len(OPERATORS)))
        return tuple(Coordinate(f"edge{a}{b}.operator", "operator", values) for a, b in EDGES)

    def canonical(self, choice: Choice) -> Choice:
        """The cell without the operators that are removed."""
        if self.removal == "nothing":
            return choice
        return unread(choice) if self.removal == "unread" else unread(unfed(choice))

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        """Write the network. Where nothing passes through a cell, nothing but the classifier's
        bias decides, and the classifier is all that is written. The authors' batch normalisation
        before the last activation is left out: there is no convolution to fold it into."""
        choice = unread(unfed(choice))
        if any(choice):
            x = _conv(builder, x, CHANNELS[0], 3, name="stem")
            for number, channels in enumerate(CHANNELS):
                if number:
                    x = _reduction(builder, x, channels, name=f"reduction{number}")
                for cell in range(CELLS):
                    x = _cell(builder, x, choice, name=f"cell{number}{cell}")
            x = builder.elementwise("relu", x)
        x = builder.mean(x, keep_dimensions=False)
        return builder.fully_connected(x, self.classes, name="classifier")


def _conv(
    builder: NetworkBuilder, x: int, filters: int, kernel: int, *, name: str, stride: int = 1
) -> int:
    return builder.conv_2d(x, filters, kernel=kernel, stride=stride, name=name, batch_norm=True)


def _cell(builder: NetworkBuilder, x: int, choice: Choice, *, name: str) -> int:
    """One cell with the operators that have an effect; at least one leads to the output."""
    nodes: dict[int, int] = {0: x}
    for (source, node), operator in zip(EDGES, choice, strict=True):
        if not operator:
            continue
        y = _operator(builder, nodes[source], OPERATORS[operator], name=f"{name}.{source}{node}")
        nodes[node] = builder.add(nodes[node], y) if node in nodes else y
    return nodes[OUTPUT]


def _operator(builder: NetworkBuilder, x: int, operator: str, *, name: str) -> int:
    if operator == "skip_connect":
        return x
    if operator == "avg_pool_3x3":
        return builder.average_pool_2d(x, kernel=3, stride=1, padded=True)
    kernel = 3 if operator == "nor_conv_3x3" else 1
    channels = builder.shape(x)[-1]
    return _conv(builder, builder.elementwise("relu", x), channels, kernel, name=name)


def _reduction(builder: NetworkBuilder, x: int, channels: int, *, name: str) -> int:
    """The residual block of stride 2 between cells (`ResNetBasicblock` in the authors' code)."""
    y = _conv(builder, builder.elementwise("relu", x), channels, 3, stride=2, name=f"{name}.first")
    y = _conv(builder, builder.elementwise("relu", y), channels, 3, name=f"{name}.second")
    short = builder.conv_2d(builder.average_pool_2d(x), channels, name=f"{name}.shortcut")
    return builder.add(short, y)


def nasbench201(
    *, classes: int = 10, input_size: int = 32, removal: Removal = "all"
) -> SearchSpace:
    """The space of all 15,625 cells; see `CellNetwork`. Images are `input_size` square, RGB.

    Raises `SpaceError` for values that do not fit.
    """
    if classes < 1 or input_size < 4 or input_size % 4:
        raise SpaceError(
            f"nasbench201: {classes} classes of {input_size}x{input_size} images are impossible; "
            "at least one class is needed, and a size divisible by 4"
        )
    stage = CellNetwork(classes=classes, removal=removal)
    return SearchSpace("nasbench201", (input_size, input_size, 3), classes, (stage,))


PLACES = len(OPERATORS) ** np.arange(len(EDGES))[::-1]
COUNT = len(OPERATORS) ** len(EDGES)


def numbers(rows: Rows) -> Rows:
    """A number from 0 to 15,624 for each cell of int64 [n, 6]."""
    found: Rows = rows @ PLACES
    return found


@functools.cache
def all_cells() -> Rows:
    """Every cell by its number, int64 [15625, 6], not to be written to."""
    cells = np.array(list(product(range(len(OPERATORS)), repeat=len(EDGES))), np.int64)
    cells.setflags(write=False)
    return cells


def canonical_numbers(canonical: Callable[[Choice], Choice]) -> Rows:
    """For each cell's number that of the cell which stands for it, int64 [15625]."""
    cells = all_cells().tolist()
    return numbers(np.array([canonical(tuple(cell)) for cell in cells], np.int64))


def architecture_text(architecture: Sequence[int]) -> str:
    """As the benchmark writes it: `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|...|`."""
    nodes: dict[int, str] = {}
    for (source, node), operator in zip(EDGES, architecture, strict=True):
        nodes[node] = nodes.get(node, "|") + f"{OPERATORS[operator]}~{source}|"
    return "+".join(nodes.values())


def read_architecture(text: str) -> Choice:
    """The way back from `architecture_text`. Raises ValueError for any other text."""
    names = [name for part in text.split("+") for name in part.strip("|").split("|")]
    operators = [name.partition("~")[0] for name in names]
    if len(operators) == len(EDGES) and set(operators) <= set(OPERATORS):
        choice = tuple(OPERATORS.index(operator) for operator in operators)
        if architecture_text(choice) == text:
            return choice
    raise ValueError(f"{text!r:.200} is not a cell of NAS-Bench-201")
