"""A network that was scored, and what an optimiser is handed to have networks scored."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ..devices.errors import ConstraintNotMet
from .space import Architecture

Criterion = Literal["accuracy", "loss"]


@dataclass(frozen=True)
class Trial:
    """A network that was scored: `number` counts from 0 in the order of scoring.

    `architecture` is canonical. `loss` and `accuracy` are those of the search holdout under the
    super-network's weights, `metric` is in the metric's own unit (seconds for latency). `origin`
    says what it was tried for: "sample", "iterate", "polish", "uniform", ... `images` is how many
    images of the holdout a network was scored on that a race left behind, `None` where it was all.
    """

    number: int
    architecture: Architecture
    accuracy: float
    loss: float
    metric: float
    origin: str
    images: int | None = None

    def __post_init__(self) -> None:
        if self.number < 0 or not self.architecture or not self.origin:
            raise ValueError("a trial needs a number, an architecture and an origin")
        if self.images is not None and self.images < 1:
            raise ValueError(f"a trial on {self.images} images says nothing")
        for name in ("accuracy", "loss", "metric"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"the {name} of a trial is {getattr(self, name)}")


class Evaluate(Protocol):
    """What an optimiser is handed: the trials of some architectures, in their order."""

    def __call__(
        self, architectures: Sequence[Architecture], origin: str = "sample"
    ) -> list[Trial]:
        """Score those that are new, remember the others. The origin "iterate" names the network
        that a descent goes on from."""


def rank(trial: Trial, criterion: Criterion) -> tuple[bool, float, float, int]:
    """A key that sorts the better trial first; ties are broken by the other figure. Networks that
    a race left behind come after all that were scored on the whole holdout."""
    scores = (-trial.accuracy, trial.loss)
    ordered = scores if criterion == "accuracy" else scores[::-1]
    return (trial.images is not None, *ordered, trial.number)


def best_trial(trials: Iterable[Trial], target: float, criterion: Criterion = "loss") -> Trial:
    """The best trial whose metric is at most `target`, of those on the whole holdout. Raises
    `ConstraintNotMet` without one."""
    trials = [trial for trial in trials if trial.images is None]
    within = [trial for trial in trials if trial.metric <= target]
    if not within:
        least = min((trial.metric for trial in trials), default=math.inf)
        raise ConstraintNotMet(
            f"none of {len(trials)} evaluated networks meets the target {target:.6g}: the smallest "
            f"value among them is {least:.6g}; let the search run to its end"
        )
    return min(within, key=lambda trial: rank(trial, criterion))
