"""How long work tells how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far long work has come: `done` of `total` units of `stage`, with a line of detail."""

    stage: str
    done: float
    total: float
    detail: str = ""


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Report nothing."""


def telling(report: Report, stage: str = "wait for the board") -> Callable[[str], None]:
    """Report sentences that say what is waited for."""
    return lambda words: report(Progress(stage, 0, 1, words))
