"""Change many architectures at once and keep their metric known: what every optimiser moves by.

Rows are architectures as int64 [n, coordinates]; a column is the number of a coordinate, a
position that of one of its values. All alternatives of a step are priced in one metric call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .metrics import Metric, Rows, Values, as_architectures
from .space import Architecture, SearchSpace

Columns = NDArray[np.intp]
Mask = NDArray[np.bool_]


def gates(space: SearchSpace) -> Columns:
    """For each coordinate the column that decides whether it means anything, or its own column.

    Without filters a block is gone, and its other coordinates with it.
    """
    found: list[int] = []
    for stage in space.stages:
        begin = len(found)
        kinds = [(c.kind, c.values[0]) for c in stage.coordinates]
        gate = begin + kinds.index(("filters", 0)) if ("filters", 0) in kinds else None
        found += [begin + i if gate is None else gate for i in range(len(kinds))]
    return np.array(found, np.intp)


def relevant(rows: Rows, gates: Columns) -> Mask:
    """Which coordinates decide anything in which row, [n, coordinates]."""
    mask: Mask = (rows[:, gates] > 0) | (gates == np.arange(len(gates)))
    return mask


class Moves:
    """The moves of one space under one metric."""

    def __init__(self, space: SearchSpace, metric: Metric) -> None:
        self.space = space
        self.metric = metric
        self._gates = gates(space)
        self.sizes = np.array([len(c.values) for c in space.coordinates])
        self.smallest = np.array([c.values[0] for c in space.coordinates])
        self.largest = np.array([c.values[-1] for c in space.coordinates])
        self._values = np.zeros((len(self.sizes), self.sizes.max()), np.int64)
        self._positions: Rows = np.zeros((len(self.sizes), self.largest.max() + 1), np.int64)
        for column, coordinate in enumerate(space.coordinates):
            count = len(coordinate.values)
            self._values[column, :count] = coordinate.values
            self._positions[column, list(coordinate.values)] = np.arange(count)

    def repeat(self, architecture: Architecture, count: int) -> Rows:
        """`count` rows of one architecture."""
        return np.tile(np.array(architecture, np.int64), (count, 1))

    def canonical(self, rows: Rows) -> list[Architecture]:
        """The canonical architectures of the rows, each once, in their order."""
        return list(dict.fromkeys(map(self.space.canonical, as_architectures(rows))))

    def positions(self, rows: Rows, columns: Columns) -> Rows:
        """The position of each row's value in its column."""
        values = rows[np.arange(len(rows)), columns]
        return self._positions[columns, values]

    def place(self, rows: Rows, columns: Columns, positions: Rows) -> Rows:
        """Copies of the rows, each with one column set to the value at a position."""
        changed = rows.copy()
        changed[np.arange(len(rows)), columns] = self._values[columns, positions]
        return changed

    def shrinkable(self, rows: Rows) -> Mask:
        """Coordinates that are not at their smallest and decide something."""
        return (rows > self.smallest) & relevant(rows, self._gates)

    def growable(self, rows: Rows) -> Mask:
        """Coordinates that are not at their largest and decide something."""
        return (rows < self.largest) & relevant(rows, self._gates)

    def draw(self, mask: Mask, rng: np.random.Generator, weights: Values | None = None) -> Columns:
        """One column a row among those that the mask allows (0 where it allows none).

        Uniform, or as likely as the columns' positive `weights` say: the largest of u ** (1 / w)
        (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
        """
        keys = rng.random(mask.shape)
        if weights is not None:
            keys = np.log(keys) / weights
        columns: Columns = np.where(mask, keys, -np.inf).argmax(axis=1)
        return columns

    def alternatives(
        self, rows: Rows, columns: Columns, first: Rows, last: Rows
    ) -> tuple[Columns, Rows, Values]:
        """Price each row with its column at every position from `first` to `last` (exclusive).

        Returns for every alternative its row's number, its position, and its metric; ascending in
        both.
        """
        counts = np.maximum(last - first, 0)
        owner = np.repeat(np.arange(len(rows)), counts)
        starts = np.repeat(np.cumsum(counts) - counts - first, counts)
        positions = np.arange(len(owner)) - starts
        changed = self.place(rows[owner], columns[owner], positions)
        return owner, positions, self.metric(changed)

    def shrink(
        self, rows: Rows, values: Values, columns: Columns, wanted: Values
    ) -> tuple[Rows, Values]:
        """Lower each row's column to the first smaller value with a metric of at most `wanted`.

        A step down may cost more than it saves (a bypass has its price), so that all smaller
        values are looked at. Where none is low enough, the least metric is taken if it is below
        the row's `values`, otherwise the row is left alone. Returns rows and their metric.
        """
        positions = self.positions(rows, columns)
        owner, position, price = self.alternatives(
            rows, columns, np.zeros_like(positions), positions
        )
        least = values.copy()
        np.minimum.at(least, owner, price)
        accepted = np.where(least <= wanted, wanted, least)
        hit = (price <= accepted[owner]) & (price < values[owner])
        chosen, result = positions.copy(), values.copy()
        # Positions ascend within a row, so that the last one written is the first met going down.
        chosen[owner[hit]] = position[hit]
        result[owner[hit]] = price[hit]
        return self.place(rows, columns, chosen), result

    def grow(
        self, rows: Rows, values: Values, columns: Columns, target: float
    ) -> tuple[Rows, Values]:
        """Raise each row's column to the largest value with a metric of at most `target`."""
        positions = self.positions(rows, columns)
        owner, position, price = self.alternatives(
            rows, columns, positions + 1, self.sizes[columns]
        )
        fits = price <= target
        chosen, result = positions.copy(), values.copy()
        chosen[owner[fits]] = position[fits]
        result[owner[fits]] = price[fits]
        return self.place(rows, columns, chosen), result

    def settle(
        self, rows: Rows, target: float, floor: float, small: Architecture, rng: np.random.Generator
    ) -> tuple[Rows, Values]:
        """Bring every row's metric to at most `target`, and to `floor` or above where that goes.

        Random coordinates are shrunk by up to an eighth of their values until the row is below
        the target, then grown as long as it stays there. A row that is at its smallest and still
        above becomes `small`, which must meet the target.
        """
        rows, values = rows.copy(), self.metric(rows)
        while (over := np.flatnonzero(values > target)).size:
            mask = self.shrinkable(rows[over])
            stuck = ~mask.any(axis=1)
            moved = self._step(rows[over], mask, -1, rng)
            moved[stuck] = small
            rows[over], values[over] = moved, self.metric(moved)
        for _ in range(4 * len(self.sizes)):
            under = np.flatnonzero(values < floor)
            if not under.size:
                break
            moved = self._step(rows[under], self.growable(rows[under]), 1, rng)
            price = self.metric(moved)
            fits = price <= target
            rows[under[fits]], values[under[fits]] = moved[fits], price[fits]
        return rows, values

    def swap(self, rows: Rows, target: float, rng: np.random.Generator) -> tuple[Rows, Values]:
        """Shrink one or two random coordinates of each row and grow others up to the target."""
        for share in (1.0, 0.5):
            part = np.flatnonzero(rng.random(len(rows)) < share)
            columns = self.draw(self.shrinkable(rows[part]), rng)
            positions = self.positions(rows[part], columns)
            # Squared: small steps are more frequent than large ones.
            kept = (positions * (1 - rng.random(len(part)) ** 2)).astype(np.int64)
            rows = rows.copy()
            rows[part] = self.place(rows[part], columns, kept)
        values = self.metric(rows)
        for _ in range(3):
            columns = self.draw(self.growable(rows), rng)
            rows, values = self.grow(rows, values, columns, target)
        return rows, values

    def _step(self, rows: Rows, mask: Mask, sign: int, rng: np.random.Generator) -> Rows:
        columns = self.draw(mask, rng)
        step = rng.integers(1, np.maximum(self.sizes[columns] // 8, 1) + 1)
        positions = self.positions(rows, columns) + sign * step
        return self.place(rows, columns, np.clip(positions, 0, self.sizes[columns] - 1))
