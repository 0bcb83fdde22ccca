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

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from .descent_settings import DEFAULT, DescentSettings
from .guide import fit, most_promising
from .metrics import Metric, Rows, Values, reachable
from .moves import Mask, Moves
from .polish import polish
from .space import Architecture, SearchSpace
from .trial import Evaluate, Trial, rank

ROUNDING = 1e-9  # a fall counts as reached within this part of it
PROPOSALS = 4  # for each sample that is wanted, since some repeat others or overshoot
BLIND = 0.25  # the share of sensitivity-weighted draws that stays uniform


def coordinate_descent(
    space: SearchSpace,
    evaluate: Evaluate,
    metric: Metric,
    target: float | Sequence[float],
    rng: np.random.Generator,
    settings: DescentSettings = DEFAULT,
) -> Iterator[Trial]:
    """The trade-off curve from the full network down to `target`, and the trials in between.

    Several targets are met by one descent, from the largest to the smallest: each is polished when
    it is reached, with an equal part of the evaluations, and the descent begins again from there.

    Yields every trial that it asked for, and after each iteration the one it goes on from, with
    the origin "iterate". `best_trial` finds the result for each target. Raises `ConstraintNotMet`
    before anything is scored where no network meets the (smallest) target.
    """
    targets = sorted({target} if isinstance(target, float | int) else set(target), reverse=True)
    moves = Moves(space, metric)
    full = space.canonical(space.full)
    small = full if metric([full])[0] <= targets[-1] else reachable(space, metric, targets[-1])
    best = evaluate([full], "iterate")[0]
    trials = {best.architecture: best}
    yield replace(best, origin="iterate")
    for number, wanted in enumerate(targets, 1):
        reduction = settings.initial_reduction * best.metric
        part = settings
        if settings.evaluations is not None:
            allowed = max(2, settings.evaluations * number // len(targets))
            part = replace(settings, evaluations=allowed)
        while best.metric > wanted:
            reduction = min(reduction, best.metric - wanted)
            if _must_finish(space, part, len(trials)):
                found = _finishing(moves, best, wanted, small, rng, part, len(trials))
            else:
                found = _samples(moves, best, reduction, wanted, small, rng, part, trials)
            scored = evaluate(found)
            trials.update((trial.architecture, trial) for trial in scored)
            yield from scored
            best = min(scored, key=lambda trial: rank(trial, settings.criterion))
            yield _go_on_from(best, evaluate)
            reduction *= settings.decay
        if best.architecture != full and settings.polish_batch and part.evaluations is not None:
            yield from polish(moves, evaluate, wanted, rng, part, trials, part.evaluations)
            within = [trial for trial in trials.values() if trial.metric <= wanted]
            best = min(within, key=lambda trial: rank(trial, settings.criterion))
            if wanted > targets[-1]:
                yield _go_on_from(best, evaluate)


def _go_on_from(best: Trial, evaluate: Evaluate) -> Trial:
    """Tell `evaluate` which network the search goes on from: one that carries weights along (see
    `short_training`) takes its own from now on."""
    evaluate([best.architecture], "iterate")
    return replace(best, origin="iterate")


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
    weights = None
    if settings.draw == "sensitivity" and len(trials) >= settings.guide_after:
        weights = sensitivity(moves, best, reduction / settings.layers, list(trials.values()))
    rows, values = propose(moves, best, reduction, wanted * PROPOSALS, rng, settings, weights)
    for kept in _preferences(values, best.metric, reduction, target, settings):
        if kept.any():
            found = moves.canonical(rows[kept])
            if guided and len(found) > limit:
                found = found[:wanted]
                chosen = most_promising(moves.space, list(trials.values()), found, limit)
                return [found[i] for i in chosen]
            return found if settings.draw == "each" else found[:limit]
    return [_smallest_reduction(moves, best, target, small, settings)]


def propose(
    moves: Moves,
    best: Trial,
    reduction: float,
    count: int,
    rng: np.random.Generator,
    settings: DescentSettings,
    weights: Values | None = None,
) -> tuple[Rows, Values]:
    """Shrink `best` `count` times at random, or each coordinate once: rows and their metric.

    All are shrunk together, and all alternatives of a draw are priced in one call. `weights` are
    how likely each coordinate is drawn.
    """
    rows = moves.repeat(best.architecture, count)
    if settings.draw == "each":
        each = np.flatnonzero(moves.shrinkable(rows[:1])[0])
        rows = moves.repeat(best.architecture, len(each))
    values = np.full(len(rows), best.metric)
    for step in range(settings.layers):
        drawn = moves.draw(moves.shrinkable(rows), rng, weights)
        columns = each if settings.draw == "each" and step == 0 else drawn
        wanted = values - reduction / settings.layers * (1 - ROUNDING)
        rows, values = moves.shrink(rows, values, columns, wanted)
    return rows, values


def sensitivity(moves: Moves, best: Trial, fall: float, trials: Sequence[Trial]) -> Values:
    """How likely each coordinate should be drawn, float64 [coordinates]: the more, the less its
    shrinking alone by `fall` is predicted to cost. A quarter of the draws stays uniform."""
    rows = moves.repeat(best.architecture, len(moves.sizes))
    values = np.full(len(rows), best.metric)
    wanted = values - fall * (1 - ROUNDING)
    shrunk, after = moves.shrink(rows, values, np.arange(len(rows)), wanted)
    guide = fit(moves.space, trials)
    canonical = [moves.space.canonical(tuple(row)) for row in shrunk.tolist()]
    loss = guide.predict(canonical) - guide.predict([best.architecture])
    gained = np.maximum(best.metric - after, 0.0)
    possible = gained > 0
    if not possible.any():
        return np.ones(len(rows))
    # By what a unit of the metric costs, since staircases let some coordinates fall further.
    price = np.where(possible, loss / np.where(possible, gained, 1.0), np.inf)
    finite = price[possible]
    spread = float(finite.std()) or 1.0
    preferred = np.where(possible, np.exp(-(price - finite.min()) / spread), 0.0)
    weights: Values = (1 - BLIND) * preferred / preferred.sum() + BLIND / len(rows)
    return weights


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
    guided = settings.oversample > 1 and spent >= settings.guide_after
    every = settings.draw == "each" and not guided
    count = len(space.coordinates) if every else settings.samples
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
