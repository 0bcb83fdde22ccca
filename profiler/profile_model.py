"""Measure one model: a latency with its interval, and a verdict on whether to believe it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..devices.base import Device
from ..devices.errors import DeviceError, MeasurementError, TableFileError, WorkerError
from ..devices.occupy import occupied
from .board_record import BoardRecord, board_record
from .build import begin_or_continue, measurement
from .campaign import run_campaign
from .evidence import reference_minima, throttled_samples
from .measure_energy import ModelEnergy, measure_energy, read_energy
from .measurement import Measurement
from .model_format import AUTO, format_of_file, runtime_for
from .one_run import Source
from .open_session import open_session
from .operators import (
    UNKNOWN,
    OperatorProfile,
    OperatorTime,
    Placement,
    read_operators,
    read_placement,
    runner_of,
)
from .progress import Report, silent, telling
from .read_tflite import ModelInfo, OperatorInfo, TensorInfo, read_model_file
from .schedule import Schedule
from .store import Entry, Store
from .sustained import SustainedLoad, measure_sustained, read_sustained
from .visits import Model

MODEL_SCHEDULE = Schedule(
    runs=3,
    minimum_rounds=20,
    maximum_rounds=60,
    warmup=2,
    samples=3,
    budget_seconds=30.0,
    pause_seconds=1.0,
)
OPERATOR_SECONDS = 10.0  # of the board that timing the operators may take
OPERATOR_RUNS = (3, 100)  # at least, and at most
_INFERENCES_A_RUN = 4  # with the profiler and without, each once before it counts
MOST_RUNS = 30  # that a precision is tried for
HOPELESS_RUNS = 10  # after which it is known how precise a board can be at best


@dataclass(frozen=True)
class Precision:
    """How precise a profile is to be: further runs are measured until the prediction interval of
    another session has this relative half-width, or the board has been busy for
    `budget_seconds`, warm-up included."""

    half_width: float
    budget_seconds: float = 120.0

    def __post_init__(self) -> None:
        if not 0 < self.half_width < 1 or not self.budget_seconds > 0:
            raise ValueError("a precision lies between 0 and 1, its budget above 0 seconds")


@dataclass(frozen=True)
class ModelProfile:
    """What is known of a model on a board: what it holds, how long it takes, under which
    conditions, and which operators no delegate took.

    `sustained` is its latency under lasting load, `operators` the time of each operator, where
    these were asked for; `energy` is what an inference costs, where the board has a meter, and
    `record` what the board said of itself meanwhile. `problem` says why it could not tell the
    operators' times, or the energy.
    """

    name: str
    model: ModelInfo
    measurement: Measurement
    conditions: Mapping[str, Any]
    sustained: SustainedLoad | None = None
    placement: Placement = UNKNOWN
    operators: OperatorProfile | None = None
    energy: ModelEnergy | None = None
    record: BoardRecord | None = None
    problem: str = ""

    @property
    def runner(self) -> str:
        """What should run every operator: "the delegate", or the name of a provider."""
        return runner_of(str(self.conditions.get("runtime")))

    @property
    def timed_outside(self) -> tuple[OperatorTime, ...]:
        """The timed operators that something else runs."""
        timed = () if self.operators is None else self.operators.operators
        return tuple(operator for operator in timed if self.runs_outside(operator))

    def runs_outside(self, operator: OperatorTime) -> bool:
        """Whether something else than `runner` runs an operator."""
        left = {index for index, _ in self.placement.outside or ()}
        return operator.delegate is None or operator.index in left


def profile_model(
    path: Path,
    device: Device,
    schedule: Schedule | None = None,
    *,
    threads: int = 1,
    runtime: str = AUTO,
    precision: Precision | None = None,
    sustained: float | None = None,
    out: Path | None = None,
    operators: bool = False,
    energy: bool | None = None,
    allow_fallback: bool = False,
    report: Report = silent,
) -> ModelProfile:
    """Measure the TFLite or ONNX model at `path`, in a runtime that takes it; more often where a
    `precision` is asked for, and then, for `sustained` seconds, under lasting load.

    `out` keeps every sample in a file (and goes on with it after an interruption); without it
    they are only returned. `operators` also times every operator inside of the whole model,
    `energy` finds out what an inference costs (None: where the board has a power meter); where
    that fails, the result says so in `problem` and the rest of it stands. Raises `ModelFileError`
    for a file that is no model, `WorkerError` where the board's runtime refuses it, and
    `PlacementError` where operators run outside of the delegate, unless `allow_fallback`.
    """
    schedule = schedule or MODEL_SCHEDULE
    data = read_model_file(path)
    kind = format_of_file(path, data)
    model = kind.inspect(data, source=str(path))
    runtime = runtime_for(path, kind, runtime)
    entry = Entry(f"model {model.digest[:16]}", "model", {"name": path.name})
    document = {
        "kind": "profile",
        "schedule": asdict(schedule),
        "model": asdict(model),
        "device": device.name,
        "threads": threads,
    }
    if runtime != kind.runtime:
        document["runtime"] = runtime
    source = Source(emit=lambda: data, memory=4 * len(data))
    request = {
        "precision": None if precision is None else precision.half_width,
        "sustained": sustained,
    }
    loaded = Model(entry.key, source.emit)
    with begin_or_continue(out, [entry], document) as store:
        if store.document("request") != request:  # what is wanted may change, what is kept fits
            store.write_document("request", request)
        if store.document("placement") is None:
            with (
                occupied(device, f"look at {path.name}", tell=telling(report)),
                open_session(device, threads=threads, runtime=runtime) as session,
            ):
                session.load_one(loaded)
                (placement,) = session.placements([loaded.key])
                # The runtime's own name has its providers' in full.
                placed = {**asdict(placement), "runtime": session.hello.get("runtime")}
            store.write_document("placement", placed)
        if not allow_fallback:
            said = str((store.document("placement") or {}).get("runtime"))
            _placement(store).check(path.name, len(model.operators), device.name, said)
        runs = max(schedule.runs, _runs_begun(store))
        while True:
            run_campaign(
                store,
                device,
                {entry.key: source},
                replace(schedule, runs=runs),
                threads=threads,
                runtime=runtime,
                dtype=model.dtype,
                report=report,
            )
            if precision is None or _enough(store, _profile(store).measurement, precision):
                break
            runs += 1
        problems = []
        if operators and store.document("operators") is None:
            problems.append(
                _time_operators(store, device, loaded, threads, runtime, telling(report))
            )
        if energy is not False and store.document("energy") is None:
            problems.append(
                _find_energy(store, device, loaded, threads, runtime, energy, telling(report))
            )
        if sustained is not None:  # last: it leaves the board hot
            measure_sustained(
                store,
                device,
                entry.key,
                source,
                sustained,
                threads=threads,
                runtime=runtime,
                dtype=model.dtype,
                report=report,
            )
        return replace(_profile(store), problem="; ".join(filter(None, problems)))


def _time_operators(
    store: Store,
    device: Device,
    model: Model,
    threads: int,
    runtime: str,
    tell: Callable[[str], None],
) -> str:
    """Time the operators of a model and keep their times; return why not where that failed."""
    seconds = _profile(store).measurement.median.seconds
    try:
        with (
            occupied(device, f"time the operators of {model.key}", tell=tell),
            open_session(device, threads=threads, runtime=runtime) as session,
        ):
            session.load_one(model)
            found = session.operators(model.key, _operator_runs(seconds), seconds)
    except (WorkerError, DeviceError) as error:
        return str(error)
    store.write_document("operators", found.content())
    return ""


def _find_energy(
    store: Store,
    device: Device,
    model: Model,
    threads: int,
    runtime: str,
    wanted: bool | None,
    tell: Callable[[str], None],
) -> str:
    """Measure what an inference costs and keep it; return why not where that failed, or where the
    board has no meter although its energy is `wanted`."""
    seconds = _profile(store).measurement.median.seconds
    try:
        found = measure_energy(device, model, seconds, threads=threads, runtime=runtime, tell=tell)
    except (MeasurementError, WorkerError, DeviceError) as error:
        if wanted:
            return str(error)
        tell(f"the energy of an inference could not be measured: {error}")
        return ""
    if found is not None:
        store.write_document("energy", found.content())
    elif wanted:
        return (
            f"{device.name} shows no power meter (an INA3221, as Jetsons have): its energy is not "
            "known; go without --energy"
        )
    return ""


def _operator_runs(seconds: float) -> int:
    """How many times to time the operators of a model that takes so many seconds."""
    least, most = OPERATOR_RUNS
    return max(least, min(most, int(OPERATOR_SECONDS / (_INFERENCES_A_RUN * seconds))))


def _runs_begun(store: Store) -> int:
    """The runs that a file has, the last perhaps unfinished."""
    return max((run + 1 for _, run, _ in store.sessions()), default=0)


def _enough(store: Store, found: Measurement, precision: Precision) -> bool:
    """Whether no further run is to be measured: precise enough, out of budget, or beyond hope.

    An interval of another session cannot become narrower than 1.96 deviations between sessions,
    however many were measured.
    """
    runs, reached = len(found.run_minima), found.reached
    if reached is not None and reached <= precision.half_width:
        return True
    evidence = store.evidence()
    busy = sum(row.get("wall", 0.0) + row.get("warmup_seconds", 0.0) for row in evidence)
    if runs >= MOST_RUNS or busy >= precision.budget_seconds:
        return True
    return runs >= HOPELESS_RUNS and 1.96 * found.spread.deviation > precision.half_width


def open_profile(path: Path) -> ModelProfile:
    """Read what `profile_model` kept in a file.

    What was interrupted between two runs has the verdict "partial". Raises `TableFileError`
    where the file is missing, foreign, damaged, or nothing has been measured yet.
    """
    with Store.open(path) as store:
        return _profile(store)


def _profile(store: Store) -> ModelProfile:
    document = store.document("plan")
    if document is None or document.get("kind") != "profile":
        raise TableFileError(f"{store.path} does not hold the profile of a model")
    entries = list(store.entries().values())
    try:
        (entry,) = entries
        found = measurement(store, entry.key, int(document["schedule"]["runs"]))
        request = store.document("request") or {}
        reference = reference_minima(store, np.unique(found.run).tolist())
        wanted, lasting = request.get("precision"), request.get("sustained")
        found = replace(
            found,
            companions=() if reference is None else (reference,),
            throttled=throttled_samples(store, entry.key),
            precision=None if wanted is None else float(wanted),
        )
        return ModelProfile(
            str(entry.content["name"]),
            _read_model(document["model"]),
            found,
            store.conditions() or {},
            read_sustained(store, float(np.median(found.seconds)), float(lasting or 0.0)),
            _placement(store),
            _operators(store),
            read_energy(store.document("energy")),
            board_record(store),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TableFileError(
            f"{store.path} is not finished, or damaged ({error}); run `boardfit profile` with the "
            "same --out again"
        ) from error


def _placement(store: Store) -> Placement:
    document = store.document("placement")
    try:
        return UNKNOWN if document is None else read_placement(document.get("outside"))
    except ValueError as error:
        raise _damaged(store, error) from error


def _operators(store: Store) -> OperatorProfile | None:
    document = store.document("operators")
    try:
        return None if document is None else read_operators(document)
    except ValueError as error:
        raise _damaged(store, error) from error


def _damaged(store: Store, error: ValueError) -> TableFileError:
    return TableFileError(f"{store.path} is damaged ({error}); measure again with another --out")


def _read_model(content: Mapping[str, Any]) -> ModelInfo:
    def tensors(name: str) -> tuple[TensorInfo, ...]:
        return tuple(
            TensorInfo(str(t["name"]), tuple(t["shape"]), str(t["dtype"])) for t in content[name]
        )

    operators = tuple(
        OperatorInfo(
            str(o["name"]),
            tuple(tuple(shape) for shape in o["inputs"]),
            tuple(tuple(shape) for shape in o["outputs"]),
            int(o["parameters"]),
            str(o.get("dtype", "float32")),  # older files do not say
        )
        for o in content["operators"]
    )
    return ModelInfo(
        str(content["digest"]),
        int(content["size"]),
        tensors("inputs"),
        tensors("outputs"),
        operators,
    )
