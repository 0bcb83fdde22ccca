"""Hardware in the loop: candidates are measured on the board before one of them is chosen.

A table's prediction may be off by some per cent, and what is chosen is as often predicted too fast
as too slow. So the best networks within the target, and better ones whose interval reaches into it,
are measured interleaved with anchors; what was measured corrects the predictions of the others (see
`correction`), the polish goes on with the corrected ones, and so on until the network that would
be chosen is measured within the target, or as many were measured as are allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..devices.base import Device
from ..devices.errors import ConstraintNotMet
from ..profiler.progress import Report
from ..profiler.table import LookupTable
from ..profiler.tie import measure_tied
from .candidate import DOUBT, Candidate, Reading
from .correction import Correction, table_error
from .descent_settings import DEFAULT
from .metrics import Metric, as_rows, reachable
from .moves import Moves
from .polish import polish
from .space import Architecture, SearchSpace
from .trial import Evaluate, Trial, rank

TOGETHER = 4  # candidates that are measured in one session
POLISHED = 10  # further networks that are scored after each session


Measure = Callable[[Sequence[Architecture], int], list[Reading]]  # networks, session number


@dataclass(frozen=True)
class Confirmed:
    """The network to train, and all that were measured to choose it, in order; `trials` are those
    scored meanwhile, with the search's own metric."""

    architecture: Architecture
    candidates: tuple[Candidate, ...]
    trials: tuple[Trial, ...]


def confirm(
    space: SearchSpace,
    metric: Metric,
    trials: Sequence[Trial],
    target: float,
    evaluate: Evaluate,
    correction: Correction,
    rng: np.random.Generator,
    *,
    at_most: int,
) -> Generator[list[Architecture], list[Reading], Confirmed]:
    """Ask for measurements of up to `at_most` candidates for a target, and choose.

    Yields networks to be measured together, and is sent what they took; `measure_for` does that
    for one target or several. `metric` is what the search went by, `trials` what it scored. The
    choice is the best network that was measured within the target; where none was, the best that is
    expected to be, or else the fastest.
    """
    scored = {trial.architecture: trial for trial in trials if trial.images is None}
    added: list[Trial] = []
    candidates: dict[Architecture, Candidate] = {}
    while len(candidates) < at_most:
        wanted = _to_measure(scored, candidates, metric, correction, target)
        wanted = wanted[: at_most - len(candidates)]
        if not wanted:
            break
        expected = correction.corrected(metric)(wanted)
        readings = yield wanted
        found = [
            Candidate(a, float(e), r) for a, e, r in zip(wanted, expected, readings, strict=True)
        ]
        candidates.update((candidate.architecture, candidate) for candidate in found)
        ratios = np.array([reading.seconds for reading in readings]) / metric(wanted)
        noise = [reading.noise for reading in readings]
        correction = correction.measured(wanted, ratios.tolist(), noise)
        if len(candidates) < at_most:
            added += _polished(space, metric, correction, target, evaluate, scored, rng)
    chosen = _choice(scored, candidates, metric, correction, target)
    return Confirmed(chosen, tuple(candidates.values()), tuple(added))


def measure_for(
    searches: Mapping[str, Generator[list[Architecture], list[Reading], Confirmed]],
    measure: Measure,
) -> dict[str, Confirmed]:
    """Answer what several searches ask for, in sessions that they share, until each has chosen."""
    finished: dict[str, Confirmed] = {}
    answers: dict[str, list[Reading] | None] = dict.fromkeys(searches)
    session = 0
    while answers:
        wanted: dict[str, list[Architecture]] = {}
        for name, answer in answers.items():
            try:
                search = searches[name]
                wanted[name] = next(search) if answer is None else search.send(answer)
            except StopIteration as end:
                finished[name] = end.value
        together = list(dict.fromkeys(a for some in wanted.values() for a in some))
        readings = dict(zip(together, measure(together, session), strict=True)) if together else {}
        answers = {name: [readings[a] for a in some] for name, some in wanted.items()}
        session += 1
    return {name: finished[name] for name in searches}


def measure_on(
    space: SearchSpace, table: LookupTable, device: Device, folder: Path, report: Report
) -> Measure:
    """Measure on the board; each session has a file in the folder, from which a search that was
    killed reads what it had measured."""

    def measure(architectures: Sequence[Architecture], session: int) -> list[Reading]:
        tied = measure_tied(
            table,
            device,
            {str(number): space.network(a) for number, a in enumerate(architectures)},
            path=folder / f"candidates-{session + 1}.boardfit",
            stage=f"measure candidates ({session + 1})",
            report=report,
        )
        return [
            Reading(t.predicted, t.seconds, t.limits, t.measurement.verdict) for t in tied.values()
        ]

    return measure


def _ordered(scored: dict[Architecture, Trial]) -> list[Trial]:
    return sorted(scored.values(), key=lambda trial: rank(trial, "loss"))


def _expected(
    ordered: Sequence[Trial],
    candidates: dict[Architecture, Candidate],
    metric: Metric,
    correction: Correction,
) -> tuple[list[float], list[float]]:
    """Of each trial the latency that is expected, and the least that it may be: as measured where
    it was, otherwise corrected."""
    architectures = [trial.architecture for trial in ordered]
    mean, deviation = correction(architectures)
    middle = metric(architectures) * np.exp(mean)
    least = middle * np.exp(-DOUBT * deviation)
    for place, architecture in enumerate(architectures):
        if (candidate := candidates.get(architecture)) is not None:
            middle[place] = least[place] = candidate.reading.seconds
    return middle.tolist(), least.tolist()


def _to_measure(
    scored: dict[Architecture, Trial],
    candidates: dict[Architecture, Candidate],
    metric: Metric,
    correction: Correction,
    target: float,
) -> list[Architecture]:
    """The best that are expected within the target, down to the first that is confirmed; and, of
    those better than any of them, what may be within, the likelier first. Nothing where the choice
    is clear."""
    ordered = _ordered(scored)
    middle, least = _expected(ordered, candidates, metric, correction)
    within, doubtful = [], []
    for trial, seconds, lowest in zip(ordered, middle, least, strict=True):
        known = trial.architecture in candidates
        if seconds <= target:
            if known:
                break
            within.append(trial.architecture)
        elif lowest <= target and not known and not within:
            doubtful.append((seconds, trial.architecture))
    # Half of a session is left for doubtful ones where there are some.
    doubtful.sort()
    some = [architecture for _, architecture in doubtful[: TOGETHER // 2]]
    return [*within[: TOGETHER - len(some)], *some]


def _polished(
    space: SearchSpace,
    metric: Metric,
    correction: Correction,
    target: float,
    evaluate: Evaluate,
    scored: dict[Architecture, Trial],
    rng: np.random.Generator,
) -> list[Trial]:
    """Score swaps of the best network that is expected within the target, or what is shrunk to it
    where none is; add them to `scored`."""
    corrected = correction.corrected(metric)

    def priced(trials: Sequence[Trial]) -> list[Trial]:
        values = corrected([trial.architecture for trial in trials]).tolist()
        return [replace(t, metric=value) for t, value in zip(trials, values, strict=True)]

    found: list[Trial] = []

    def scoring(architectures: Sequence[Architecture], origin: str = "sample") -> list[Trial]:
        fresh = evaluate(architectures, origin) if architectures else []
        found.extend(fresh)
        return priced(fresh)

    known = {trial.architecture: trial for trial in priced(list(scored.values()))}
    end, moves = len(known) + POLISHED, Moves(space, corrected)
    if all(trial.metric > target for trial in known.values()):
        # The board is slower than all of them allow for: the best are shrunk to the target.
        try:
            small = reachable(space, corrected, target)
        except ConstraintNotMet:
            return []
        best = [trial.architecture for trial in _ordered(scored)[:POLISHED]]
        rows, _ = moves.settle(as_rows(space, best), target, DEFAULT.floor * target, small, rng)
        shrunk = scoring([a for a in moves.canonical(rows) if a not in known])
        known.update((trial.architecture, trial) for trial in shrunk)
    if any(trial.metric <= target for trial in known.values()):
        for _ in polish(moves, scoring, target, rng, DEFAULT, known, end):
            pass
    whole = [trial for trial in found if trial.images is None]
    scored.update((trial.architecture, trial) for trial in whole)
    return found


def _choice(
    scored: dict[Architecture, Trial],
    candidates: dict[Architecture, Candidate],
    metric: Metric,
    correction: Correction,
    target: float,
) -> Architecture:
    ordered = _ordered(scored)
    for trial in ordered:
        candidate = candidates.get(trial.architecture)
        if candidate is not None and candidate.reading.seconds <= target:
            return trial.architecture
    middle, _ = _expected(ordered, candidates, metric, correction)
    for trial, seconds in zip(ordered, middle, strict=True):
        if seconds <= target:
            return trial.architecture
    return ordered[int(np.argmin(middle))].architecture


def first_correction(space: SearchSpace, table: LookupTable) -> Correction:
    """What is known before anything was measured: the table's own error."""
    return Correction(space, table_error(table))
