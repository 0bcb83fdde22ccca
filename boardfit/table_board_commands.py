"""The commands that measure for a lookup table on a board: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    parse_options,
)
from boardfit.table_commands import TableArgument, show_table


def table_verify(
    table: TableArgument,
    device: DeviceOption = None,
    sample: Annotated[
        int, typer.Option("--sample", min=0, help="Operators that are measured again.")
    ] = 60,
    networks: Annotated[
        int, typer.Option("--networks", min=0, help="Held-out networks that are.")
    ] = 10,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file that keeps all samples.")
    ] = None,
    seed: SeedOption = 0,
    benchmark_model: BenchmarkModelOption = None,
    wait: WaitOption = None,
    boards: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a sample of a table again, and say whether it still holds (exit code 4: no)."""
    from boardfit import api, console
    from boardfit.profiler.connect import connect
    from boardfit.profiler.table import LookupTable
    from boardfit.table_summary import verification_rows, verification_words

    opened = LookupTable.open(table)
    with (
        connect(device, inventory=boards, benchmark_model=benchmark_model, wait=wait) as board,
        console.progress() as report,
    ):
        found = api.verify_table(
            opened, board, sample=sample, networks=networks, seed=seed, out=out, report=report
        )
    console.tell(verification_rows(found), verification_words(found), as_json=as_json)
    found.check()


def table_extend(
    table: TableArgument,
    space: Annotated[str, typer.Option("--space", help="What the table is to price, too.")],
    device: DeviceOption = None,
    options: OptionsOption = None,
    benchmark_model: BenchmarkModelOption = None,
    wait: WaitOption = None,
    boards: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what a table lacks for a search space."""
    from boardfit import api, console
    from boardfit.profiler.connect import connect

    with (
        connect(device, inventory=boards, benchmark_model=benchmark_model, wait=wait) as board,
        console.progress() as report,
    ):
        found = api.extend_table(table, space, board, options=parse_options(options), report=report)
    show_table(found, as_json)
    found.check()


def table_transfer(
    donor: Annotated[Path, typer.Argument(help="The table of a board that resembles this one.")],
    out: Annotated[Path, typer.Argument(help="The table to build.")],
    device: DeviceOption = None,
    measurements: Annotated[
        int,
        typer.Option("--measurements", min=1, help="Operators and calibration networks at most."),
    ] = 200,
    threads: ThreadsOption = 1,
    runtime: RuntimeOption = "auto",
    benchmark_model: BenchmarkModelOption = None,
    wait: WaitOption = None,
    boards: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Build a table from another board's and few measurements on this one."""
    from boardfit import api, console
    from boardfit.profiler.connect import connect
    from boardfit.profiler.model_format import BENCHMARK_MODEL

    if benchmark_model is not None and runtime == "auto":
        runtime = BENCHMARK_MODEL
    with (
        connect(device, inventory=boards, benchmark_model=benchmark_model, wait=wait) as board,
        console.progress() as report,
    ):
        found = api.transfer_table(
            donor,
            board,
            out,
            measurements=measurements,
            threads=threads,
            runtime=runtime,
            report=report,
        )
    show_table(found, as_json)
    found.check()
