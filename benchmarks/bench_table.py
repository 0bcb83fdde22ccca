"""How right lookup tables of this machine are, what they cost, and how fast they answer.

    python benchmarks/bench_table.py [PART...] [--folder FOLDER]

Parts: emission, small, large, later, coverage, pricing, transfer, int8 (all but `later` without
an argument; about half an hour). Tables stay in the folder, so that `later` can measure against
them again an hour afterwards.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import table_coverage
import table_large
import table_pricing
import table_small
import table_transfer

from boardfit.profiler.emit_tflite import emit, emit_layer
from boardfit.search.mobilenetv3 import open_space
from boardfit.search.tabulate import plan_table


def main() -> None:
    parts: dict[str, Callable[[Path], None]] = {
        "emission": emission,
        "small": table_small.main,
        "large": table_large.main,
        "coverage": table_coverage.main,
        "pricing": table_pricing.main,
        "transfer": table_transfer.main,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*parts, "later", []])
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-table"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.parts or list(parts):
        print(f"\n== {name}", flush=True)
        {**parts, "later": table_large.later}[name](options.folder)


def emission(folder: Path) -> None:
    """Milliseconds that a model takes to be written."""
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


if __name__ == "__main__":
    main()
