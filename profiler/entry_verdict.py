"""Whether the value of one entry of a table can be believed: its lowest visits are confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

EntryVerdict = Literal["steady", "noisy", "unknown"]

# Of the smallest visit, relative; operators below 1 us differ by 3 % between processes.
CLOSE = 0.04
CONFIRMING_VISITS = 2  # of a run
CONFIRMING_RUNS = 2

ENTRY_ADVICE: dict[EntryVerdict, str] = {
    "steady": "the value can be believed: visits of at least two runs agree on it",
    "noisy": (
        "no second run confirms the value: end other work on the board and measure further runs"
    ),
    "unknown": "no run has visited it twice, as with imported values: measure it to know",
}


def entry_verdict(visits_by_run: Sequence[NDArray[np.float64]]) -> EntryVerdict:
    """Judge an entry by its visits (seconds), those of each run (fresh process) apart.

    It is steady where at least two runs have at least two visits each within 4 % of the smallest
    of all. Whatever disturbs a board makes it slower, so the smallest is wrong only where no
    visit met the board undisturbed, and that hardly ever looks the same in two runs. With a
    single run nothing is confirmed, and where no run has two visits nothing can be.
    """
    counts = [len(run) for run in visits_by_run]
    if not sum(counts):
        return "unknown"
    runs = np.repeat(np.arange(len(counts)), counts)
    return entry_verdicts(np.zeros_like(runs), runs, np.concatenate(visits_by_run))[0]


def entry_verdicts(
    entry: NDArray[np.int64], run: NDArray[np.int64], seconds: NDArray[np.float64]
) -> dict[int, EntryVerdict]:
    """The verdict on each entry; a row for each visit, in the order of entry and run."""
    if not len(entry):
        return {}
    runs = starts(entry, run)
    entries = starts(entry[runs])  # of the runs, where each entry begins
    first_visits = runs[entries]
    lowest = np.minimum.reduceat(seconds, first_visits)
    visits = np.diff(np.r_[first_visits, len(entry)])
    near = seconds <= np.repeat(lowest, visits) * (1 + CLOSE)
    confirming = np.add.reduceat(near.astype(np.int64), runs) >= CONFIRMING_VISITS
    steady = np.add.reduceat(confirming.astype(np.int64), entries) >= CONFIRMING_RUNS
    most = np.maximum.reduceat(np.diff(np.r_[runs, len(entry)]), entries)
    found: dict[int, EntryVerdict] = {}
    for number, good, repeated in zip(
        entry[first_visits].tolist(), steady.tolist(), (most > 1).tolist(), strict=True
    ):
        found[number] = "steady" if good else "noisy" if repeated else "unknown"
    return found


def starts(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where groups of equal rows begin, in columns that have at least one row."""
    changes = np.logical_or.reduce([np.diff(column) != 0 for column in columns])
    return np.flatnonzero(np.r_[True, changes])
