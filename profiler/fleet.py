"""Several boards of one kind share a table: who measures what, and whether the boards agree.

All of it is computed here without a board. Entries are dealt out so that each is measured once a
run, on any board. A few of them, the reference set, are measured on every board: first in
`TRIALS` sessions each, and then once in each further run. A board agrees with the others as long
as the whole set takes about as long on it as on them; "about" is what sessions of one board differ
by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from .description import read_layer, read_network
from .schedule import Schedule
from .store import Entry

TRIALS = 3  # sessions of each board before anything is dealt out
REFERENCE_OPERATORS = 11  # and one network: what all measure is no board's share
SHARE_LIMIT = 200  # entries; what is lost with a board is one share, a minute or two
CONFIDENCE = 0.99  # that two sessions of one board lie within the limit
LEAST_LIMIT = 0.01  # relative; a table is not that right anyway


def reference_set(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """The entries that every board measures: operators from the smallest to the largest at even
    distances, and the smallest network."""
    operators = sorted((entry for entry in entries if entry.role == "operator"), key=effort)
    networks = sorted((entry for entry in entries if entry.role != "operator"), key=effort)
    count = min(len(operators), REFERENCE_OPERATORS)
    places = np.linspace(0, len(operators) - 1, count).round().astype(int).tolist()
    return (*(operators[place] for place in places), *networks[:1])


def effort(entry: Entry) -> float:
    """About how long an entry takes, in no unit: what it computes and moves."""
    if entry.role == "operator":
        layers = [read_layer(entry.content)]
    else:
        layers = list(read_network(entry.content).layers)
    return float(sum(layer.macs + 2 * layer.bytes_moved for layer in layers))


def deal(
    entries: Sequence[Entry], boards: int, schedule: Schedule, *, run: int
) -> list[tuple[Entry, ...]]:
    """Split entries into shares that take about as long each, as many for one board as for another.

    Every entry is in one of them. Who gets what is drawn at random, for each run anew, so that an
    operator's values come from several boards.
    """
    if not entries:
        return []
    count = boards * math.ceil(len(entries) / (boards * SHARE_LIMIT))
    rng = np.random.default_rng([schedule.seed, run, 0, 2])  # no stream of the schedule's
    shares: list[list[Entry]] = [[] for _ in range(count)]
    ordered = sorted(entries, key=effort, reverse=True)
    for begin in range(0, len(ordered), count):  # of about the same effort: one for each share
        group = ordered[begin : begin + count]
        for place, entry in zip(rng.permutation(count).tolist(), group, strict=False):
            shares[place].append(entry)
    return [tuple(share) for share in shares if share]


@dataclass(frozen=True)
class Sighting:
    """What one session of a board saw of the reference set: the smallest sample of each entry, in
    seconds."""

    board: str
    seconds: Mapping[str, float]

    @property
    def level(self) -> float:
        """The logarithm of the geometric mean: a difference of 0.01 is a board 1 % slower."""
        return float(np.log(list(self.seconds.values())).mean())


@dataclass(frozen=True)
class Agreement:
    """How far sessions of one board lie apart, pooled over the boards.

    `deviation` is of the level of a session, `degrees` those of freedom (0: nothing is known).
    """

    deviation: float
    degrees: int
    levels: Mapping[str, tuple[float, ...]]

    @classmethod
    def of(cls, sightings: Sequence[Sighting]) -> Agreement:
        """From all sessions that have seen the same reference set."""
        levels: dict[str, list[float]] = {}
        for sighting in sightings:
            levels.setdefault(sighting.board, []).append(sighting.level)
        degrees = sum(len(values) - 1 for values in levels.values())
        squares = sum(float(np.var(values)) * len(values) for values in levels.values())
        deviation = math.sqrt(squares / degrees) if degrees else 0.0
        return cls(deviation, degrees, {name: tuple(found) for name, found in levels.items()})

    @property
    def limit(self) -> float:
        """How far two sessions may lie apart: as far as two of one board do in `CONFIDENCE` of
        all cases (Student's t), at least `LEAST_LIMIT`. Infinite where nothing is known."""
        if self.degrees == 0:
            return math.inf
        quantile = float(stdtrit(self.degrees, (1 + CONFIDENCE) / 2))
        return max(LEAST_LIMIT, quantile * math.sqrt(2) * self.deviation)

    def distance(self, board: str, level: float | None = None) -> float:
        """How much slower a board (or its session of that `level`) is than the others, relative
        (logarithm; negative: faster). 0 where there are no others.

        The others are the median of the boards, which one of several cannot move far.
        """
        others = [np.mean(found) for name, found in self.levels.items() if name != board]
        if not others:
            return 0.0
        own = float(np.mean(self.levels[board])) if level is None else level
        return own - float(np.median(others))

    def without(self, board: str) -> Agreement:
        """The others alone, judged by the same deviation."""
        left = {name: found for name, found in self.levels.items() if name != board}
        return Agreement(self.deviation, self.degrees, left)


@dataclass(frozen=True)
class Verdict:
    """Which boards measure on, and in words why others do not. With two boards that differ
    nobody can tell which one is odd: `boards` is empty then."""

    boards: tuple[str, ...]
    odd: Mapping[str, str]


def agree(sightings: Sequence[Sighting]) -> Verdict:
    """Leave out one board after the other, the farthest first, until the others agree."""
    agreement = Agreement.of(sightings)
    odd: dict[str, str] = {}
    while len(agreement.levels) > 1:
        current = agreement
        farthest = max(current.levels, key=lambda name: abs(current.distance(name)))
        if abs(current.distance(farthest)) <= current.limit:
            break
        words = difference_words(farthest, sightings, current)
        if len(current.levels) == 2:
            return Verdict((), {**odd, **dict.fromkeys(current.levels, words)})
        odd[farthest] = words
        agreement = current.without(farthest)
    return Verdict(tuple(agreement.levels), odd)


def difference_words(
    board: str, sightings: Sequence[Sighting], agreement: Agreement, last: Sighting | None = None
) -> str:
    """How a board (or its `last` session) differs from the others, and what may be the matter."""
    mine = [last] if last else [s for s in sightings if s.board == board]
    others = [s for s in sightings if s.board != board and s.board in agreement.levels]
    apart = {key: _typical(mine, key) / _typical(others, key) - 1 for key in mine[0].seconds}
    worst = max(apart, key=lambda key: abs(apart[key]))
    share = math.expm1(agreement.distance(board, last.level if last else None))
    names = " and ".join(dict.fromkeys(s.board for s in others))
    return (
        f"{board} took {abs(share):.1%} {'more' if share > 0 else 'less'} time than {names} for "
        f"the reference set (most apart: {worst[:80]}, {apart[worst]:+.1%}), while two sessions of "
        f"one board differ by no more than {math.expm1(agreement.limit):.1%}"
    )


def _typical(sightings: Sequence[Sighting], key: str) -> float:
    """One value for what several sessions saw of an entry, in seconds."""
    return float(np.median([sighting.seconds[key] for sighting in sightings]))
