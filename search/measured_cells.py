"""Search on numbers of real boards: the accuracy and latency of every cell of NAS-Bench-201.

A file holds one row for each of the 15,625 cells, as CSV (perhaps compressed, `.gz`): the column
`architecture`, accuracies in per cent in columns ending in `_val` or `_test`, and latencies in
columns ending in `_ms`:

    architecture,cifar10_val,cifar10_test,raspi4_ms
    |avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|...|,63.364,69.55,10.48198

Nothing is trained and nothing measured, so that a whole search takes a fraction of a second.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..devices.errors import InputError
from .metrics import Architectures, Metric, Rows, Values, as_rows
from .nasbench201 import COUNT, canonical_numbers, numbers, read_architecture
from .space import Architecture, SearchSpace

LARGEST_FILE = 64 * 1024**2  # bytes of text


@dataclass(frozen=True, eq=False)
class MeasuredCells:
    """What is known of all cells of a space, each array float64 [15625] by the cell's number.

    `accuracy` (fractions, by the column's name, such as `cifar100_val`) and `seconds` (by the
    board, such as `raspi4`). A cell is looked up as the space's canonical one: the search is given
    the numbers of the network that would be deployed.
    """

    space: SearchSpace
    accuracy: Mapping[str, Values]
    seconds: Mapping[str, Values]

    @cached_property
    def stands_for(self) -> Rows:
        """For each cell's number that of the one that stands for it, int64 [15625]."""
        return canonical_numbers(self.space.canonical)

    def canonical(self, architectures: Architectures) -> Rows:
        """The numbers of the cells that stand for architectures of the space, int64 [n]."""
        return self.stands_for[numbers(as_rows(self.space, architectures))]

    def latency(self, board: str) -> Metric:
        """Seconds on a board, as measured. Raises `InputError` for a board that is not there."""
        seconds = _column(self.seconds, board, "board")
        return lambda architectures: seconds[self.canonical(architectures)]

    def score(self, column: str) -> Callable[[Architecture], tuple[float, float]]:
        """Accuracy, and the rate of errors in the place of a loss, for an `Evaluator`.

        Raises `InputError` for a column that is not there.
        """
        accuracy = _column(self.accuracy, column, "accuracy")

        def score(architecture: Architecture) -> tuple[float, float]:
            right = float(accuracy[self.canonical([architecture])[0]])
            return right, 1.0 - right

        return score


def _column(columns: Mapping[str, Values], name: str, what: str) -> Values:
    if name not in columns:
        raise InputError(f"no {what} is called {name!r}; known: {', '.join(columns)}")
    return columns[name]


def read_measured_cells(path: Path, space: SearchSpace) -> MeasuredCells:
    """Read a file of measured cells. Raises `InputError` where it is missing, damaged or another
    one, naming the line."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"it holds more than {LARGEST_FILE} bytes")
        columns = _read(content.decode())
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table of cells: {error}") from error
    accuracy = {name: values / 100 for name, values in columns.items() if not _is_board(name)}
    seconds = {name[:-3]: values / 1000 for name, values in columns.items() if _is_board(name)}
    return MeasuredCells(space, accuracy, seconds)


def _is_board(column: str) -> bool:
    return column.endswith("_ms")


def _read(text: str) -> dict[str, Values]:
    """The columns of numbers, by the cell's number. Raises ValueError naming the line."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    names = [n for n in reader.fieldnames or () if n.endswith(("_val", "_test", "_ms"))]
    if "architecture" not in (reader.fieldnames or ()) or not names:
        raise ValueError("columns called architecture, *_val, *_test and *_ms were expected")
    found = np.full((COUNT, len(names)), np.nan)
    for row in reader:
        place = f"line {reader.line_num}"
        try:
            number = int(numbers(np.array([read_architecture(row["architecture"] or "")]))[0])
            values = [float(row[name]) for name in names]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{place}: {error}") from None
        for name, value in zip(names, values, strict=True):
            fits = value > 0 if _is_board(name) else 0 <= value <= 100
            if not (math.isfinite(value) and fits):
                raise ValueError(f"{place}: {name} is {value}")
        if not np.isnan(found[number, 0]):
            raise ValueError(f"{place}: this cell stands there twice")
        found[number] = values
    missing = int(np.isnan(found[:, 0]).sum())
    if missing:
        raise ValueError(f"{missing} of {COUNT} cells are missing")
    return dict(zip(names, found.T.copy(), strict=True))
