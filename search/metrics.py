"""Price hundreds of thousands of architectures a second: latency, operations, parameters, memory.

A metric takes many architectures and returns one float64 each. Here a space is compiled, stage by
stage, into arrays over (shape of the stage's input, choice): what a stage costs depends on
nothing else. A cell is worked out in Python when it is first asked for; after that a price is a
few array look-ups.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..devices.base import Device
from ..devices.errors import ConstraintNotMet, MeasurementError, SpaceError
from ..profiler.crowding import Crowding
from ..profiler.layers import Layer, Shape
from ..profiler.network_builder import NetworkBuilder
from ..profiler.schedule import Schedule
from ..profiler.table import LookupTable
from ..profiler.tie import measure_tied
from .space import Architecture, SearchSpace, Stage

Rows = NDArray[np.int64]
Values = NDArray[np.float64]
Architectures = Sequence[Architecture] | Rows
Metric = Callable[[Architectures], Values]

CHOICES_LIMIT = 4_000_000  # cells of one stage for one input shape: 48 MB, of a latency 112 MB


class Prices(Protocol):
    """What a lookup table is to a search: seconds for layers, and for a network without any."""

    @property
    def constant(self) -> float:
        """Seconds that every network costs in addition to its layers."""

    @property
    def crowding(self) -> Crowding:
        """What a network loses because its layers crowd each other out of the caches."""

    def footprint(self, layers: Sequence[Layer]) -> tuple[float, float]:
        """Bytes of weights, and bytes moved, of layers."""

    def price_layers(self, layers: Sequence[Layer]) -> float:
        """Seconds of layers in a row. Raises `MissingEntry` where one was never measured."""


def as_rows(space: SearchSpace, architectures: Architectures) -> Rows:
    """Architectures as int64 [n, coordinates]; an empty sequence gives n = 0.

    Raises `SpaceError` where one has another number of values.
    """
    width = len(space.coordinates)
    if len(architectures) == 0:
        return np.empty((0, width), np.int64)
    try:
        rows = np.asarray(architectures, dtype=np.int64)
    except ValueError as error:
        raise SpaceError(f"these are not architectures of {space.name}: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != width:
        raise SpaceError(
            f"an architecture of {space.name} has {width} values, these have the shape {rows.shape}"
        )
    return rows


def as_architectures(rows: Architectures) -> list[Architecture]:
    """The inverse of `as_rows`: tuples of Python integers, for metrics that go one by one."""
    return [tuple(row) for row in np.asarray(rows, dtype=np.int64).tolist()]


class _Cells:
    """One stage's costs and output shapes: arrays over (input shape, choice), grown as needed."""

    def __init__(self, stage: Stage, kinds: int) -> None:
        self.stage = stage
        self.values = [coordinate.values for coordinate in stage.coordinates]
        self.sizes = tuple(len(values) for values in self.values)
        self.choices = math.prod(self.sizes)
        if self.choices > CHOICES_LIMIT:
            raise SpaceError(
                f"stage {stage.name} has {self.choices} choices, more than {CHOICES_LIMIT} cannot "
                "be priced as an array; give its coordinates fewer values or split it in two"
            )
        self.states: dict[Shape, int] = {}
        self.costs: Values = np.empty((0, self.choices, kinds))
        self.following: NDArray[np.int32] = np.empty((0, self.choices), np.int32)
        # One array a coordinate: value -> its part of the choice's number, negative for a value
        # that is not allowed. The last entry catches everything above the largest value.
        self.parts: list[Rows] = []
        for axis, values in enumerate(self.values):
            part = np.full(values[-1] + 2, -CHOICES_LIMIT * 2, np.int64)
            part[list(values)] = np.arange(len(values)) * math.prod(self.sizes[axis + 1 :])
            self.parts.append(part)

    def state(self, shape: Shape) -> int:
        """The number of an input shape; a new one gets a row of cells."""
        number = self.states.setdefault(shape, len(self.states))
        if number >= len(self.costs):
            room = max(1, len(self.costs))  # doubled, so that growing stays cheap
            fresh = np.full((room, *self.costs.shape[1:]), np.nan)
            self.costs = np.concatenate([self.costs, fresh])
            self.following = np.vstack(
                [self.following, np.full((room, self.choices), -1, np.int32)]
            )
        return number

    def number(self, columns: Rows) -> Rows:
        """The numbers of choices given as [coordinates, n]; negative where one is not allowed."""
        number = np.zeros(columns.shape[1], np.int64)
        for part, column in zip(self.parts, columns, strict=True):
            number += part.take(column, mode="clip")
        return number

    def choice(self, number: int) -> tuple[int, ...]:
        """The choice that has a number."""
        positions = np.unravel_index(number, self.sizes) if self.sizes else ()
        return tuple(v[int(i)] for v, i in zip(self.values, positions, strict=True))


class StageTables:
    """Metrics put together from what each stage costs on its own.

    `cost` sees a builder that holds nothing but the stage, written for one input shape, and gives
    a number for each metric; `combine` joins those of the stages, beginning with `start`
    (`numpy.add` or `numpy.maximum`).
    """

    def __init__(
        self,
        space: SearchSpace,
        cost: Callable[[NetworkBuilder], Sequence[float]],
        *,
        combine: Callable[[Values, Values], Values] = np.add,
        start: Sequence[float] = (0.0,),
    ) -> None:
        self.space = space
        self._cost = cost
        self._combine = combine
        self._start = start
        self._stages = [_Cells(stage, len(start)) for stage in space.stages]
        self._stages[0].state(space.input_shape)

    def __call__(self, architectures: Architectures) -> Values:
        """The first metric of each architecture, float64 [n]; see `totals`."""
        first: Values = self.totals(architectures)[:, 0]
        return first

    def totals(self, architectures: Architectures) -> Values:
        """The metrics of each architecture, float64 [n, metrics].

        Takes tuples or, faster, an integer array [n, coordinates]. Raises `SpaceError` for an
        architecture outside of the space, and what the pricing of a layer raises.
        """
        rows = as_rows(self.space, architectures)
        if rows.size and rows.min() < 0:
            self._refuse(rows, rows.min(axis=1) < 0)
        columns = np.ascontiguousarray(rows.T)
        total: Values = np.tile(np.array(self._start, float), (len(rows), 1))
        state: NDArray[np.integer] = np.zeros(len(rows), np.int32)
        begin = 0
        for position, cells in enumerate(self._stages):
            end = begin + len(cells.sizes)
            choice = cells.number(columns[begin:end])
            if choice.size and choice.min() < 0:
                self._refuse(rows, choice < 0)
            costs = cells.costs[state, choice]
            missing = np.isnan(costs[:, 0])
            if missing.any():
                cell = state[missing].astype(np.int64) * cells.choices + choice[missing]
                for number in np.unique(cell).tolist():
                    self._fill(position, *divmod(number, cells.choices))
                costs = cells.costs[state, choice]
            total = self._combine(total, costs)
            state = cells.following[state, choice]
            begin = end
        return total

    def _refuse(self, rows: Rows, wrong: NDArray[np.bool_]) -> None:
        self.space.check(as_architectures(rows[wrong][:1])[0])

    def _fill(self, position: int, state: int, choice: int) -> None:
        cells = self._stages[position]
        builder = NetworkBuilder(list(cells.states)[state])
        output = cells.stage.append(builder, 0, cells.choice(choice))
        costs = self._cost(builder)
        if not all(map(math.isfinite, costs)):
            raise MeasurementError(
                f"stage {cells.stage.name} {cells.choice(choice)} is priced at {costs[0]}; "
                "measure its layers again"
            )
        last = position + 1 == len(self._stages)
        cells.following[state, choice] = (
            0 if last else self._stages[position + 1].state(builder.shape(output))
        )
        cells.costs[state, choice] = costs


class CompiledMetric(StageTables):
    """The sum of the prices of all layers plus a constant, for many architectures at a time.

    Equal to `constant + sum(price(layer) for layer in space.network(a).layers)` but for rounding.
    `price` is called once for each different layer.
    """

    def __init__(
        self, space: SearchSpace, price: Callable[[Layer], float], *, constant: float = 0.0
    ) -> None:
        once = functools.cache(price)
        super().__init__(
            space,
            lambda builder: [sum(once(node.layer) for node in builder.nodes)],
            start=[constant],
        )


def macs(space: SearchSpace) -> CompiledMetric:
    """Multiply-accumulate operations of one inference."""
    return CompiledMetric(space, lambda layer: layer.macs)


def parameters(space: SearchSpace) -> CompiledMetric:
    """Weights and biases."""
    return CompiledMetric(space, lambda layer: layer.parameters)


class CompiledLatency:
    """Seconds of one inference as a table predicts them, for many architectures at a time.

    Stages are priced one by one: a table's fragments (see `profiler.fragments`) have to end where
    a stage ends, as blocks do, to be priced as in the whole network. What a network loses because
    its layers crowd each other out of the caches follows from sums over its stages, too.
    """

    def __init__(self, space: SearchSpace, table: Prices) -> None:
        def cost(builder: NetworkBuilder) -> list[float]:
            layers = [node.layer for node in builder.nodes]
            return [table.price_layers(layers), *table.footprint(layers)]

        self.space = space
        self._crowding = table.crowding
        self._stages = StageTables(space, cost, start=[table.constant, 0.0, 0.0])

    def __call__(self, architectures: Architectures) -> Values:
        """The predicted latency of each architecture, float64 [n] in seconds."""
        seconds, weights, moved = self._stages.totals(architectures).T
        found: Values = seconds + self._crowding.of_many(weights, moved)
        return found


def latency(space: SearchSpace, table: Prices) -> CompiledLatency:
    """Seconds of one inference, as the table predicts them."""
    return CompiledLatency(space, table)


def measured(
    space: SearchSpace, table: LookupTable, device: Device, schedule: Schedule | None = None
) -> Metric:
    """Seconds of one inference as the board takes them, in the table's terms.

    All architectures of a call are measured interleaved with anchors of the table (see
    `profiler.tie`). Slow beside the other metrics: for finalists, not for a descent. Raises what
    `measure_tied` raises.
    """

    def metric(architectures: Architectures) -> Values:
        rows = as_architectures(as_rows(space, architectures))
        networks = {str(number): space.network(row) for number, row in enumerate(rows)}
        if not networks:
            return np.empty(0)
        tied = measure_tied(table, device, networks, schedule=schedule)
        return np.array([measurement.seconds for measurement in tied.values()])

    return metric


def peak_memory(space: SearchSpace) -> StageTables:
    """Bytes of the activations that are alive at the worst moment, see `Network.peak_memory`.

    Stages hand on one tensor, so that whatever is alive while a stage runs is its input, alive
    from its first node on, and tensors of its own: the network's peak is the largest of the
    stages' peaks.
    """

    def peak(builder: NetworkBuilder) -> list[float]:
        return [float(builder.build().peak_memory) if builder.nodes else 0.0]

    return StageTables(space, peak, combine=np.maximum)


def reachable(
    space: SearchSpace,
    metric: Metric,
    target: float,
    text: Callable[[float], str] = "{:.6g}".format,
) -> Architecture:
    """An architecture whose metric is at most `target`, without scoring any.

    The smallest one, where it will do. Latency does not always fall with the widths (the bypass
    has its price), so that otherwise the metric is lowered coordinate by coordinate until no
    single change lowers it further. Raises `ConstraintNotMet` naming the smallest value found, as
    `text` writes it.
    """
    best = np.array(space.smallest, np.int64)
    value = float(metric(best[None])[0])
    improved = True
    while value > target and improved:
        improved = False
        for axis, coordinate in enumerate(space.coordinates):
            rows = np.repeat(best[None], len(coordinate.values), axis=0)
            rows[:, axis] = coordinate.values
            values = metric(rows)
            if values.min() < value:
                best, value, improved = rows[values.argmin()], float(values.min()), True
    if value > target:
        full = float(metric([space.full])[0])
        raise ConstraintNotMet(
            f"no network of {space.name} meets the target {text(target)}: the smallest value found "
            f"is {text(value)}, the full network's is {text(full)}; choose a target between them, "
            "or a smaller space"
        )
    return space.canonical(as_architectures(best[None])[0])
