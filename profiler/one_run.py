"""One run of a campaign: its progress as stored, and the session of a worker that continues it.

The entries of a run are split at random into batches that the board's memory holds. Each batch is
loaded once and visited in all its rounds before the next one, so that nothing is loaded twice.
"""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..devices.errors import BoardfitError
from .board_record import BoardRecorder, moments
from .compact import Piece, compact
from .drift import drift, in_slow_stretch
from .layers import Network
from .model_format import format_of_runtime
from .network_builder import NetworkBuilder
from .open_session import Session
from .progress import Progress, Report
from .run_litert import Model, Visit
from .schedule import (
    PROBE_ROUND,
    Schedule,
    confirmed,
    next_round,
    random_batches,
    repeats,
    sample_seconds,
    visiting_order,
)
from .store import Store

COMMIT_SECONDS = 1.0
REFERENCE_KEY = "the reference model"
REFERENCE_REPEATS = 10
MOST_WARMUP_GROUPS = 1000  # of visits that are asked for at a time
KEPT_BYTES = 16_384  # of a model as it is sent; a larger one is written anew in each run


@dataclass(frozen=True)
class Source:
    """Where a model comes from: `emit` gives its bytes, `memory` is what it takes once loaded."""

    emit: Callable[[], bytes]
    memory: int


class Models:
    """The models of a campaign, ready to be sent: small ones are written once for all runs."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources
        self._pieces: dict[str, Sequence[Piece]] = {}

    def prepare(self, keys: Iterable[str]) -> None:
        """Write the small ones of these, so that they are sent at once."""
        for key in keys:
            self.model(key)

    def model(self, key: str) -> Model:
        """The model of an entry."""
        emit = self._sources[key].emit
        if key in self._pieces:
            return Model(key, emit, self._pieces[key])
        pieces = compact(emit())
        if sum(len(piece) if isinstance(piece, str) else 12 for piece in pieces) <= KEPT_BYTES:
            self._pieces[key] = pieces
        return Model(key, emit, pieces)

    def memory(self, key: str) -> int:
        """Bytes that the model of an entry takes on the board."""
        return self._sources[key].memory


def reference_network() -> Network:
    """The fixed model that runs between all others, to see whether the board has changed."""
    builder = NetworkBuilder((32, 32, 16))
    x = builder.conv_2d(0, 32, kernel=3, activation="relu")
    x = builder.depthwise_conv_2d(x, kernel=3)
    builder.conv_2d(x, 16)
    return builder.build()


class OneRun:
    """What a run has measured, and what it still has to."""

    def __init__(
        self,
        store: Store,
        models: Models,
        schedule: Schedule,
        run: int,
        memory_cap: int,
        stage: str,
        report: Report,
    ) -> None:
        self._store = store
        self._keys = {number: entry.key for number, entry in store.entries().items()}
        self._numbers = {key: number for number, key in self._keys.items()}
        self._models = models
        self._schedule = schedule
        self._run = run
        self._stage = stage
        self._report = report
        self._for_clock = schedule
        self._memory_cap = memory_cap
        self._seen: dict[int, dict[int, float]] = {number: {} for number in self._keys}
        visits = store.visits(run, probes=True)
        for entry, number, seconds in zip(
            visits.entry.tolist(), visits.round.tolist(), visits.seconds.tolist(), strict=True
        ):
            self._seen[entry][number] = seconds
        self._evidence = [row for row in store.evidence() if row["run"] == run]
        # The session and the board's time of each visit, and the seconds inside of inferences.
        self._times: dict[tuple[int, int], tuple[int, float]] = {}
        self._spent: dict[tuple[int, int], float] = {}
        for entry, number, session, at, inside in store.visit_times(run):
            self._times[entry, number] = session, at
            self._spent[entry, number] = inside
        self._spent_before = store.board_seconds(run)
        self._slow: dict[int, set[int]] = {}
        self._find_slow_visits()
        self._batches = self._split(self._cohorts())
        self.session: int | None = None
        self._check: Callable[[], None] = lambda: None
        self._recorder: BoardRecorder | None = None
        self.inside = 0.0  # seconds in inferences, warm-up included
        self._wall = 0.0  # seconds that rounds took on the board
        self.visits = 0  # that this session has seen
        self.loaded_bytes = 0  # by estimate, of the batch that was loaded last
        self.resident = 0.0  # bytes, the most that the worker has had

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return all(self._step(batch) is None for batch in self._batches)

    @property
    def unconfirmed(self) -> list[str]:
        """The entries whose lowest visits did not repeat within the precision asked for."""
        found = []
        for entry, rounds in self._seen.items():
            visits = [seconds for number, seconds in rounds.items() if number != PROBE_ROUND]
            if visits and not confirmed(visits, self._schedule):
                found.append(self._keys[entry])
        return found

    def _cohorts(self) -> list[tuple[int, int]]:
        """The first and the last number of the entries that came together.

        Entries may be added between calls; those of before keep their batches.
        """
        known = [
            (int(a), int(b)) for a, b in (r["batched"] for r in self._evidence if "batched" in r)
        ]
        last = max((b for _, b in known), default=0)
        added = [number for number in self._keys if number > last]
        return [*known, (min(added), max(added))] if added else known

    def _split(self, cohorts: Sequence[tuple[int, int]]) -> list[list[int]]:
        sizes = {entry: self._models.memory(key) for entry, key in self._keys.items()}
        found = []
        for first, last in cohorts:
            entries = [entry for entry in self._keys if first <= entry <= last]
            found += random_batches(entries, sizes, self._memory_cap, self._schedule, run=self._run)
        return found

    def _step(self, batch: Sequence[int]) -> tuple[int, list[int]] | None:
        """The round to go on with and its entries; only the minimum once the budget is spent."""
        step = next_round(batch, self._seen, self._schedule, self._slow)
        minimum = self._schedule.minimum_rounds
        if step is None or step[0] < minimum:
            return step
        mine = set(batch)
        spent = self._spent_before + math.fsum(
            seconds
            for (entry, number), seconds in self._spent.items()
            if number < step[0] or entry not in mine
        )
        if spent <= self._schedule.budget_seconds:
            return step
        at_least = replace(self._schedule, maximum_rounds=minimum)
        return next_round(batch, self._seen, at_least)

    def _rounds(self, batch: Sequence[int]) -> list[tuple[int, list[int]]]:
        """The next rounds that are certain, each with its entries in the order of visiting.

        The first rounds are for all entries, whatever they show.
        """
        step = self._step(batch)
        if step is None:
            return []
        rounds = [step]
        if step[0] != PROBE_ROUND:
            for number in range(step[0] + 1, self._schedule.minimum_rounds):
                todo = [entry for entry in batch if number not in self._seen[entry]]
                rounds += [(number, todo)] if todo else []
        return [
            (n, visiting_order(todo, self._schedule, run=self._run, round_number=n))
            for n, todo in rounds
        ]

    def prepare(self) -> None:
        """Write the models that come first, so that no worker waits for it."""
        todo = next((batch for batch in self._batches if self._step(batch) is not None), [])
        self._models.prepare(self._keys[entry] for entry in todo)

    def measure(
        self,
        session: Session,
        conditions: Mapping[str, object],
        check: Callable[[], None],
        recorder: BoardRecorder,
    ) -> None:
        """Go on to the end of the run; `check` raises where what was just measured is worth
        nothing, and is called before it is kept. `recorder` has what the board says meanwhile."""
        self._check = check
        self._recorder = recorder
        # Together with the board's clock it tells this session from any other (see merge_tables).
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
        self.session = self._store.begin_session(self._run, now, conditions)
        lasting = sample_seconds(session.clock_resolution, self._schedule)
        self._for_clock = replace(self._schedule, sample_seconds=lasting)
        self._warm_up(session)
        for batch in self._batches:
            if self._step(batch) is None:
                continue
            if len(self._batches) > 1:
                session.unload()
            while rounds := self._rounds(batch):
                self._load(session, rounds)
                self._visit(session, rounds)
        self._commit([], PROBE_ROUND, recorder.last_rows())  # the look behind the last visit

    def _warm_up(self, session: Session) -> None:
        """Run the reference model until the board is warm; its times are evidence only."""
        self._load_reference(session)
        schedule = self._schedule
        seconds = 0.0
        values: list[float] = []
        visits = [(REFERENCE_KEY, REFERENCE_REPEATS)] * min(10, schedule.warmup_visits)
        while seconds < schedule.warmup_seconds or len(values) < schedule.warmup_visits:
            groups = 1
            if values:  # as many as are missing, so that a board far away waits for us only twice
                missing = max(
                    (schedule.warmup_seconds - seconds) / seconds,
                    (schedule.warmup_visits - len(values)) / len(values),
                )
                groups = min(math.ceil(missing * len(values) / len(visits)), MOST_WARMUP_GROUPS)
            inside, before = 0.0, self._wall
            for visit in self._measured(session, [(PROBE_ROUND, visits)] * groups):
                values.append(min(visit.seconds))
                inside += sum(visit.warmup) + sum(visit.seconds) * visit.repeats
            # Where a visit is a process, the board is at work between inferences, too.
            seconds += max(inside, self._wall - before)
        state = session.conditions()
        self._learn(state)
        evidence: list[dict[str, Any]] = [
            {
                "warmup_seconds": seconds,
                "warmup_visits": len(values),
                "first": values[0],
                "last": values[-1],
                "best": min(values),
                **state,
            }
        ]
        known = sum("batched" in row for row in self._evidence)
        evidence += [{"batched": cohort} for cohort in self._cohorts()[known:]]
        self._commit([], PROBE_ROUND, evidence)

    def _load_reference(self, session: Session) -> None:
        emit = format_of_runtime(session.hello.get("runtime")).emit
        session.load_one(Model(REFERENCE_KEY, lambda: emit(reference_network())))

    def _load(self, session: Session, rounds: Sequence[tuple[int, list[int]]]) -> None:
        """Load what the rounds need and is not loaded yet."""
        self._load_reference(session)
        needed = dict.fromkeys(entry for _, order in rounds for entry in order)
        keys = [self._keys[entry] for entry in needed]
        todo = [key for key in keys if key not in session.loaded]
        if not todo:
            return
        self.loaded_bytes = sum(map(self._models.memory, todo))
        for done, _ in enumerate(session.load(map(self._models.model, todo)), start=1):
            if done % 50 == 0 or done == len(todo):
                self.tell(f"loading models, {done} of {len(todo)}")

    def _visit(self, session: Session, rounds: Sequence[tuple[int, list[int]]]) -> None:
        """Visit a batch in each of the rounds, and commit at least once a second."""
        plans = []
        for number, order in rounds:
            visits = []
            for position, entry in enumerate(order):
                if position % session.reference_interval == 0:
                    visits.append((REFERENCE_KEY, REFERENCE_REPEATS))
                count = 1
                if number != PROBE_ROUND:
                    count = repeats(self._seen[entry][PROBE_ROUND], self._for_clock)
                visits.append((self._keys[entry], count))
            visits.append((REFERENCE_KEY, REFERENCE_REPEATS))
            plans.append((number, visits))
        pending: list[tuple[int, Visit]] = []
        evidence: list[dict[str, Any]] = []
        committed = time.monotonic()
        places = iter([number for number, visits in plans for _ in visits])
        current = rounds[0][0]

        def commit() -> None:
            self._commit(pending, current, evidence)
            pending.clear()
            evidence.clear()

        try:
            for visit in self._measured(session, plans, evidence):
                number = next(places)
                if number != current or time.monotonic() - committed > COMMIT_SECONDS:
                    commit()
                    current, committed = number, time.monotonic()
                if visit.key == REFERENCE_KEY:
                    evidence.append(
                        {"round": number, "at": visit.at, "reference": min(visit.seconds)}
                    )
                else:
                    pending.append((self._numbers[visit.key], visit))
        except BoardfitError:
            commit()  # what was seen before the worker was lost
            raise
        commit()
        self._find_slow_visits()

    def _commit(
        self,
        visits: Sequence[tuple[int, Visit]],
        number: int,
        evidence: Sequence[dict[str, Any]],
    ) -> None:
        assert self.session is not None
        if visits:
            self._check()
        if self._recorder is not None:
            evidence = [*evidence, *self._recorder.rows()]
        self._store.commit(
            visits, session=self.session, run=self._run, round_number=number, evidence=evidence
        )
        about = {"session": self.session, "run": self._run}
        self._evidence += [{**about, **row} for row in evidence]
        for entry, visit in visits:
            self._seen[entry][number] = min(visit.seconds)
            self._times[entry, number] = self.session, visit.at
            inside = [*visit.warmup, *(seconds * visit.repeats for seconds in visit.seconds)]
            self._spent[entry, number] = math.fsum(inside)
        self.visits += len(visits)
        if visits:
            self.tell(f"run {self._run + 1} of {self._schedule.runs}, round {number + 1}")

    def note_loss(self, why: str) -> None:
        """Write down that the worker was lost, and report it."""
        if self.session is not None:
            self._commit([], PROBE_ROUND, [{"lost": why}])
        self.tell(f"a worker was lost and another one goes on: {why}")

    def _find_slow_visits(self) -> None:
        """Find out which visits met the board in a slow state, from all evidence of the run: what
        the reference model shows, and what the board says."""
        self._slow = {}
        if not self._times:
            return
        session = np.array([session for session, _ in self._times.values()], np.int64)
        at = np.array([at for _, at in self._times.values()], np.float64)
        slow = in_slow_stretch(drift(self._evidence).stretches, session, at)
        slow |= moments(self._evidence).before(session, at)
        for (entry, number), met in zip(self._times, slow.tolist(), strict=True):
            if met:
                self._slow.setdefault(entry, set()).add(number)

    def _measured(
        self,
        session: Session,
        plans: Sequence[tuple[int, Sequence[tuple[str, int]]]],
        evidence: list[dict[str, Any]] | None = None,
    ) -> Iterator[Visit]:
        """The visits of several rounds; the worker's summary of each goes to the evidence."""
        schedule = self._schedule
        # Numbers that no other round of the campaign has.
        first = self._run * (schedule.maximum_rounds + 1) - PROBE_ROUND
        numbered = [(first + number, visits) for number, visits in plans]
        ended = iter(number for number, _ in plans)
        for answer in session.measure_rounds(
            numbered, warmup=schedule.warmup, samples=schedule.samples
        ):
            if isinstance(answer, Visit):
                yield answer
                continue
            number = next(ended)
            self.inside += answer.inside
            self._wall += answer.wall
            self._learn(answer.conditions)
            if evidence is not None:
                # The state beside each round, so that of each sample can be told.
                self._look_at_memory(answer.conditions)
                evidence.append(
                    {
                        "round": number,
                        "wall": answer.wall,
                        "inside": answer.inside,
                        **answer.conditions,
                    }
                )

    def _learn(self, conditions: Mapping[str, float]) -> None:
        if self._recorder is not None:
            self._recorder.learn(conditions)

    def _look_at_memory(self, conditions: Mapping[str, float]) -> None:
        self.resident = max(self.resident, conditions.get("resident", 0.0))

    def tell(self, detail: str) -> None:
        """Report how far the run has come."""
        # Restless entries get more rounds than this; progress then waits at the end of the run.
        visits = (self._schedule.minimum_rounds + 1) * len(self._keys)
        here = min(visits, sum(len(seen) for seen in self._seen.values()))
        done = self._run * visits + here
        self._report(Progress(self._stage, done, self._schedule.runs * visits, detail))
