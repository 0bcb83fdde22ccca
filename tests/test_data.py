"""Data sets: three disjoint splits, determinism, exact resumption, and what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from boardfit.devices.errors import DataError
from boardfit.search import shapes
from boardfit.search.data import Dataset, open_dataset
from boardfit.search.examples import Examples, Images, first, normalise
from boardfit.search.task import Classification

INPUT = (32, 32, 3)
RECORD = 3073


def numbered(count: int, size: int = 8) -> Images:
    """Random images, labelled with their own number."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, size, size), np.uint8)
    return Images(torch.from_numpy(pixels), torch.arange(count))


def pixels_of(examples: Examples) -> torch.Tensor:
    return first(examples, len(examples)).images


def contents(examples: Examples) -> set[bytes]:
    return {image.numpy().tobytes() for image in pixels_of(examples)}


def assert_disjoint(dataset: Dataset) -> None:
    train, holdout, test = map(contents, (dataset.train, dataset.holdout, dataset.test))
    assert not train & holdout
    assert not train & test
    assert not holdout & test


def assert_same(one: Dataset, other: Dataset) -> None:
    for split in ("train", "holdout", "test"):
        assert torch.equal(pixels_of(getattr(one, split)), pixels_of(getattr(other, split)))
        assert torch.equal(getattr(one, split).targets, getattr(other, split).targets)


# The procedural pictures


def test_shapes_are_drawn_in_three_disjoint_splits() -> None:
    dataset = open_dataset("shapes:600", input_shape=INPUT, classes=12, seed=3)
    assert dataset.task == Classification(len(shapes.CLASSES)) == Classification(12)
    assert pixels_of(dataset.train).shape == (600, 3, 32, 32)
    assert pixels_of(dataset.train).dtype == torch.uint8
    assert len(dataset.holdout) == len(dataset.test) == 250
    assert set(dataset.train.targets.tolist()) == set(range(12))
    assert_disjoint(dataset)


def test_shapes_depend_on_the_seed_and_on_nothing_else() -> None:
    first = open_dataset("shapes:300", input_shape=INPUT, seed=3)
    assert_same(first, open_dataset("shapes:300", input_shape=INPUT, seed=3))
    other = open_dataset("shapes:300", input_shape=INPUT, seed=4)
    assert not contents(first.train) & contents(other.train)


@settings(max_examples=10, deadline=None)
@given(begin=st.integers(0, 600), length=st.integers(0, 300))
def test_a_picture_does_not_depend_on_the_range_it_was_asked_for_in(
    begin: int, length: int
) -> None:
    whole, whole_labels = shapes.draw(0, 900, size=16, seed=1, split=0)
    part, labels = shapes.draw(begin, begin + length, size=16, seed=1, split=0)
    np.testing.assert_array_equal(part, whole[begin : begin + length])
    np.testing.assert_array_equal(labels, whole_labels[begin : begin + length])


@pytest.mark.parametrize("size", [16, 48])
def test_shapes_come_in_the_size_asked_for(size: int) -> None:
    dataset = open_dataset("shapes:10", input_shape=(size, size, 3), seed=0)
    assert pixels_of(dataset.test).shape[1:] == (3, size, size)


def test_digits_are_never_mirrored() -> None:
    assert not open_dataset("digits", input_shape=INPUT, seed=0).augmentation.flip


def test_normalise_maps_bytes_to_minus_one_to_one_and_leaves_floats_alone() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 3, 2, 2)
    result = normalise(pixels)
    torch.testing.assert_close(result[:, 0, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
    assert torch.equal(normalise(result), result)
    assert int(pixels[2, 0, 0, 0]) == 255  # the images themselves stay as they are


# The types


def test_images_check_themselves() -> None:
    good = numbered(4)
    with pytest.raises(ValueError, match="N, 3, H, W"):
        Images(good.images[:, :1], good.targets)
    with pytest.raises(ValueError, match="uint8 or float32"):
        Images(good.images.double(), good.targets)
    with pytest.raises(ValueError, match="as many targets"):
        Images(good.images, good.targets[:3])
    with pytest.raises(ValueError, match=r"has the image's size, \[8, 8\], not \[8, 7\]"):
        Images(good.images, torch.zeros(4, 1, 8, 7))


def test_a_data_set_refuses_labels_beyond_its_classes_and_empty_splits() -> None:
    good = numbered(4)
    with pytest.raises(DataError, match="labels run from 0 to 3; with 3 classes"):
        Dataset("x", Classification(3), good, good, good)
    with pytest.raises(DataError, match="no holdout images"):
        Dataset("x", Classification(4), good, Images(good.images[:0], good.targets[:0]), good)
    with pytest.raises(DataError, match="x: test labels are whole numbers, one an image"):
        Dataset("x", Classification(4), good, good, Images(good.images, good.images.float()))


# Digits


def test_digits_are_split_by_the_seed_and_fit_the_input() -> None:
    dataset = open_dataset("digits", input_shape=(24, 32, 3), classes=10, seed=1)
    assert pixels_of(dataset.train).shape == (1197, 3, 24, 32)
    assert len(dataset.holdout) == len(dataset.test) == 300
    assert int(pixels_of(dataset.train).max()) == 255
    assert_same(dataset, open_dataset("digits", input_shape=(24, 32, 3), seed=1))
    other = open_dataset("digits", input_shape=(24, 32, 3), seed=2)
    assert not torch.equal(dataset.test.targets, other.test.targets)
    assert_disjoint(dataset)


# CIFAR-10


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Files of the true size: image n starts with the bytes of n, and has the label n % 10."""
    folder = tmp_path_factory.mktemp("cifar")
    for file, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        records = np.zeros((10_000, RECORD), np.uint8)
        numbers = np.arange(10_000) + 10_000 * file
        records[:, 0] = numbers % 10
        records[:, 1:5] = numbers.astype("<u4").view(np.uint8).reshape(-1, 4)
        records[:, 1 + 2 * 1024] = 7  # the first pixel's blue
        records.tofile(folder / f"{name}.bin")
    yield folder
    shutil.rmtree(folder)  # 184 MB


@pytest.fixture
def cifar_copy(cifar: Path, tmp_path: Path) -> Path:
    for file in cifar.iterdir():
        os.link(file, tmp_path / file.name)
    return tmp_path


def replace(path: Path, content: bytes) -> None:
    path.unlink()  # the link, not the file that other tests read
    path.write_bytes(content)


def numbers(images: Examples) -> list[int]:
    """The numbers that the fixture wrote into the first four pixels."""
    first = pixels_of(images)[:, 0, 0, :4].contiguous().numpy()
    return [int(number) for number in first.view("<u4").ravel()]


def test_cifar10_is_read_with_a_tenth_held_out(cifar: Path) -> None:
    dataset = open_dataset(f"cifar10:{cifar}", input_shape=INPUT, classes=10, seed=0)
    assert (len(dataset.train), len(dataset.holdout), len(dataset.test)) == (45_000, 5_000, 10_000)
    train, holdout = numbers(dataset.train), numbers(dataset.holdout)
    assert sorted(train + holdout) == list(range(50_000))
    assert numbers(dataset.test) == list(range(50_000, 60_000))
    assert [number % 10 for number in holdout] == dataset.holdout.targets.tolist()
    assert pixels_of(dataset.test)[0, :, 0, 0].tolist() == [50_000 % 256, 0, 7]


def test_cifar10_is_found_in_the_folder_that_the_archive_makes(cifar: Path, tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").symlink_to(cifar)
    dataset = open_dataset(f"cifar10:{tmp_path}", input_shape=INPUT, seed=0)
    assert len(dataset.test) == 10_000


def test_a_cifar10_file_that_was_cut_off_is_named(cifar_copy: Path) -> None:
    file = cifar_copy / "data_batch_4.bin"
    replace(file, file.read_bytes()[:-RECORD])
    with pytest.raises(DataError, match=r"data_batch_4\.bin has 30726927 bytes instead of 307300"):
        open_dataset(f"cifar10:{cifar_copy}", input_shape=INPUT, seed=0)


def test_a_cifar10_file_with_an_impossible_label_is_named(cifar_copy: Path) -> None:
    file = cifar_copy / "test_batch.bin"
    replace(file, b"\x0a" + file.read_bytes()[1:])
    with pytest.raises(DataError, match=r"test_batch\.bin is damaged: it has the label 10"):
        open_dataset(f"cifar10:{cifar_copy}", input_shape=INPUT, seed=0)


def test_a_missing_cifar10_file_is_named(cifar_copy: Path) -> None:
    (cifar_copy / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"cannot read .*data_batch_2\.bin: No such file"):
        open_dataset(f"cifar10:{cifar_copy}", input_shape=INPUT, seed=0)


@pytest.mark.parametrize("inside", [".", "cifar-10-batches-py"])
def test_the_python_version_of_cifar10_is_refused_unread(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    (tmp_path / inside / "data_batch_1").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(DataError, match=r"get the binary version, cifar-10-binary\.tar\.gz"):
        open_dataset(f"cifar10:{tmp_path}", input_shape=INPUT, seed=0)


def test_a_folder_without_cifar10_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no data_batch_1\.bin; extract"):
        open_dataset(f"cifar10:{tmp_path}", input_shape=INPUT, seed=0)


def test_cifar10_fits_32_by_32_only(cifar: Path) -> None:
    with pytest.raises(DataError, match="input_size=32"):
        open_dataset(f"cifar10:{cifar}", input_shape=(64, 64, 3), seed=0)


# Folders of images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 + 6 images of two classes, of unequal sizes and formats."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 3)):
        for label, name in enumerate(("bird", "cat")):
            place = tmp_path / "pets" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (40 + number, 50, 3), np.uint8) + 150 * label
                suffix = (".jpg", ".png", ".JPEG")[number % 3]
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}{suffix}")
    (tmp_path / "pets" / "train" / ".cache").mkdir()
    (tmp_path / "pets" / "train" / "cat" / "README.txt").write_text("not an image by its name")
    return tmp_path / "pets"


def test_a_folder_of_images_is_decoded_to_the_input_size(folder: Path) -> None:
    dataset = open_dataset(f"folder:{folder}", input_shape=(24, 32, 3), classes=2, seed=0)
    assert (dataset.name, dataset.task) == ("pets", Classification(2))
    assert pixels_of(dataset.train).shape == (18, 3, 24, 32)
    assert (len(dataset.holdout), len(dataset.test)) == (2, 6)
    assert dataset.test.targets.tolist() == [0, 0, 0, 1, 1, 1]
    for split in (dataset.train, dataset.holdout, dataset.test):
        bright = pixels_of(split).float().mean((1, 2, 3)) > 125
        assert torch.equal(bright.long(), split.targets)
    assert_disjoint(dataset)


def test_the_holdout_of_a_folder_depends_on_the_seed(folder: Path) -> None:
    def opened(seed: int) -> Dataset:
        return open_dataset(f"folder:{folder}", input_shape=INPUT, seed=seed)

    assert_same(opened(0), opened(0))
    assert len({frozenset(contents(opened(seed).holdout)) for seed in range(6)}) > 1


def test_wide_images_lose_their_sides_not_their_proportions(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200  # the middle third is all that a square keeps
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        for number in range(2):
            Image.fromarray(pixels).save(tmp_path / split / "a" / f"{number}.png")
    dataset = open_dataset(f"folder:{tmp_path}", input_shape=(10, 10, 3), seed=0)
    assert bool((pixels_of(dataset.test) == 200).all())


def test_a_grey_png_becomes_three_channels(folder: Path) -> None:
    Image.new("L", (40, 40), 90).save(folder / "val" / "bird" / "grey.png")
    dataset = open_dataset(f"folder:{folder}", input_shape=INPUT, seed=0)
    assert bool((pixels_of(dataset.test)[3] == 90).all())


def test_a_text_file_named_jpg_is_named(folder: Path) -> None:
    (folder / "train" / "cat" / "notes.jpg").write_text("this is no image")
    with pytest.raises(DataError, match=r"cat/notes\.jpg \(not an image\); replace or remove"):
        open_dataset(f"folder:{folder}", input_shape=INPUT, seed=0)


@pytest.mark.parametrize("name", ["0.jpg", "1.png"])
def test_an_image_that_was_cut_off_is_named(folder: Path, name: str) -> None:
    file = folder / "val" / "bird" / name
    file.write_bytes(file.read_bytes()[:-800])
    with pytest.raises(DataError, match=rf"bird/{name} \(.+\); replace or remove"):
        open_dataset(f"folder:{folder}", input_shape=INPUT, seed=0)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_damage_to_a_png_never_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("damaged", numbered=True)
    for split in ("train", "val"):
        (root / split / "a").mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (9, 9), (number, 2, 3)).save(root / split / "a" / f"{number}.png")
    file = root / "val" / "a" / "0.png"
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        open_dataset(f"folder:{root}", input_shape=(8, 8, 3), seed=0)
    except DataError as error:
        assert "val/a/0.png" in str(error)  # noqa: PT017 (undamaged content is drawn, too)
    finally:
        shutil.rmtree(root)


def test_many_damaged_images_are_counted_not_all_listed(folder: Path) -> None:
    for number in range(8):
        (folder / "val" / "cat" / f"damaged{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match="and 3 more"):
        open_dataset(f"folder:{folder}", input_shape=INPUT, seed=0)


def test_images_that_exceed_the_memory_limit_are_refused_before_they_are_read(
    folder: Path,
) -> None:
    (folder / "train" / "cat" / "notes.jpg").write_text("would be refused if it were read")
    with pytest.raises(DataError, match=r"27 images of 32x32 .* raise memory_limit"):
        open_dataset(
            f"folder:{folder}", input_shape=INPUT, seed=0, memory_limit=27 * 3 * 32 * 32 - 1
        )


def test_the_splits_of_a_folder_need_the_same_classes(folder: Path) -> None:
    shutil.rmtree(folder / "val" / "cat")
    with pytest.raises(DataError, match="only one of train and val has the class folders cat"):
        open_dataset(f"folder:{folder}", input_shape=INPUT, seed=0)


def test_a_class_without_images_is_named(folder: Path) -> None:
    for split in ("train", "val"):
        (folder / split / "dog").mkdir()
    with pytest.raises(DataError, match=r"train/dog has no images"):
        open_dataset(f"folder:{folder}", input_shape=INPUT, seed=0)


def test_a_folder_of_another_layout_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bird/train does not exist"):
        open_dataset(f"folder:{folder / 'train' / 'bird'}", input_shape=INPUT, seed=0)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="has no folders; it needs one for each class"):
        open_dataset(f"folder:{tmp_path}", input_shape=INPUT, seed=0)


def test_one_training_image_cannot_be_split(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / split / "a" / "0.png")
    with pytest.raises(DataError, match="no training images are left; give it more"):
        open_dataset(f"folder:{tmp_path}", input_shape=INPUT, seed=0)


# Specifications


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("mnist", "known: shapes, shapes:NUMBER, digits, scenes, scenes:NUMBER, cifar10"),
        ("imagenet", "write imagenet:PATH"),
        ("imagenet:/no/such/place", "/no/such/place does not exist"),
        ("", "known: shapes"),
        ("shapes:", "did you mean 'shapes'"),
        ("shapes:many", "needs a number of images, e.g. shapes:20000"),
        ("shapes:0", "needs a number of images"),
        ("shapes:-5", "needs a number of images"),
        ("shapes:" + "9" * 5000, "needs a number of images"),
        ("shapes:999999999", "raise memory_limit"),
        ("digits:3", "did you mean 'digits'"),
        ("cifar10", "write cifar10:PATH"),
        ("folder:", "write folder:PATH"),
        ("cifar10:/no/such/place", "/no/such/place does not exist"),
        ("folder:/no/such/place", "/no/such/place does not exist"),
        ("folder:/etc/hostname", "is not a folder"),
    ],
)
def test_a_specification_that_cannot_be_used_is_answered_with_the_next_step(
    spec: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        open_dataset(spec, input_shape=INPUT, seed=0)


@pytest.mark.parametrize("spec", ["shapes", "digits"])
def test_another_number_of_classes_is_refused(spec: str) -> None:
    with pytest.raises(DataError, match="open the space with classes=1"):
        open_dataset(spec, input_shape=INPUT, classes=7, seed=0)


def test_classes_of_files_are_checked_before_they_are_read(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "cat" / "notes.jpg").write_text("would be refused if it were read")
    for spec in (f"folder:{folder}", f"cifar10:{tmp_path}"):
        with pytest.raises(DataError, match=r"has (2|10) classes, the search space 7"):
            open_dataset(spec, input_shape=INPUT, classes=7, seed=0)


@pytest.mark.parametrize("shape", [(12, 12, 3), (32, 40, 3)])
def test_shapes_need_a_square_of_some_size(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="another input_size"):
        open_dataset("shapes", input_shape=shape, seed=0)


@pytest.mark.parametrize("shape", [(32, 32, 1), (32,)])
def test_inputs_that_are_no_colour_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="choose a search space for images"):
        open_dataset("digits", input_shape=shape, seed=0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(DataError, match="choose 0 or more"):
        open_dataset("shapes", input_shape=INPUT, seed=-1)
