"""Score each network once, and lose nothing when the process is killed.

`History` (see `history`) keeps what was scored, `Evaluator` answers from it. Where a batch of
networks is raced, all are scored on a slice of the holdout and the best of them on all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..devices.errors import BoardfitError, BudgetSpent, RunFolderError
from .history import History
from .metrics import Metric
from .space import Architecture, SearchSpace
from .trial import Trial, rank

Score = Callable[[Architecture], tuple[float, float]]


class Map(Protocol):
    """How networks are scored: one by one like Python's `map`, or several at a time (an executor's
    `map`, see `score_workers`). Scores come back in the order of the networks."""

    def __call__(
        self, function: Score, architectures: Sequence[Architecture], /
    ) -> Iterable[tuple[float, float]]:
        """The score of each architecture."""


@dataclass(frozen=True)
class Race:
    """Score a batch on `images` images of the holdout by `score`, and the best `keep` (a part of
    the batch, at least one network) on all of it. A network that comes alone is not raced."""

    score: Score
    images: int
    keep: float = 0.3

    def __post_init__(self) -> None:
        if self.images < 1 or not 0 < self.keep < 1:
            raise ValueError(
                f"a race needs images and keeps a part of the networks, not {self.keep}"
            )

    def finalists(self, batch: int) -> int:
        """How many networks of a batch are scored on all images."""
        return max(1, math.ceil(self.keep * batch))


class Evaluator:
    """Hand an optimiser its trials: every network is scored once, whatever was killed between.

    `score` returns (accuracy, loss) of a canonical architecture. Without a history, trials are
    kept in memory only. `budget` bounds the different networks that may be asked for, the ones
    answered from the history included, so that a resumed search ends where it would have ended.
    `race` scores batches in two steps, `map` several networks at a time.
    """

    def __init__(
        self,
        space: SearchSpace,
        score: Score,
        metric: Metric,
        history: History | None = None,
        *,
        budget: int | None = None,
        race: Race | None = None,
        map: Map = map,
    ) -> None:
        if budget is not None and budget < 1:
            raise ValueError(f"a budget of {budget} evaluations allows nothing")
        self._space = space
        self._score = score
        self._metric = metric
        self._history = history
        self._budget = budget
        self._race = race
        self._map = map
        trials = history.trials if history else []
        self._known = {(t.architecture, t.images): t for t in trials}
        self._asked: dict[Architecture, Trial] = {}
        self._spent: dict[tuple[Architecture, int | None], None] = {}

    @property
    def trials(self) -> list[Trial]:
        """The trials that this search asked for, each network once, in order."""
        return list(self._asked.values())

    @property
    def evaluations(self) -> int:
        """How many different networks were asked for, scored now or in an earlier process."""
        return len(self._asked)

    @property
    def remaining(self) -> int | None:
        """How many further networks the budget allows; `None` without a budget."""
        return None if self._budget is None else self._budget - self.evaluations

    def images(self, whole: int) -> int:
        """How many images networks were run on, where the holdout has `whole`; finalists of a race
        are counted with both of their steps."""
        return sum(whole if images is None else images for _, images in self._spent)

    def __call__(
        self, architectures: Sequence[Architecture], origin: str = "sample"
    ) -> list[Trial]:
        """The trials of the architectures, in their order.

        Raises `SpaceError` for one outside of the space, `BudgetSpent` before the first that the
        budget does not allow, `RunFolderError` where the history was written with other prices.
        """
        if not architectures:
            return []
        for architecture in architectures:
            self._space.check(architecture)
        canonical = [self._space.canonical(architecture) for architecture in architectures]
        prices = dict(zip(canonical, self._metric(canonical).tolist(), strict=True))
        new = [architecture for architecture in prices if architecture not in self._asked]
        allowed = len(new) if self.remaining is None else self.remaining
        self._answer({a: prices[a] for a in new[:allowed]}, origin)
        if len(new) > allowed:
            raise BudgetSpent(
                f"the budget of {self._budget} evaluations is spent; the trials so far are kept: "
                "choose the best of them, or run again with a larger budget"
            )
        return [self._asked[architecture] for architecture in canonical]

    def _answer(self, prices: dict[Architecture, float], origin: str) -> None:
        race, finalists = self._race, prices
        if race is not None and len(prices) > race.finalists(len(prices)):
            first = self._trials(prices, origin, race.images)
            self._asked.update((trial.architecture, trial) for trial in first)
            first.sort(key=lambda trial: rank(trial, "loss"))
            kept = [trial.architecture for trial in first[: race.finalists(len(first))]]
            finalists = {a: price for a, price in prices.items() if a in kept}
        for trial in self._trials(finalists, origin, None):
            self._asked[trial.architecture] = trial

    def _trials(
        self, prices: dict[Architecture, float], origin: str, images: int | None
    ) -> list[Trial]:
        """The trials on so many images: from the history, or scored now."""
        for architecture, price in prices.items():
            known = self._known.get((architecture, images))
            if known is not None and not math.isclose(known.metric, price, rel_tol=1e-9):
                raise RunFolderError(
                    f"trial {known.number} of the history has the metric {known.metric!r}, now it "
                    f"is {price!r}: the prices have changed; choose another run folder"
                )
        missing = [a for a in prices if (a, images) not in self._known]
        score = self._score
        if images is not None:
            assert self._race is not None
            score = self._race.score
        for architecture, (accuracy, loss) in zip(missing, self._map(score, missing), strict=True):
            self._keep(architecture, accuracy, loss, prices[architecture], origin, images)
        self._spent.update(dict.fromkeys((a, images) for a in prices))
        return [self._known[architecture, images] for architecture in prices]

    def _keep(
        self,
        architecture: Architecture,
        accuracy: float,
        loss: float,
        price: float,
        origin: str,
        images: int | None,
    ) -> None:
        if not (math.isfinite(accuracy) and math.isfinite(loss)):
            raise BoardfitError(
                f"the network {architecture} scored accuracy {accuracy} and loss {loss}: the "
                "super-network's training has diverged; train it again with a lower learning rate"
            )
        trial = Trial(
            len(self._known), architecture, float(accuracy), float(loss), price, origin, images
        )
        if self._history is not None:
            self._history.append(trial)
        self._known[architecture, images] = trial
