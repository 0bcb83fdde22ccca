"""Measure one TFLite model: a latency with its interval, and a verdict on whether to believe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..devices.base import Device
from ..devices.errors import DeviceError, TableFileError, WorkerError
from .build import begin_or_continue, measurement
from .campaign import Source, run_campaign
from .measurement import Measurement
from .operators import UNKNOWN, OperatorProfile, Placement, read_operators, read_placement
from .progress import Report, silent
from .read_tflite import ModelInfo, OperatorInfo, TensorInfo, inspect, read_model_file
from .run_litert import Model, WorkerSession
from .schedule import Schedule
from .store import Entry, Store

MODEL_SCHEDULE = Schedule(
    runs=3, minimum_rounds=20, maximum_rounds=60, warmup=2, samples=3, budget_seconds=30.0
)
OPERATOR_SECONDS = 10.0  # of the board that timing the operators may take
OPERATOR_RUNS = (3, 100)  # at least, and at most
_INFERENCES_A_RUN = 4  # with the profiler and without, each once before it counts


@dataclass(frozen=True)
class ModelProfile:
    """What is known of a model on a board: what it holds, how long it takes, under which
    conditions, and which operators no delegate took.

    `operators` has the time of each where that was asked for; `problem` says why not where the
    board could not tell.
    """

    name: str
    model: ModelInfo
    measurement: Measurement
    conditions: Mapping[str, Any]
    placement: Placement = UNKNOWN
    operators: OperatorProfile | None = None
    problem: str = ""


def profile_model(
    path: Path,
    device: Device,
    schedule: Schedule | None = None,
    *,
    threads: int = 1,
    runtime: str = "auto",
    out: Path | None = None,
    operators: bool = False,
    allow_fallback: bool = False,
    report: Report = silent,
) -> ModelProfile:
    """Measure the TFLite model at `path`.

    `out` keeps every sample in a file (and goes on with it after an interruption); without it
    they are only returned. `operators` also times every operator inside of the whole model; where
    that fails, the result says so in `problem` and the rest of it stands. Raises `ModelFileError`
    for a file that is no model, `WorkerError` where the board's runtime refuses it, and
    `PlacementError` where operators run outside of the delegate, unless `allow_fallback`.
    """
    schedule = schedule or MODEL_SCHEDULE
    data = read_model_file(path)
    model = inspect(data, source=str(path))
    entry = Entry(f"model {model.digest[:16]}", "model", {"name": path.name})
    document = {
        "kind": "profile",
        "schedule": asdict(schedule),
        "model": asdict(model),
        "device": device.name,
        "threads": threads,
    }
    source = Source(emit=lambda: data, memory=4 * len(data))
    loaded = Model(entry.key, source.emit)
    with begin_or_continue(out, [entry], document) as store:
        if store.document("placement") is None:
            with WorkerSession(device, threads=threads, runtime=runtime) as session:
                placement = _ready(session, loaded).placement(loaded.key)
            store.write_document("placement", asdict(placement))
        if not allow_fallback:
            _placement(store).check(path.name, len(model.operators), device.name)
        run_campaign(
            store,
            device,
            {entry.key: source},
            schedule,
            threads=threads,
            runtime=runtime,
            report=report,
        )
        problem = ""
        if operators and store.document("operators") is None:
            runs = _operator_runs(_profile(store).measurement.median.seconds)
            try:
                with WorkerSession(device, threads=threads, runtime=runtime) as session:
                    found = _ready(session, loaded).operators(loaded.key, runs)
                store.write_document("operators", found.content())
            except (WorkerError, DeviceError) as error:
                problem = str(error)
        return replace(_profile(store), problem=problem)


def _ready(session: WorkerSession, model: Model) -> WorkerSession:
    for _ in session.load([model]):
        pass
    return session


def _operator_runs(seconds: float) -> int:
    """How many times to time the operators of a model that takes so many seconds."""
    least, most = OPERATOR_RUNS
    return max(least, min(most, int(OPERATOR_SECONDS / (_INFERENCES_A_RUN * seconds))))


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
        return ModelProfile(
            str(entry.content["name"]),
            _read_model(document["model"]),
            found,
            store.conditions() or {},
            _placement(store),
            _operators(store),
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
