"""The command line: parse, call, print.

Exit codes: 0 done, 1 failed (the disk is full, another process is at it, an optional package is
missing), 2 usage or an input file, 3 no such device, 4 measurement not trustworthy or the worker
failed, 5 constraint not met, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from boardfit import __version__
from boardfit.devices_commands import devices_app
from boardfit.fleet_commands import devices_worker
from boardfit.options import DeviceOption, GroupedHelp, SeedOption, WaitOption
from boardfit.profile_command import profile
from boardfit.search_command import search
from boardfit.table_board_commands import table_extend, table_transfer, table_verify
from boardfit.table_commands import table_app

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
app.add_typer(devices_app, name="devices")
app.add_typer(table_app, name="table")
table_app.command("verify")(table_verify)
table_app.command("extend")(table_extend)
table_app.command("transfer")(table_transfer)


def main() -> None:
    """Run the command line; every error of ours becomes one message and its exit code."""
    from boardfit.devices.errors import BoardfitError

    try:
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BoardfitError as error:
        _say("\n".join([f"boardfit: {error}", *getattr(error, "__notes__", [])]))
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


devices_app.command("worker")(devices_worker)
app.command()(profile)
app.command(cls=GroupedHelp)(search)


@app.command()
def samples(
    file: Annotated[Path, typer.Argument(help="A table, or what `boardfit profile --out` kept.")],
    out: Annotated[Path, typer.Argument(help="A file that ends in .csv, .json or .parquet.")],
) -> None:
    """Write every sample with its conditions as CSV, JSON or Parquet (times in seconds)."""
    from boardfit.profiler.export_table import export_samples

    rows = export_samples(file, out)
    print(f"wrote {rows} samples to {out}")


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
    wait: WaitOption = None,
) -> None:
    """Do all of it on this machine in minutes: table, search, training, report."""
    from boardfit import api

    for module, extra in (("torch", "search"), ("plotly", "report"), ("jinja2", "report")):
        api.require(module, extra)
    from boardfit.quickstart import quickstart as run

    run(out, device, seed, wait)
