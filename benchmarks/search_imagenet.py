"""`mobilenetv3-large` at 224 pixels, end to end, on a made-up image folder in ImageNet's layout.

A few hundred JPEGs of odd sizes are drawn; then images a second from the disk with and without
worker processes, and a whole search on the simulated board: super-network, descent, final training,
export, comparison of outputs. Too short to learn anything: it shows that the way from such a folder
to a measured network is whole, and what its parts take.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from bars import bar
from PIL import Image

from boardfit.api import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.schedule import Schedule
from boardfit.search import shapes
from boardfit.search.augmentation import Augmentation
from boardfit.search.compute import Compute
from boardfit.search.data import open_dataset
from boardfit.search.feed import Feed
from boardfit.search.pipeline import search
from boardfit.search.recipe import parse_recipe
from boardfit.search.settings import SearchSettings
from boardfit.search.spaces import open_space

SEED = 0
IMAGES = {"train": 240, "val": 60}  # all classes are in both
OPTIONS = {"classes": len(shapes.CLASSES)}


def draw_folder(folder: Path, seed: int) -> None:
    """Pictures of shapes as JPEGs of 200 to 500 pixels, a folder for each class."""
    rng = np.random.default_rng(seed)
    for number, (split, count) in enumerate(IMAGES.items()):
        pixels, labels = shapes.draw(0, count, size=64, seed=seed, split=number)
        for place, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
            path = folder / split / f"n{int(label):08d}" / f"{place}.JPEG"
            path.parent.mkdir(parents=True, exist_ok=True)
            width, height = (int(side) for side in rng.integers(200, 501, 2))
            Image.fromarray(picture.transpose(1, 2, 0)).resize((width, height)).save(path)


def main() -> int:
    torch.set_num_threads(1)
    space = open_space("mobilenetv3-large", **OPTIONS)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        draw_folder(place / "images", SEED)
        dataset = open_dataset(
            f"imagenet:{place / 'images'}",
            input_shape=space.input_shape,
            classes=space.classes,
            seed=SEED,
        )
        print(f"{len(dataset.train)} training, {len(dataset.holdout)} holdout and "
              f"{len(dataset.test)} test images", flush=True)  # fmt: skip
        feed = Feed(dataset.train, 24, Augmentation(crop=0.08, flip=True, colour=0.4), SEED)
        for workers in (0, 2):
            begin = time.monotonic()
            count = sum(len(b) for b, _ in feed.batches(range(18), torch.device("cpu"),
                                                        workers=workers))  # fmt: skip
            seconds = time.monotonic() - begin
            print(f"{workers} workers: {count / seconds:.0f} images a second from the disk, "
                  "cropped, mirrored and recoloured", flush=True)  # fmt: skip
        table = build_table(
            "mobilenetv3-large", connect("fake"), place / "table.boardfit", options=OPTIONS,
            operators=300, validation=10, schedule=Schedule(runs=2, minimum_rounds=2,
                                                            maximum_rounds=2),
        )  # fmt: skip
        recipe = "mobilenetv3,steps=4,batch_size=8,precision="
        settings = SearchSettings(
            target="60%",
            evaluations=4,
            holdout_images=16,
            supernet=parse_recipe(f"{recipe}float32"),
            final=parse_recipe(f"{recipe}float32,distillation=0.5"),
        )
        begin = time.monotonic()
        result = search(
            space, table, connect("fake"), dataset, settings, place / "run",
            allow_invalid_table=True, compute=Compute(workers=1),
        )  # fmt: skip
        print(f"a whole search in {time.monotonic() - begin:.0f} s: "
              + ", ".join(f"{part} {s:.0f} s" for part, s in result.parts.items()))  # fmt: skip
        found = result.found
        print(
            f"found: {found.macs / 1e6:.0f} M MACs, {found.size / 1e6:.1f} MB, predicted "
            f"{found.predicted.seconds / result.full_seconds:.1%} of the full network's latency"
        )
    return int(
        not bar("difference of the file's outputs to PyTorch's, of the largest",
                found.difference, 1e-3, least=False, form=".1e")
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
