"""What happens to training images: drawn for a whole batch at once, then applied to all of it.

Everything is a function of a `Draws`, which comes from one generator: the same draws change the
same images in the same way, on a CPU or a GPU, for the whole batch or for the rows of it that one
of several processes has. Geometry acts on pixels (and on maps of targets), the rest on images that
are normalised to -1 to 1.

Sources: random resized crops are Szegedy et al. (2015), cutout is DeVries and Taylor (2017), mixup
Zhang et al. (2018), CutMix Yun et al. (2019).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..devices.errors import InputError

Uniform = NDArray[np.float64]
RATIO = 4 / 3  # sides of random resized crops differ by this at most, as usual


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a training image; the default is nothing.

    `shift`: moved by up to so many pixels each way, the border repeated. `flip`: left and right
    exchanged half of the time. `crop`: the smallest share of the image's area that a random
    resized crop takes (1: no crop; 0.08 is usual for ImageNet). `colour`: brightness, contrast and
    saturation vary by a factor of 1 - colour to 1 + colour. `cutout`: side of a grey square, as a
    share of the image's. `mixup` and `cutmix`: the alpha of the Beta distribution by which two
    images are blended, or one is pasted into the other; with both, each is used half of the time.
    Raises `InputError` for values that make no sense.
    """

    shift: int = 0
    flip: bool = False
    crop: float = 1.0
    colour: float = 0.0
    cutout: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise InputError(f"a shift of {self.shift} pixels is impossible; choose 0 or more")
        if not 0 < self.crop <= 1:
            raise InputError(f"crop is {self.crop}; it has to lie above 0, up to 1")
        for name in ("colour", "cutout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it has to lie in [0, 1)")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}; it has to be 0 (off) or more")

    @property
    def mixes(self) -> bool:
        """Whether an image may become a mixture of two."""
        return self.mixup > 0 or self.cutmix > 0

    def joined(self, other: Augmentation) -> Augmentation:
        """What either does: the stronger of the two in each respect."""
        stronger: dict[str, Any] = {
            field.name: max(getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
        }
        return replace(self, **{**stronger, "crop": min(self.crop, other.crop)})


@dataclass(frozen=True)
class Draws:
    """What happens to each image [B] of a batch; `None` where nothing does.

    `crops` [B, 4]: share of the area, width over height, place from top and from left (0 to 1).
    `shifts` [B, 2] in pixels, `flips` [B]. `colours` [B, 3]: factors of brightness, contrast,
    saturation. `holes` [B, 2]: the square's centre (0 to 1). `shares` [B]: how much of a mixture
    is the image itself; `pastes` [B, 3]: whether it is pasted rather than blended, and the centre.
    """

    crops: Uniform | None = None
    shifts: NDArray[np.int64] | None = None
    flips: NDArray[np.bool_] | None = None
    colours: Uniform | None = None
    holes: Uniform | None = None
    shares: Uniform | None = None
    pastes: Uniform | None = None

    def rows(self, part: slice) -> Draws:
        """The draws of some images of the batch."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Draws(**{name: None if v is None else v[part] for name, v in values.items()})


def draw(wanted: Augmentation, size: int, rng: np.random.Generator) -> Draws:
    """Draw for a batch of `size` images."""
    crops = shifts = flips = colours = holes = shares = pastes = None
    if wanted.crop < 1:
        crops = rng.random((size, 4))
        crops[:, 0] = wanted.crop + (1 - wanted.crop) * crops[:, 0]
        crops[:, 1] = RATIO ** (2 * crops[:, 1] - 1)
    if wanted.shift:
        shifts = rng.integers(-wanted.shift, wanted.shift + 1, (size, 2))
    if wanted.flip:
        flips = rng.random(size) < 0.5
    if wanted.colour:
        colours = rng.uniform(1 - wanted.colour, 1 + wanted.colour, (size, 3))
    if wanted.cutout:
        holes = rng.random((size, 2))
    if wanted.mixes:
        pastes = rng.random((size, 3))
        chance = wanted.cutmix and (0.5 if wanted.mixup else 1.0)
        pastes[:, 0] = pastes[:, 0] < chance
        alpha = np.where(pastes[:, 0] > 0, wanted.cutmix, wanted.mixup)
        shares = rng.beta(alpha, alpha)
    return Draws(crops, shifts, flips, colours, holes, shares, pastes)


def crop_boxes(crops: Uniform, height: int, width: int) -> NDArray[np.float64]:
    """Where crops lie in an image of that size: top, left, height, width in pixels, [B, 4].

    A crop that would be wider or higher than the image ends at its border.
    """
    area = crops[:, 0] * height * width
    high = np.minimum(np.sqrt(area / crops[:, 1]), height)
    wide = np.minimum(np.sqrt(area * crops[:, 1]), width)
    return np.stack([crops[:, 2] * (height - high), crops[:, 3] * (width - wide), high, wide], 1)


def cropped(pixels: Tensor, crops: Uniform) -> Tensor:
    """Crops of [B, C, H, W], enlarged to H x W; bytes are interpolated, maps of targets are not."""
    _, _, height, width = pixels.shape
    top, left, high, wide = crop_boxes(crops, height, width).T
    boxes = torch.from_numpy(
        np.stack([wide / width, 0 * top, (2 * left + wide) / width - 1,
                  0 * top, high / height, (2 * top + high) / height - 1], 1)
    ).reshape(-1, 2, 3)  # fmt: skip
    grid = F.affine_grid(boxes.float(), list(pixels.shape), align_corners=False)
    if pixels.dtype != torch.uint8:
        return F.grid_sample(pixels, grid, "nearest", "border", align_corners=False)
    found = F.grid_sample(pixels.float(), grid, "bilinear", "border", align_corners=False)
    return found.round_().to(torch.uint8)


def moved(pixels: Tensor, draws: Draws) -> Tensor:
    """Shift and mirror [B, C, H, W], the border repeated; channels-last memory."""
    if draws.shifts is None and draws.flips is None:
        return pixels
    size, _, height, width = pixels.shape
    shifts = np.zeros((size, 2), np.int64) if draws.shifts is None else draws.shifts
    rows = np.clip(np.arange(height) + shifts[:, :1], 0, height - 1)
    columns = np.clip(np.arange(width) + shifts[:, 1:], 0, width - 1)
    if draws.flips is not None:
        columns = np.where(draws.flips[:, None], width - 1 - columns, columns)
    places = (np.arange(size)[:, None, None], rows[:, :, None], columns[:, None, :])
    image, row, column = (torch.from_numpy(place).to(pixels.device) for place in places)
    # Indices on both sides of a slice: the channels come last, the layout we want.
    return pixels[image, :, row, column].permute(0, 3, 1, 2)


def recoloured(images: Tensor, draws: Draws) -> Tensor:
    """Vary brightness, contrast and saturation, and cut the hole, of normalised images."""
    if draws.colours is not None:
        factors = _like(draws.colours, images)[:, :, None, None, None]
        images = ((images + 1) * factors[:, 0] - 1).clamp_(-1, 1)
        grey = images.mean((1, 2, 3), keepdim=True)
        images = torch.lerp(grey, images, factors[:, 1])
        grey = images.mean(1, keepdim=True)
        images = torch.lerp(grey, images, factors[:, 2]).clamp_(-1, 1)
    return images


def holed(images: Tensor, draws: Draws, side: float) -> Tensor:
    """Make a square grey (0), `side` as a share of the image's; at the border less is cut."""
    if draws.holes is None:
        return images
    sides = np.full(len(images), side)
    return images * ~_squares(draws.holes, sides, images)


@dataclass(frozen=True)
class Batch:
    """What a training step is given: images [B, 3, H, W], and their targets.

    Where images are mixtures, `share` [B] of the loss is that for `targets`, and the rest that for
    `others`, the targets of what was mixed in.
    """

    images: Tensor
    targets: Tensor
    others: Tensor | None = None
    share: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: slice) -> Batch:
        """Some of the images."""
        others = None if self.others is None else self.others[rows]
        share = None if self.share is None else self.share[rows]
        return Batch(self.images[rows], self.targets[rows], others, share)


def mixed(images: Tensor, targets: Tensor, draws: Draws) -> Batch:
    """Blend each image with its neighbour in the batch, or paste a piece of that into it.

    The neighbour of the first is the second, and the other way round, and so on: parts of an even
    number of images mix as the whole batch would. An image without one stays as it is.
    """
    if draws.shares is None or draws.pastes is None:
        return Batch(images, targets)
    place = np.arange(len(images)) ^ 1
    place = np.where(place < len(images), place, np.arange(len(images)))
    partner = torch.from_numpy(place).to(images.device)
    shares, pastes = draws.shares, draws.pastes[:, 0] > 0
    inside = _squares(draws.pastes[:, 1:], np.sqrt(1 - shares), images)  # [B, 1, H, W]
    # A piece that reaches over the border is smaller than it was drawn.
    cut = 1 - inside.float().mean((1, 2, 3))
    pasting = torch.from_numpy(pastes).to(images.device)
    share = torch.where(pasting, cut, _like(shares, images))
    wide = pasting[:, None, None, None]
    weight = torch.where(wide, (~inside).to(images.dtype), share[:, None, None, None])
    result = torch.lerp(images[partner], images, weight)
    others = targets[partner]
    if targets.dim() > 1:  # a map is pasted like its image, so that nothing is left to weigh
        targets = torch.where(wide & inside, others, targets)
        share = torch.where(pasting, torch.ones_like(share), share)
    return Batch(result, targets, others, share)


def _squares(centres: Uniform, sides: Uniform, like: Tensor) -> Tensor:
    """Where squares lie: bool [B, 1, H, W]; centres and sides are shares of the image's."""
    height, width = like.shape[2:]
    middle = [(np.arange(length) + 0.5) / length for length in (height, width)]
    near = [
        np.abs(places - centres[:, axis, None]) < sides[:, None] / 2
        for axis, places in enumerate(middle)
    ]
    inside = near[0][:, None, :, None] & near[1][:, None, None, :]
    return torch.from_numpy(inside).to(like.device)


def _like(values: Uniform, images: Tensor) -> Tensor:
    return torch.from_numpy(values).to(images.device, images.dtype)
