"""What a page is made of: sentences, findings, tables, plots, bars; no HTML yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import pandas as pd
import plotly.graph_objects as go


@dataclass(frozen=True)
class Finding:
    """Something that the reader has to know before believing the numbers, and what to do."""

    text: str
    advice: str


@dataclass(frozen=True)
class Legend:
    """An entry below a plot: `shape` is how the trace with that `number` looks."""

    name: str
    color: str
    shape: Literal["dot", "ring", "star", "square", "diamond", "line", "dash"]
    number: int


@dataclass(frozen=True)
class Plot:
    """A figure with its caption and legend; `height` in CSS pixels, `wide` spans the page."""

    title: str
    figure: go.Figure
    caption: str = ""
    legend: tuple[Legend, ...] = ()
    height: int = 340
    wide: bool = False
    block: ClassVar[str] = "plot"


@dataclass(frozen=True)
class Missing:
    """A plot that was left out, with the reason."""

    title: str
    reason: str
    block: ClassVar[str] = "missing"


@dataclass(frozen=True)
class Grid:
    """A table of texts."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    block: ClassVar[str] = "grid"


@dataclass(frozen=True)
class Bar:
    """A bar: `share` of the full length is filled, `mark` is a second share that is marked."""

    label: str
    share: float
    text: str
    mark: float | None = None

    def __post_init__(self) -> None:
        if not all(0 <= part <= 1 for part in (self.share, self.mark or 0.0)):
            raise ValueError(f"{self.label}: a bar cannot be filled to {self.share}, {self.mark}")


@dataclass(frozen=True)
class Bars:
    """Labelled bars below each other."""

    title: str
    bars: tuple[Bar, ...]
    caption: str = ""
    block: ClassVar[str] = "bars"


@dataclass(frozen=True)
class Stage:
    """A block of the found network: its bars, a label (the kernel), and whether it is gone."""

    name: str
    bars: tuple[Bar, ...]
    label: str
    removed: bool


@dataclass(frozen=True)
class Drawing:
    """A network, block by block."""

    title: str
    stages: tuple[Stage, ...]
    caption: str
    block: ClassVar[str] = "drawing"


Block = Plot | Missing | Grid | Bars | Drawing


@dataclass(frozen=True)
class Part:
    """A headed part of a section; `narrow` blocks stand three in a row where there is room."""

    title: str
    blocks: tuple[Block, ...]
    text: str = ""
    narrow: bool = False


@dataclass(frozen=True)
class Section:
    """What is said of one item (or of all together)."""

    kind: str
    title: str
    origin: str
    sentences: tuple[str, ...]
    findings: tuple[Finding, ...]
    parts: tuple[Part, ...]


def grid(title: str, frame: pd.DataFrame, caption: str = "") -> Grid:
    """A table of a frame's texts, columns named as in the frame."""
    rows = tuple(tuple(str(value) for value in row) for row in frame.itertuples(index=False))
    return Grid(title, tuple(str(column) for column in frame.columns), rows, caption)


def plots_or_reason(title: str, plots: Sequence[Plot], reason: str) -> tuple[Block, ...]:
    """The plots, or where there are none a sentence that says why."""
    return tuple(plots) or (Missing(title, reason),)
