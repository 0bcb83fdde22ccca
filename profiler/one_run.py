"""One run of a campaign: its progress as stored, and the session of a worker that continues it.

The entries of a run are split at random into batches that the board's memory holds. Each batch is
loaded once and visited in all its rounds before the next one, so that nothing is loaded twice.
"""

from __future__ import annotations

import datetime
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..devices.errors import BoardfitError
from .board_record import BoardRecorder
from .compact import Piece, compact
from .layers import Network
from .model_format import format_of_runtime
from .network_builder import NetworkBuilder
from .open_session import Session
from .progress import Progress, Report
from .run_record import RunRecord
from .schedule import (
    PROBE_ROUND,
    Schedule,
    random_batches,
    repeats,
    sample_seconds,
    visiting_order,
)
from .store import Store
from .visits import Model, Round, Visit, VisitRequest

COMMIT_SECONDS = 0.25
REFERENCE_KEY = "the reference model"
REFERENCE_REPEATS = 10
MOST_WARMUP_GROUPS = 1000  # of visits that are asked for at a time
KEPT_BYTES = 65_536  # of a model as it is sent; a larger one is written anew each time
FEW_UNDER_WAY = 128  # visits, when more is asked for: they take longer than an answer's way


@dataclass(frozen=True)
class Source:
    """Where a model comes from: `emit` gives its bytes, `memory` is what it takes once loaded."""

    emit: Callable[[], bytes]
    memory: int


class Models:
    """The models of campaigns, ready to be sent: small ones are written once for all runs."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = dict(sources)
        self._pieces: dict[str, Sequence[Piece]] = {}

    def add(self, sources: Mapping[str, Source]) -> None:
        """Add further models; those of before stay as they are."""
        self._sources = {**sources, **self._sources}

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


@dataclass
class _WarmUp:
    """What the warm-up of a session has seen of the reference model."""

    values: list[float] = field(default_factory=list)  # seconds of each visit
    seconds: float = 0.0
    conditions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Asked:
    """Visits that were asked for together; `entries` are those of the run (None: the reference
    model)."""

    number: int
    entries: Sequence[int | None]
    warms_up: bool = False


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
        self._models = models
        self._schedule = schedule
        self._run = run
        self._stage = stage
        self._report = report
        self._for_clock = schedule
        self._memory_cap = memory_cap
        self._record = RunRecord(store, schedule, run)
        evidence = [row for row in store.evidence() if row["run"] == run and "batched" in row]
        # The first and the last number of the entries that came together.
        self._known_cohorts = [(int(a), int(b)) for a, b in (row["batched"] for row in evidence)]
        self._batches = self._split(self._cohorts())
        self.session: int | None = None
        self._check: Callable[[], None] = lambda: None
        self._recorder: BoardRecorder | None = None
        # What was asked of the session and is not answered.
        self._asked: deque[_Asked] = deque()
        self._place = 0  # answers that the first of them has had
        self._under_way = 0  # visits of all of them
        self._unjudged: Counter[int] = Counter()  # visits to each entry, until they are judged
        self._judged: list[int] = []  # entries of which nothing is under way any more
        # What is not committed yet.
        self._pending: dict[int, list[tuple[int, Visit]]] = {}
        self._evidence: list[dict[str, Any]] = []
        self._committed = time.monotonic()
        self.inside = 0.0  # seconds in inferences, warm-up included
        self.visits = 0  # that this session has seen
        self.loaded_bytes = 0  # by estimate, of the batch that was loaded last
        self.resident = 0.0  # bytes, the most that the worker has had

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return not any(self._needs_more(batch) for batch in self._batches)

    @property
    def unconfirmed(self) -> list[str]:
        """The entries whose lowest visits did not repeat within the precision asked for."""
        return [key for entry, key in self._keys.items() if not self._record.is_confirmed(entry)]

    def _cohorts(self) -> list[tuple[int, int]]:
        """The first and the last number of the entries that came together.

        Entries may be added between calls; those of before keep their batches.
        """
        last = max((b for _, b in self._known_cohorts), default=0)
        added = [number for number in self._keys if number > last]
        return [*self._known_cohorts, (min(added), max(added))] if added else self._known_cohorts

    def _split(self, cohorts: Sequence[tuple[int, int]]) -> list[list[int]]:
        sizes = {entry: self._models.memory(key) for entry, key in self._keys.items()}
        found = []
        for first, last in cohorts:
            entries = [entry for entry in self._keys if first <= entry <= last]
            found += random_batches(entries, sizes, self._memory_cap, self._schedule, run=self._run)
        return found

    def _needs_more(self, batch: Sequence[int]) -> bool:
        spent = self._record.spent(batch)
        return any(self._record.needs(entry, spent=spent) for entry in batch)

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
        self._warmth = _WarmUp()
        warm_up = self._warm_up(session)
        for batch in self._batches:
            if not self._needs_more(batch):
                continue
            if len(session.loaded) > 1:
                session.unload()
            self._answer(session, self._requests(session, batch, warm_up))
        self._evidence += recorder.last_rows()  # the look behind the last visit
        self._commit()

    # What is asked of the session

    def _requests(
        self, session: Session, batch: Sequence[int], warm_up: Iterator[VisitRequest | None]
    ) -> Iterator[Model | VisitRequest | None]:
        """Warm up, load a batch and visit it in all its rounds.

        Whatever can be asked for is, so that a board that is far away, or a host that is busy,
        leaves the worker with nothing to do as seldom as can be.
        """
        emit = format_of_runtime(session.hello.get("runtime")).emit
        yield Model(REFERENCE_KEY, lambda: emit(reference_network()))
        models = self._models_of(batch)
        for request in warm_up:
            # Models are written and sent while the board warms up; how long that takes is asked
            # for before them.
            if request is None and self._warmth.values:
                yield next(models, None)
            else:
                yield request
        yield from models
        yield from self._certain_rounds(session, batch)
        yield from self._further_rounds(session, batch)

    def _warm_up(self, session: Session) -> Iterator[VisitRequest | None]:
        """Run the reference model until the board is warm; its times are evidence only."""
        schedule, warmth = self._schedule, self._warmth
        group = min(10, schedule.warmup_visits)
        groups = 1
        while groups:
            for _ in range(groups):
                yield self._ask(PROBE_ROUND, [None] * group, warms_up=True)
            while self._asked:
                yield None
            groups, values = 0, warmth.values
            if warmth.seconds < schedule.warmup_seconds or len(values) < schedule.warmup_visits:
                # As many as are missing, so that a board far away waits for us only once.
                missing = max(
                    (schedule.warmup_seconds - warmth.seconds) / warmth.seconds,
                    (schedule.warmup_visits - len(values)) / len(values),
                )
                groups = min(math.ceil(missing * len(values) / group), MOST_WARMUP_GROUPS)
        values = warmth.values
        self._record.add_warm_up(min(values))
        self._evidence.append(
            {
                "warmup_seconds": warmth.seconds,
                "warmup_visits": len(values),
                "first": values[0],
                "last": values[-1],
                "best": min(values),
                **warmth.conditions,
            }
        )
        known = len(self._known_cohorts)
        self._evidence += [{"batched": cohort} for cohort in self._cohorts()[known:]]

    def _models_of(self, batch: Sequence[int]) -> Iterator[Model]:
        """The models of a batch that are needed, in the order in which they are visited."""
        spent = self._record.spent(batch)
        needed = [entry for entry in batch if self._record.needs(entry, spent=spent)]
        order = visiting_order(needed, self._schedule, run=self._run, round_number=PROBE_ROUND)
        keys = [self._keys[entry] for entry in order]
        self.loaded_bytes = sum(map(self._models.memory, keys))
        for done, key in enumerate(keys, start=1):
            yield self._models.model(key)
            if done % 50 == 0 or done == len(keys):
                self.tell(f"loading models, {done} of {len(keys)}")

    def _certain_rounds(
        self, session: Session, batch: Sequence[int]
    ) -> Iterator[VisitRequest | None]:
        """The rounds that all entries need, whatever they show."""
        needs = {entry: self._record.needs(entry, spent=True) for entry in batch}
        self._judged = [entry for entry, rounds in needs.items() if not rounds]
        for number in range(PROBE_ROUND, self._schedule.minimum_rounds):
            todo = [entry for entry, rounds in needs.items() if number in rounds]
            for piece in self._pieces(session, number, todo):
                # How often to repeat follows from the probe. The first round has its order, so
                # that it begins before the probe has ended.
                while number != PROBE_ROUND and any(
                    PROBE_ROUND not in self._record[entry] for entry in piece
                ):
                    yield None
                yield self._ask(number, piece)

    def _further_rounds(
        self, session: Session, batch: Sequence[int]
    ) -> Iterator[VisitRequest | None]:
        """What entries need beyond, each as soon as nothing of it is under way."""
        last = self._schedule.minimum_rounds - 1
        while any(asked.number < last for asked in self._asked):
            yield None
        spent = self._record.spent(batch)
        needs: dict[int, list[int]] = {}
        while True:
            judged, self._judged = self._judged, []
            # One of which more was asked for meanwhile comes again.
            idle = [entry for entry in judged if not self._unjudged[entry]]
            needs |= {entry: self._record.needs(entry, spent=spent) for entry in idle}
            needs = {entry: rounds for entry, rounds in needs.items() if rounds}
            if needs and self._under_way <= FEW_UNDER_WAY:
                for number in sorted({number for rounds in needs.values() for number in rounds}):
                    todo = [entry for entry, rounds in needs.items() if number in rounds]
                    for piece in self._pieces(session, number, todo):
                        yield self._ask(number, piece)
                needs = {}
            elif self._under_way:
                yield None
            else:
                return

    def _pieces(self, session: Session, number: int, todo: Sequence[int]) -> list[list[int]]:
        """A round in parts, between which the reference model is visited."""
        order = visiting_order(
            todo, self._schedule, run=self._run, round_number=number or PROBE_ROUND
        )
        size = session.reference_interval
        return [order[begin : begin + size] for begin in range(0, len(order), size)]

    def _ask(
        self, number: int, entries: Sequence[int | None], *, warms_up: bool = False
    ) -> VisitRequest:
        """Ask for visits; the reference model comes before and after them."""
        if not warms_up:
            entries = [None, *entries, None]
        asked = _Asked(number, entries, warms_up)
        self._asked.append(asked)
        self._under_way += len(entries)
        self._unjudged.update(entry for entry in entries if entry is not None)
        # A number that no other round of the campaign has.
        first = self._run * (self._schedule.maximum_rounds + 1) - PROBE_ROUND
        return VisitRequest(first + number, [self._visit(number, entry) for entry in entries])

    def _visit(self, number: int, entry: int | None) -> tuple[str, int]:
        """The key and the repeats of a visit."""
        if entry is None:
            return REFERENCE_KEY, REFERENCE_REPEATS
        if number == PROBE_ROUND:
            return self._keys[entry], 1
        return self._keys[entry], repeats(self._record[entry][PROBE_ROUND], self._for_clock)

    # What the session answers

    def _answer(self, session: Session, requests: Iterator[Model | VisitRequest | None]) -> None:
        """Take the answers, and commit them before they are old."""
        schedule = self._schedule
        try:
            for answer in session.stream(
                requests, warmup=schedule.warmup, samples=schedule.samples
            ):
                if isinstance(answer, Visit):
                    self._take_visit(answer)
                elif isinstance(answer, Round):
                    self._take_round(answer)
                if time.monotonic() - self._committed > COMMIT_SECONDS:
                    self._commit()
        except BoardfitError:
            self._commit()  # what was seen before the worker was lost
            raise
        self._commit()

    def _take_visit(self, visit: Visit) -> None:
        asked = self._asked[0]
        entry = asked.entries[self._place]
        self._place += 1
        self._under_way -= 1
        if asked.warms_up:
            self._warmth.values.append(min(visit.seconds))
        elif entry is not None:
            self._record.add(entry, asked.number, visit)
            self._pending.setdefault(asked.number, []).append((entry, visit))
        else:
            value = min(visit.seconds)
            self._evidence.append({"round": asked.number, "at": visit.at, "reference": value})
            self._hear()
            for judged in self._record.add_reference(value):
                self._unjudged[judged] -= 1
                if not self._unjudged[judged]:
                    self._judged.append(judged)

    def _hear(self) -> None:
        """Take what the board has said of its own state."""
        if self._recorder is not None:
            said = self._recorder.rows()
            self._record.add_state(said)
            self._evidence += said

    def _take_round(self, answer: Round) -> None:
        if self._recorder is not None:
            self._recorder.learn(answer.conditions)
        asked = self._asked.popleft()
        self._place = 0
        self.inside += answer.inside
        if asked.warms_up:
            # Where a visit is a process, the board is at work between inferences, too.
            self._warmth.seconds += max(answer.inside, answer.wall)
            self._warmth.conditions = answer.conditions
            return
        # The state beside each round, so that of each sample can be told.
        self.resident = max(self.resident, answer.conditions.get("resident", 0.0))
        times = {"wall": answer.wall, "inside": answer.inside}
        self._evidence.append({"round": asked.number, **times, **answer.conditions})

    def _commit(self) -> None:
        assert self.session is not None
        self._hear()
        rounds, self._pending = self._pending, {}
        evidence, self._evidence = self._evidence, []
        if rounds:
            self._check()
        self._store.commit_rounds(rounds, session=self.session, run=self._run, evidence=evidence)
        self._committed = time.monotonic()
        self.visits += sum(map(len, rounds.values()))
        if rounds:
            self.tell(f"run {self._run + 1} of {self._schedule.runs}, round {max(rounds) + 1}")

    def note_loss(self, why: str) -> None:
        """Write down that the worker was lost, and report it."""
        if self.session is not None:
            self._evidence.append({"lost": why})
            self._commit()
        self.tell(f"a worker was lost and another one goes on: {why}")

    def tell(self, detail: str) -> None:
        """Report how far the run has come."""
        # Restless entries get more rounds than this; progress then waits at the end of the run.
        visits = (self._schedule.minimum_rounds + 1) * len(self._keys)
        done = self._run * visits + self._record.visits
        self._report(Progress(self._stage, done, self._schedule.runs * visits, detail))
