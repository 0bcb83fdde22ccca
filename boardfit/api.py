"""The Python face: what the command line does, as functions; results are frozen dataclasses.

Everything raises `BoardfitError` (see `boardfit.devices.errors` for the tree) with a message that
names the cause and the next step.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boardfit.devices.base import Device
from boardfit.devices.errors import BoardfitError
from boardfit.profiler.plan import OPERATORS
from boardfit.profiler.progress import Report, silent
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.transfer import MEASUREMENTS

if TYPE_CHECKING:
    from boardfit.profiler.fleet_build import FleetTable
    from boardfit.profiler.fleet_tls import TlsFiles
    from boardfit.profiler.forecast import Forecast
    from boardfit.profiler.layers import Dtype
    from boardfit.profiler.profile_model import ModelProfile
    from boardfit.profiler.table import LookupTable
    from boardfit.profiler.verify_table import Verification
    from boardfit.search.compute import Compute
    from boardfit.search.evaluation import Map
    from boardfit.search.result import SearchResult
    from boardfit.search.space import SearchSpace

SpaceOptions = Mapping[str, Any]
DEFAULT_SPACE = "mobilenetv3-32"


def profile(
    model: Path | str,
    device: Device,
    *,
    threads: int = 1,
    runtime: str = "auto",
    budget: float | None = None,
    precision: float | None = None,
    sustained: float | None = None,
    pause: float | None = None,
    out: Path | str | None = None,
    operators: bool = False,
    energy: bool | None = None,
    allow_fallback: bool = False,
    report: Report = silent,
) -> ModelProfile:
    """Measure a TFLite or ONNX model: its latency with an interval, and whether to believe it.

    Once the board has spent `budget` seconds it is visited no more often than necessary. With a
    `precision` (0.02 is 2 %) further sessions are measured until the interval of another session
    is as narrow, or until the board has been busy for `budget` seconds (120 unless given).
    `sustained` is how many seconds it then runs without a pause, `pause` how many the board rests
    between sessions; `out` keeps every sample in a file. `operators` times each operator inside of
    the whole model, `energy` finds out what an inference costs (None: where the board has a power
    meter); operators outside of the delegate are an error unless `allow_fallback`.
    """
    from dataclasses import replace

    from boardfit.devices.errors import InputError
    from boardfit.profiler.profile_model import MODEL_SCHEDULE, Precision, profile_model

    schedule, wanted = MODEL_SCHEDULE, None
    if pause is not None:
        schedule = replace(schedule, pause_seconds=pause)
    if precision is not None:
        if not 0 < precision < 1:
            raise InputError(f"a precision of {precision:g} makes no sense; 0.02 stands for 2 %")
        # Not part of the plan, so that the same file goes on with a longer budget.
        wanted = Precision(precision, Precision.budget_seconds if budget is None else budget)
    elif budget is not None:
        schedule = replace(schedule, budget_seconds=budget)
    return profile_model(
        Path(model),
        device,
        schedule,
        threads=threads,
        runtime=runtime,
        precision=wanted,
        sustained=sustained,
        out=None if out is None else Path(out),
        operators=operators,
        energy=energy,
        allow_fallback=allow_fallback,
        report=report,
    )


def build_table(
    space: str,
    device: Device,
    path: Path | str,
    *,
    options: SpaceOptions | None = None,
    threads: int = 1,
    operators: int | None = OPERATORS,
    runtime: str = "auto",
    calibration: int = 20,
    validation: int = 60,
    seed: int = 0,
    dtype: Dtype = "float32",
    schedule: Schedule | None = None,
    report: Report = silent,
) -> LookupTable:
    """Build the lookup table of a search space on a board, or go on with one that was begun.

    `options` are fields of the space, such as `{"input_size": 160}`; the table remembers them, and
    `dtype`. At most `operators` are measured, the others interpolated (None: all are measured).
    `runtime` measures with another one than LiteRT, such as "onnxruntime"; with "trtexec" whole
    blocks are measured where there are no more of them than `operators`.
    """
    from boardfit.profiler import build
    from boardfit.profiler.model_format import TRTEXEC
    from boardfit.search.tabulate import plan_table

    plan = plan_table(
        open_space(space, options),
        options=options or {},
        calibration=calibration,
        validation=validation,
        operators=operators,
        seed=seed,
        dtype=dtype,
        in_blocks=runtime == TRTEXEC,  # it fuses layers
    )
    return build.build_table(
        Path(path), device, plan, schedule, threads=threads, runtime=runtime, report=report
    )


def build_fleet_table(
    space: str,
    boards: Sequence[str],
    path: Path | str,
    *,
    scheduler: str | None = None,
    tls: TlsFiles | None = None,
    inventory: Path | None = None,
    wait: float | None = None,
    options: SpaceOptions | None = None,
    operators: int | None = OPERATORS,
    calibration: int = 20,
    validation: int = 60,
    seed: int = 0,
    dtype: Dtype = "float32",
    schedule: Schedule | None = None,
    **how: Any,
) -> FleetTable:
    """Build the lookup table of a search space with several boards of one kind at once.

    Without a `scheduler` every board is reached from this host; with its address
    (`tls://host:8786`, and the certificates) from wherever `boardfit devices worker` offers it;
    `wait` is for boards of this host, see `connect`.
    `how` are further arguments of `boardfit.profiler.fleet_build.build_fleet_table`. `check` of
    what is returned raises `BoardsDisagree` where a board was left out.
    """
    require("distributed", "scale")
    from functools import partial

    from boardfit.profiler import fleet_build, fleet_dask
    from boardfit.profiler.fleet_tls import check_address
    from boardfit.search.tabulate import plan_table

    plan = plan_table(
        open_space(space, options),
        options=options or {},
        calibration=calibration,
        validation=validation,
        operators=operators,
        seed=seed,
        dtype=dtype,
    )
    if scheduler is None:
        reach = partial(fleet_dask.local_cluster, boards, inventory=inventory, wait=wait)
        patience = 0.0
    else:
        reach = partial(fleet_dask.join, check_address(scheduler, tls), tls=tls)
        patience = fleet_dask.START_TIMEOUT
    return fleet_build.build_fleet_table(
        Path(path), plan, boards, reach, schedule, patience=patience, **how
    )


def forecast_table(
    space: str,
    device: Device,
    *,
    options: SpaceOptions | None = None,
    operators: int | None = OPERATORS,
    threads: int = 1,
    runtime: str = "auto",
    seed: int = 0,
    dtype: Dtype = "float32",
    schedule: Schedule | None = None,
    report: Report = silent,
) -> Forecast:
    """What `build_table` with the same arguments will measure, and about how long that takes."""
    from boardfit.profiler import forecast
    from boardfit.profiler.model_format import TRTEXEC
    from boardfit.search.tabulate import plan_table

    plan = plan_table(
        open_space(space, options),
        operators=operators,
        seed=seed,
        dtype=dtype,
        in_blocks=runtime == TRTEXEC,
    )
    return forecast.forecast(
        device, plan, schedule or Schedule(), threads=threads, runtime=runtime, report=report
    )


def extend_table(
    path: Path | str,
    space: str,
    device: Device,
    *,
    options: SpaceOptions | None = None,
    report: Report = silent,
) -> LookupTable:
    """Measure what the table at `path` lacks for a search space; return it as it is then."""
    from boardfit.profiler import build
    from boardfit.search.tabulate import plan_table

    plan = plan_table(open_space(space, options), calibration=0, validation=0)
    return build.extend_table(Path(path), device, plan.layers, report=report)


def transfer_table(
    donor: Path | str,
    device: Device,
    path: Path | str,
    *,
    measurements: int = MEASUREMENTS,
    threads: int = 1,
    runtime: str = "auto",
    report: Report = silent,
) -> LookupTable:
    """Build a table of a board that resembles the donor's from few measurements of its own."""
    from boardfit.profiler import build
    from boardfit.profiler.plan import plan_transfer
    from boardfit.profiler.table import LookupTable

    plan = plan_transfer(LookupTable.open(donor), measurements=measurements)
    return build.build_table(
        Path(path), device, plan, threads=threads, runtime=runtime, report=report
    )


def verify_table(
    table: LookupTable,
    device: Device,
    *,
    sample: int = 60,
    networks: int = 10,
    seed: int = 0,
    out: Path | str | None = None,
    report: Report = silent,
) -> Verification:
    """Measure a sample of a table's operators and held-out networks again, to see whether it holds
    (`Verification.check` raises where not); `out` keeps all samples."""
    from boardfit.profiler import verify_table as verification

    return verification.verify_table(
        table,
        device,
        sample=sample,
        networks=networks,
        seed=seed,
        path=None if out is None else Path(out),
        report=report,
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

    Where it is a table of another space, what it lacks for this one is measured on demand.
    """
    from boardfit.profiler.merge_tables import spaces_of
    from boardfit.profiler.table import LookupTable

    path = Path(path)
    if not path.exists() or not LookupTable.is_finished(path):
        return build_table(space, device, path, options=options, report=report)
    table = LookupTable.open(path)
    name = open_space(space, options).name
    if (name, dict(options or {})) in spaces_of(table.provenance):
        return table
    return extend_table(path, space, device, options=options, report=report)


def choose_space(
    name: str | None, options: SpaceOptions | None, table: Path | None
) -> tuple[str, SpaceOptions]:
    """The space to search, and its options: what is named, else the table's own, else
    `DEFAULT_SPACE`. Raises `InputError` where the table was built for none, or for several."""
    if name is not None or table is None or not table.exists():
        return name or DEFAULT_SPACE, options or {}
    from boardfit.devices.errors import InputError
    from boardfit.profiler.merge_tables import spaces_of
    from boardfit.profiler.table import LookupTable
    from boardfit.search.own_space import refuse_to_run

    spaces = spaces_of(LookupTable.open(table).provenance)
    if len(spaces) != 1:
        raise InputError(
            f"{table} was built for {len(spaces)} search spaces; say which one is searched with "
            "--space NAME (and --set)"
        )
    own, fields = spaces[0]
    refuse_to_run(own)
    return own, options or fields


def open_space(name: str, options: SpaceOptions | None = None) -> SearchSpace:
    """A search space by its name, with its fields replaced by `options`.

    A name that ends in ".py" is a file of one's own, which is run, see docs/own_space.md.
    """
    from boardfit.search import own_space, spaces

    if own_space.is_own(name):
        return own_space.open_own_space(name, **(options or {}))
    own_space.refuse_to_run(name)
    return spaces.open_space(name, **(options or {}))


def find_network(
    table: LookupTable,
    device: Device,
    *,
    data: str = "shapes",
    latency: str = "50%",
    out: Path | str,
    space: str | None = None,
    allow_invalid_table: bool = False,
    compute: Compute | None = None,
    report: Report = silent,
    **settings: Any,
) -> SearchResult:
    """Search the space that a table was built for: a trained, exported and measured network.

    `latency` is a time ("3ms") or a share of the full network's ("50%"), `data` a data set
    ("shapes", "scenes", "digits", "cifar10:PATH", "nyu:PATH", "folder:PATH", "imagenet:PATH"),
    `out` the run folder, `compute` where networks are trained; a `space` of one's own has to be
    named by its file. `settings` are further fields of `boardfit.search.settings.SearchSettings`.
    """
    return find_networks(
        table, device, data=data, latencies=[latency], out=out, space=space,
        allow_invalid_table=allow_invalid_table, compute=compute, report=report, **settings,
    )[0]  # fmt: skip


def find_networks(
    table: LookupTable,
    device: Device,
    *,
    data: str = "shapes",
    latencies: Sequence[str],
    out: Path | str,
    space: str | None = None,
    allow_invalid_table: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    tls: TlsFiles | None = None,
    compute: Compute | None = None,
    report: Report = silent,
    **settings: Any,
) -> list[SearchResult]:
    """The same for several latencies, in their order: one super-network and one descent for all.

    `workers` networks are scored at a time on this host, or as many as the workers of a Dask
    `scheduler` can.
    """
    require("torch", "search")
    from boardfit.devices.errors import InputError
    from boardfit.profiler.merge_tables import spaces_of
    from boardfit.search.data import open_dataset
    from boardfit.search.pipeline import search_targets
    from boardfit.search.settings import SearchSettings

    if not latencies:
        raise InputError("give at least one latency")
    spaces = spaces_of(table.provenance)
    if len(spaces) != 1:
        raise InputError(
            f"{table.path} was built for {len(spaces)} search spaces; a search takes one: use a "
            "table that `boardfit profile --space NAME` built"
        )
    name, options = spaces[0]
    opened = open_space(space or name, options)
    if opened.name != name:
        raise InputError(
            f"{table.path} was built for {name}, not for {opened.name}; build a table for it with "
            f"`boardfit profile --space {space}`"
        )
    wanted = SearchSettings(target=latencies[0], more_targets=tuple(latencies[1:]), **settings)
    dataset = open_dataset(
        data, input_shape=opened.input_shape, classes=opened.classes, seed=wanted.seed
    )
    with scoring(workers, scheduler, tls) as apply:
        return search_targets(
            opened,
            table,
            device,
            dataset,
            wanted,
            Path(out),
            allow_invalid_table=allow_invalid_table,
            compute=compute,
            map=apply,
            report=report,
        )


@contextlib.contextmanager
def scoring(workers: int, scheduler: str | None, tls: TlsFiles | None) -> Iterator[Map]:
    """How networks are scored: here one by one, on processes of this host, or on a cluster."""
    if workers == 1 and scheduler is None:
        yield map
        return
    from boardfit.devices.errors import InputError

    if workers > 1 and scheduler is not None:
        raise InputError("give --workers for this host or --scheduler for a cluster, not both")
    require("distributed", "scale")
    from boardfit.search.score_workers import join_workers, local_workers

    with join_workers(scheduler, tls=tls) if scheduler else local_workers(workers) as found:
        yield found.map


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
