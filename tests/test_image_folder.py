"""Images that are read from the disk while they are used: whoever reads them, they are the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from boardfit.devices.errors import DataError
from boardfit.search.augmentation import Augmentation
from boardfit.search.data import open_dataset
from boardfit.search.examples import Examples, Request, first, in_order
from boardfit.search.feed import Feed
from boardfit.search.image_folder import ImageFolder, decode_cropped

INPUT = (32, 32, 3)
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ImageNet's layout: two classes, photographs of odd sizes as JPEG and PNG."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 3)):
        for label in ("n01440764", "n01443537"):
            place = tmp_path / split / label
            place.mkdir(parents=True)
            for number in range(count):
                size = rng.integers(30, 200, 2)
                coarse = rng.integers(0, 256, (5, 7, 3), np.uint8)
                picture = Image.fromarray(coarse).resize((int(size[0]), int(size[1])))
                picture.save(place / f"{number}.{'png' if number == 0 else 'JPEG'}")
    return tmp_path


def train_of(folder: Path, *, skip: bool = False) -> ImageFolder:
    dataset = open_dataset(
        f"imagenet:{folder}", input_shape=INPUT, classes=2, seed=0, skip_damaged=skip
    )
    assert isinstance(dataset.train, ImageFolder)
    return dataset.train


def pixels_of(examples: Examples) -> torch.Tensor:
    return first(examples, len(examples)).images


def test_without_crops_the_images_are_those_that_a_folder_in_memory_has(folder: Path) -> None:
    disk = open_dataset(f"imagenet:{folder}", input_shape=INPUT, classes=2, seed=3)
    memory = open_dataset(f"folder:{folder}", input_shape=INPUT, classes=2, seed=3)
    for split in ("train", "holdout", "test"):
        ours, theirs = getattr(disk, split), getattr(memory, split)
        assert torch.equal(ours.targets, theirs.targets)
        # JPEGs may be decoded at a half of their size, which smooths a little differently.
        difference = (pixels_of(ours).float() - pixels_of(theirs).float()).abs()
        assert difference.mean() < 4
    assert len(disk.holdout) == 3
    assert disk.augmentation == Augmentation(flip=True)


def test_workers_change_nothing_and_an_epoch_goes_on_in_its_middle(folder: Path) -> None:
    feed = Feed(train_of(folder), 4, Augmentation(crop=0.1, flip=True, colour=0.3), 7)
    alone = [batch for batch, _ in feed.batches(range(8), CPU)]
    helped = [batch for batch, _ in feed.batches(range(3, 8), CPU, workers=2)]
    for one, other in zip(helped, alone[3:], strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets, other.targets)
    assert not torch.equal(alone[0].images, alone[5].images)


def test_a_crop_is_a_piece_of_the_photograph_at_its_own_resolution(tmp_path: Path) -> None:
    """A stripe of one pixel, which is lost where a whole photograph is made small first."""
    picture = np.zeros((256, 256, 3), np.uint8)
    picture[:, 255] = 255
    Image.fromarray(picture).save(tmp_path / "stripe.png")
    crop = np.array([1 / 64, 1.0, 0.5, 1.0])  # 32 by 32 pixels, at the right border
    found = decode_cropped(tmp_path / "stripe.png", 32, 32, crop)
    assert found.shape == (3, 32, 32)
    assert (found[:, :, 31] == 255).all()
    assert (found[:, :, :31] == 0).all()


def test_a_jpeg_that_is_decoded_small_is_cropped_where_a_png_is(tmp_path: Path) -> None:
    across = np.tile(np.linspace(0, 255, 640, dtype=np.uint8), (480, 1))
    down = np.tile(np.linspace(0, 255, 480, dtype=np.uint8)[:, None], (1, 640))
    picture = Image.fromarray(np.stack([across, down, across], 2))
    crop = np.array([0.5, 1.2, 0.3, 0.9])
    found = []
    for name in ("x.png", "x.jpg"):
        picture.save(tmp_path / name, quality=95, subsampling=0)
        found.append(decode_cropped(tmp_path / name, 32, 32, crop).astype(float))
    assert np.abs(found[0] - found[1]).max() < 4
    assert found[0][0, 0, 0] > 40  # neither begins at the left border


def test_a_damaged_image_is_named(folder: Path) -> None:
    train = train_of(folder)
    train.paths[5].write_bytes(train.paths[5].read_bytes()[:40])
    with pytest.raises(DataError, match=rf"cannot read .*{train.paths[5].name}.*--skip-damaged"):
        list(in_order(train, size=4))


def test_damaged_images_are_counted_and_a_neighbour_takes_their_place(folder: Path) -> None:
    whole = first(train_of(folder), 21)
    train = train_of(folder, skip=True)
    for number in (0, 5):
        train.paths[number].write_bytes(b"no image")
    chunks = list(in_order(train, size=4))
    assert [chunk.replaced for chunk in chunks] == [1, 1, 0, 0, 0, 0]
    places = [1, 1, 2, 3, 4, 4, *range(6, 21)]  # the next where there is none before
    assert torch.equal(torch.cat([c.images for c in chunks]), whole.images[places])
    assert torch.equal(torch.cat([c.targets for c in chunks]), whole.targets[places])


def test_a_batch_of_damaged_images_has_no_neighbour(folder: Path) -> None:
    train = train_of(folder, skip=True)
    for path in train.paths[:4]:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read .* replace these files$"):
        list(in_order(train, size=4))


def test_only_training_images_may_be_left_out(folder: Path) -> None:
    next((folder / "val" / "n01440764").iterdir()).write_bytes(b"no image")
    dataset = open_dataset(
        f"imagenet:{folder}", input_shape=INPUT, classes=2, seed=0, skip_damaged=True
    )
    with pytest.raises(DataError, match="cannot read"):
        first(dataset.test, 6)


class _Deadly:
    """Requests whose second ends the process that reads it."""

    def __iter__(self) -> Iterator[Request]:
        yield Request(np.array([0]))
        yield Request(np.array([1]))


def test_a_worker_that_ends_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = train_of(folder)
    fifo = train.paths[1]
    fifo.unlink()
    os.mkfifo(fifo)  # a worker waits for it for ever
    batches = train.read(_Deadly(), workers=1)
    next(batches)
    worker = _children()[-1]
    os.kill(worker, 9)
    with pytest.raises(DataError, match="a process that reads images ended"):
        next(batches)


def _children() -> list[int]:
    task = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(word) for word in task.read_text().split()]


def test_another_file_is_another_fingerprint(folder: Path) -> None:
    before = train_of(folder).fingerprint()
    assert train_of(folder).fingerprint() == before
    path = train_of(folder).paths[3]
    path.write_bytes(path.read_bytes() + b"\0")
    assert train_of(folder).fingerprint() != before
