"""The commands that look after lookup tables, without a board: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from boardfit.options import JsonOption

table_app = typer.Typer(
    help="Look after lookup tables.", no_args_is_help=True, rich_markup_mode=None
)

TableArgument = Annotated[
    Path, typer.Argument(help="A table that `boardfit profile --space` built.")
]


@table_app.command("show")
def table_show(
    table: TableArgument,
    operators: Annotated[
        bool, typer.Option("--operators", help="List every operator, not only the summary.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a table holds, and how right it is."""
    from boardfit.console import show
    from boardfit.profiler.export_table import export_frame
    from boardfit.profiler.table import LookupTable

    opened = LookupTable.open(table)
    if not operators:
        show_table(opened, as_json)
        return
    rows = [
        {
            "operator": row["signature"],
            "alone_us": row["seconds_alone"] * 1e6,
            "low_us": row["low"] * 1e6,  # of another session's value alone, 95 %
            "high_us": row["high"] * 1e6,
            "in_a_network_us": row["seconds"] * 1e6,
            "spread_between_runs": row["spread_between_runs"],
            "verdict": row["verdict"],
        }
        for row in export_frame(opened).to_dict("records")
    ]
    show(rows, as_json=as_json)


@table_app.command("diff")
def table_diff(
    before: Annotated[Path, typer.Argument(help="A table.")],
    after: Annotated[Path, typer.Argument(help="Another: of another board, day, thread count.")],
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="Operators that are listed at most.")
    ] = 20,
    unshared: Annotated[
        bool, typer.Option("--unshared", help="Name the operators that only one table has.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two tables: conditions, the speed as a whole, and which operators changed."""
    from boardfit.console import say, show
    from boardfit.profiler.diff_tables import diff_tables
    from boardfit.profiler.table import LookupTable
    from boardfit.table_summary import (
        changed_rows,
        condition_words,
        difference_json,
        difference_words,
        kind_rows,
        unshared_words,
        validation_rows,
    )

    found = diff_tables(LookupTable.open(before), LookupTable.open(after))
    if as_json:
        show([difference_json(found, unshared)], as_json=True)
        return
    say(condition_words(found))
    show(validation_rows(found), as_json=False)
    show(kind_rows(found), as_json=False)
    show(changed_rows(found, limit), as_json=False)
    say(difference_words(found, limit))
    if unshared:
        say(unshared_words(found))


@table_app.command("merge")
def table_merge(
    out: Annotated[Path, typer.Argument(help="The table that is made.")],
    tables: Annotated[
        list[Path], typer.Argument(help="Tables of one board under equal conditions.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Unite tables of one board (of several spaces, or measured in parts) in a new one."""
    from boardfit.profiler.merge_tables import merge_tables

    merged = merge_tables(out, tables)
    show_table(merged, as_json)


@table_app.command("export")
def table_export(
    table: TableArgument,
    out: Annotated[Path, typer.Argument(help="A file that ends in .csv, .json or .parquet.")],
) -> None:
    """Write a table's operators as CSV, JSON or Parquet (times in seconds)."""
    from boardfit.profiler.export_table import export_table
    from boardfit.profiler.table import LookupTable

    rows = export_table(LookupTable.open(table), out)
    print(f"wrote {rows} operators to {out}")


@table_app.command("import")
def table_import(
    file: Annotated[
        Path, typer.Argument(help="A table as .json, .yaml or .csv, perhaps with .gz behind.")
    ],
    out: Annotated[Path, typer.Argument(help="The table that is made.")],
    unit: Annotated[
        str | None, typer.Option("--unit", help="ms, us or s, where the file does not say it.")
    ] = None,
    board: Annotated[str | None, typer.Option("--board", help='Its board: "Pixel 1".')] = None,
    soc: Annotated[str | None, typer.Option("--soc", help="The board's chip.")] = None,
    system: Annotated[str | None, typer.Option("--system", help="Its operating system.")] = None,
    runtime: Annotated[str | None, typer.Option("--runtime", help="What ran the blocks.")] = None,
    runtime_version: Annotated[
        str | None, typer.Option("--runtime-version", help="The runtime's version.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="The runtime's threads.")
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32 or int8.")] = None,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out what is no block we know.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a table from an exported one (JSON), or from a public one of blocks (ProxylessNAS,
    Once-for-all)."""
    from boardfit.console import say
    from boardfit.devices.errors import InputError
    from boardfit.profiler.import_table import import_table
    from boardfit.profiler.public_tables import UNITS
    from boardfit.table_summary import import_words

    if unit is not None and unit not in UNITS:
        raise InputError(f"--unit {unit}: give one of {', '.join(UNITS)}")
    found = import_table(
        file,
        out,
        unit=cast(Any, unit),
        conditions={
            "board": board,
            "soc": soc,
            "system": system,
            "runtime": runtime,
            "runtime_version": runtime_version,
            "threads": threads,
            "dtype": dtype,
        },
        skip_unknown=skip_unknown,
    )
    show_table(found.table, as_json)
    if not as_json:
        say(import_words(found))


def show_table(table: Any, as_json: bool) -> None:
    """Print what a table holds and how right it is."""
    from boardfit.console import tell
    from boardfit.summary import table_rows, table_words

    tell(table_rows(table), table_words(table), as_json=as_json)


@table_app.command("compare-dtypes")
def table_compare_dtypes(
    in_float: Annotated[Path, typer.Argument(metavar="FLOAT", help="A table built in float.")],
    in_int8: Annotated[Path, typer.Argument(metavar="INT8", help="One built with --dtype int8.")],
    operators: Annotated[
        bool, typer.Option("--operators", help="List every operator that is slower in int8.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Name the operators that are slower in int8 than in float, the worst first."""
    from boardfit.console import tell
    from boardfit.profiler.compare_dtypes import compare_dtypes
    from boardfit.profiler.table import LookupTable
    from boardfit.summary import dtype_rows, dtype_words

    found = compare_dtypes(LookupTable.open(in_float), LookupTable.open(in_int8))
    tell(dtype_rows(found, operators=operators), dtype_words(found), as_json=as_json)
