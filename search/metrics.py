"""Price hundreds of thousands of architectures a second: latency, operations, parameters, memory.

A metric takes many architectures and returns one float64 each. Here a space is compiled, stage by
stage, into arrays over (shapes of the stage's inputs, choice): what a stage costs depends on
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
from ..profiler.layers import BYTES_PER_ELEMENT, Layer, Shape, peak_elements
from ..profiler.network_builder import NetworkBuilder
from ..profiler.schedule import Schedule
from ..profiler.table import LookupTable
from ..profiler.tie import measure_tied
from .space import Architecture, Join, SearchSpace, Stage, append_stage

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

    def variance(self, layers: Sequence[Layer]) -> float:
        """Of that price, in square seconds."""

    def margin(self, seconds: Values, variance: Values) -> Values:
        """By what part of it a prediction may be exceeded (95 %), given its variance."""


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


Numbers = NDArray[np.int32]


class _Cells:
    """One stage's costs and output shapes: arrays over (shapes of its inputs, choice), grown as
    needed. `sources` number the shapes that each input can have, `outputs` those of the output."""

    def __init__(
        self, stage: Stage | Join, sources: Sequence[dict[Shape, int]], kinds: int
    ) -> None:
        self.stage = stage
        self.sources = sources
        self.outputs: dict[Shape, int] = {}
        self.values = [coordinate.values for coordinate in stage.coordinates]
        self.sizes = tuple(len(values) for values in self.values)
        self.choices = math.prod(self.sizes)
        if self.choices > CHOICES_LIMIT:
            raise SpaceError(
                f"stage {stage.name} has {self.choices} choices, more than {CHOICES_LIMIT} cannot "
                "be priced as an array; give its coordinates fewer values or split it in two"
            )
        self.pairs: list[tuple[int, int]] = []  # of a join's inputs, by the number of the state
        self.paired: Numbers = np.empty((0, 0), np.int32)  # and the number of a pair, or -1
        self.costs: Values = np.empty((0, self.choices, kinds))
        self.following: Numbers = np.empty((0, self.choices), np.int32)
        # One array a coordinate: value -> its part of the choice's number, negative for a value
        # that is not allowed. The last entry catches everything above the largest value.
        self.parts: list[Rows] = []
        for axis, values in enumerate(self.values):
            part = np.full(values[-1] + 2, -CHOICES_LIMIT * 2, np.int64)
            part[list(values)] = np.arange(len(values)) * math.prod(self.sizes[axis + 1 :])
            self.parts.append(part)

    def state(self, inputs: Sequence[Numbers]) -> Numbers:
        """Which row of cells the shapes of the inputs, [n] each by their numbers, have.

        That of one input is its shape's own number. Pairs are numbered as they come up.
        """
        state = inputs[0] if len(inputs) == 1 else self._pair(*inputs)
        count = len(self.sources[0]) if len(inputs) == 1 else len(self.pairs)
        while len(self.costs) < count:
            room = max(1, len(self.costs))  # doubled, so that growing stays cheap
            fresh = np.full((room, *self.costs.shape[1:]), np.nan)
            self.costs = np.concatenate([self.costs, fresh])
            self.following = np.vstack(
                [self.following, np.full((room, self.choices), -1, np.int32)]
            )
        return state

    def _pair(self, first: Numbers, second: Numbers) -> Numbers:
        height, width = map(len, self.sources)
        more = ((0, height - self.paired.shape[0]), (0, width - self.paired.shape[1]))
        if any(room for _, room in more):
            self.paired = np.pad(self.paired, more, constant_values=-1)
        state = self.paired[first, second]
        if (missing := state < 0).any():
            new = np.unique(np.stack([first[missing], second[missing]], axis=1), axis=0)
            for a, b in new.tolist():
                self.paired[a, b] = len(self.pairs)
                self.pairs.append((a, b))
            state = self.paired[first, second]
        return state

    def shapes(self, state: int) -> list[Shape]:
        """The shapes of the inputs that a row of cells is for."""
        numbers = (state,) if len(self.sources) == 1 else self.pairs[state]
        return [list(s)[number] for s, number in zip(self.sources, numbers, strict=True)]

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

    `cost` sees a builder that holds nothing but the stage, written for the shapes of its inputs,
    and which of these are held for a later join, and gives a number for each metric; `combine`
    joins those of the stages, beginning with `start` (`numpy.add` or `numpy.maximum`).
    `passing` is what a tensor that is held meanwhile adds to the first metric of a stage which
    does not read it.
    """

    def __init__(
        self,
        space: SearchSpace,
        cost: Callable[[NetworkBuilder, Sequence[int]], Sequence[float]],
        *,
        passing: Callable[[Shape], float] | None = None,
        combine: Callable[[Values, Values], Values] = np.add,
        start: Sequence[float] = (0.0,),
    ) -> None:
        self.space = space
        self._cost = cost
        self._combine = combine
        self._start = start
        self._passing = passing
        self._stages: list[_Cells] = []
        tensors: list[dict[Shape, int]] = [{space.input_shape: 0}]
        for stage, reads in zip(space.stages, space.reads, strict=True):
            cells = _Cells(stage, [tensors[tensor] for tensor in reads], len(start))
            self._stages.append(cells)
            tensors.append(cells.outputs)
        # A tensor is held until the last stage that reads it.
        self._last = {t: number for number, reads in enumerate(space.reads) for t in reads}

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
        tensors: list[Numbers] = [np.zeros(len(rows), np.int32)]
        begin = 0
        for position, (cells, reads) in enumerate(zip(self._stages, self.space.reads, strict=True)):
            end = begin + len(cells.sizes)
            choice = cells.number(columns[begin:end])
            if choice.size and choice.min() < 0:
                self._refuse(rows, choice < 0)
            state = cells.state([tensors[tensor] for tensor in reads])
            costs = cells.costs[state, choice]
            missing = np.isnan(costs[:, 0])
            if missing.any():
                cell = state[missing].astype(np.int64) * cells.choices + choice[missing]
                for number in np.unique(cell).tolist():
                    self._fill(position, *divmod(number, cells.choices))
                costs = cells.costs[state, choice]
            if self._passing is not None:
                costs = costs + self._held(position, tensors)
            total = self._combine(total, costs)
            tensors.append(cells.following[state, choice])
            begin = end
        return total

    def _held(self, position: int, tensors: Sequence[Numbers]) -> Values:
        """What the tensors add that pass a stage by, [n, metrics]."""
        added: Values = np.zeros((len(tensors[0]), len(self._start)))
        for tensor in range(1, position):
            if self._last[tensor] > position and tensor not in self.space.reads[position]:
                assert self._passing is not None
                sizes = [self._passing(shape) for shape in self._stages[tensor - 1].outputs]
                added[:, 0] += np.array(sizes)[tensors[tensor]]
        return added

    def _refuse(self, rows: Rows, wrong: NDArray[np.bool_]) -> None:
        self.space.check(as_architectures(rows[wrong][:1])[0])

    def _fill(self, position: int, state: int, choice: int) -> None:
        cells = self._stages[position]
        builder = NetworkBuilder(*cells.shapes(state))
        inputs = range(len(builder.inputs))
        output = append_stage(cells.stage, builder, inputs, cells.choice(choice))
        reads = self.space.reads[position]
        costs = self._cost(builder, [i for i in inputs if self._last[reads[i]] > position])
        if not all(map(math.isfinite, costs)):
            raise MeasurementError(
                f"stage {cells.stage.name} {cells.choice(choice)} is priced at {costs[0]}; "
                "measure its layers again"
            )
        shape = builder.shape(output)
        cells.following[state, choice] = cells.outputs.setdefault(shape, len(cells.outputs))
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
            lambda builder, _: [sum(once(node.layer) for node in builder.nodes)],
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

    With `high`, the upper end of the prediction's 95 % interval, so that a target is kept although
    predictions err. Operators of different stages count as independent there, also where they are
    alike, so that it may lie slightly below that of `LookupTable.latency`.
    """

    def __init__(self, space: SearchSpace, table: Prices, *, high: bool = False) -> None:
        def cost(builder: NetworkBuilder, _: Sequence[int]) -> list[float]:
            layers = [node.layer for node in builder.nodes]
            spread = [table.variance(layers)] if high else []
            return [table.price_layers(layers), *table.footprint(layers), *spread]

        self.space = space
        self._crowding = table.crowding
        self._margin = table.margin if high else None
        self._stages = StageTables(space, cost, start=[table.constant, *[0.0] * (2 + high)])

    def __call__(self, architectures: Architectures) -> Values:
        """The predicted latency of each architecture, float64 [n] in seconds."""
        seconds, weights, moved, *variance = self._stages.totals(architectures).T
        found: Values = seconds + self._crowding.of_many(weights, moved)
        if self._margin is not None:
            found = found * (1 + self._margin(found, variance[0]))
        return found


def latency(space: SearchSpace, table: Prices, *, high: bool = False) -> CompiledLatency:
    """Seconds of one inference, as the table predicts them, or the `high` end of the interval."""
    return CompiledLatency(space, table, high=high)


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

    Whatever is alive while a stage runs are its inputs, alive from its first node on, tensors of
    its own, and those that are held for a later join: the network's peak is the largest of the
    stages' peaks. (An upper bound where a stage vanishes whose input is held: the next one's input
    is then the same tensor, and counts twice.)
    """
    element = BYTES_PER_ELEMENT["float32"]

    def peak(builder: NetworkBuilder, held: Sequence[int]) -> list[float]:
        return [float(peak_elements(builder.inputs, builder.nodes, held) * element)]

    def passing(shape: Shape) -> float:
        return float(math.prod(shape) * element)

    return StageTables(space, peak, passing=passing, combine=np.maximum)


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
