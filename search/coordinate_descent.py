"""Multi-layer coordinate descent: shrink the full network, several layers at a time, to a target.

The optimiser of Yang, Liao and Sze, "NetAdaptV2" (CVPR 2021, arXiv 2104.00031), which needs no
gradient of the metric:

    best = full network; red = r0 * R(full)
    while R(best) > target:
        repeat J times: draw L coordinates; shrink each until R has fallen by red / L
        best = the sample that scores best under the super-network's weights
        red = min(red * decay, R(best) - target)

The authors released no code. Formula and the settings `PAPER` are as we recall them, not quoted;
acceptance, floor, guide and polish are ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .evaluation import Criterion, Evaluate, Trial, rank
from .guide import most_promising
from .metrics import Metric, Rows, Values, reachable
from .moves import Mask, Moves
from .space import Architecture, SearchSpace

ROUNDING = 1e-9  # a fall counts as reached within this part of it
PROPOSALS = 4  # for each sample that is wanted, since some repeat others or overshoot


@dataclass(frozen=True)
class DescentSettings:
    """How to descend.

    `samples` (J) networks are scored in each iteration; each differs from the best in `layers`
    (L) draws, with replacement. An iteration lowers the metric by `initial_reduction` (a fraction
    of the full network's) at first, times `decay` with each iteration. `draw="each"` proposes
    every coordinate once instead of drawing (`samples` then counts for the step below only).

    Samples that fell by less or more than `acceptance` (factors of the reduction wanted), or
    below `floor` times the target, are dropped where others exist.

    With `oversample` above 1 that many times more samples are proposed, and those are scored
    that a ridge regression on all networks scored so far predicts to be best, from `guide_after`
    trials on.

    `evaluations` bounds the networks that are scored in all: a descent that would need more is cut
    short by one step to the target, with up to `samples` networks. What is left when the target is
    met goes into swaps of widths at equal metric, `polish_batch` a time (0: no polish;
    `evaluations=None`: neither).
    """

    samples: int = 10
    layers: int = 3
    initial_reduction: float = 0.15
    decay: float = 0.9
    acceptance: tuple[float, float] = (0.9, 1.6)
    floor: float = 0.9
    draw: Literal["random", "each"] = "random"
    criterion: Criterion = "loss"
    oversample: int = 12
    guide_after: int = 10
    evaluations: int | None = 120
    polish_batch: int = 5

    def __post_init__(self) -> None:
        counts = (self.samples, self.layers, self.oversample, self.polish_batch + 1)
        if min(counts) < 1 or self.guide_after < 2 or (self.evaluations or 2) < 2:
            raise ValueError(
                "samples, layers and oversample are at least 1, guide_after and evaluations at "
                "least 2, polish_batch at least 0"
            )
        if not (0 < self.initial_reduction <= 1 and 0 < self.decay <= 1 and 0 <= self.floor <= 1):
            raise ValueError("initial_reduction, decay and floor are fractions")
        if not 0 <= self.acceptance[0] <= 1 <= self.acceptance[1]:
            raise ValueError(f"the acceptance {self.acceptance} does not contain 1")


PAPER = DescentSettings(
    samples=200,
    layers=10,
    initial_reduction=0.03,
    decay=0.98,
    acceptance=(0.5, 1.6),
    criterion="accuracy",
    oversample=1,
    evaluations=None,
    polish_batch=0,
)
"""NetAdaptV2's settings for latency, as recalled (J = 200, L = 10, 3 %, 0.98)."""

SINGLE_LAYER = DescentSettings(
    layers=1,
    initial_reduction=0.03,
    decay=0.98,
    acceptance=(1.0, float("inf")),
    floor=0.0,
    draw="each",
    criterion="accuracy",
    oversample=1,
    evaluations=None,
    polish_batch=0,
)
"""NetAdapt V1's coordinate descent: every coordinate is shrunk alone, the best of them is kept."""

DEFAULT = DescentSettings()
"""For about 120 evaluations: few large steps, guided, then swaps for the rest of the budget.

Chosen among some thirty settings on made-up objectives, not on trained networks."""


def coordinate_descent(
    space: SearchSpace,
    evaluate: Evaluate,
    metric: Metric,
    target: float,
    rng: np.random.Generator,
    settings: DescentSettings = DEFAULT,
) -> Iterator[Trial]:
    """The trade-off curve from the full network down to `target`, and the trials in between.

    Yields every trial that it asked for, and after each iteration the one it goes on from, with
    the origin "iterate". `best_trial` finds the result. Raises `ConstraintNotMet` before anything
    is scored where no network meets the target.
    """
    moves = Moves(space, metric)
    full = space.canonical(space.full)
    small = full if metric([full])[0] <= target else reachable(space, metric, target)
    best = evaluate([full], "iterate")[0]
    trials = {best.architecture: best}
    yield replace(best, origin="iterate")
    reduction = settings.initial_reduction * best.metric
    while best.metric > target:
        reduction = min(reduction, best.metric - target)
        if _must_finish(space, settings, len(trials)):
            found = _finishing(moves, best, target, small, rng, settings, len(trials))
        else:
            found = _samples(moves, best, reduction, target, small, rng, settings, trials)
        scored = evaluate(found)
        trials.update((trial.architecture, trial) for trial in scored)
        yield from scored
        best = min(scored, key=lambda trial: rank(trial, settings.criterion))
        yield replace(best, origin="iterate")
        reduction *= settings.decay
    if best.architecture != full and settings.polish_batch and settings.evaluations is not None:
        yield from _polish(moves, evaluate, target, rng, settings, trials, settings.evaluations)


def _samples(
    moves: Moves,
    best: Trial,
    reduction: float,
    target: float,
    small: Architecture,
    rng: np.random.Generator,
    settings: DescentSettings,
    trials: dict[Architecture, Trial],
) -> list[Architecture]:
    """The networks to score next: canonical, different, all with a smaller metric than `best`."""
    guided = settings.oversample > 1 and len(trials) >= settings.guide_after
    limit = settings.samples
    wanted = limit * (settings.oversample if guided else 1)
    rows, values = _proposals(moves, best, reduction, wanted * PROPOSALS, rng, settings)
    for kept in _preferences(values, best.metric, reduction, target, settings):
        if kept.any():
            found = moves.canonical(rows[kept])
            if settings.draw == "each":
                return found
            if guided and len(found) > limit:
                found = found[:wanted]
                chosen = most_promising(moves.space, list(trials.values()), found, limit)
                found = [found[i] for i in chosen]
            return found[:limit]
    return [_smallest_reduction(moves, best, target, small, settings)]


def _proposals(
    moves: Moves,
    best: Trial,
    reduction: float,
    count: int,
    rng: np.random.Generator,
    settings: DescentSettings,
) -> tuple[Rows, Values]:
    """Shrink `best` at random, or each coordinate once; rows and their metric."""
    rows = moves.repeat(best.architecture, count)
    if settings.draw == "each":
        each = np.flatnonzero(moves.shrinkable(rows[:1])[0])
        rows = moves.repeat(best.architecture, len(each))
    values = np.full(len(rows), best.metric)
    for step in range(settings.layers):
        drawn = moves.draw(moves.shrinkable(rows), rng)
        columns = each if settings.draw == "each" and step == 0 else drawn
        wanted = values - reduction / settings.layers * (1 - ROUNDING)
        rows, values = moves.shrink(rows, values, columns, wanted)
    return rows, values


def _preferences(
    values: Values, current: float, reduction: float, target: float, settings: DescentSettings
) -> Iterator[Mask]:
    """Which samples to keep: the first of these masks that has any."""
    fall = current - values
    low, high = (factor * reduction for factor in settings.acceptance)
    enough = fall >= low * (1 - ROUNDING)
    usable = (fall > 0) & (values >= settings.floor * target)
    if reduction >= (current - target) * (1 - ROUNDING):
        yield usable & (values <= target)  # the last step: do not approach the target for ever
    yield usable & enough & (fall <= high)
    # Nothing fits: the nearest. Those that fall less would all score better for being larger.
    yield usable & enough
    yield usable & (fall >= 0.8 * np.max(fall, where=usable, initial=0.0))


def _must_finish(space: SearchSpace, settings: DescentSettings, spent: int) -> bool:
    """Whether a further iteration could leave too few evaluations to reach the target."""
    count = len(space.coordinates) if settings.draw == "each" else settings.samples
    return settings.evaluations is not None and (
        spent + count + settings.samples > settings.evaluations
    )


def _finishing(
    moves: Moves,
    best: Trial,
    target: float,
    small: Architecture,
    rng: np.random.Generator,
    settings: DescentSettings,
    spent: int,
) -> list[Architecture]:
    """Networks that meet the target at once, as many as the budget still allows, at least one."""
    left = (settings.evaluations or 0) - spent
    rows = moves.repeat(best.architecture, settings.samples)
    rows, _ = moves.settle(rows, target, settings.floor * target, small, rng)
    return moves.canonical(rows)[: max(1, left)]


def _smallest_reduction(
    moves: Moves, best: Trial, target: float, small: Architecture, settings: DescentSettings
) -> Architecture:
    """The single shrinking that lowers the metric least, not below the floor if that is possible.

    Where no single one lowers it at all, `small`: it meets the target, so the descent ends.
    """
    columns = np.flatnonzero(moves.shrinkable(np.array([best.architecture]))[0])
    rows = moves.repeat(best.architecture, len(columns))
    positions = moves.positions(rows, columns)
    owner, position, values = moves.alternatives(rows, columns, np.zeros_like(positions), positions)
    falls = values < best.metric
    if not falls.any():
        return small
    above = falls & (values >= settings.floor * target)
    least = np.where(above if above.any() else falls, values, -np.inf).argmax()
    chosen = moves.place(rows[owner[[least]]], columns[owner[[least]]], position[[least]])
    return moves.canonical(chosen)[0]


def _polish(
    moves: Moves,
    evaluate: Evaluate,
    target: float,
    rng: np.random.Generator,
    settings: DescentSettings,
    trials: dict[Architecture, Trial],
    evaluations: int,
) -> Iterator[Trial]:
    """Swap widths of the best network within the target until the evaluations are spent."""
    fruitless = 0
    while len(trials) < evaluations and fruitless < 20:  # a small space runs out of swaps
        within = [trial for trial in trials.values() if trial.metric <= target]
        best = min(within, key=lambda trial: rank(trial, settings.criterion))
        limit = min(settings.polish_batch, evaluations - len(trials))
        start = moves.repeat(best.architecture, settings.polish_batch * settings.oversample)
        rows, values = moves.swap(start, target, rng)
        found = _new(moves, rows[(values <= target) & (values >= settings.floor * target)], trials)
        fruitless = 0 if found else fruitless + 1
        if settings.oversample > 1 and len(found) > limit and len(trials) >= settings.guide_after:
            chosen = most_promising(moves.space, list(trials.values()), found, limit)
            found = [found[i] for i in chosen]
        scored = evaluate(found[:limit], "polish")
        trials.update((trial.architecture, trial) for trial in scored)
        yield from scored


def _new(moves: Moves, rows: Rows, trials: dict[Architecture, Trial]) -> list[Architecture]:
    return [a for a in moves.canonical(rows) if a not in trials]
