"""What a person sees in the terminal: progress with time left, tables, and JSON for programs."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from boardfit.profiler.progress import Progress as Step
from boardfit.profiler.progress import Report

LINE_SECONDS = 20.0  # between two lines where the output is no terminal

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def progress() -> Iterator[Report]:
    """Show the steps that are reported: bars in a terminal, a line now and then elsewhere."""
    if not err.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[detail]}", table_column=None),
    )
    with Progress(*columns, console=err) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: Step) -> None:
            if step.stage not in tasks:
                tasks[step.stage] = bars.add_task(step.stage, total=step.total, detail="")
            bars.update(
                tasks[step.stage], completed=step.done, total=step.total, detail=step.detail
            )

        yield report


def _lines() -> Report:
    last: dict[str, float] = {}
    begun: dict[str, tuple[float, float]] = {}

    def report(step: Step) -> None:
        now = time.monotonic()
        first = step.stage not in begun
        begun.setdefault(step.stage, (now, step.done))
        finished = step.done >= step.total
        if not (first or finished or now - last[step.stage] > LINE_SECONDS):
            return
        if finished and last.get(step.stage) == float("inf"):
            return
        last[step.stage] = float("inf") if finished else now
        start, done = begun[step.stage]
        left = ""
        if step.done > done and not finished:
            seconds = (now - start) * (step.total - step.done) / (step.done - done)
            left = f", {seconds:.0f} s left"
        err.print(f"{step.stage}: {step.done / step.total:.0%}{left}  {step.detail}", markup=False)

    return report


def say(sentences: Iterable[str], *, indent: str = "") -> None:
    """Print sentences as they are, each on a line of its own."""
    for sentence in sentences:
        out.print(indent + sentence, markup=False)


def tell(rows: Sequence[Mapping[str, Any]], words: Iterable[str], *, as_json: bool) -> None:
    """Print rows and sentences for people, or rows alone for programs."""
    show(rows, as_json=as_json)
    if not as_json:
        say(words)


def show(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print rows as a table, or as JSON (a list of objects, null for what is not known)."""
    if as_json:
        print(json.dumps(_known(list(rows)), indent=1, default=str, allow_nan=False))
        return
    if not rows:
        return
    names = list(rows[0])
    if len(names) > len(rows) + 3:  # few things with many figures: one line a figure
        table = Table(box=None, show_header=False)
        for name in names:
            table.add_row(f"[bold]{_plain(name)}", *(_plain(row[name]) for row in rows))
    else:
        table = Table(box=None)
        for name in names:
            numeric = all(isinstance(row[name], int | float) for row in rows)
            table.add_column(_plain(name), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_plain(value) for value in row.values()))
    out.print(table)


def _known(value: Any) -> Any:
    """The value, however deep, with None for a number that is not known: JSON has no other word."""
    if isinstance(value, dict):
        return {name: _known(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_known(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> str:
    known = _known(value)
    text = number_text(known) if isinstance(known, float) else str("" if known is None else known)
    return text.replace("[", r"\[")


def number_text(value: float) -> str:
    """Four digits, or all of those before the point."""
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
