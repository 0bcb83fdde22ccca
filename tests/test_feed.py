"""Batches of a training run: a function of the seed and the step, for whole batches and parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.devices.errors import DataError
from boardfit.search.augmentation import Augmentation, Batch
from boardfit.search.examples import Images, normalise
from boardfit.search.feed import Feed

CPU = torch.device("cpu")
ALL = Augmentation(shift=2, flip=True, crop=0.3, colour=0.4, cutout=0.3, mixup=0.4, cutmix=1.0)


def numbered(count: int, size: int = 8) -> Images:
    """Random images, labelled with their own number."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8)
    return Images(torch.from_numpy(pixels), torch.arange(count))


def taken(
    images: Images,
    size: int,
    steps: range,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    rows: slice = slice(None),
) -> list[Batch]:
    feed = Feed(images, size, augmentation or Augmentation(), seed)
    return [batch for batch, _ in feed.batches(steps, CPU, rows=rows)]


def labels(batches: list[Batch]) -> list[list[int]]:
    return [batch.targets.tolist() for batch in batches]


def assert_same(one: Batch, other: Batch) -> None:
    for name in ("images", "targets", "others", "share"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert (ours is None and theirs is None) or torch.equal(ours, theirs), name


def test_an_epoch_shows_each_image_once_and_leaves_out_an_incomplete_batch() -> None:
    feed = Feed(numbered(50), 8, Augmentation(), 0)
    assert feed.steps_of_epoch == 6
    first = labels(taken(numbered(50), 8, range(6)))
    second = labels(taken(numbered(50), 8, range(6, 12)))
    for epoch in (first, second):
        seen = [label for batch in epoch for label in batch]
        assert len(set(seen)) == 48
        assert seen != sorted(seen)
    assert first != second


def test_another_seed_is_another_order_and_other_augmentations() -> None:
    images, shifted = numbered(20), Augmentation(shift=3)
    assert labels(taken(images, 20, range(1), seed=1)) != labels(
        taken(images, 20, range(1), seed=2)
    )
    same = [
        {int(t): i for t, i in zip(b.targets, b.images, strict=True)}
        for seed in (1, 2)
        for b in taken(images, 20, range(1), shifted, seed=seed)
    ]
    assert not all(torch.equal(same[0][n], same[1][n]) for n in range(20))


def test_batches_are_normalised_and_channels_last() -> None:
    images = numbered(16)
    for batch in taken(images, 4, range(4)):
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(batch.images, normalise(images.images[batch.targets]))


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), begin=st.integers(0, 9), size=st.integers(1, 6))
def test_a_run_goes_on_from_any_step_as_if_it_had_not_stopped(
    seed: int, begin: int, size: int
) -> None:
    images = numbered(14)
    whole = taken(images, size, range(10), ALL, seed)
    rest = taken(images, size, range(begin, 10), ALL, seed)
    for one, other in zip(rest, whole[begin:], strict=True):
        assert_same(one, other)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), parts=st.sampled_from([1, 2, 4]))
def test_processes_take_the_rows_of_the_batch_that_one_would_have(seed: int, parts: int) -> None:
    images = numbered(30)
    (whole,) = taken(images, 8, range(3, 4), ALL, seed)
    size = 8 // parts
    for part in range(parts):
        rows = slice(part * size, (part + 1) * size)
        (own,) = taken(images, 8, range(3, 4), ALL, seed, rows)
        assert_same(own, whole.part(rows))


def test_shifts_stay_within_their_reach_and_repeat_the_border() -> None:
    images = numbered(200, size=6)
    padded = torch.nn.functional.pad(normalise(images.images), (2, 2, 2, 2), mode="replicate")
    seen = set()
    for batch in taken(images, 1, range(200), Augmentation(shift=2)):
        windows = padded[batch.targets[0]].unfold(1, 6, 1).unfold(2, 6, 1)  # [3, 5, 5, 6, 6]
        same = (windows == batch.images[0][:, None, None]).flatten(3).all(3).all(0)
        assert same.any()
        seen.add(tuple(same.nonzero()[0].tolist()))
    assert len(seen) == 25


def test_about_half_of_the_images_are_mirrored_and_only_where_asked_to() -> None:
    images = numbered(400)
    flipped = 0
    for batch in taken(images, 1, range(400), Augmentation(flip=True)):
        original = normalise(images.images[batch.targets])
        flipped += torch.equal(batch.images, original.flip(3))
        assert torch.equal(batch.images, original) or torch.equal(batch.images, original.flip(3))
    assert 150 < flipped < 250


def test_maps_of_targets_go_through_the_geometry_of_their_images() -> None:
    images = numbered(60, size=6)
    maps = Images(images.images, images.images[:, :2].float())
    for batch in taken(maps, 4, range(15), Augmentation(shift=2, flip=True)):
        torch.testing.assert_close(batch.images[:, :2], batch.targets / 127.5 - 1.0)


def test_a_pasted_map_belongs_to_its_pasted_image() -> None:
    images = numbered(60, size=6)
    maps = Images(images.images, images.images[:, :2].float())
    pasted = 0
    for batch in taken(maps, 4, range(15), Augmentation(cutmix=1.0)):
        torch.testing.assert_close(batch.images[:, :2], batch.targets / 127.5 - 1.0)
        assert batch.share is not None
        assert (batch.share == 1).all()  # there is nothing left to weigh
        pasted += sum(
            not (image == normalise(images.images)).flatten(1).all(1).any()
            for image in batch.images
        )
    assert pasted > 20


@pytest.mark.parametrize("size", [0, 11])
def test_a_batch_that_cannot_be_filled_is_refused(size: int) -> None:
    with pytest.raises(DataError, match="choose a batch size from 1 to 10"):
        Feed(numbered(10), size, Augmentation(), 0)
