"""Measure many models on one board so that the numbers agree tomorrow, and survive any kill.

A campaign visits all models again and again in random order, in several fresh processes, and
commits what it saw at least once a second. What remains to be done follows from what is stored:
the same call goes on after any interruption, in a new session of the same file.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..devices.base import Device
from ..devices.conditions import mismatch
from ..devices.errors import ConditionsChanged
from .layers import Network, NetworkBuilder
from .model_format import format_of_runtime
from .progress import Progress, Report, silent
from .run_litert import Model, Visit, WorkerSession
from .schedule import PROBE_ROUND, Schedule, batches, next_round, repeats, visiting_order
from .store import Store

MEMORY_CAP = 2 * 1024**3  # bytes of models that live on the board at once
COMMIT_SECONDS = 1.0
REFERENCE_KEY = "the reference model"
REFERENCE_INTERVAL = 250  # the reference model is visited before so many others


@dataclass(frozen=True)
class Source:
    """Where a model comes from: `emit` gives its bytes, `memory` is what it takes once loaded."""

    emit: Callable[[], bytes]
    memory: int


def reference_network() -> Network:
    """The fixed model that runs between all others, to see whether the board has changed."""
    builder = NetworkBuilder((32, 32, 16))
    x = builder.conv_2d(0, 32, kernel=3, activation="relu")
    x = builder.depthwise_conv_2d(x, kernel=3)
    builder.conv_2d(x, 16)
    return builder.build()


def conditions_of(device: Device, session: WorkerSession) -> dict[str, object]:
    """Everything that must be equal for two values to be comparable."""
    board = device.description
    return {
        "board": board.model,
        "soc": board.soc,
        "machine": board.machine,
        "cores": board.cores,
        "system": board.system,
        "kernel": board.kernel,
        "governor": board.governor,
        "runtime": session.hello.get("runtime"),
        "runtime_version": session.hello.get("version"),
        "threads": session.hello.get("threads"),
        "core": session.hello.get("core"),
        "dtype": "float32",
    }


def require_conditions(
    required: Mapping[str, object], device: Device, session: WorkerSession
) -> None:
    """Raise `ConditionsChanged` where the board is in another state than is required."""
    if differences := mismatch(required, conditions_of(device, session)):
        raise ConditionsChanged(
            f"{device.name} is not as it was: {'; '.join(differences)}. Restore it, or build a new "
            "table: values under different conditions are never compared"
        )


def run_campaign(
    store: Store,
    device: Device,
    sources: Mapping[str, Source],
    schedule: Schedule,
    *,
    threads: int = 1,
    runtime: str = "auto",
    memory_cap: int = MEMORY_CAP,
    required: Mapping[str, object] | None = None,
    stage: str = "measure",
    report: Report = silent,
) -> None:
    """Measure every entry of `store` by the schedule; return when all is measured.

    `sources` gives the model of each entry by its key, `stage` names the work in
    reports. Where the values are to be compared with others, `required` are the conditions of
    these: `ConditionsChanged` is raised before anything is measured under different ones. Raises
    what the board, the worker or the disk raise, too;
    what was committed before stays, and the same call goes on from there.
    """
    keys = {number: entry.key for number, entry in store.entries().items()}
    for run in range(schedule.runs):
        work = _Run(store, keys, sources, schedule, run, memory_cap, stage, report)
        if work.next_round() is None:
            continue
        with WorkerSession(device, threads=threads, runtime=runtime) as session:
            if required is not None:
                require_conditions(required, device, session)
            work.measure(session, conditions_of(device, session))


class _Run:
    """One run of a campaign: its progress as stored, and the session that continues it."""

    def __init__(
        self,
        store: Store,
        keys: Mapping[int, str],
        sources: Mapping[str, Source],
        schedule: Schedule,
        run: int,
        memory_cap: int,
        stage: str,
        report: Report,
    ) -> None:
        self._store = store
        self._keys = keys
        self._numbers = {key: number for number, key in keys.items()}
        self._sources = sources
        self._schedule = schedule
        self._run = run
        self._memory_cap = memory_cap
        self._stage = stage
        self._report = report
        self._seen: dict[int, dict[int, float]] = {number: {} for number in keys}
        visits = store.visits(run, probes=True)
        for entry, number, seconds in zip(
            visits.entry.tolist(), visits.round.tolist(), visits.seconds.tolist(), strict=True
        ):
            self._seen[entry][number] = seconds

    def next_round(self) -> tuple[int, list[int]] | None:
        """The round to go on with and its entries; only the minimum once the budget is spent."""
        entries = list(self._keys)
        step = next_round(entries, self._seen, self._schedule)
        minimum = self._schedule.minimum_rounds
        if step is None or step[0] < minimum:
            return step
        if self._store.board_seconds(self._run, step[0]) <= self._schedule.budget_seconds:
            return step
        return next_round(entries, self._seen, replace(self._schedule, maximum_rounds=minimum))

    def measure(self, session: WorkerSession, conditions: Mapping[str, object]) -> None:
        """Go on to the end of the run."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        number = self._store.begin_session(self._run, now, conditions)
        self._warm_up(session, number)
        while (step := self.next_round()) is not None:
            round_number, todo = step
            order = visiting_order(todo, self._schedule, run=self._run, round_number=round_number)
            sizes = {entry: self._sources[self._keys[entry]].memory for entry in order}
            groups = batches(order, sizes, self._memory_cap)
            for group in groups:
                if len(groups) > 1:
                    session.unload()
                self._load(session, group)
                self._visit(session, number, round_number, group)

    def _warm_up(self, session: WorkerSession, number: int) -> None:
        """Run the reference model until the board is warm; its times are evidence only."""
        self._load_reference(session)
        schedule = self._schedule
        seconds, visits, values = 0.0, 0, []
        while seconds < schedule.warmup_seconds or visits < schedule.warmup_visits:
            for visit in self._measured(session, PROBE_ROUND, [(REFERENCE_KEY, 10)] * 10):
                values.append(min(visit.seconds))
                seconds += sum(visit.warmup) + sum(visit.seconds) * visit.repeats
                visits += 1
        evidence = {
            "warmup_seconds": seconds,
            "warmup_visits": visits,
            "first": values[0],
            "last": values[-1],
            **session.conditions(),
        }
        self._store.commit(
            [], session=number, run=self._run, round_number=PROBE_ROUND, evidence=[evidence]
        )

    def _load_reference(self, session: WorkerSession) -> None:
        emit = format_of_runtime(session.hello.get("runtime")).emit
        for _ in session.load([Model(REFERENCE_KEY, lambda: emit(reference_network()))]):
            pass

    def _load(self, session: WorkerSession, group: Sequence[int]) -> None:
        self._load_reference(session)
        keys = [self._keys[entry] for entry in group]
        models = (Model(key, self._sources[key].emit) for key in keys)
        for done, _ in enumerate(session.load(models), start=1):
            if done % 50 == 0 or done == len(keys):
                self._tell(f"loading models, {done} of {len(keys)}")

    def _visit(
        self, session: WorkerSession, number: int, round_number: int, group: Sequence[int]
    ) -> None:
        """Visit a batch once and commit at least once a second."""
        plan = []
        for position, entry in enumerate(group):
            if position % REFERENCE_INTERVAL == 0:
                plan.append((REFERENCE_KEY, 10))
            count = 1
            if round_number != PROBE_ROUND:
                count = repeats(self._seen[entry][PROBE_ROUND], self._schedule)
            plan.append((self._keys[entry], count))
        pending: list[tuple[int, Visit]] = []
        evidence: list[dict[str, Any]] = []
        committed = time.monotonic()

        def commit() -> None:
            self._store.commit(
                pending,
                session=number,
                run=self._run,
                round_number=round_number,
                evidence=evidence,
            )
            for entry, visit in pending:
                self._seen[entry][round_number] = min(visit.seconds)
            pending.clear()
            evidence.clear()
            self._tell(f"run {self._run + 1} of {self._schedule.runs}, round {round_number + 1}")

        for visit in self._measured(session, round_number, plan, evidence):
            if visit.key == REFERENCE_KEY:
                evidence.append(
                    {"round": round_number, "at": visit.at, "reference": min(visit.seconds)}
                )
            else:
                pending.append((self._numbers[visit.key], visit))
            if time.monotonic() - committed > COMMIT_SECONDS:
                commit()
                committed = time.monotonic()
        evidence.append({"round": round_number, **session.conditions()})
        commit()

    def _measured(
        self,
        session: WorkerSession,
        round_number: int,
        plan: Sequence[tuple[str, int]],
        evidence: list[dict[str, Any]] | None = None,
    ) -> Iterator[Visit]:
        """The visits of one request to the worker; its summary goes to the evidence."""
        schedule = self._schedule
        # A number that no other round of the campaign has.
        number = self._run * (schedule.maximum_rounds + 1) + round_number - PROBE_ROUND
        for answer in session.measure(
            plan, number=number, warmup=schedule.warmup, samples=schedule.samples
        ):
            if isinstance(answer, Visit):
                yield answer
            elif evidence is not None:
                evidence.append(
                    {"round": round_number, "wall": answer.wall, "inside": answer.inside}
                )

    def _tell(self, detail: str) -> None:
        # Restless entries get more rounds than this; progress then waits at the end of the run.
        visits = (self._schedule.minimum_rounds + 1) * len(self._keys)
        here = min(visits, sum(len(seen) for seen in self._seen.values()))
        done = self._run * visits + here
        self._report(Progress(self._stage, done, self._schedule.runs * visits, detail))
