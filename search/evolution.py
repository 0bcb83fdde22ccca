"""Ageing evolution among the networks just within a target.

Real, Aggarwal, Huang and Le, "Regularized Evolution for Image Classifier Architecture Search"
(AAAI 2019): the best of a random tournament is mutated, and the oldest of the population dies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .guide import most_promising
from .metrics import Metric, reachable
from .moves import Moves
from .random_search import random_within
from .space import Architecture, SearchSpace
from .trial import Criterion, Evaluate, Trial, rank


@dataclass(frozen=True)
class EvolutionSettings:
    """Sizes of population and tournament, and which children are scored.

    A child differs from its parent in `mutations` draws of a coordinate, with replacement, and is
    scored only if its metric is `floor * target` to `target`; it is looked for in `attempts`
    broods of 64 mutants. With `oversample` above 1, that many children are found for each that is
    scored, the one predicted to be best, from `guide_after` trials on.
    """

    evaluations: int = 120
    population: int = 24
    tournament: int = 6
    mutations: int = 3
    floor: float = 0.9
    attempts: int = 20
    criterion: Criterion = "loss"
    oversample: int = 1
    guide_after: int = 10

    def __post_init__(self) -> None:
        counts = (self.evaluations, self.population, self.tournament, self.mutations)
        if min(*counts, self.attempts, self.oversample) < 1 or self.guide_after < 2:
            raise ValueError("all counts of an evolution are at least 1")
        if self.tournament > self.population:
            raise ValueError(
                f"a tournament of {self.tournament} needs a population of at least as many, "
                f"not {self.population}"
            )
        if not 0 <= self.floor <= 1:
            raise ValueError(f"the floor {self.floor} is not a fraction of the target")


BROOD = 64


def evolution(
    space: SearchSpace,
    evaluate: Evaluate,
    metric: Metric,
    target: float,
    rng: np.random.Generator,
    settings: EvolutionSettings | None = None,
) -> Iterator[Trial]:
    """Trials of an evolution that starts from random networks within the target.

    Yields every trial; `best_trial` finds the result. The full network alone where it meets the
    target. Raises `ConstraintNotMet` before anything is scored where no network does.
    """
    settings = settings or EvolutionSettings()
    full = space.canonical(space.full)
    if metric([full])[0] <= target:
        yield evaluate([full], "evolution")[0]
        return
    moves = Moves(space, metric)
    small = reachable(space, metric, target)
    first = min(settings.population, settings.evaluations)
    starters = random_within(moves, target, settings.floor, small, rng, first)
    alive: deque[Trial] = deque()
    trials: dict[Architecture, Trial] = {}
    while len(trials) < settings.evaluations:
        if starters:
            child = starters.pop(0)
        else:
            places = rng.choice(
                len(alive), min(settings.tournament, len(alive)), replace=False
            ).tolist()
            parent = min((alive[i] for i in places), key=lambda t: rank(t, settings.criterion))
            children = _children(moves, parent, target, small, rng, settings, trials)
            if not children:
                return  # every network that mutation and repair can find was scored
            if len(children) > 1 and len(trials) >= settings.guide_after:
                best = most_promising(space, list(trials.values()), children, 1)[0]
                children = [children[best]]
            child = children[0]
        trial = evaluate([child], "evolution")[0]
        trials[trial.architecture] = trial
        alive.append(trial)
        if len(alive) > settings.population:
            alive.popleft()
        yield trial


def _children(
    moves: Moves,
    parent: Trial,
    target: float,
    small: Architecture,
    rng: np.random.Generator,
    settings: EvolutionSettings,
    trials: dict[Architecture, Trial],
) -> list[Architecture]:
    """Up to `oversample` new networks within the target; empty where none is found any more."""
    found: dict[Architecture, None] = {}
    for attempt in range(2 * settings.attempts):
        rows = moves.repeat(parent.architecture, BROOD)
        for _ in range(settings.mutations):
            columns = moves.draw(moves.shrinkable(rows) | moves.growable(rows), rng)
            rows = moves.place(rows, columns, rng.integers(moves.sizes[columns]))
        values = moves.metric(rows)
        if attempt >= settings.attempts:  # the band is narrow: bring the mutants into it
            rows, values = moves.settle(rows, target, settings.floor * target, small, rng)
        inside = values <= target
        above = inside & (values >= settings.floor * target)
        if attempt >= settings.attempts and not above.any():
            above = inside
        found.update((a, None) for a in moves.canonical(rows[above]) if a not in trials)
        if len(found) >= settings.oversample or (found and attempt >= settings.attempts):
            break
    return list(found)[: settings.oversample]
