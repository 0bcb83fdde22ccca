"""NSGA-II on loss and metric together, as Optuna has it, handed the same `evaluate` as the others.

Deb, Pratap, Agarwal and Meyarivan, "A fast and elitist multiobjective genetic algorithm: NSGA-II"
(IEEE Transactions on Evolutionary Computation, 2002). Nearly all children of two networks within a
target lie elsewhere. Pricing is free, so that each is brought back before it is scored, and what
was scored joins the population in its place (repair, as in constrained genetic algorithms).
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import NSGAIISampler
from optuna.trial import FrozenTrial, TrialState

from .guide import most_promising
from .metrics import Metric, reachable
from .moves import Moves
from .random_search import random_within
from .space import Architecture, SearchSpace
from .trial import Evaluate, Trial


@dataclass(frozen=True)
class NsgaSettings:
    """Size of the population, and which children are scored.

    The first population are random networks within the target, as in the evolution. Children are
    brought to `floor * target` to `target`. With `oversample` above 1, that many are made for each
    that is scored, the one predicted to be best, from `guide_after` trials on. `attempts` bounds
    the children in a row that are known already: a small space has no more to offer.
    """

    evaluations: int = 120
    population: int = 24
    floor: float = 0.9
    attempts: int = 50
    oversample: int = 1
    guide_after: int = 10

    def __post_init__(self) -> None:
        counts = (self.evaluations, self.population - 1, self.attempts, self.oversample)
        if min(counts) < 1 or self.guide_after < 2:
            raise ValueError("all counts are at least 1, the population and guide_after at least 2")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"the floor {self.floor} is not a fraction of the target")


def nsga(
    space: SearchSpace,
    evaluate: Evaluate,
    metric: Metric,
    target: float,
    rng: np.random.Generator,
    settings: NsgaSettings | None = None,
) -> Iterator[Trial]:
    """Trials of NSGA-II within a target; `best_trial` finds the result.

    The full network alone where it meets the target. Raises `ConstraintNotMet` before anything is
    scored where no network does.
    """
    settings = settings or NsgaSettings()
    full = space.canonical(space.full)
    if metric([full])[0] <= target:
        yield evaluate([full], "nsga")[0]
        return
    moves = Moves(space, metric)
    small = reachable(space, metric, target)
    first = min(settings.population, settings.evaluations)
    starters = random_within(moves, target, settings.floor, small, rng, first)
    population = _Population(space, int(rng.integers(2**31)), settings.population)
    trials: dict[Architecture, Trial] = {}
    while len(trials) < settings.evaluations:
        children: dict[Architecture, FrozenTrial] = {}
        guided = settings.oversample > 1 and len(trials) >= settings.guide_after and not starters
        for _ in range(settings.attempts + settings.oversample):
            if len(children) == (settings.oversample if guided else 1):
                break
            child, asked = population.ask()
            if starters:
                child = starters.pop(0)
            else:
                rows = moves.repeat(child, 1)
                rows, _ = moves.settle(rows, target, settings.floor * target, small, rng)
                child = moves.canonical(rows)[0]
            if child not in trials:
                children[child] = asked
        if not children:
            return
        found = list(children)
        best = int(most_promising(space, list(trials.values()), found, 1)[0]) if guided else 0
        trial = evaluate([found[best]], "nsga")[0]
        population.add(children[found[best]], trial)
        trials[trial.architecture] = trial
        yield trial


class _Population:
    """Optuna's side of it: integers that count the values of each coordinate."""

    def __init__(self, space: SearchSpace, seed: int, size: int) -> None:
        self._space = space
        self._distributions: dict[str, BaseDistribution] = {
            coordinate.name: IntDistribution(0, len(coordinate.values) - 1)
            for coordinate in space.coordinates
        }
        with _quietly():
            sampler = NSGAIISampler(population_size=size, seed=seed)
            self._study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)

    def ask(self) -> tuple[Architecture, FrozenTrial]:
        """A child: its canonical architecture, and what Optuna noted about its generation. It is
        not in the population itself."""
        with _quietly():
            trial = self._study.ask(self._distributions)
            asked = self._study.tell(trial, state=TrialState.FAIL)
        drawn = tuple(c.values[asked.params[c.name]] for c in self._space.coordinates)
        return self._space.canonical(drawn), asked

    def add(self, asked: FrozenTrial, scored: Trial) -> None:
        """Let what was scored in a child's place into its generation."""
        places = {
            coordinate.name: coordinate.values.index(value)
            for coordinate, value in zip(self._space.coordinates, scored.architecture, strict=True)
        }
        with _quietly():
            member = optuna.trial.create_trial(
                params=places,
                distributions=self._distributions,
                values=[scored.loss, scored.metric],
                system_attrs=asked.system_attrs,
            )
            self._study.add_trial(member)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Optuna tells every step on stderr, and that it may change."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
