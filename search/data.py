"""Images with their targets: opened from a short text, split in three.

    shapes, shapes:20000    drawn on the spot (`shapes.py`); the number of training images
    digits                  scikit-learn's handwritten digits, enlarged to the space's input size
    cifar10:PATH            the binary version of CIFAR-10, extracted
    scenes, scenes:4000     rooms with depths, rendered on the spot (`scenes.py`)
    nyu:PATH                NYU Depth V2: the labelled .mat file, or a folder of .h5 files
    folder:PATH             PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg (ImageNet's layout; also
                            .jpeg and .png), decoded into memory
    imagenet:PATH           the same layout, read from the disk again and again while it is used;
                            a tenth of the training images, but 10,000 at most, are held out

Networks are trained on `train`, compared during the search on `holdout`, and judged once, at the
end, on `test`. Pixels are uint8 until they are used; `examples.normalise` is the one rule by which
they become the input of a network, in training, in evaluation, and on a board.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from ..devices.errors import DataError
from . import image_files, nyu_depth, scenes, shapes
from .augmentation import Augmentation
from .depth_task import DepthEstimation
from .examples import Examples, Images
from .image_folder import ImageFolder
from .task import Classification, Task

MEMORY_LIMIT = 4 * 1024**3  # bytes of decoded pixels
DEPTH_BYTES = 3 + 4  # of a pixel with a depth in float32
SHAPES_IMAGES = 20_000
IMAGENET_HOLDOUT = 10_000  # images that samples are scored on in the paper (recalled)
SCENES_IMAGES = 4_000


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits that share no image; `augmentation` is what suits the training images.

    Raises `DataError` where a split is empty or has targets that are not the task's.
    """

    name: str
    task: Task
    train: Examples
    holdout: Examples
    test: Examples
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        splits = {"training": self.train, "holdout": self.holdout, "test": self.test}
        for split, images in splits.items():
            if len(images) == 0:
                raise DataError(f"{self.name}: no {split} images are left; give it more")
            try:
                self.task.check(images.targets)
            except DataError as error:
                raise DataError(f"{self.name}: {split} {error}") from error


class _Wish(NamedTuple):
    """What a source is asked for, and what has to fit."""

    argument: str
    height: int
    width: int
    classes: int | None
    seed: int
    memory_limit: int
    skip_damaged: bool


def open_dataset(
    spec: str,
    *,
    input_shape: tuple[int, ...],
    classes: int | None = None,
    seed: int,
    memory_limit: int = MEMORY_LIMIT,
    skip_damaged: bool = False,
) -> Dataset:
    """The data set of a specification (see the module), ready for a network of that input.

    `input_shape` is (height, width, 3); `classes`, where given, is how many the network tells
    apart. `seed` decides which pictures `shapes` draws and which training images become the
    holdout; the same arguments give the same data set. `memory_limit` is in bytes of decoded
    pixels. Damaged training images of `imagenet` are an error when they are read, unless
    `skip_damaged`. Raises `DataError` where the data is missing, damaged, too large, or does not
    fit.
    """
    kind, colon, argument = spec.partition(":")
    if kind not in SOURCES:
        raise DataError(
            f"no data set is called {spec!r}; known: shapes, shapes:NUMBER, digits, "
            "scenes, scenes:NUMBER, cifar10:PATH, nyu:PATH, folder:PATH, imagenet:PATH"
        )
    if kind in {"cifar10", "folder", "imagenet", "nyu"} and not argument:
        raise DataError(f"{spec!r} lacks the folder of the images; write {kind}:PATH")
    drawn = kind in {"shapes", "scenes"}
    if (kind == "digits" and colon) or (drawn and colon and not argument):
        raise DataError(f"{spec!r} is not a data set; did you mean {kind!r}?")
    if len(input_shape) != 3 or input_shape[2] != 3:
        raise DataError(
            f"images have the shape (height, width, 3), the network takes {input_shape}; "
            "choose a search space for images"
        )
    if seed < 0:
        raise DataError(f"the seed is {seed}; choose 0 or more")
    height, width, _ = input_shape
    return SOURCES[kind](_Wish(argument, height, width, classes, seed, memory_limit, skip_damaged))


def _shapes(wish: _Wish) -> Dataset:
    _check_classes("shapes", len(shapes.CLASSES), wish)
    count = _count("shapes", SHAPES_IMAGES, wish)
    _check_square("shapes", shapes.SMALLEST, wish)
    others = max(count // 10, shapes.CHUNK)
    _check_memory(count + 2 * others, wish)

    def split(number: int, images: int) -> Images:
        return _images(*shapes.draw(0, images, size=wish.height, seed=wish.seed, split=number))

    train, holdout, test = split(0, count), split(1, others), split(2, others)
    augmentation = Augmentation(flip=True)  # their places are random already
    return Dataset(
        "shapes", Classification(len(shapes.CLASSES)), train, holdout, test, augmentation
    )


def _scenes(wish: _Wish) -> Dataset:
    _check_depth("scenes", wish)
    count = _count("scenes", SCENES_IMAGES, wish)
    _check_square("scenes", scenes.SMALLEST, wish)
    others = max(count // 10, scenes.CHUNK)
    _check_memory(count + 2 * others, wish, bytes_of_pixel=DEPTH_BYTES)

    def split(number: int, images: int) -> Images:
        return _depths(*scenes.draw(0, images, size=wish.height, seed=wish.seed, split=number))

    train, holdout, test = split(0, count), split(1, others), split(2, others)
    return Dataset("scenes", DepthEstimation(), train, holdout, test, Augmentation(flip=True))


def _nyu(wish: _Wish) -> Dataset:
    _check_depth("NYU Depth V2", wish)
    source = nyu_depth.find(Path(wish.argument), wish.seed)
    _check_memory(source.count, wish, bytes_of_pixel=DEPTH_BYTES)
    train, holdout, test = (
        _depths(*nyu_depth.read(source, split, wish.height, wish.width))
        for split in nyu_depth.SPLITS
    )
    augmentation = Augmentation(flip=True, colour=0.2)
    return Dataset("nyu", DepthEstimation(), train, holdout, test, augmentation)


def _digits(wish: _Wish) -> Dataset:
    _check_classes("digits", 10, wish)
    pixels, target = load_digits(return_X_y=True)
    grey = torch.from_numpy(pixels.reshape(-1, 1, 8, 8)).to(torch.float32) * (255 / 16)
    large = torch.nn.functional.interpolate(grey, (wish.height, wish.width), mode="bilinear")
    images = large.round().to(torch.uint8).repeat(1, 3, 1, 1).numpy()
    order = np.random.default_rng(wish.seed).permutation(len(target))
    test, holdout, train = (
        _images(images[part], target[part]) for part in np.split(order, [300, 600])
    )
    augmentation = Augmentation(shift=wish.height // 16)
    return Dataset("digits", Classification(10), train, holdout, test, augmentation)


def _cifar10(wish: _Wish) -> Dataset:
    _check_classes("CIFAR-10", 10, wish)
    folder = image_files.cifar10_folder(Path(wish.argument).expanduser())
    if (wish.height, wish.width) != (32, 32):
        raise DataError(
            f"CIFAR-10's images are 32x32, the network takes {wish.height}x{wish.width}; "
            "open the space with input_size=32"
        )
    pixels, labels = image_files.read_cifar10(folder, image_files.CIFAR10_TRAIN)
    train, holdout = (_images(pixels[use], labels[use]) for use in _split(len(labels), wish.seed))
    test = _images(*image_files.read_cifar10(folder, image_files.CIFAR10_TEST))
    augmentation = Augmentation(shift=4, flip=True)
    return Dataset("cifar10", Classification(10), train, holdout, test, augmentation)


def _folder(wish: _Wish) -> Dataset:
    path = Path(wish.argument).expanduser().resolve()
    classes = image_files.class_folders(path)
    _check_classes(str(path), len(classes), wish)
    paths, labels = image_files.image_paths(path / "train", classes)
    test_paths, test_labels = image_files.image_paths(path / "val", classes)
    _check_memory(len(paths) + len(test_paths), wish)

    def decoded(files: list[Path], classes: NDArray[np.int64]) -> Images:
        return _images(image_files.decode(files, wish.height, wish.width), classes)

    train, holdout = (
        decoded([paths[number] for number in use], labels[use])
        for use in _split(len(labels), wish.seed)
    )
    test = decoded(test_paths, test_labels)
    augmentation = Augmentation(shift=wish.height // 16, flip=True)
    return Dataset(path.name, Classification(len(classes)), train, holdout, test, augmentation)


def _imagenet(wish: _Wish) -> Dataset:
    path = Path(wish.argument).expanduser().resolve()
    classes = image_files.class_folders(path)
    _check_classes(str(path), len(classes), wish)

    def split(paths: list[Path], labels: NDArray[np.int64], *, skip: bool = False) -> ImageFolder:
        targets = torch.from_numpy(labels).to(torch.int64)
        return ImageFolder(tuple(paths), targets, wish.height, wish.width, skip)

    paths, labels = image_files.image_paths(path / "train", classes)
    use, held_out = _split(len(labels), wish.seed, most=IMAGENET_HOLDOUT)
    return Dataset(
        path.name,
        Classification(len(classes)),
        split([paths[n] for n in use], labels[use], skip=wish.skip_damaged),
        split([paths[n] for n in held_out], labels[held_out]),
        split(*image_files.image_paths(path / "val", classes)),
        Augmentation(flip=True),
    )


SOURCES: dict[str, Callable[[_Wish], Dataset]] = {
    "shapes": _shapes,
    "scenes": _scenes,
    "nyu": _nyu,
    "digits": _digits,
    "cifar10": _cifar10,
    "folder": _folder,
    "imagenet": _imagenet,
}


def _split(
    count: int, seed: int, most: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images are trained on and which are held out, at random: nine tenths and one, but no
    more than `most`."""
    order = np.random.default_rng(seed).permutation(count)
    held_out = min(-(-count // 10), most or count)
    return order[held_out:], order[:held_out]


def _images(pixels: NDArray[Any], labels: NDArray[Any]) -> Images:
    return Images(torch.from_numpy(pixels), torch.from_numpy(labels).to(torch.int64))


def _depths(pixels: NDArray[Any], depths: NDArray[Any]) -> Images:
    return Images(torch.from_numpy(pixels), torch.from_numpy(depths))


def _count(name: str, usual: int, wish: _Wish) -> int:
    """How many training images are drawn: as the specification says, or as usual."""
    text = wish.argument or str(usual)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise DataError(f"{name}:{text} needs a number of images, e.g. {name}:{usual}")
    return int(text)


def _check_square(name: str, smallest: int, wish: _Wish) -> None:
    if wish.height != wish.width or wish.height < smallest:
        raise DataError(
            f"{name} are drawn as squares of {smallest} pixels or more, the network takes "
            f"{wish.height}x{wish.width}; open the space with another input_size"
        )


def _check_depth(name: str, wish: _Wish) -> None:
    if wish.classes not in {None, 1}:
        raise DataError(
            f"{name} has a depth for each pixel, the search space {wish.classes} outputs; choose "
            "a space for depths (fastdepth), or other data"
        )


def _check_classes(name: str, count: int, wish: _Wish) -> None:
    if wish.classes not in {None, count}:
        raise DataError(
            f"{name} has {count} classes, the search space {wish.classes}; open the space with "
            f"classes={count}, or choose other data"
        )


def _check_memory(count: int, wish: _Wish, *, bytes_of_pixel: int = 3) -> None:
    size = count * bytes_of_pixel * wish.height * wish.width
    if size > wish.memory_limit:
        raise DataError(
            f"{count} images of {wish.height}x{wish.width} take {size / 1024**3:.3g} GiB of "
            f"memory, the limit is {wish.memory_limit / 1024**3:.3g} GiB; use fewer images or a "
            "space with a smaller input_size, read them from the disk while they are used "
            "(imagenet:PATH instead of folder:PATH), or raise memory_limit (open_dataset, from "
            "Python)"
        )
