"""The Python face: what the command line does, as functions; results are frozen dataclasses.

Everything raises `BoardfitError` (see `boardfit.devices.errors` for the tree) with a message that
names the cause and the next step.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boardfit.devices.base import Device
from boardfit.devices.errors import BoardfitError
from boardfit.profiler.progress import Report, silent
from boardfit.profiler.schedule import Schedule

if TYPE_CHECKING:
    from boardfit.profiler.profile_model import ModelProfile
    from boardfit.profiler.table import LookupTable
    from boardfit.search.result import SearchResult
    from boardfit.search.space import SearchSpace

SpaceOptions = Mapping[str, Any]


def profile(
    model: Path | str,
    device: Device,
    *,
    threads: int = 1,
    runtime: str = "auto",
    budget: float | None = None,
    out: Path | str | None = None,
    report: Report = silent,
) -> ModelProfile:
    """Measure a TFLite or ONNX model: its latency with an interval, and whether to believe it.

    Once the board has spent `budget` seconds it is visited no more often than necessary; `out`
    keeps every sample in a file.
    """
    from dataclasses import replace

    from boardfit.profiler.profile_model import MODEL_SCHEDULE, profile_model

    schedule = MODEL_SCHEDULE if budget is None else replace(MODEL_SCHEDULE, budget_seconds=budget)
    kept = None if out is None else Path(out)
    return profile_model(
        Path(model), device, schedule, threads=threads, runtime=runtime, out=kept, report=report
    )


def build_table(
    space: str,
    device: Device,
    path: Path | str,
    *,
    options: SpaceOptions | None = None,
    threads: int = 1,
    runtime: str = "auto",
    calibration: int = 20,
    validation: int = 60,
    seed: int = 0,
    schedule: Schedule | None = None,
    report: Report = silent,
) -> LookupTable:
    """Build the lookup table of a search space on a board, or go on with one that was begun.

    `options` are fields of the space, such as `{"input_size": 160}`; the table remembers them.
    `runtime` measures with another one than LiteRT, such as "onnxruntime".
    """
    from boardfit.profiler import build
    from boardfit.search.tabulate import plan_table

    plan = plan_table(
        open_space(space, options),
        options=options or {},
        calibration=calibration,
        validation=validation,
        seed=seed,
    )
    return build.build_table(
        Path(path), device, plan, schedule, threads=threads, runtime=runtime, report=report
    )


def open_or_build_table(
    space: str,
    device: Device,
    path: Path | str,
    *,
    options: SpaceOptions | None = None,
    report: Report = silent,
) -> LookupTable:
    """The finished table at `path` as it is, however it was built; otherwise build it there.

    Raises `TableFileError` where it is a finished table of another space.
    """
    from boardfit.devices.errors import TableFileError
    from boardfit.profiler.table import LookupTable

    path = Path(path)
    if not path.exists() or not LookupTable.is_finished(path):
        return build_table(space, device, path, options=options, report=report)
    table = LookupTable.open(path)
    found = table.provenance.get("space"), table.provenance.get("options")
    if found != (space, dict(options or {})):
        raise TableFileError(
            f"{path} is a table of {found[0]} with {found[1] or 'no options'}, not of {space} with "
            f"{dict(options or {}) or 'no options'}; name another with --table"
        )
    return table


def open_space(name: str, options: SpaceOptions | None = None) -> SearchSpace:
    """A search space by its name, with its fields replaced by `options`."""
    from boardfit.search import mobilenetv3

    return mobilenetv3.open_space(name, **(options or {}))


def find_network(
    table: LookupTable,
    device: Device,
    *,
    data: str = "shapes",
    latency: str = "50%",
    out: Path | str,
    allow_invalid_table: bool = False,
    report: Report = silent,
    **settings: Any,
) -> SearchResult:
    """Search the space that a table was built for: a trained, exported and measured network.

    `latency` is a time ("3ms") or a share of the full network's ("50%"), `data` a data set
    ("shapes", "digits", "cifar10:PATH", "folder:PATH"), `out` the run folder; `settings` are
    further fields of `boardfit.search.pipeline.SearchSettings`.
    """
    require("torch", "search")
    from boardfit.search import pipeline
    from boardfit.search.data import open_dataset

    space = open_space(table.provenance["space"], table.provenance["options"])
    wanted = pipeline.SearchSettings(target=latency, **settings)
    dataset = open_dataset(
        data, input_shape=space.input_shape, classes=space.classes, seed=wanted.seed
    )
    return pipeline.search(
        space,
        table,
        device,
        dataset,
        wanted,
        Path(out),
        allow_invalid_table=allow_invalid_table,
        report=report,
    )


def write_report(paths: Sequence[Path | str], out: Path | str) -> None:
    """Write one self-contained HTML page about tables, profiles and searches."""
    for module in ("plotly", "jinja2"):
        require(module, "report")
    from boardfit.reports.page import write_report as write

    write([Path(path) for path in paths], Path(out))


def require(module: str, extra: str) -> None:
    """Raise `BoardfitError` with the command that installs an optional part, if it is missing."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BoardfitError(
            f"this needs {module}, which is not installed: pip install 'boardfit[{extra}]'"
        ) from error
