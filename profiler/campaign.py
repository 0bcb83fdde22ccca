"""Measure many models on one board so that the numbers agree tomorrow, and survive any kill.

A campaign visits all models again and again in random order, in several fresh processes, and
commits what it saw at least once a second. What remains to be done follows from what is stored:
the same call goes on after any interruption, in a new session of the same file.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from ..devices.base import Device
from ..devices.board_watch import watched
from ..devices.conditions import boot_identifier, describe, mismatch, under
from ..devices.errors import ConditionsChanged, DeviceError, DeviceLost, WorkerLost
from ..devices.lease import Lease
from ..devices.leftovers import end_leftovers
from ..devices.occupy import occupied
from ..devices.settings import Applied, settings_on
from .board_record import BoardRecord, BoardRecorder, board_record
from .drift import Drift, drift
from .losses import LOST, Losses
from .one_run import Models, OneRun, Source
from .open_session import Session, open_session
from .progress import Report, silent, telling
from .schedule import Schedule
from .store import Store

MEMORY_CAP = 2 * 1024**3  # bytes of models that live on the board at once


@dataclass(frozen=True)
class Summary:
    """How a call of `run_campaign` went.

    `unconfirmed` are the entries whose lowest visits did not repeat within the schedule's
    precision in at least one run; `restarts` says of each lost worker why. `drift` is of all
    sessions of the store, `wall_seconds` and `inside_seconds` (in inferences, warm-up included)
    are of this call, `record` (what the board said of itself, None: nothing) is of the whole store.
    `resident_bytes` is the most that a worker took (0: not known), `memory_cap`
    what the models might take.
    """

    entries: int
    unconfirmed: tuple[str, ...]
    restarts: tuple[str, ...]
    drift: Drift
    wall_seconds: float
    inside_seconds: float
    resident_bytes: float
    memory_cap: int
    record: BoardRecord | None = None

    @property
    def share_inside(self) -> float:
        """The share of the whole time that the board spent in inferences."""
        return self.inside_seconds / self.wall_seconds if self.wall_seconds > 0 else 0.0

    @property
    def words(self) -> str:
        """What the user should know, in a sentence; empty where all went well."""
        found = []
        if self.unconfirmed:
            found.append(
                f"{len(self.unconfirmed)} of {self.entries} entries did not repeat within the "
                "precision asked for; a longer budget or a quieter board would help"
            )
        if self.drift.slow_share > 0.05:
            found.append(
                f"the board was in a slow state for {self.drift.slow_share:.0%} of the time; "
                "what was measured then was measured again"
            )
        if self.restarts:
            lost = len(self.restarts)
            found.append(f"{lost} worker{'s were' if lost > 1 else ' was'} lost and replaced")
        return "; ".join(found)


def conditions_of(device: Device, session: Session, dtype: str) -> dict[str, object]:
    """Everything that must be equal for two values to be comparable; `dtype` is the models'."""
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
        "dtype": dtype,
        **({"settings": device.wanted.conditions} if device.wanted.changes else {}),
    }


def require_conditions(
    required: Mapping[str, object], device: Device, session: Session, dtype: str
) -> None:
    """Raise `ConditionsChanged` where the board is in another state than is required."""
    if differences := mismatch(required, conditions_of(device, session, dtype)):
        raise ConditionsChanged(
            f"{device.name} is not as it was: {'; '.join(differences)}. Restore it, or build a new "
            "table: values under different conditions are never compared"
        )


def run_campaign(
    store: Store,
    device: Device,
    sources: Mapping[str, Source] | Models,
    schedule: Schedule,
    *,
    threads: int = 1,
    runtime: str = "auto",
    memory_cap: int = MEMORY_CAP,
    dtype: str = "float32",
    required: Mapping[str, object] | None = None,
    first: int = 0,
    stage: str = "measure",
    report: Report = silent,
) -> Summary:
    """Measure every entry of `store` by the schedule; return when all is measured.

    `sources` gives the model of each entry by its key (`Models` keep what was written for a
    campaign that follows), `dtype` is that of all of them, `stage`
    names the work in reports; runs before the `first` are left out. Where the values are to be
    compared with others, `required` are the conditions of these: `ConditionsChanged` is raised
    before anything is measured under different ones. Entries may be added to the store between
    calls; only what is missing is measured, on a board that this job has alone. A worker or a link
    that is lost is replaced up to `RESTARTS` times in a run (not where the second one in a row has
    seen nothing), with half the models at once where memory ran out; a board that restarted
    meanwhile is looked at anew. Raises what the board, the worker or the disk raise, too; what was
    committed before stays, and the same call goes on from there.
    """
    begin = time.monotonic()
    models = sources if isinstance(sources, Models) else Models(sources)
    unconfirmed: dict[str, None] = {}
    restarts: list[str] = []
    inside = resident = 0.0
    with contextlib.ExitStack() as job:
        lease: Lease | None = None
        for run in range(first, schedule.runs):
            losses = Losses()
            work = OneRun(store, models, schedule, run, memory_cap, stage, report)
            while not work.finished:
                attempt = work
                try:
                    if lease is None:
                        purpose = f"{stage} for {store.path.name}"
                        lease = job.enter_context(occupied(device, purpose, tell=telling(report)))
                        if lease.waited:  # for a job that may have changed the board
                            device = _looked_at_anew(device)
                    if run and schedule.pause_seconds:
                        _rest(device, schedule.pause_seconds)
                    restarted = boot_identifier(device.transport) != device.description.boot
                    if restarted:
                        lease.renew()  # a restart frees the board for everybody
                        lease.check()
                    settings = settings_on(device.transport)
                    if settings is not None and settings.renew():
                        work.tell(f"the settings of {device.name} were set anew")
                    if restarted:
                        device = _looked_at_anew(device)
                        work.tell(f"{device.name} has restarted and was looked at anew")
                    if restarts:
                        end_leftovers(device)
                    with (
                        watched(device.transport) as watch,
                        open_session(device, threads=threads, runtime=runtime) as session,
                    ):
                        conditions = conditions_of(device, session, dtype)
                        if required is not None:
                            require_conditions(required, device, session, dtype)
                        check = partial(_require, lease, settings)
                        work.measure(session, conditions, check, BoardRecorder(watch))
                except LOST as error:
                    # Without models of ours, fewer of them would not help.
                    full = _out_of_memory(error) and work.loaded_bytes > 0
                    losses.add(error, device, fruitless=not (work.visits or full))
                    restarts.append(_why(error))
                    if full:
                        memory_cap = min(memory_cap, work.loaded_bytes) // 2
                        restarts[-1] += f"; from here on at most {memory_cap:,} bytes of models"
                    attempt.note_loss(restarts[-1])
                    # What it saw last may not have been kept.
                    work = OneRun(store, models, schedule, run, memory_cap, stage, report)
                inside += attempt.inside
                resident = max(resident, attempt.resident)
            unconfirmed |= dict.fromkeys(work.unconfirmed)
    return Summary(
        entries=len(store.entries()),
        unconfirmed=tuple(unconfirmed),
        restarts=tuple(restarts),
        drift=drift(store.evidence()),
        wall_seconds=time.monotonic() - begin,
        inside_seconds=inside,
        resident_bytes=resident,
        memory_cap=memory_cap,
        record=board_record(store),
    )


def _require(lease: Lease, settings: Applied | None) -> None:
    """Raise where what was just measured is worth nothing: the board is another's meanwhile, or
    has put its settings back."""
    lease.check()
    if settings is not None:
        settings.require()


def _looked_at_anew(device: Device) -> Device:
    """The board as it is now: a restart, or another job, may have left its governor otherwise."""
    return replace(device, description=under(describe(device.transport), device.wanted))


def _rest(device: Device, seconds: float) -> None:
    """Let so much of the board's own time pass."""
    device.transport.run(["sleep", f"{seconds:g}"], timeout=seconds + 10)


def _out_of_memory(error: DeviceError | WorkerLost) -> bool:
    if isinstance(error, WorkerLost):
        return error.out_of_memory
    return isinstance(error, DeviceLost) and error.killed


def _why(error: Exception) -> str:
    """The first line of an error; the rest would drown a progress report."""
    return str(error).partition("\n")[0][:300]
