"""What the benchmarks of tables have in common: building one, and a line about how right it is."""

import time
from pathlib import Path

from boardfit.devices.base import Device
from boardfit.profiler.build import build_table
from boardfit.profiler.calibration import Validation
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.table import LookupTable


def built(
    name: str, path: Path, device: Device, plan: TablePlan, *, threads: int = 1
) -> LookupTable:
    """Build a table anew and print what it took and how right it is."""
    path.unlink(missing_ok=True)
    begin = time.monotonic()
    table = build_table(path, device, plan, threads=threads)
    seconds = time.monotonic() - begin
    print(
        f"{name}: {len(table.operators)} of {len(plan.layers)} operators and "
        f"{len(table.networks)} networks measured in {seconds:.0f} s, {table.runs} runs"
    )
    line(name, validation_of(table))
    return table


def validation_of(table: LookupTable) -> Validation:
    """How right a table is; one that nothing judged ends the benchmark."""
    if table.validation is None:
        raise RuntimeError(f"{table.path} was not judged by held-out networks")
    return table.validation


def line(name: str, validation: Validation) -> None:
    """Print a validation."""
    floor = validation.noise_floor
    print(
        f"{name}: {len(validation.measured)} held-out networks, MAPE {validation.mape:.2%}, "
        f"within 5 % {validation.share_within(0.05):.0%}, within 10 % "
        f"{validation.share_within(0.10):.0%}, worst {validation.worst:.1%}, Spearman "
        f"{validation.spearman:.4f}, noise floor {floor:.2%} (MAPE / floor "
        f"{validation.mape / floor:.2f})",
        flush=True,
    )
