"""Augmentations: what each may do to an image, and what mixing does to the targets' shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from boardfit.devices.errors import InputError
from boardfit.search.augmentation import (
    Augmentation,
    Draws,
    crop_boxes,
    cropped,
    draw,
    holed,
    mixed,
    moved,
    recoloured,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def images(count: int, size: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size, size, generator=generator) * 2 - 1


def test_by_default_nothing_happens() -> None:
    assert draw(Augmentation(), 4, rng()) == Draws()
    pixels = images(4)
    assert moved(pixels, Draws()) is pixels
    assert recoloured(pixels, Draws()) is pixels
    assert holed(pixels, Draws(), 0.5) is pixels
    batch = mixed(pixels, torch.arange(4), Draws())
    assert batch.images is pixels
    assert batch.others is None


@given(
    area=st.floats(0.01, 1.0), ratio=st.floats(0.75, 4 / 3), down=st.floats(0, 1),
    right=st.floats(0, 1), height=st.integers(4, 300), width=st.integers(4, 300),
)  # fmt: skip
def test_crops_lie_within_the_image_and_have_the_drawn_area(
    area: float, ratio: float, down: float, right: float, height: int, width: int
) -> None:
    ((top, left, high, wide),) = crop_boxes(np.array([[area, ratio, down, right]]), height, width)
    assert 0 <= top <= top + high <= height + 1e-9
    assert 0 <= left <= left + wide <= width + 1e-9
    if high < height and wide < width:
        assert high * wide == pytest.approx(area * height * width)
        assert wide / high == pytest.approx(ratio)


def test_drawn_crops_span_the_areas_and_ratios_that_were_asked_for() -> None:
    crops = draw(Augmentation(crop=0.25), 2000, rng()).crops
    assert crops is not None
    assert 0.25 <= crops[:, 0].min() < 0.26
    assert 0.99 < crops[:, 0].max() <= 1.0
    assert 0.75 <= crops[:, 1].min() < 0.76
    assert 1.32 < crops[:, 1].max() <= 4 / 3
    assert np.median(crops[:, 1]) == pytest.approx(1.0, abs=0.02)  # as often wide as high


def test_a_crop_is_the_enlarged_piece() -> None:
    pixels = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    pixels[:, :, 4:, 4:] = 200
    quarter = np.array([[0.25, 1.0, 1.0, 1.0]])  # the last quarter
    inside = cropped(pixels, quarter)[:, :, 1:, 1:]  # the border is interpolated
    assert (inside == 200).all()
    first = np.array([[0.25, 1.0, 0.0, 0.0]])
    assert (cropped(pixels, first)[:, :, :-1, :-1] == 0).all()
    whole = np.array([[1.0, 1.0, 0.3, 0.6]])
    assert torch.equal(cropped(pixels, whole), pixels)


def test_cropped_maps_keep_their_values() -> None:
    """Depths at an edge must not become depths in between, where nothing is."""
    maps = torch.zeros(1, 1, 8, 8)
    maps[:, :, :, 4:] = 7.0
    found = cropped(maps, np.array([[0.3, 1.2, 0.4, 0.5]]))
    assert set(found.flatten().tolist()) == {0.0, 7.0}


def test_colours_vary_brightness_contrast_and_saturation_one_by_one() -> None:
    pixels = images(1) * 0.4

    def with_factors(*factors: float) -> Tensor:
        return recoloured(pixels, Draws(colours=np.array([factors])))

    torch.testing.assert_close(with_factors(1, 1, 1), pixels)
    torch.testing.assert_close(with_factors(0.9, 1, 1), (pixels + 1) * 0.9 - 1)
    flat = with_factors(1, 0, 1)
    torch.testing.assert_close(flat, pixels.mean().expand_as(pixels))
    grey = with_factors(1, 1, 0)
    torch.testing.assert_close(grey, pixels.mean(1, keepdim=True).expand_as(pixels))
    assert with_factors(5, 5, 5).abs().max() <= 1


def test_colours_are_drawn_around_one() -> None:
    colours = draw(Augmentation(colour=0.3), 1000, rng()).colours
    assert colours is not None
    assert colours.shape == (1000, 3)
    assert colours.min() == pytest.approx(0.7, abs=0.01)
    assert colours.max() == pytest.approx(1.3, abs=0.01)


def test_a_hole_is_a_grey_square_of_the_wanted_side() -> None:
    pixels = images(2, size=20) + 3.0
    found = holed(pixels, Draws(holes=np.array([[0.5, 0.5], [0.0, 1.0]])), 0.5)
    assert int((found[0, 0] == 0).sum()) == 100
    assert (found[0, :, 5:15, 5:15] == 0).all()
    assert int((found[1, 0] == 0).sum()) == 25  # less at a corner
    assert (found[1, :, :5, 15:] == 0).all()


@given(seed=st.integers(0, 1000), size=st.integers(1, 7))
def test_blended_images_and_their_shares_agree(seed: int, size: int) -> None:
    pixels, targets = images(size, seed=seed), torch.arange(size)
    batch = mixed(pixels, targets, draw(Augmentation(mixup=0.5), size, rng(seed)))
    assert batch.others is not None
    assert batch.share is not None
    for n in range(size):
        other = int(batch.others[n])
        assert other == (n ^ 1 if n ^ 1 < size else n)  # the neighbour, and nobody for the last
        share = float(batch.share[n])
        torch.testing.assert_close(batch.images[n], share * pixels[n] + (1 - share) * pixels[other])


@given(seed=st.integers(0, 1000))
def test_a_pasted_piece_has_the_share_of_its_pixels(seed: int) -> None:
    pixels = images(6, size=12, seed=seed)
    batch = mixed(pixels, torch.arange(6), draw(Augmentation(cutmix=1.0), 6, rng(seed)))
    assert batch.share is not None
    for n in range(6):
        own = (batch.images[n] == pixels[n]).all(0)
        other = (batch.images[n] == pixels[n ^ 1]).all(0)
        assert (own | other).all()
        assert float(own.float().mean()) == pytest.approx(float(batch.share[n]), abs=1e-6)


def test_with_both_about_half_of_the_images_are_pasted() -> None:
    pastes = draw(Augmentation(mixup=0.2, cutmix=1.0), 1000, rng()).pastes
    assert pastes is not None
    assert 400 < pastes[:, 0].sum() < 600


def test_joined_augmentations_do_what_either_does() -> None:
    one = Augmentation(shift=4, flip=True, crop=0.5)
    other = Augmentation(shift=1, crop=0.8, mixup=0.2)
    assert one.joined(other) == Augmentation(shift=4, flip=True, crop=0.5, mixup=0.2)
    assert other.joined(one) == one.joined(other)


@pytest.mark.parametrize(
    ("field", "value"),
    [("shift", -1), ("crop", 0.0), ("crop", 1.1), ("colour", 1.0), ("cutout", -0.1),
     ("mixup", -0.1), ("cutmix", float("inf")), ("crop", float("nan"))],
)  # fmt: skip
def test_augmentations_that_make_no_sense_are_refused(field: str, value: float) -> None:
    with pytest.raises(InputError, match=field):
        Augmentation(**{field: value})  # type: ignore[arg-type]
