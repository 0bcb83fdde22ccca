"""How right a lookup table of this machine is, and what it costs.

Builds a table of `mobilenetv3-32` and prints its error on 60 held-out networks beside the noise
floor of the measurement itself, for the table's own statistic and for others, from the same
samples.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boardfit.profiler.build import build_table
from boardfit.profiler.calibration import Calibration, Validation, fit
from boardfit.profiler.connect import connect
from boardfit.profiler.emit_tflite import emit, emit_layer
from boardfit.profiler.layers import Layer, Network
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.store import Store
from boardfit.profiler.table import representative, split_entries
from boardfit.search.mobilenetv3 import open_space
from boardfit.search.tabulate import plan_table

SPACE = "mobilenetv3-32"
Series = NDArray[np.float64]
# From the visits of each run ([visits] in seconds) to the value of the run.
STATISTICS: dict[str, Callable[[Series], float]] = {
    "smallest (the table's)": lambda visits: float(visits.min()),
    "lower quartile": lambda visits: float(np.quantile(visits, 0.25)),
    "median": lambda visits: float(np.median(visits)),
}


def main() -> None:
    space = open_space(SPACE)
    plan = plan_table(space, calibration=20, validation=60)
    emission(list(plan.layers)[:300], [*plan.calibration, *plan.validation])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.boardfit"
        begin = time.monotonic()
        table = build_table(path, connect("local"), plan, Schedule())
        seconds = time.monotonic() - begin
        assert table.validation is not None
        with Store.open(path) as store:
            samples = len(store.samples())
            inside = [row for row in store.evidence() if "inside" in row]
            show_statistics(store)
        share = sum(row["inside"] for row in inside) / sum(row["wall"] for row in inside)
        print(
            f"{SPACE}: {len(table.operators)} operators and {len(table.networks)} networks in "
            f"{seconds:.0f} s, {samples} samples, {table.runs} runs; of the rounds "
            f"{share:.0%} of the board's time is inside of inferences"
        )
        line("the table, calibrated with 20 networks", table.validation)
        for calibration in (5, 10):
            line(f"calibrated with {calibration} networks", refit(table.path, calibration))
        line("raw sums of operators", refit(table.path, 0))


def emission(layers: list[Layer], networks: list[Network]) -> None:
    """Milliseconds that a model takes to be written."""
    for name, jobs in (
        (f"{len(layers)} layers", [lambda x=x: emit_layer(x) for x in layers]),
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


def refit(path: Path, count: int) -> Validation:
    """The validation with fewer calibration networks (0: the sum as it is)."""
    with Store.open(path) as store:
        return validated(store, STATISTICS["smallest (the table's)"], count)


def show_statistics(store: Store) -> None:
    """The same samples, priced by other statistics."""
    for name, statistic in STATISTICS.items():
        line(f"visits of a run by their {name}", validated(store, statistic, 20))


def validated(store: Store, statistic: Callable[[Series], float], count: int) -> Validation:
    """Fit and judge with another statistic of a run's visits."""
    visits = store.visits()
    values: dict[int, Series] = {}
    for entry in np.unique(visits.entry).tolist():
        mine = visits.entry == entry
        runs, seconds = visits.run[mine], visits.seconds[mine]
        values[entry] = np.array([statistic(seconds[runs == run]) for run in np.unique(runs)])
    operators, networks = split_entries(store.entries(), values)
    alone = {signature: operator.seconds for signature, operator in operators.items()}
    chosen = [(n, r) for role, n, r in networks.values() if role == "calibration"][:count]
    calibration: Calibration = fit(
        [network.layers for network, _ in chosen],
        np.array([representative(runs) for _, runs in chosen]),
        alone,
    )
    held_out = [(n, r) for role, n, r in networks.values() if role == "validation"]
    predicted = [
        calibration.constant + sum(calibration.price(x, alone[x.signature]) for x in n.layers)
        for n, _ in held_out
    ]
    runs = np.array([r for _, r in held_out])
    return Validation(np.array(predicted), runs.min(axis=1), runs)


def line(name: str, validation: Validation) -> None:
    print(
        f"{name}: {len(validation.measured)} held-out networks, MAPE {validation.mape:.2%}, "
        f"within 5 % {validation.share_within(0.05):.0%}, within 10 % "
        f"{validation.share_within(0.10):.0%}, worst {validation.worst:.1%}, Spearman "
        f"{validation.spearman:.4f}, noise floor {validation.noise_floor:.2%}"
    )


if __name__ == "__main__":
    main()
