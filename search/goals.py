"""What a search has to keep: its targets in seconds, and the metric that they bound."""

from __future__ import annotations

from dataclasses import dataclass

from ..profiler.table import LookupTable
from .constraints import Constraint, limit_of, tightest
from .metrics import Metric, latency
from .settings import SearchSettings, parse_target
from .space import SearchSpace


@dataclass(frozen=True)
class Goal:
    """A target as the user wrote it, and in seconds; `metric` is at most that where all limits of
    the search are kept. All goals of one search share their metric."""

    name: str
    seconds: float
    metric: Metric


def search_goals(space: SearchSpace, table: LookupTable, settings: SearchSettings) -> list[Goal]:
    """The goals of a search, in the order of its targets. Raises `InputError`."""
    full = float(latency(space, table)([space.full])[0])
    metric: Metric = latency(space, table, high=settings.margin)
    found = []
    for name in settings.targets:
        value, is_share = parse_target(name)
        found.append((name, value * full if is_share else value))
    if settings.limits:
        first = Constraint("latency", metric, found[0][1])
        metric = tightest([first, *(limit_of(text, space) for text in settings.limits)])
    return [Goal(name, seconds, metric) for name, seconds in found]
