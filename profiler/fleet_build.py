"""Build one table with several boards: the host's part, however they are reached.

The host deals out shares, checks what comes back, and commits each share in one transaction. What
remains to be done follows from the file: the same command goes on after any interruption. A board
that is lost, says nothing for `SILENCE` seconds or does not agree with the others measures no more,
and its share goes to the others.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..devices.conditions import mismatch
from ..devices.errors import BoardsDisagree, ConditionsChanged, DeviceNotFound
from .board_record import board_record
from .build import Crew, build_with
from .campaign import MEMORY_CAP, Summary
from .drift import drift
from .fleet import TRIALS, Agreement, Sighting, agree, deal, difference_words, reference_set
from .fleet_dispatch import SILENCE, TICK, Boards, Dispatch
from .fleet_share import Measured, Share, read_measured, read_placement_answer
from .model_format import AUTO
from .plan import TablePlan
from .progress import Progress, Report, silent
from .schedule import Schedule, confirmed
from .store import Entry, Store
from .table import LookupTable
from .table_result import Outside

STRIKES = 2  # sessions in a row that do not agree: one may have met a bad moment
DEVICE_NAME = "a fleet"  # in the plan: which boards measured may change when it is continued


@dataclass(frozen=True)
class FleetTable:
    """A table that several boards have built; `left_out` says of boards that do not agree with the
    others how they differ, `lost` of those that were lost or quarantined why."""

    table: LookupTable
    left_out: Mapping[str, str]
    lost: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raise `BoardsDisagree` naming the boards that were left out."""
        if self.left_out:
            raise BoardsDisagree(
                f"{'; '.join(self.left_out.values())}. Nothing that {' or '.join(self.left_out)} "
                "measured is in the table, which the other boards finished: look at its cooling, "
                "power and other work (`boardfit devices doctor`), or leave it out of the fleet"
            )


def build_fleet_table(
    path: Path,
    plan: TablePlan,
    names: Sequence[str],
    reach: Callable[[], contextlib.AbstractContextManager[Boards]],
    schedule: Schedule | None = None,
    *,
    threads: int = 1,
    runtime: str = AUTO,
    memory_cap: int = MEMORY_CAP,
    silence: float = SILENCE,
    patience: float = 0.0,
    report: Report = silent,
) -> FleetTable:
    """Build a table with all boards of these names, or go on with the one begun at `path`.

    `reach` is entered to reach the boards where something is left to be measured; for boards that
    are not offered is waited for `patience` seconds. Raises what `build_table` raises,
    `DeviceNotFound` where a board is not offered, `BoardsDisagree` where two boards differ and no
    third one tells which of them is odd, and the error of a board where none is left. Whatever was
    committed stays, and the same call goes on from there, also with other boards of the kind.
    """
    crews: list[FleetCrew] = []

    @contextlib.contextmanager
    def together(store: Store) -> Iterator[Crew]:
        with reach() as boards:
            about = Share((), schedule or Schedule(), 0, threads, runtime, memory_cap, plan.dtype)
            crew = FleetCrew(store, boards, names, about, silence, patience, report)
            crews.append(crew)
            crew.convene()
            yield crew

    table = build_with(
        path, plan, schedule, together, DEVICE_NAME, threads=threads, runtime=runtime
    )
    if not crews:
        return FleetTable(table, {})
    return FleetTable(table, crews[0].odd, crews[0].lost)


@dataclass
class FleetCrew:
    """The boards of a fleet, and what they have measured for a store so far.

    `about` is what all shares have in common.
    """

    store: Store
    boards: Boards
    names: Sequence[str]
    about: Share
    silence: float
    patience: float
    report: Report
    odd: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._dispatch = Dispatch(
            self.boards, self.names, self.odd, self.silence, self.patience, self.report
        )
        self._referenced: set[tuple[str, int]] = set()
        self._strikes: dict[str, int] = {}
        self._inside = self._resident = 0.0
        self._reference: tuple[Entry, ...] = ()
        if len(self.names) > 1:
            planned = (self.store.document("plan") or {})["entries"]  # before any were added
            self._reference = reference_set(list(self.store.entries().values())[:planned])
        self._sightings, self._spent = _read_history(self.store, self._reference)

    @property
    def lost(self) -> Mapping[str, str]:
        """The boards that are not asked any more, and why."""
        return self._dispatch.lost

    def convene(self) -> None:
        """Wait for all boards, and see whether they agree."""
        end = time.monotonic() + self.patience
        while missing := [name for name in self.names if name not in self.boards.offered()]:
            if time.monotonic() > end:
                raise DeviceNotFound(
                    f"nobody offers {' and '.join(missing)} to the scheduler; say `boardfit "
                    f"devices worker {missing[0]} --scheduler ADDRESS` on the host that reaches it"
                )
            self.boards.wait(TICK)
        if self._reference:
            self._compare_boards()

    def measure(self, schedule: Schedule, stage: str) -> Summary:
        """Deal out what is missing, run by run."""
        begin = time.monotonic()
        before = self._inside
        for run in range(schedule.runs):
            self._measure_run(replace(self.about, schedule=schedule, run=run), stage)
        return Summary(
            entries=len(self.store.entries()),
            unconfirmed=self._unconfirmed(schedule),
            restarts=tuple(self._dispatch.restarts),
            drift=drift(self.store.evidence()),
            wall_seconds=time.monotonic() - begin,
            inside_seconds=self._inside - before,
            resident_bytes=self._resident,
            memory_cap=self.about.memory_cap,
            record=board_record(self.store),
        )

    def outside(self) -> Outside | None:
        """Ask one board what runs outside of the delegate."""
        entries = tuple(e for e in self.store.entries().values() if e.role == "operator")
        question = replace(self.about, entries=entries, placement=True)
        answers: list[Outside | None] = []

        def take(board: str) -> Share | None:
            return None if answers or self._dispatch.busy else question

        def accept(board: str, share: Share, answer: object) -> None:
            answers.append(read_placement_answer(answer, board))

        self._dispatch.work(take, accept, lambda: bool(answers), lambda: None)
        return answers[0]

    def _compare_boards(self) -> None:
        """Measure the reference set on every board in several sessions, in one at least where the
        boards were compared earlier."""
        asked: dict[str, int] = {}
        for sighting in self._sightings:
            asked[sighting.board] = min(TRIALS - 1, asked.get(sighting.board, 0) + 1)
        conditions: dict[str, Mapping[str, Any]] = {}

        def take(board: str) -> Share | None:
            number = asked.get(board, 0)
            if number >= TRIALS:
                return None
            return replace(self.about, entries=self._reference, run=number)

        def accept(board: str, share: Share, answer: object) -> None:
            measured = read_measured(answer, share, board)
            conditions[board] = measured.sessions[0].conditions
            asked[board] = asked.get(board, 0) + 1
            self._count(board, measured)
            self._sightings.append(Sighting(board, measured.smallest()))

        def tell() -> None:
            total = TRIALS * len(self.names)
            done = sum(min(TRIALS, count) for count in asked.values())
            done_now = done + sum(busy.done for busy in self._dispatch.busy.values())
            self.report(Progress("compare the boards", min(done_now, total), total))

        self._dispatch.work(
            take,
            accept,
            lambda: all(asked.get(b, 0) >= TRIALS for b in self._dispatch.ready()),
            tell,
        )
        self._require_equal_conditions(conditions)
        verdict = agree(self._sightings)
        if not verdict.boards:
            raise self._undecided(verdict.odd)
        for board, words in verdict.odd.items():
            self._leave_out(board, words)
        self._write_history()

    def _require_equal_conditions(self, conditions: Mapping[str, Mapping[str, Any]]) -> None:
        """Before anything is measured: all boards are in the state of the table, or of the most."""
        required = self.store.conditions()
        every = list(conditions.values())
        if required is None and every:
            # The state that most boards are in.
            alike = [sum(not mismatch(mine, other) for other in every) for mine in every]
            required = dict(every[alike.index(max(alike))])
        words = [
            f"{board}: {'; '.join(differences)}"
            for board, found in conditions.items()
            if (differences := mismatch(required or {}, found))
        ]
        if words:
            raise ConditionsChanged(
                f"the boards of the fleet are not in one state ({'. '.join(words)}). Make them "
                "equal, or leave these boards out: values under different conditions are never "
                "mixed"
            )

    def _measure_run(self, common: Share, stage: str) -> None:
        """Measure what the store lacks of one run."""
        entries = self.store.entries()
        seen = set(self.store.visits(common.run, probes=True).entry.tolist())
        missing = [entry for number, entry in entries.items() if number not in seen]
        if not missing:
            return
        # Before the first run the boards have just been compared.
        reference = self._reference if common.run > 0 else ()
        shared = {entry.key for entry in reference}
        ordinary = [entry for entry in missing if entry.key not in shared]
        lacking = {entry.key for entry in missing} - {entry.key for entry in ordinary}
        shares = deque(
            deal(ordinary, max(1, len(self._dispatch.ready())), common.schedule, run=common.run)
        )
        if not shares:
            shares.append(())
        begun = common.run * len(entries)
        counts = {"done": begun + len(seen)}

        def take(board: str) -> Share | None:
            extra = () if (board, common.run) in self._referenced else reference
            mine = (*shares.popleft(), *extra) if shares else ()
            if not mine:
                return None
            budget = max(1e-3, common.schedule.budget_seconds - self._spent.get(board, 0.0))
            schedule = replace(common.schedule, budget_seconds=budget)
            return replace(common, entries=mine, schedule=schedule)

        def give_back(share: Share) -> None:
            rest = tuple(entry for entry in share.entries if entry.key not in shared)
            if rest or lacking:
                shares.append(rest)

        def accept(board: str, share: Share, answer: object) -> None:
            measured = read_measured(answer, share, board)
            required = self.store.conditions() or measured.sessions[0].conditions
            if differences := mismatch(required, measured.sessions[0].conditions):
                raise ConditionsChanged(f"{board} is not as it was: {'; '.join(differences)}")
            self._count(board, measured)
            if not self._agrees(board, measured, shared):
                give_back(share)
                return
            if shared <= {entry.key for entry in share.entries}:
                self._referenced.add((board, common.run))
            wanted = {e.key for e in share.entries} - (shared - lacking)
            self._adopt(board, common.run, measured, wanted)
            counts["done"] += len(wanted)
            lacking.difference_update(wanted)
            self._write_history()

        def tell() -> None:
            now = sum(busy.done * len(busy.share.entries) for busy in self._dispatch.busy.values())
            total = common.schedule.runs * len(entries)
            words = (
                f"run {common.run + 1} of {common.schedule.runs}, {len(self._dispatch.busy)} boards"
            )
            self.report(Progress(stage, min(counts["done"] + now, total), total, words))

        self._dispatch.work(take, accept, lambda: not shares, tell, give_back)

    def _agrees(self, board: str, measured: Measured, shared: Set[str]) -> bool:
        """Whether a session that saw the reference set agrees with the other boards; false where
        it gets another chance. Raises `BoardsDisagree` where it has had it."""
        smallest = measured.smallest()
        if not shared or not shared <= smallest.keys():
            return True
        last = Sighting(board, {key: smallest[key] for key in shared})
        accepted = [s for s in self._sightings if s.board not in self.odd]
        agreement = Agreement.of(accepted)
        if abs(agreement.distance(board, last.level)) <= agreement.limit:
            self._strikes[board] = 0
            self._sightings.append(last)
            return True
        self._strikes[board] = self._strikes.get(board, 0) + 1
        if self._strikes[board] >= STRIKES:
            words = difference_words(board, accepted, agreement, last)
            if len(agreement.levels) < 3:
                raise self._undecided(dict.fromkeys(agreement.levels, words))
            self._leave_out(board, words)
        return False

    def _undecided(self, odd: Mapping[str, str]) -> BoardsDisagree:
        return BoardsDisagree(
            f"{'; '.join(dict.fromkeys(odd.values()))}. Nobody can tell which of "
            f"{' and '.join(odd)} is odd: look at both (`boardfit devices doctor`), add a third "
            "board, or measure with one of them"
        )

    def _leave_out(self, board: str, words: str) -> None:
        self.odd[board] = words
        self.report(Progress("compare the boards", 1, 1, f"{board} is left out: {words}"))

    def _adopt(self, board: str, run: int, measured: Measured, wanted: Set[str]) -> None:
        """Commit a share, with the name of the board beside it."""
        sessions = [
            replace(
                session,
                visits=tuple((n, visit) for n, visit in session.visits if visit.key in wanted),
                evidence=({"board": board}, *session.evidence),
            )
            for session in measured.sessions
        ]
        self.store.adopt(run, sessions)

    def _count(self, board: str, measured: Measured) -> None:
        self._inside += measured.inside
        self._spent[board] = self._spent.get(board, 0.0) + measured.inside
        self._resident = max(self._resident, measured.resident)
        self._dispatch.restarts += measured.restarts

    def _unconfirmed(self, schedule: Schedule) -> tuple[str, ...]:
        visits = self.store.visits().before(schedule.runs)
        seen: dict[tuple[int, int], list[float]] = {}
        for entry, run, seconds in zip(
            visits.entry.tolist(), visits.run.tolist(), visits.seconds.tolist(), strict=True
        ):
            seen.setdefault((entry, run), []).append(seconds)
        restless = {entry for (entry, _), found in seen.items() if not confirmed(found, schedule)}
        return tuple(e.key for number, e in self.store.entries().items() if number in restless)

    def _write_history(self) -> None:
        keys = [entry.key for entry in self._reference]
        self.store.write_document(
            "fleet",
            {
                "boards": list(self.names),
                "reference": keys,
                "spent": self._spent,
                "sightings": [
                    [s.board, [s.seconds[key] for key in keys]]
                    for s in self._sightings
                    if s.board not in self.odd
                ],
                "left_out": self.odd,
            },
        )


def _read_history(
    store: Store, reference: Sequence[Entry]
) -> tuple[list[Sighting], dict[str, float]]:
    """What an earlier call wrote down; nothing where it cannot be read: it is measured again."""
    keys = [entry.key for entry in reference]
    document = store.document("fleet") or {}
    try:
        spent = {str(name): float(seconds) for name, seconds in document["spent"].items()}
        if document["reference"] != keys:
            return [], spent
        sightings = [
            Sighting(str(name), dict(zip(keys, map(float, seconds), strict=True)))
            for name, seconds in document["sightings"]
        ]
        if not all(0 < value < 1e9 for s in sightings for value in s.seconds.values()):
            raise ValueError("no inference takes as long")
    except (KeyError, TypeError, ValueError, AttributeError):
        return [], {}
    return sightings, spent
