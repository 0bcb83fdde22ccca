"""What a path holds: a lookup table, the profile of a model, or a finished search.

Files are not trusted: whatever is damaged ends in a named error here, so that frames and plots
can rely on what they are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..devices.errors import ReportSourceError, RunFolderError, TableFileError
from ..profiler.board_record import BoardRecord, board_record
from ..profiler.drift import Drift, drift, in_slow_stretch
from ..profiler.profile_model import ModelProfile, open_profile
from ..profiler.schedule import Schedule
from ..profiler.store import Store
from ..profiler.table import LookupTable
from ..search.result import FILE_NAME, SearchResult, read_result

LARGEST = 1e18  # of any number in a result: no time, count or size is that large
ACCEPTED = (
    "a report takes lookup tables (boardfit profile --space NAME), profiles of models (boardfit "
    "profile MODEL.tflite --out FILE) and run folders of finished searches (boardfit search)"
)


@dataclass(frozen=True)
class Sample:
    """One timed inference (or the mean of `repeats`), as stored; `at` is the board's clock."""

    run: int
    round: int
    warmup: bool
    repeats: int
    at: float
    seconds: float


@dataclass(frozen=True)
class Reference:
    """A visit to the reference model: its session, the board's clock, its time in seconds, and
    whether the board was in a slow state."""

    session: int
    at: float
    seconds: float
    slow: bool


@dataclass(frozen=True)
class Journal:
    """What a file of samples says about how it came about. Times in seconds.

    `sessions` are number, run and beginning (UTC) of each; `references` the session and the time
    of each visit to the reference model, in order, and `drift` what they say of the board's speed;
    `inference_seconds` is what the board spent in timed inferences, `wall_seconds` the time that
    went by meanwhile. `record` is what the board said of itself, None where it told nothing.
    """

    schedule: Schedule
    sessions: tuple[tuple[int, int, str], ...]
    references: tuple[Reference, ...]
    drift: Drift
    samples: int
    inference_seconds: float
    wall_seconds: float
    record: BoardRecord | None = None


@dataclass(frozen=True)
class TableSource:
    """A lookup table and its journal."""

    path: Path
    table: LookupTable
    journal: Journal


@dataclass(frozen=True)
class ProfileSource:
    """A model's profile, its journal, and its samples in the order in which they were taken."""

    path: Path
    profile: ModelProfile
    journal: Journal
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class SearchSource:
    """A finished search and its folder."""

    path: Path
    result: SearchResult


Source = TableSource | ProfileSource | SearchSource


def open_source(path: Path) -> Source:
    """Read what lies at `path`, whichever kind it is.

    Raises `ReportSourceError` where it is none of them, `RunFolderError` for a search that is not
    finished or damaged, `TableFileError` for a table or profile that is.
    """
    try:
        if path.is_dir():
            return _open_search(path)
        if not path.exists():
            raise ReportSourceError(f"there is nothing at {path}; {ACCEPTED}")
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise ReportSourceError(f"cannot read {path}: {error.strerror}") from error
    if not head.startswith(b"SQLite format 3\0"):
        hint = ""
        if head[4:8] == b"TFL3":
            hint = f" (it is a model: measure it with `boardfit profile {path.name} --out FILE`)"
        elif path.name == FILE_NAME:
            hint = " (name the folder it lies in)"
        raise ReportSourceError(f"{path} cannot be reported{hint}; {ACCEPTED}")
    try:
        return _open_measured(path)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise TableFileError(
            f"{path} is damaged ({error}); run the command that made it again, or restore a copy"
        ) from error


def _open_measured(path: Path) -> TableSource | ProfileSource:
    with Store.open(path) as store:
        plan = store.document("plan")
        kind = (plan or {}).get("kind")
        if plan is None or kind not in {"table", "profile"}:
            hint = (
                "holds the last measurement of a search; name the folder it lies in"
                if kind == "tie"
                else "holds measurements of another kind"
            )
            raise ReportSourceError(f"{path} {hint}; {ACCEPTED}")
        rows = store.samples()
        samples = tuple(
            Sample(int(row[2]), int(row[3]), bool(row[5]), int(row[8]), float(row[7]), seconds)
            for row in rows
            for seconds in [_positive(row[9], "a sample")]
        )
        journal = _journal(store, plan, samples)
    if kind == "profile":
        return ProfileSource(path, open_profile(path), journal, samples)
    table = LookupTable.open(path)
    _check_table(table)
    return TableSource(path, table, journal)


def _journal(store: Store, plan: Mapping[str, Any], samples: Sequence[Sample]) -> Journal:
    evidence = store.evidence()
    found = drift(evidence)
    rows = [row for row in evidence if "reference" in row]
    sessions = np.array([int(row["session"]) for row in rows], np.int64)
    at = np.array([_number(row["at"], "the board's clock") for row in rows], float)
    slow = in_slow_stretch(found.stretches, sessions, at)
    references = tuple(
        Reference(
            int(session),
            float(when),
            _positive(row["reference"], "the reference model's time"),
            bool(is_slow),
        )
        for row, session, when, is_slow in zip(rows, sessions, at, slow, strict=True)
    )
    wall = [_positive(row["wall"], "a round's time") for row in evidence if "wall" in row]
    for name, value in plan["schedule"].items():
        _number(value, f"{name} of the schedule")
    return Journal(
        schedule=Schedule(**plan["schedule"]),
        sessions=tuple(store.sessions()),
        references=references,
        drift=found,
        samples=sum(not sample.warmup for sample in samples),
        inference_seconds=sum(s.seconds * s.repeats for s in samples if not s.warmup),
        wall_seconds=sum(wall),
        record=board_record(store),
    )


def _check_table(table: LookupTable) -> None:
    calibration = table.calibration
    for name in ("constant", "per_operator", "per_cold_byte", "residual"):
        _number(getattr(calibration, name), f"the calibration's {name}")
    for name, factor in calibration.factors.items():
        _number(factor, f"the factor of {name}")
    if not isinstance(table.provenance, Mapping):
        raise ValueError("its provenance cannot be read")
    validation = table.validation
    if validation is None:
        return
    if validation.runs.ndim != 2:
        raise ValueError("its validation has no runs")
    for values in (validation.predicted, validation.measured, validation.runs):
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise ValueError("its validation holds times that are none")


def _open_search(folder: Path) -> SearchSource:
    try:
        result = read_result(folder)
        if result is not None:
            _check_result(result)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RunFolderError(
            f"{folder / FILE_NAME} is damaged ({error}); remove it and run the search again: it "
            "goes on from its last state"
        ) from error
    if result is None:
        if any((folder / name).exists() for name in ("run.json", "history.jsonl")):
            raise RunFolderError(
                f"the search in {folder} is not finished; run the command that began it again, it "
                "goes on where it stopped"
            )
        raise ReportSourceError(f"the folder {folder} holds no search; {ACCEPTED}")
    return SearchSource(folder, result)


def _check_result(result: SearchResult) -> None:
    for name in ("space", "data", "device", "table"):
        if not isinstance(getattr(result, name), str):
            raise ValueError(f"{name} is no text")
    for name in ("conditions", "settings", "parts"):
        if not isinstance(getattr(result, name), Mapping):
            raise ValueError(f"{name} cannot be read")
    _positive(result.target, "the target")
    _positive(result.full_seconds, "the full network's latency")
    for name, value in result.parts.items():
        if _number(value, name) < 0:
            raise ValueError(f"{name} took {value} seconds")
    architectures = [finalist.architecture for finalist in result.finalists.values()]
    for trial in result.trials:
        architectures.append(trial.architecture)
        _positive(trial.metric, f"the latency of trial {trial.number}")
        _share(trial.accuracy, f"the accuracy of trial {trial.number}")
        if not isinstance(trial.origin, str):
            raise ValueError(f"the origin of trial {trial.number} is no text")
    for architecture in architectures:
        if len(architecture) != len(result.coordinates):
            raise ValueError("an architecture does not fit the coordinates")
        for value, (name, _, full) in zip(architecture, result.coordinates, strict=True):
            if not isinstance(value, int) or not 0 <= value <= full:
                raise ValueError(f"{name} is {value!r} in an architecture, of at most {full}")
    for name, finalist in result.finalists.items():
        for interval in (finalist.predicted, finalist.measured):
            limits = [
                _positive(getattr(interval, field), f"{field} of the {name} network")
                for field in ("low", "seconds", "high")
            ]
            if limits != sorted(limits):
                raise ValueError(f"an interval of the {name} network does not hold its value")
        for field in ("seconds", "anchor_ratio"):
            _positive(getattr(finalist, field), f"{field} of the {name} network")
        for field in ("accuracy", "exported_accuracy"):
            _share(getattr(finalist, field), f"{field} of the {name} network")
        for field in ("macs", "parameters", "peak_memory", "size", "difference"):
            if _number(getattr(finalist, field), field) < 0:
                raise ValueError(f"{field} of the {name} network is negative")
        for value in finalist.accuracies:
            _share(value, f"the accuracy of an image of the {name} network")
        for figure, value in finalist.figures.items():
            _number(value, figure)
        for field in ("verdict", "file"):
            if not isinstance(getattr(finalist, field), str):
                raise ValueError(f"{field} of the {name} network is no text")
    lengths = {len(result.found.accuracies), len(result.uniform.accuracies)}
    if len(lengths) > 1 or lengths == {0}:
        raise ValueError("the two networks were judged on different images")


def _number(value: object, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < LARGEST:
        raise ValueError(f"{name} is {value!r:.30}")
    return float(value)


def _positive(value: object, name: str) -> float:
    number = _number(value, name)
    if number <= 0:
        raise ValueError(f"{name} is {value!r}")
    return number


def _share(value: object, name: str) -> float:
    number = _number(value, name)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} is {value!r}")
    return number


def check_output(out: Path, paths: Sequence[Path]) -> None:
    """Raise `ReportSourceError` where writing `out` would replace what is reported."""
    if any(out.resolve() == path.resolve() for path in paths):
        raise ReportSourceError(f"{out} is what is to be reported; give --out another name")
