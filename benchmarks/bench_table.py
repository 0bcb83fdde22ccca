"""How right lookup tables of this machine are, what they cost, and how fast they answer.

    python benchmarks/bench_table.py [PART...] [--folder FOLDER]

Parts: emission, small, large, later, coverage, pricing, transfer, int8 (all but `later` without
an argument; about half an hour). Tables stay in the folder, so that `later` can measure against
them again; it waits until they are an hour old. Ends with exit code 1 where a part missed a bar.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import table_coverage
import table_int8
import table_large
import table_pricing
import table_small
import table_transfer

from boardfit.devices.errors import BoardfitError
from boardfit.profiler.emit_tflite import emit, emit_layer
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table


def main() -> int:
    parts: dict[str, Callable[[Path], bool]] = {
        "emission": emission,
        "small": table_small.main,
        "large": table_large.main,
        "later": table_large.later,
        "coverage": table_coverage.main,
        "pricing": table_pricing.main,
        "transfer": table_transfer.main,
        "int8": table_int8.main,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts, []])
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-table"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in options.parts or [part for part in parts if part != "later"]:
        print(f"\n== {name}", flush=True)
        try:
            met = parts[name](options.folder)
        except BoardfitError as error:  # the other parts still have something to say
            print(f"MISSED: {error}")
            met = False
        if not met:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return int(bool(failed))


def emission(folder: Path) -> bool:
    """Milliseconds that a model takes to be written; no bar is set."""
    plan = plan_table(open_space("mobilenetv3-32"))
    networks = [*plan.calibration, *plan.validation]
    for name, jobs in (
        ("300 layers", [lambda x=x: emit_layer(x) for x in plan.layers[:300]]),
        (f"{len(networks)} networks", [lambda x=x: emit(x) for x in networks]),
    ):
        taken = []
        for job in jobs:
            begin = time.perf_counter()
            job()
            taken.append(time.perf_counter() - begin)
        print(
            f"emission of {name}: median {statistics.median(taken) * 1e3:.2f} ms, "
            f"largest {max(taken) * 1e3:.2f} ms"
        )
    return True


if __name__ == "__main__":
    sys.exit(main())
