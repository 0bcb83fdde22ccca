"""How a coordinate descent descends, and the presets: NetAdaptV2's, NetAdapt V1's, and our own."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from .trial import Criterion

ALONE = 3  # coordinates, of which one can lower the metric by a whole iteration's reduction


@dataclass(frozen=True)
class DescentSettings:
    """How to descend.

    `samples` (J) networks are scored in each iteration; each differs from the best in `layers`
    (L) draws, with replacement. An iteration lowers the metric by `initial_reduction` (a fraction
    of the full network's) at first, times `decay` with each iteration.

    `draw` says where: at random; at random with a preference for coordinates that are predicted to
    lose little (`sensitivity`, from `guide_after` trials on); or `each` coordinate once (`samples`
    then counts for the step to the target and the guide only).

    Samples that fell by less or more than `acceptance` (factors of the reduction wanted), or
    below `floor` times the target, are dropped where others exist.

    With `oversample` above 1 that many times more samples are proposed, and those are scored
    that a ridge regression on all networks scored so far predicts to be best, from `guide_after`
    trials on.

    `evaluations` bounds the networks that are scored in all: a descent that would need more is cut
    short by one step to the target, with up to `samples` networks. What is left when the target is
    met goes into swaps of widths at equal metric and, with a guide, random networks within it,
    `polish_batch` a time (0: no polish; `evaluations=None`: neither).
    """

    samples: int = 10
    layers: int = 6
    initial_reduction: float = 0.15
    decay: float = 0.9
    acceptance: tuple[float, float] = (0.9, 1.6)
    floor: float = 0.9
    draw: Literal["random", "sensitivity", "each"] = "random"
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
"""For about 120 evaluations: few large steps, guided, then swaps for the rest of the budget."""


def scaled(
    settings: DescentSettings, evaluations: int, share: float, coordinates: int
) -> DescentSettings:
    """The settings for a descent to `share` of the full network within so many evaluations.

    The paper's thousands of evaluations are not always to be had. Iterations and samples are made
    fewer by the same factor, and the reduction of an iteration larger by it, so that the schedule
    keeps its shape; a descent that proposes each of the space's `coordinates` can only make fewer
    iterations, of which each scores those that can fall that far alone: a third is counted on.
    Settings that need no more than that are only given the bound.
    """
    fall = 1 - share
    r0, decay = settings.initial_reduction, settings.decay
    if decay < 1:
        left = 1 - fall * (1 - decay) / r0  # of the geometric series' limit
        iterations = math.log(left) / math.log(decay) if left > 0 else math.inf
    else:
        iterations = fall / r0
    each = settings.draw == "each"
    wanted = iterations * (coordinates / ALONE if each else settings.samples)
    if wanted <= evaluations:
        return replace(settings, evaluations=evaluations)
    factor = evaluations / wanted if each else math.sqrt(evaluations / wanted)
    if not math.isfinite(wanted):
        raise ValueError(
            f"reductions of {r0:.1%} that shrink by {decay} with each iteration never reach "
            f"{share:.0%}; raise one of them"
        )
    return replace(
        settings,
        evaluations=evaluations,
        samples=settings.samples if each else max(1, round(settings.samples * factor)),
        initial_reduction=min(1.0, r0 / factor),
        decay=decay ** (1 / factor),
    )
