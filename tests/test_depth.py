"""Depth estimation: the task's figures, rendered rooms, and NYU Depth V2's files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.errors import DataError
from boardfit.search import scenes
from boardfit.search.data import open_dataset
from boardfit.search.depth_task import DepthEstimation
from boardfit.search.nyu_depth import find, read

h5py = pytest.importorskip("h5py")

# The task


def maps(*values: list[float]) -> torch.Tensor:
    """Images of one row."""
    return torch.tensor(values)[:, None, None, :]


def test_figures_are_those_of_the_field() -> None:
    task = DepthEstimation()
    targets = maps([1.0, 2.0, 4.0, 0.0], [1.0, 1.0, 1.0, 1.0])  # the last depth is not known
    outputs = maps([1.2, 2.6, 3.0, 9.0], [1.0, -1.0, 0.81, 1.3])
    assert task.accuracies(outputs, targets).tolist() == pytest.approx([1 / 3, 0.5])
    expected = [(0.2 + 0.6 + 1.0) / 3, (2.0 + 0.19 + 0.3) / 4]
    assert task.losses(outputs, targets).tolist() == pytest.approx(expected)
    squares = [(0.04 + 0.36 + 1.0) / 3, (4.0 + 0.19**2 + 0.09) / 4]
    figures = task.figures(outputs, targets)
    assert figures["rmse"] == pytest.approx(math.sqrt(sum(squares) / 2))
    relative = [(0.2 + 0.3 + 0.25) / 3, expected[1]]
    assert figures["relative"] == pytest.approx(sum(relative) / 2)
    assert task.imitation(outputs, outputs + 1).tolist() == pytest.approx([1, 1])


def test_berhu_is_the_difference_up_to_a_fifth_of_the_largest_and_then_its_square() -> None:
    outputs, targets = maps([1.1, 2.0, 3.0]), maps([1.0, 1.0, 1.0])
    limit = 0.4
    expected = (0.1 + (1 + limit**2) / (2 * limit) + (4 + limit**2) / (2 * limit)) / 3
    assert DepthEstimation("berhu").losses(outputs, targets).item() == pytest.approx(expected)
    assert DepthEstimation("berhu").losses(targets, targets).item() == 0


@given(st.lists(st.floats(0.5, 9), min_size=4, max_size=4), st.integers(0, 3))
def test_unknown_depths_count_for_nothing(depths: list[float], unknown: int) -> None:
    task = DepthEstimation()
    targets = maps(depths)
    outputs = targets + 0.3
    targets[..., unknown] = 0.0
    other = outputs.clone()
    other[..., unknown] = 77.0
    for figure in (task.losses, task.accuracies):
        assert figure(outputs, targets).tolist() == figure(other, targets).tolist()
    assert task.figures(outputs, targets) == task.figures(other, targets)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (torch.zeros(3, dtype=torch.int64), "depths are maps"),
        (torch.ones(2, 3, 4, 4), "depths are maps"),
        (torch.full((1, 1, 2, 2), float("nan")), "have to be numbers"),
        (torch.full((1, 1, 2, 2), -1.0), "have to be numbers"),
        (torch.stack([torch.ones(1, 2, 2), torch.zeros(1, 2, 2)]), "image 1 has no depth"),
    ],
)
def test_what_is_no_depth_is_refused(targets: torch.Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words):
        DepthEstimation().check(targets)


def test_settings_of_other_tasks_are_refused() -> None:
    with pytest.raises(DataError, match="no loss of depths is called 'l2'"):
        DepthEstimation("l2")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no classes to smooth"):
        DepthEstimation().losses(maps([1.0]), maps([1.0]), smoothing=0.1)


# Rendered rooms


def test_scenes_are_the_same_whatever_range_is_asked_for() -> None:
    images, depths = scenes.draw(0, 110, size=16, seed=3, split=0)
    assert images.dtype == np.uint8
    assert depths.dtype == np.float32
    assert (images.shape, depths.shape) == ((110, 3, 16, 16), (110, 1, 16, 16))
    part_images, part_depths = scenes.draw(95, 105, size=16, seed=3, split=0)
    assert np.array_equal(part_images, images[95:105])
    assert np.array_equal(part_depths, depths[95:105])
    for seed, split in ((3, 1), (4, 0)):
        other, _ = scenes.draw(0, 5, size=16, seed=seed, split=split)
        assert not any(np.array_equal(one, image) for one in other for image in images)
    assert scenes.draw(0, 0, size=16, seed=0, split=0)[1].shape == (0, 1, 16, 16)


def test_depths_are_inside_of_a_room_and_of_every_size() -> None:
    _, depths = scenes.draw(0, 100, size=32, seed=0, split=0)
    assert depths.min() > 0.2
    assert depths.max() < math.hypot(7.0, 9.0)  # the largest room's diagonal, along the floor
    assert np.percentile(depths, 90) > 2 * np.percentile(depths, 10)


def view(eye: list[float]) -> Any:
    """Scenes that look straight ahead, with a field of view of 90 degrees, on 9 x 9 pixels."""
    pixel = ((np.arange(9) + 0.5) / 9 * 2 - 1).astype(np.float32)
    x, y = np.meshgrid(pixel, -pixel)
    rays = np.stack([x, y, np.ones_like(x)])[:, None].repeat(scenes.CHUNK, axis=1)
    return scenes._View(np.array([eye] * scenes.CHUNK, np.float32), rays)


def every(values: list[float]) -> Any:
    return np.array([values] * scenes.CHUNK, np.float32)


def test_walls_balls_and_boxes_are_where_geometry_says() -> None:
    rng = np.random.default_rng(0)
    seen = view([2.0, 1.5, 1.0])
    seen.meet_room(rng, every([4.0, 3.0, 9.0]))
    middle = (slice(None), 4, 4)
    assert seen.depth[middle] == pytest.approx(8.0)  # the far wall
    # Beside it the ray that falls by 1 for each 1 ahead meets the floor 1.5 ahead.
    steep = abs(seen.rays[1][0, 8, 4])
    assert seen.depth[:, 8, 4] == pytest.approx(1.5 / steep, rel=1e-5)
    seen.meet_ball(rng, every([2.0, 1.5, 4.0]), np.full(scenes.CHUNK, 0.5, np.float32))
    assert seen.depth[middle] == pytest.approx(2.5, rel=1e-5)
    seen.meet_box(rng, every([2.0, 1.5, 2.0]), every([0.1, 0.3, 0.1]))
    # A box that is turned by any angle begins between half its side and half its diagonal before
    # its centre.
    assert (seen.depth[middle] <= 0.9 + 1e-5).all()
    assert (seen.depth[middle] >= 1 - math.sqrt(2) * 0.1 - 1e-5).all()
    before = seen.depth.copy()
    seen.meet_ball(rng, every([2.0, 1.5, 6.0]), np.full(scenes.CHUNK, 0.2, np.float32))
    assert np.array_equal(seen.depth, before)  # it is hidden behind the box


def test_surfaces_that_face_the_lamp_are_brighter() -> None:
    rng = np.random.default_rng(0)
    seen = view([2.0, 1.5, 1.0])
    seen.meet_room(rng, every([4.0, 3.0, 9.0]))
    seen.colour[:] = 1.0
    picture = seen.lit(every([2.0, 2.9, 2.0]))
    assert (picture[:, :, 8, 4] > picture[:, :, 4, 4]).all()  # the floor below, the wall far away
    assert picture.min() >= scenes.AMBIENT - 1e-6


def test_scenes_open_as_a_data_set() -> None:
    dataset = open_dataset("scenes:120", input_shape=(16, 16, 3), classes=1, seed=5)
    assert isinstance(dataset.task, DepthEstimation)
    assert (len(dataset.train), len(dataset.holdout), len(dataset.test)) == (120, 100, 100)
    assert dataset.train.targets.shape == (120, 1, 16, 16)
    for spec, shape, classes, words in [
        ("scenes", (16, 16, 3), 12, "a depth for each pixel, the search space 12 outputs"),
        ("scenes:no", (16, 16, 3), 1, "needs a number of images, e.g. scenes:4000"),
        ("scenes:", (16, 16, 3), 1, "did you mean 'scenes'"),
        ("scenes", (8, 8, 3), 1, "squares of 16 pixels or more"),
        ("scenes:9000000", (64, 64, 3), 1, "GiB of memory"),
        ("nyu", (16, 16, 3), 1, "lacks the folder"),
    ]:
        with pytest.raises(DataError, match=words):
            open_dataset(spec, input_shape=shape, classes=classes, seed=0)


# NYU Depth V2


def write_labelled(path: Path, count: int = 20, scenes_of: int = 5) -> Path:
    """A small file in the form of `nyu_depth_v2_labeled.mat`: 12 x 16 pixels, in MATLAB's order.
    Image n is n everywhere, and n + 1 metres deep in its upper half, 0 (unknown) in its lower."""
    with h5py.File(path, "w") as file:
        images = (
            np.zeros((count, 3, 16, 12), np.uint8)
            + np.arange(count, dtype=np.uint8)[:, None, None, None]
        )
        depths = np.zeros((count, 16, 12), np.float32)
        depths[:, :, :6] = np.arange(count)[:, None, None] + 1.0
        file["images"], file["depths"] = images, depths
        references = np.empty((1, count), h5py.ref_dtype)
        for number in range(count):
            name = f"names/{number}"
            text = f"scene_{number // scenes_of}"
            file[name] = np.array([[ord(letter)] for letter in text], np.uint16)
            references[0, number] = file[name].ref
        file.create_dataset("scenes", data=references, dtype=h5py.ref_dtype)
    return path


def test_the_labelled_file(tmp_path: Path) -> None:
    path = write_labelled(tmp_path / "labelled.mat")
    source = find(path, seed=1)
    assert sorted(n for part in source.splits.values() for n in part) == list(range(20))
    scenes_of = {split: {int(str(n)) // 5 for n in part} for split, part in source.splits.items()}
    assert not scenes_of["train"] & scenes_of["test"]
    assert not scenes_of["train"] & scenes_of["holdout"]
    assert source == find(path, seed=1)
    images, depths = read(source, "train", 12, 12)
    numbers = [int(str(number)) for number in source.splits["train"]]
    for image, depth, number in zip(images, depths, numbers, strict=True):
        assert (image == number).all()
        assert (depth[0, :6] == number + 1).all()
        assert (depth[0, 6:] == 0).all()


def test_the_authors_split(tmp_path: Path) -> None:
    from scipy.io import savemat

    path = write_labelled(tmp_path / "labelled.mat")
    savemat(tmp_path / "splits.mat", {"testNdxs": np.array([[1], [3], [20]])})
    splits = find(path, seed=1).splits
    assert splits["test"] == [0, 2, 19]
    savemat(tmp_path / "splits.mat", {"testNdxs": np.array([[21]])})
    with pytest.raises(DataError, match=r"splits\.mat cannot be read .its images are not"):
        find(path, seed=1)
    (tmp_path / "splits.mat").write_bytes(b"MATLAB 5.0" * 30)
    with pytest.raises(DataError, match=r"splits\.mat cannot be read"):
        find(path, seed=1)


def write_folder(path: Path) -> Path:
    for split, rooms in (("train", ("kitchen_1", "office_2", "office_3")), ("val", ("official",))):
        for room in rooms:
            (path / split / room).mkdir(parents=True)
            for number in range(4):
                with h5py.File(path / split / room / f"{number}.h5", "w") as file:
                    file["rgb"] = np.full((3, 12, 16), number, np.uint8)
                    file["depth"] = np.full((12, 16), number + 0.5, np.float32)
    return path


def test_a_folder_of_h5_files(tmp_path: Path) -> None:
    path = write_folder(tmp_path)
    dataset = open_dataset(f"nyu:{path}", input_shape=(8, 8, 3), classes=1, seed=0)
    assert (len(dataset.train), len(dataset.holdout), len(dataset.test)) == (8, 4, 4)
    for split in (dataset.train, dataset.holdout, dataset.test):
        for chunk in split.read([(np.arange(len(split)), None)]):  # type: ignore[list-item]
            number = chunk.images[:, 0, 0, 0]
            assert (chunk.targets[:, 0, 0, 0] == number + 0.5).all()
    source = find(path, seed=0)
    assert len({file.parent for file in source.splits["holdout"]}) == 1  # type: ignore[union-attr]


def damage(path: Path, name: str, value: object) -> None:
    with h5py.File(path, "a") as file:
        del file[name]
        if value is not None:
            file[name] = value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("rgb", None, "it has no image, or no depth"),
        ("depth", None, "it has no image, or no depth"),
        ("rgb", np.zeros((3, 12, 16), np.float32), "its image is float32"),
        ("rgb", np.zeros((12, 16), np.uint8), "it has no image"),
        ("depth", np.ones((6, 8), np.float32), r"its depth is float32 of shape \(6, 8\)"),
        ("depth", np.full((12, 16), np.nan, np.float32), "its depths are no metres"),
        ("depth", np.full((12, 16), -1, np.float32), "its depths are no metres"),
        ("depth", np.zeros((12, 16), np.float32), "it has no known depth"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, value: object, words: str) -> None:
    path = write_folder(tmp_path)
    broken = path / "val" / "official" / "2.h5"
    damage(broken, name, value)
    with pytest.raises(DataError, match=rf"cannot read .*2\.h5 \({words}"):
        open_dataset(f"nyu:{path}", input_shape=(8, 8, 3), classes=1, seed=0)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find(tmp_path / "missing.mat", 0)
    (tmp_path / "text.mat").write_text("no HDF5")
    with pytest.raises(DataError, match=r"text\.mat is not an HDF5 file"):
        find(tmp_path / "text.mat", 0)
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["images"] = np.zeros((2, 3, 4, 4), np.uint8)
    with pytest.raises(DataError, match=r"other\.mat is not the labelled file"):
        find(tmp_path / "other.mat", 0)
    with pytest.raises(DataError, match=r"train has no \.h5 files"):
        find(tmp_path, 0)
    path = write_folder(tmp_path / "folder")
    (path / "val" / "official" / "0.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    with pytest.raises(DataError, match=r"0\.h5 is not an HDF5 file, or a damaged one"):
        open_dataset(f"nyu:{path}", input_shape=(8, 8, 3), classes=1, seed=0)
