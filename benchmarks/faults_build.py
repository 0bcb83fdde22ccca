"""The process that is made to suffer: it builds a small table on a board, as a user's would."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from boardfit.devices.errors import BoardfitError
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.progress import Progress
from boardfit.profiler.schedule import Schedule
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

READY = "ready"
SCHEDULE = Schedule(runs=2, minimum_rounds=3, maximum_rounds=4, samples=2, warmup_seconds=0.01)


def small_plan() -> TablePlan:
    """Few operators and networks of a small space."""
    space = open_space("mobilenetv3-32", width_factor=0.25)
    return plan_table(space, calibration=6, validation=6, operators=40)


PLAN = small_plan()  # made once, by the process that all of them are forked from


def say(step: Progress) -> None:
    """A sign of life, in a line."""
    print(f"{step.stage}: {step.done:.0f} of {step.total:.0f}: {step.detail}", flush=True)


def say_end(error: BoardfitError | None, **more: object) -> None:
    """How a build ended, as JSON in the last line."""
    words = "" if error is None else f"{type(error).__name__}: {error}"
    print(json.dumps({"error": words, **more}), flush=True)


def build(board: str, inventory: Path, table: Path) -> None:
    """Reach a board, and build its table or go on with it."""
    logging.basicConfig(stream=sys.stdout, format="# %(message)s")
    print(READY, flush=True)
    try:
        with connect(board, inventory=inventory) as device:
            build_table(table, device, PLAN, SCHEDULE, report=say)
    except BoardfitError as error:
        say_end(error)
    else:
        say_end(None)
