"""What writing a trained network to a file costs: float32 and int8 files judged in LiteRT.

For each seed a network of random widths of both tasks is trained alone, written as float32 and as
static int8 (ai-edge-quantizer, 200 training images for its ranges), and every image of the test
split goes through PyTorch and through LiteRT with each file. Accuracy is top-1, or delta1 of depth
maps.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from bars import bar

from boardfit.profiler.connect import connect
from boardfit.search.data import open_dataset
from boardfit.search.export import export, export_int8
from boardfit.search.finalists import calibration_batches
from boardfit.search.network_module import NetworkModule
from boardfit.search.recipe import Recipe
from boardfit.search.scoring import evaluate
from boardfit.search.spaces import open_space
from boardfit.search.training import train_network

SEEDS = range(3)
FLOAT_LIMIT, INT8_LIMIT = 0.005, 0.02  # of accuracy, either way


@dataclass(frozen=True)
class Case:
    """What is trained for each seed."""

    name: str
    data: str
    input_size: int
    recipe: Recipe


CASES = (
    Case("mobilenetv3-32", "shapes:12000", 32, Recipe(steps=1000)),
    Case("fastdepth-64", "scenes:2000", 32, Recipe(steps=400, batch_size=16)),
)


def main() -> int:
    torch.set_num_threads(1)
    device = connect("local")
    print("space           seed  images  PyTorch   float32   int8      bytes of float32, int8")
    losses: dict[str, list[float]] = {"float32": [], "int8": []}
    for case in CASES:
        space = open_space(case.name, input_size=case.input_size)
        for seed in SEEDS:
            data = open_dataset(
                case.data, input_shape=space.input_shape, classes=space.classes, seed=seed
            )
            architecture = space.random(np.random.default_rng(seed))
            generator = torch.Generator().manual_seed(seed)
            module = NetworkModule(space.network(architecture), generator)
            train_network(module, data, case.recipe, seed=seed)
            accuracy = evaluate(module, data.test, data.task).accuracy
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder) / "network"
                written = export(module, place, device, data.test, data.task)
                calibration = calibration_batches(data.train)
                small = export_int8(module, place, device, data.test, data.task, calibration)
            print(
                f"{case.name:14s}  {seed:4d}  {len(data.test):6d}  {accuracy:7.2%}  "
                f"{written.accuracy:8.2%}  {small.accuracy:8.2%}  {written.size:,}, {small.size:,}",
                flush=True,
            )
            losses["float32"].append(abs(written.accuracy - accuracy))
            losses["int8"].append(abs(small.accuracy - accuracy))
    met = True
    for kind, limit in (("float32", FLOAT_LIMIT), ("int8", INT8_LIMIT)):
        name = f"{kind}: largest change of accuracy of {len(losses[kind])} files"
        met &= bar(name, max(losses[kind]), limit, least=False)
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
