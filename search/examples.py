"""Images with their targets, wherever they lie: what training, scoring and export read them by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .augmentation import Uniform, cropped

CHUNK = 500  # images that are read at a time where all of them are


class Request(NamedTuple):
    """A batch that is asked for: the places of its images, and their crops (see `Draws`), if any.

    Crops are taken while images are read, so that those on a disk lose nothing before.
    """

    places: NDArray[np.int64]
    crops: Uniform | None = None


class Examples(Protocol):
    """A split of a data set."""

    @property
    def targets(self) -> Tensor:
        """What is right for each image, in order."""

    def __len__(self) -> int:
        """How many images there are."""

    def read(self, requests: Iterable[Request], *, workers: int = 0) -> Iterator[Images]:
        """One batch of uint8 images for each request, in order; `workers` processes may help."""

    def fingerprint(self) -> bytes:
        """A digest of what is in the split: another one has another."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images in memory: `images` uint8 [N, 3, H, W] (or float32, already normalised), `targets`
    what the task takes: classes int64 [N], or a map [N, K, H, W] with as many pixels as the image.

    `replaced` counts those that could not be read, and have a neighbour's pixels and target.
    Raises ValueError where they do not fit each other.
    """

    images: Tensor
    targets: Tensor
    replaced: int = 0

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"images are [N, 3, H, W], not {list(self.images.shape)}")
        if self.images.dtype not in {torch.uint8, torch.float32}:
            raise ValueError(f"images are uint8 or float32, not {self.images.dtype}")
        if self.targets.shape[:1] != self.images.shape[:1]:
            raise ValueError(f"{len(self.images)} images need as many targets")
        if self.targets.dim() != 1 and self.targets.shape[2:] != self.images.shape[2:]:
            raise ValueError(
                f"a map of targets has the image's size, {list(self.images.shape[2:])}, not "
                f"{list(self.targets.shape[2:])}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def read(self, requests: Iterable[Request], *, workers: int = 0) -> Iterator[Images]:
        """One batch for each request; no worker is needed."""
        for places, crops in requests:
            images, targets = self.images[places], self.targets[places]
            if crops is not None:
                images = cropped(images, crops)
                targets = targets if targets.dim() == 1 else cropped(targets, crops)
            yield Images(images, targets)

    def fingerprint(self) -> bytes:
        """A digest of all pixels and targets."""
        digest = hashlib.sha256(self.targets.numpy().tobytes())
        digest.update(self.images.numpy().tobytes())
        return digest.digest()


def normalise(images: Tensor) -> Tensor:
    """What a network is fed: uint8 / 127.5 - 1, so -1 to 1, as float32 in channels-last layout.

    float32 images are taken to be normalised already.
    """
    if images.dtype == torch.uint8:
        images = images.to(torch.float32).div_(127.5).sub_(1.0)
    return images.contiguous(memory_format=torch.channels_last)


def in_order(examples: Examples, *, size: int = CHUNK, workers: int = 0) -> Iterator[Images]:
    """All images from first to last, `size` at a time."""
    places = np.arange(len(examples))
    begins = range(0, len(examples), size)
    return examples.read((Request(places[b : b + size]) for b in begins), workers=workers)


def first(examples: Examples, count: int, *, workers: int = 0) -> Images:
    """The first `count` images, or all where there are fewer, in memory."""
    if isinstance(examples, Images):
        return Images(examples.images[:count], examples.targets[:count])
    places = np.arange(min(count, len(examples)))
    requests = (Request(places[b : b + CHUNK]) for b in range(0, len(places), CHUNK))
    read = list(examples.read(requests, workers=workers))
    return Images(
        torch.cat([chunk.images for chunk in read]), torch.cat([chunk.targets for chunk in read])
    )
