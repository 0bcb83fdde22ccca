"""The command line: parse, call, print.

Exit codes: 0 done, 1 failed (the worker died, the disk is full, another process is at it),
2 usage or an input file, 3 no such device, 4 measurement not trustworthy, 5 constraint not met,
130 interrupted.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from boardfit import __version__

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 usage or input file, 3 no such device, 4 measurement not "
    "trustworthy, 5 constraint not met, 130 interrupted. Work that was interrupted goes on with "
    "the same command."
)

INTERRUPTED = 130

app = typer.Typer(
    name="boardfit",
    help="Measure neural networks on the boards you have, build latency lookup tables, and search "
    "for the best network for one board.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
devices_app = typer.Typer(help="Which boards there are.", rich_markup_mode=None)
table_app = typer.Typer(
    help="Look after lookup tables.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(devices_app, name="devices")
app.add_typer(table_app, name="table")

DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="The board's name; `boardfit devices` lists them."),
]
InventoryOption = Annotated[
    Path | None, typer.Option("--boards", help="The inventory file, instead of the usual one.")
]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="Threads of the runtime.")]
RuntimeOption = Annotated[
    str,
    typer.Option(
        "--runtime",
        help="auto, ai-edge-litert, tflite-runtime, onnxruntime, or onnxruntime:PROVIDER,...",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Decides every random choice.")]
OptionsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A field of the space, e.g. input_size=160; may be repeated."),
]


def main() -> None:
    """Run the command line; every error of ours becomes one message and its exit code."""
    from boardfit.devices.errors import BoardfitError

    try:
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BoardfitError as error:
        _say(f"boardfit: {error}")
        code = error.exit_code
    except Exception as error:
        # Typer's own errors (a wrong option) know how to show themselves.
        if not hasattr(error, "show"):
            raise
        error.show()
        code = int(getattr(error, "exit_code", 2))
    if code == INTERRUPTED:  # Typer turns Ctrl-C into this code and says nothing
        _say("interrupted; what is kept in a file goes on with the same command")
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"boardfit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


@devices_app.callback(invoke_without_command=True)
def devices(
    context: typer.Context, boards: InventoryOption = None, as_json: JsonOption = False
) -> None:
    """List the boards that can be measured (the same as `devices list`)."""
    if context.invoked_subcommand is None:
        devices_list(boards, as_json)


@devices_app.command("list")
def devices_list(boards: InventoryOption = None, as_json: JsonOption = False) -> None:
    """List the boards that can be measured."""
    from boardfit.console import show
    from boardfit.devices.inventory import Inventory

    rows = [
        {
            "name": entry.name,
            "transport": entry.transport,
            "core": entry.core,
            "tags": " ".join(entry.tags),
        }
        for entry in Inventory.load(boards).all_entries
    ]
    show(rows, as_json=as_json)


@app.command()
def profile(
    model: Annotated[
        Path | None,
        typer.Argument(help="A .tflite or .onnx file; or give --space.", show_default=False),
    ] = None,
    device: DeviceOption = None,
    space: Annotated[
        str | None, typer.Option("--space", help="Build a lookup table for this search space.")
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
    threads: ThreadsOption = 1,
    runtime: RuntimeOption = "auto",
    seed: SeedOption = 0,
    boards: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure one model, or all operators of a search space (a lookup table)."""
    from boardfit import api, console
    from boardfit.devices.errors import InputError
    from boardfit.profiler.connect import connect
    from boardfit.profiler.schedule import Schedule

    if (model is None) == (space is None):
        raise InputError("give either a .tflite or .onnx file, or --space NAME")
    board = connect(device, inventory=boards)
    try:
        if model is not None:
            with console.progress() as report:
                found = api.profile(
                    model,
                    board,
                    threads=threads,
                    runtime=runtime,
                    budget=budget,
                    out=out,
                    report=report,
                )
            _show_profile(found, as_json)
            return
        assert space is not None
        path = out or default_table(board.name, space, runtime)
        with console.progress() as report:
            table = api.build_table(
                space,
                board,
                path,
                options=parse_options(options),
                threads=threads,
                runtime=runtime,
                seed=seed,
                schedule=Schedule() if budget is None else Schedule(budget_seconds=budget),
                report=report,
            )
        _show_table(table, as_json)
        table.check()
    finally:
        board.transport.close()


@table_app.command("show")
def table_show(
    table: Annotated[Path, typer.Argument(help="A table that `boardfit profile --space` built.")],
    operators: Annotated[
        bool, typer.Option("--operators", help="List every operator, not only the summary.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a table holds, and how right it is."""
    from boardfit.console import show
    from boardfit.profiler.table import LookupTable

    opened = LookupTable.open(table)
    if not operators:
        _show_table(opened, as_json)
        return
    frame = opened.frame()
    rows = [
        {
            "operator": row["signature"],
            "alone_us": row["seconds_alone"] * 1e6,
            "in_a_network_us": row["seconds"] * 1e6,
            "spread_between_runs": row["spread_between_runs"],
        }
        for row in frame.to_dict("records")
    ]
    show(rows, as_json=as_json)


@table_app.command("export")
def table_export(
    table: Annotated[Path, typer.Argument(help="A table that `boardfit profile --space` built.")],
    out: Annotated[Path, typer.Argument(help="A file that ends in .csv, .json or .parquet.")],
) -> None:
    """Write a table's operators as CSV, JSON or Parquet (times in seconds)."""
    from boardfit.profiler.export_table import export_table
    from boardfit.profiler.table import LookupTable

    rows = export_table(LookupTable.open(table), out)
    print(f"wrote {rows} operators to {out}")


@app.command()
def search(
    latency: Annotated[
        str, typer.Option("--latency", help='A time ("3ms") or a share of the full network\'s.')
    ] = "50%",
    device: DeviceOption = None,
    space: Annotated[str, typer.Option("--space", help="The search space.")] = "mobilenetv3-32",
    options: OptionsOption = None,
    data: Annotated[
        str,
        typer.Option("--data", help="shapes, digits, cifar10:PATH or folder:PATH."),
    ] = "shapes",
    out: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("runs/search"),
    table: Annotated[
        Path | None,
        typer.Option("--table", help="The board's table; without it the usual one, built first."),
    ] = None,
    training: Annotated[
        str, typer.Option("--training", help="ordered-dropout, single-path or sandwich.")
    ] = "ordered-dropout",
    optimizer: Annotated[
        str,
        typer.Option("--optimizer", help="coordinate-descent, single-layer, evolution or random."),
    ] = "coordinate-descent",
    evaluations: Annotated[
        int, typer.Option("--evaluations", min=2, help="Networks that are scored at most.")
    ] = 120,
    batch_statistics: Annotated[
        str,
        typer.Option(
            "--batch-statistics", help="holdout or re-estimated: for scoring sub-networks."
        ),
    ] = "holdout",
    supernet_steps: Annotated[
        int | None, typer.Option("--supernet-steps", min=1, help="Steps of the super-network.")
    ] = None,
    final_steps: Annotated[
        int | None, typer.Option("--final-steps", min=1, help="Steps of the final training.")
    ] = None,
    allow_invalid_table: Annotated[
        bool,
        typer.Option("--allow-invalid-table", help="Go on with a table that failed its bar."),
    ] = False,
    seed: SeedOption = 0,
    boards: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search for the best network for a board: weights, a .tflite file, and measured proof."""
    from boardfit import api, console
    from boardfit.profiler.connect import connect

    api.require("torch", "search")
    from boardfit.search.data import open_dataset
    from boardfit.search.pipeline import SearchSettings, recipes
    from boardfit.search.pipeline import search as run

    supernet, final = recipes(supernet_steps, final_steps)
    settings = SearchSettings(
        target=latency,
        seed=seed,
        training=cast(Any, training),  # checked by SearchSettings itself
        optimizer=cast(Any, optimizer),
        evaluations=evaluations,
        batch_statistics=cast(Any, batch_statistics),
        supernet=supernet,
        final=final,
    )
    opened = api.open_space(space, parse_options(options))
    # Before the board is kept busy for a table, see that the data fits.
    dataset = open_dataset(data, input_shape=opened.input_shape, classes=opened.classes, seed=seed)
    board = connect(device, inventory=boards)
    try:
        with console.progress() as report:
            prices = api.open_or_build_table(
                space,
                board,
                table or default_table(board.name, space),
                options=parse_options(options),
                report=report,
            )
            found = run(
                opened,
                prices,
                board,
                dataset,
                settings,
                out,
                allow_invalid_table=allow_invalid_table,
                report=report,
            )
    finally:
        board.transport.close()
    from boardfit.summary import search_rows, search_words

    console.show(search_rows(found), as_json=as_json)
    if not as_json:
        for sentence in search_words(found):
            console.out.print(sentence, markup=False)
        console.out.print(f"Everything is in {out}; `boardfit report {out}` writes a page.")


@app.command()
def report(
    paths: Annotated[list[Path], typer.Argument(help="Tables, profiles and run folders.")],
    out: Annotated[Path, typer.Option("--out", help="The page.")] = Path("report.html"),
) -> None:
    """Write one self-contained HTML page about tables, profiles and searches."""
    from boardfit import api

    api.write_report(paths, out)
    print(f"wrote {out}")


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option("--out", help="The folder.")] = Path("runs/quickstart"),
    device: DeviceOption = "local",
    seed: SeedOption = 0,
) -> None:
    """Do all of it on this machine in minutes: table, search, training, report."""
    from boardfit import api

    for module, extra in (("torch", "search"), ("plotly", "report"), ("jinja2", "report")):
        api.require(module, extra)
    from boardfit.quickstart import quickstart as run

    run(out, device, seed)


def default_table(device: str, space: str, runtime: str = "auto") -> Path:
    """Where a board's table of a space lies unless it is said otherwise."""
    named = "" if runtime == "auto" else f"-{runtime.replace(':', '-').replace(',', '-')}"
    return Path("tables") / f"{device}-{space}{named}.boardfit"


def parse_options(texts: list[str] | None) -> dict[str, Any]:
    """`["input_size=160"]` as `{"input_size": 160}`. Raises `InputError`."""
    from boardfit.devices.errors import InputError

    options: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"--set {text}: write NAME=VALUE, for example --set input_size=160")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def _show_profile(found: Any, as_json: bool) -> None:
    from boardfit.console import out, show
    from boardfit.summary import profile_rows, profile_words

    show(profile_rows(found), as_json=as_json)
    if not as_json:
        for sentence in profile_words(found):
            out.print(sentence, markup=False)


def _show_table(table: Any, as_json: bool) -> None:
    from boardfit.console import out, show
    from boardfit.summary import table_rows, table_words

    show(table_rows(table), as_json=as_json)
    if not as_json:
        for sentence in table_words(table):
            out.print(sentence, markup=False)
