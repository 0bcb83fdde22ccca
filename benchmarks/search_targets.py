"""Whether found networks keep their latency target: five searches with different seeds.

One table of this machine; each search trains its super-network briefly (latency does not depend on
how good the weights are), descends to half of the full network's latency, and measures the found
network interleaved with anchors that tie the session to the table's.
"""

import sys
import tempfile
import time
from pathlib import Path

from bars import bar
from table_line import validation_of

from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.search.data import open_dataset
from boardfit.search.pipeline import search
from boardfit.search.settings import SearchSettings, recipes
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

SPACE = "mobilenetv3-32"
SEEDS = range(5)
KEPT = 4  # of the seeds at least
TARGET = "50%"
SUPERNET_STEPS, FINAL_STEPS, EVALUATIONS = 150, 20, 60


def main() -> int:
    space = open_space(SPACE)
    device = connect("local")
    supernet, final = recipes(SUPERNET_STEPS, FINAL_STEPS)
    kept = 0
    with tempfile.TemporaryDirectory() as folder:
        table = build_table(Path(folder) / "table.boardfit", device, plan_table(space))
        print(f"table: MAPE {validation_of(table).mape:.2%}")
        for seed in SEEDS:
            begin = time.monotonic()
            dataset = open_dataset(
                "shapes:5000", input_shape=space.input_shape, classes=space.classes, seed=seed
            )
            settings = SearchSettings(
                target=TARGET,
                seed=seed,
                evaluations=EVALUATIONS,
                holdout_images=500,
                supernet=supernet,
                final=final,
            )
            result = search(space, table, device, dataset, settings, Path(folder) / f"run{seed}")
            kept += result.meets_target
            found = result.found
            print(
                f"seed {seed}: target {result.target * 1e6:.1f} us, predicted "
                f"{found.predicted.seconds * 1e6:.1f}, measured {found.seconds * 1e6:.1f} "
                f"({found.seconds / result.target - 1:+.1%} of the target; anchors "
                f"{found.anchor_ratio:.3f}, {found.verdict}), {time.monotonic() - begin:.0f} s",
                flush=True,
            )
    name = f"seeds of {len(SEEDS)} at most 5 % over the target"
    return int(not bar(name, kept, KEPT, least=True, form="d"))


if __name__ == "__main__":
    sys.exit(main())
