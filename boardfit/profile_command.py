"""The command `profile`, of a model or of a search space's operators: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from boardfit.fleet_commands import (
    CertificateOption,
    FleetOption,
    KeyOption,
    SchedulerOption,
    TrustOption,
    parse_fleet,
    tls_files,
)
from boardfit.options import (
    BenchmarkModelOption,
    DeviceOption,
    InventoryOption,
    JsonOption,
    OptionsOption,
    RuntimeOption,
    SeedOption,
    ThreadsOption,
    WaitOption,
    default_table,
    parse_entries,
    parse_options,
    parse_share,
)
from boardfit.table_commands import show_table


def profile(
    model: Annotated[
        Path | None,
        typer.Argument(help="A .tflite or .onnx file; or give --space.", show_default=False),
    ] = None,
    device: DeviceOption = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            help="Build a lookup table for this search space, or for one in a Python file of your "
            "own, which is run.",
        ),
    ] = None,
    options: OptionsOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The file that keeps all samples (for a table: the table)."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", min=0.1, help="Seconds after which only the necessary is measured."
        ),
    ] = None,
    entries: Annotated[
        str | None,
        typer.Option(
            "--entries",
            help="How many of a table's operators are measured at most, or all.",
            show_default="700",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what a table would measure, and for how long."),
    ] = False,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="For a model: measure further sessions until another one's value is known within "
            "this, e.g. 2%, or the budget ends.",
        ),
    ] = None,
    sustained: Annotated[
        str | None,
        typer.Option(
            "--sustained",
            help="For a model: then run it without a pause for this long, e.g. 30s, 10m, 1h.",
        ),
    ] = None,
    pause: Annotated[
        float | None,
        typer.Option(
            "--pause", min=0.0, help="For a model: seconds that the board rests between sessions."
        ),
    ] = None,
    operators: Annotated[
        bool, typer.Option("--operators", help="Also time every operator of the model.")
    ] = False,
    energy: Annotated[
        bool | None,
        typer.Option(
            "--energy/--no-energy",
            help="What an inference costs in joules; without either: where the board has a meter.",
            show_default=False,
        ),
    ] = None,
    allow_fallback: Annotated[
        bool,
        typer.Option("--allow-fallback", help="Go on where operators run outside of the delegate."),
    ] = False,
    threads: ThreadsOption = 1,
    runtime: RuntimeOption = "auto",
    benchmark_model: BenchmarkModelOption = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="float32 or int8; for a table (--space).")
    ] = "float32",
    seed: SeedOption = 0,
    fleet: FleetOption = None,
    scheduler: SchedulerOption = None,
    tls_ca: TrustOption = None,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
    wait: WaitOption = None,
    boards: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure one model, or a lookup table of a search space's operators."""
    from boardfit import api, console
    from boardfit.devices.errors import InputError, WorkerError
    from boardfit.profiler.connect import connect
    from boardfit.profiler.layers import DTYPES
    from boardfit.profiler.model_format import BENCHMARK_MODEL
    from boardfit.profiler.plan import OPERATORS
    from boardfit.profiler.schedule import Schedule
    from boardfit.profiler.sustained import parse_duration
    from boardfit.summary import forecast_rows, forecast_words

    if (model is None) == (space is None):
        raise InputError("give either a .tflite or .onnx file, or --space NAME")
    half_width = None if precision is None else parse_share(precision)
    seconds = None if sustained is None else parse_duration(sustained)
    if model is None and (half_width, seconds, pause) != (None, None, None):
        raise InputError("--precision, --sustained and --pause are for a single model")
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: choose one of {', '.join(DTYPES)}")
    if model is not None and dtype != "float32":
        raise InputError("--dtype is for --space; a model is measured as it is")
    if space is not None and (operators or allow_fallback or energy is not None):
        raise InputError(
            "--operators, --energy and --allow-fallback are for a single model, not for --space"
        )
    if model is not None and (dry_run or entries or options):
        raise InputError("--dry-run, --entries and --set are for a table: give --space NAME")
    if benchmark_model is not None and runtime == "auto":
        runtime = BENCHMARK_MODEL
    fields = parse_options(options)
    measured = OPERATORS if entries is None else parse_entries(entries)
    how: dict[str, Any] = {
        "options": fields,
        "operators": measured,
        "threads": threads,
        "runtime": runtime,
        "seed": seed,
        "dtype": dtype,
        "schedule": Schedule() if budget is None else Schedule(budget_seconds=budget),
    }
    tls = tls_files(tls_ca, tls_cert, tls_key)
    if fleet is None and (scheduler, tls) != (None, None):
        raise InputError("--scheduler and --tls-... are for several boards: give --fleet, too")
    if fleet is not None:
        if space is None or device is not None or dry_run:
            raise InputError("--fleet is for --space, and instead of --device and --dry-run")
        names = parse_fleet(fleet, boards, attached=scheduler is None)
        path = out or default_table(fleet.removeprefix("tag:"), space, dtype, runtime)
        with console.progress() as report:
            built = api.build_fleet_table(
                space,
                names,
                path,
                scheduler=scheduler,
                tls=tls,
                inventory=boards,
                wait=wait,
                report=report,
                **how,
            )
        show_table(built.table, as_json)
        if not as_json:
            console.say([f"Without {name}: {why}" for name, why in built.lost.items()])
        built.check()
        built.table.check()
        return
    with (
        connect(device, inventory=boards, benchmark_model=benchmark_model, wait=wait) as board,
        console.progress() as report,
    ):
        if model is not None:
            found = api.profile(
                model,
                board,
                threads=threads,
                runtime=runtime,
                budget=budget,
                precision=half_width,
                sustained=seconds,
                pause=pause,
                out=out,
                operators=operators,
                energy=energy,
                allow_fallback=allow_fallback,
                report=report,
            )
        else:
            assert space is not None
            how["report"] = report
            if dry_run:
                forecast = api.forecast_table(space, board, **how)
            else:
                path = out or default_table(board.name, space, dtype, runtime)
                table = api.build_table(space, board, path, **how)
    if model is not None:
        _show_profile(found, as_json)
        if found.problem:  # what was measured has been shown
            raise WorkerError(found.problem)
    elif dry_run:
        console.tell(forecast_rows(forecast), forecast_words(forecast), as_json=as_json)
    else:
        show_table(table, as_json)
        table.check()


def _show_profile(found: Any, as_json: bool) -> None:
    from boardfit.console import say, show
    from boardfit.profile_summary import (
        operator_table,
        profile_content,
        profile_rows,
        profile_words,
    )

    show(profile_content(found) if as_json else profile_rows(found), as_json=as_json)
    if not as_json:
        show(operator_table(found), as_json=False)
        say(profile_words(found))
