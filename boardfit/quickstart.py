"""All of boardfit on one machine in minutes: table, search, final training, proof, report."""

from __future__ import annotations

import time
from pathlib import Path

from boardfit import api
from boardfit.console import out as console
from boardfit.console import progress, say, show
from boardfit.devices.conditions import controls
from boardfit.profiler.connect import connect
from boardfit.profiler.open_session import open_session
from boardfit.search.settings import recipes
from boardfit.summary import search_rows, search_words, table_words

SPACE = "mobilenetv3-32"
DATA = "shapes"
TARGET = "50%"


def quickstart(folder: Path, device: str | None, seed: int, wait: float | None = None) -> None:
    """Run everything into `folder`; the same call goes on after any interruption.

    Raises what the parts raise (see `api`).
    """
    begun = time.monotonic()
    tables = folder / "table.boardfit"
    with connect(device, wait=wait) as board:
        described = board.description
        console.print(f"1. The board: {described.model}, {described.cores} cores", markup=False)
        with open_session(board) as session:
            runtime = f"{session.hello['runtime']} {session.hello['version']}"
        console.print(f"   TFLite models run in {runtime}, on one thread.", markup=False)
        say(controls(described, board.core, board.wanted), indent="   ")
        console.print(f"2. A lookup table for {SPACE}: what its operators take")
        with progress() as report:
            table = api.build_table(SPACE, board, tables, seed=seed, report=report)
        say(table_words(table), indent="   ")
        console.print(f"3. A super-network, and the descent to {TARGET} of the full latency")
        supernet, final = recipes()
        with progress() as report:
            found = api.find_network(
                table,
                board,
                data=DATA,
                latency=TARGET,
                out=folder / "search",
                seed=seed,
                supernet=supernet,
                final=final,
                report=report,
            )
    console.print("4. The found network, beside the uniformly narrowed one of equal latency")
    show(search_rows(found), as_json=False)
    say(search_words(found), indent="   ")
    page = folder / "report.html"
    api.write_report([tables, folder / "search"], page)
    minutes = (time.monotonic() - begun) / 60
    console.print(f"5. {page} shows it all ({minutes:.1f} minutes).", markup=False)
