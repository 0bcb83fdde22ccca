"""Measure one model: a latency with its interval, and a verdict on whether to believe it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..devices.base import Device
from ..devices.errors import TableFileError
from .build import begin_or_continue, measurement
from .campaign import Source, run_campaign
from .measurement import Measurement
from .model_format import AUTO, format_of_file, runtime_for
from .progress import Report, silent
from .read_tflite import ModelInfo, OperatorInfo, TensorInfo, read_model_file
from .schedule import Schedule
from .store import Entry, Store

MODEL_SCHEDULE = Schedule(
    runs=3, minimum_rounds=20, maximum_rounds=60, warmup=2, samples=3, budget_seconds=30.0
)


@dataclass(frozen=True)
class ModelProfile:
    """What is known of a model on a board: what it holds, how long it takes, under which
    conditions."""

    name: str
    model: ModelInfo
    measurement: Measurement
    conditions: Mapping[str, Any]


def profile_model(
    path: Path,
    device: Device,
    schedule: Schedule | None = None,
    *,
    threads: int = 1,
    runtime: str = AUTO,
    out: Path | None = None,
    report: Report = silent,
) -> ModelProfile:
    """Measure the TFLite or ONNX model at `path`, in a runtime that takes it.

    `out` keeps every sample in a file (and goes on with it after an interruption); without it
    they are only returned. Raises `ModelFileError` for a file that is no model, `WorkerError`
    where the board's runtime refuses it.
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
    source = Source(emit=lambda: data, memory=4 * len(data))
    with begin_or_continue(out, [entry], document) as store:
        run_campaign(
            store,
            device,
            {entry.key: source},
            schedule,
            threads=threads,
            runtime=runtime,
            report=report,
        )
        return _profile(store)


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
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise TableFileError(
            f"{store.path} is not finished, or damaged ({error}); run `boardfit profile` with the "
            "same --out again"
        ) from error


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
