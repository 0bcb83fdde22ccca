"""Read labelled images from disk: CIFAR-10's binary files, or one folder for each class.

Both readers return uint8 [N, 3, H, W] and int64 [N], and raise `DataError` naming the file that
is missing or damaged. Nothing is unpickled.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ..devices.errors import DataError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

CIFAR10_TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
CIFAR10_TEST = ("test_batch.bin",)
CIFAR10_RECORDS = 10_000  # in each file
CIFAR10_RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, green and blue plane
AGAIN = "extract cifar-10-binary.tar.gz again"
SUFFIXES = (".jpg", ".jpeg", ".png")
# What Pillow raises for damaged files: it has no error of its own for them.
UNREADABLE = (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
NAMED = 5  # damaged files that a message lists


def cifar10_folder(path: Path) -> Path:
    """Where the binary files lie: `path`, or the folder in it that the archive makes.

    Raises `DataError` where there is nothing, and for the Python version, which would have to be
    unpickled; its format is described at https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    _check_folder(path)
    for folder in (path, path / "cifar-10-batches-bin"):
        if (folder / CIFAR10_TRAIN[0]).exists():
            return folder
    for folder in (path, path / "cifar-10-batches-py"):
        if (folder / "data_batch_1").exists():
            raise DataError(
                f"{folder} holds the Python version of CIFAR-10, whose pickles could run any "
                "program; get the binary version, cifar-10-binary.tar.gz"
            )
    raise DataError(
        f"{path} has no {CIFAR10_TRAIN[0]}; extract cifar-10-binary.tar.gz there and name that "
        "folder"
    )


def read_cifar10(folder: Path, names: tuple[str, ...]) -> tuple[Pixels, Labels]:
    """The images and labels of files of the binary version, one file behind the other."""
    records = np.concatenate([_cifar10_records(folder / name) for name in names])
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def _cifar10_records(path: Path) -> Pixels:
    """uint8 [10000, 3073]."""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; {AGAIN}") from error
    expected = CIFAR10_RECORDS * CIFAR10_RECORD
    if content.size != expected:
        raise DataError(
            f"{path} has {content.size} bytes instead of {expected}: it was cut off, or is "
            f"another file; {AGAIN}"
        )
    records = content.reshape(CIFAR10_RECORDS, CIFAR10_RECORD)
    if records[:, 0].max() > 9:
        raise DataError(f"{path} is damaged: it has the label {records[:, 0].max()}; {AGAIN}")
    return records


def class_folders(path: Path) -> tuple[str, ...]:
    """The classes of PATH/train, in alphabetical order; their places are the labels.

    Raises `DataError` where train or val is missing, is empty, or they have other classes.
    """
    _check_folder(path)
    found = {}
    for split in ("train", "val"):
        _check_folder(path / split)
        found[split] = {entry.name for entry in (path / split).iterdir() if _is_class(entry)}
        if not found[split]:
            raise DataError(
                f"{path / split} has no folders; it needs one for each class, with images in it"
            )
    if differing := sorted(found["train"] ^ found["val"]):
        raise DataError(
            f"{path}: only one of train and val has the class folders {', '.join(differing)}; "
            "make them the same"
        )
    return tuple(sorted(found["train"]))


def _is_class(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def image_paths(folder: Path, classes: tuple[str, ...]) -> tuple[list[Path], Labels]:
    """The image files of each class folder, in alphabetical order, and their labels.

    Raises `DataError` for a class without images.
    """
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in SUFFIXES)
        if not images:
            raise DataError(
                f"{folder / name} has no images ({', '.join(SUFFIXES)}); add some or remove the "
                "folder"
            )
        paths += images
        labels += [label] * len(images)
    return paths, np.array(labels, np.int64)


def decode(paths: list[Path], height: int, width: int) -> Pixels:
    """The images as uint8 [N, 3, height, width].

    Each is scaled until it just covers that size, and its middle is cut out. Raises `DataError`
    that names the files that are no images or were cut off.
    """
    pixels = np.empty((len(paths), 3, height, width), np.uint8)
    damaged = []
    for number, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                fitted = ImageOps.fit(
                    image.convert("RGB"), (width, height), Image.Resampling.BILINEAR
                )
        except UnidentifiedImageError:
            damaged.append(f"{path} (not an image)")
        except UNREADABLE as error:
            damaged.append(f"{path} ({error})")
        else:
            pixels[number] = np.asarray(fitted).transpose(2, 0, 1)
    if damaged:
        more = f" and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
        raise DataError(
            f"cannot read {', '.join(damaged[:NAMED])}{more}; replace or remove these files"
        )
    return pixels


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise DataError(f"{path} {what}; give the path of the folder with the images")
