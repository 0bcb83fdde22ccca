"""What any search has to beat: the full network with all of its widths narrowed alike."""

from __future__ import annotations

import numpy as np

from .metrics import Metric
from .space import Architecture, SearchSpace


def uniform_baseline(space: SearchSpace, metric: Metric, target: float) -> Architecture:
    """The full network with all widths narrowed alike, as large as the target allows.

    Many widths step at the same scale, so that the steps in latency are coarse: what a step too
    far would widen is widened one by one as long as the target is kept. Narrowing alone cannot
    reach what removing blocks can: where even the narrowest is too slow, it is the narrowest.
    """
    narrowed = [space.narrowed(scale) for scale in np.linspace(0.0, 1.0, 500)]
    seconds = metric(narrowed)
    within = np.flatnonzero(seconds <= target)
    if not len(within):
        return narrowed[int(np.argmin(seconds))]
    place = int(within[np.argmax(seconds[within])])
    best = narrowed[place]
    wider = next((other for other in narrowed[place:] if other != best), best)
    for column, width in enumerate(wider):
        candidate = (*best[:column], width, *best[column + 1 :])
        if metric([candidate])[0] <= target:
            best = candidate
    return best
