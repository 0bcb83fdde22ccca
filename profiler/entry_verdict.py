"""Whether the value of one entry of a table can be believed: its lowest visits are confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

EntryVerdict = Literal["steady", "noisy"]

CLOSE = 0.03  # of the smallest visit, relative; two fresh processes differ by 0.6 % on average
CONFIRMING_VISITS = 2  # of a run
CONFIRMING_RUNS = 2

ENTRY_ADVICE: dict[EntryVerdict, str] = {
    "steady": "the value can be believed: visits of at least two runs agree on it",
    "noisy": (
        "no second run confirms the value: end other work on the board and measure further runs"
    ),
}


def entry_verdict(visits_by_run: Sequence[NDArray[np.float64]]) -> EntryVerdict:
    """Judge an entry by its visits (seconds), those of each run (fresh process) apart.

    It is steady where at least two runs have at least two visits each within 3 % of the smallest
    of all. Whatever disturbs a board makes it slower, so the smallest is wrong only where no
    visit met the board undisturbed, and that hardly ever looks the same in two runs. With a
    single run nothing is confirmed.
    """
    runs = [run for run in visits_by_run if len(run)]
    if not runs:
        return "noisy"
    limit = min(float(run.min()) for run in runs) * (1 + CLOSE)
    confirming = sum(int((run <= limit).sum()) >= CONFIRMING_VISITS for run in runs)
    return "steady" if confirming >= CONFIRMING_RUNS else "noisy"
