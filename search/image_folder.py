"""Labelled images that stay on the disk: read, cropped and decoded by worker processes in time.

For data that no memory holds. What an image becomes follows from its place and its crop alone, so
that the number of workers changes nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..devices.errors import DataError
from .augmentation import Uniform, crop_boxes
from .examples import Images, Request
from .image_files import UNREADABLE, Pixels

Place = tuple[int, Uniform | None]  # the number of an image, and its crop
Decoded = tuple[int, Pixels, str]  # the number, pixels (0 if damaged), what is wrong with the file
Stack = tuple[Tensor, list[int], list[str]]  # the same of a batch


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """The images of some files, as uint8 [3, height, width], with their labels int64 [N].

    Without a crop an image is scaled until it just covers that size, and its middle is cut out. A
    file that cannot be read is an error that names it; with `skip_damaged` a neighbour in its batch
    takes its place, label and all, and is counted.
    """

    paths: tuple[Path, ...]
    targets: Tensor
    height: int
    width: int
    skip_damaged: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, requests: Iterable[Request], *, workers: int = 0) -> Iterator[Images]:
        """One batch for each request. Raises `DataError` for damaged files, and where a worker
        ended."""
        loader = DataLoader(
            _Files(self.paths, self.height, self.width),
            batch_sampler=_Batches(requests),
            num_workers=workers,
            collate_fn=_stacked,
            pin_memory=torch.cuda.is_available(),  # copied to a GPU without waiting
            generator=torch.Generator().manual_seed(0),  # it seeds workers, which draw nothing
        )
        try:
            for stack in loader:
                yield self._batch(*stack)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"a process that reads images ended ({str(error).splitlines()[0]}); memory may "
                "have run out: use fewer --image-workers, and run the same command again"
            ) from error

    def _batch(self, pixels: Tensor, numbers: list[int], reasons: list[str]) -> Images:
        good = [row for row, reason in enumerate(reasons) if not reason]
        if len(good) == len(numbers):
            return Images(pixels, self.targets[numbers])
        wrong = [f"{self.paths[n]} ({r})" for n, r in zip(numbers, reasons, strict=True) if r]
        if not self.skip_damaged or not good:
            hint = "" if self.skip_damaged else ", or leave them out with --skip-damaged"
            raise DataError(f"cannot read {', '.join(wrong[:5])}; replace these files{hint}")
        rows = [max((g for g in good if g <= row), default=good[0]) for row in range(len(numbers))]
        return Images(pixels[rows], self.targets[[numbers[row] for row in rows]], len(wrong))

    def fingerprint(self) -> bytes:
        """A digest of all files' names, sizes and labels; contents would take hours."""
        digest = hashlib.sha256(self.targets.numpy().tobytes())
        for path in self.paths:
            digest.update(f"{path.parent.name}/{path.name} {path.stat().st_size}\n".encode())
        return digest.digest()


class _Files(Dataset[Decoded]):
    """What worker processes run."""

    def __init__(self, paths: tuple[Path, ...], height: int, width: int) -> None:
        # One array instead of a million objects, whose counts of references would be written, and
        # so copied, in every worker.
        self._names = np.array([os.fsencode(path) for path in paths])
        self._height, self._width = height, width

    def __getitem__(self, place: Place) -> Decoded:
        number, crop = place
        try:
            path = Path(os.fsdecode(bytes(self._names[number])))
            return number, decode_cropped(path, self._height, self._width, crop), ""
        except UNREADABLE as error:
            blank = np.zeros((3, self._height, self._width), np.uint8)
            return number, blank, str(error) or type(error).__name__


def _stacked(decoded: list[Decoded]) -> Stack:
    """One tensor, which reaches us through shared memory."""
    numbers, pixels, reasons = zip(*decoded, strict=True)
    return torch.from_numpy(np.stack(pixels)), list(numbers), list(reasons)


class _Batches:
    """Requests as DataLoader takes them."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[list[Any]]:
        for places, crops in self._requests:
            rows = [None] * len(places) if crops is None else crops
            yield [(int(place), row) for place, row in zip(places, rows, strict=True)]


def decode_cropped(path: Path, height: int, width: int, crop: Uniform | None) -> Pixels:
    """One image, uint8 [3, height, width]: a crop of it (see `Draws`), or its middle.

    A large JPEG is decoded at half, a quarter or an eighth of its size where that suffices.
    Raises what Pillow raises for damaged files (`image_files.UNREADABLE`).
    """
    size = (width, height)
    with Image.open(path) as image:
        box = None
        if crop is not None:
            ((top, left, high, wide),) = crop_boxes(crop[None], image.height, image.width)
            box = np.array([left, top, left + wide, top + high])
            scale = max(width / wide, height / high)  # of the whole image, for the crop to suffice
        else:
            scale = max(width / image.width, height / image.height)
        before = image.size
        image.draft("RGB", (round(before[0] * scale), round(before[1] * scale)))
        whole = image.convert("RGB")
        if box is None:
            fitted = ImageOps.fit(whole, size, Image.Resampling.BILINEAR)
        else:
            ratio = np.array(whole.size) / before
            box = np.clip(box * np.tile(ratio, 2), 0, np.tile(whole.size, 2))
            corners = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
            fitted = whole.resize(size, Image.Resampling.BILINEAR, box=corners)
    pixels: NDArray[np.uint8] = np.asarray(fitted).transpose(2, 0, 1)
    return pixels
