"""Read NYU Depth V2 (Silberman et al., ECCV 2012), as it is distributed in two forms.

The labelled file `nyu_depth_v2_labeled.mat` (HDF5): 1449 images; with the authors' `splits.mat`
beside it their split is used, otherwise three tenths of the scenes are the test. The usual folder:
PATH/train and PATH/val with `.h5` files in any folders below, each with `rgb` uint8 [3, H, W] and
`depth` [H, W] in metres. No scene (in the folder: no folder) is trained on and held out.

Images and depths are scaled until they just cover what the network takes, and their middle is cut
out. Needs h5py (`pip install 'boardfit[depth]'`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ..devices.errors import BoardfitError, DataError

SPLITS = ("train", "holdout", "test")
TEST_SHARE = 0.3
HOLDOUT_SHARE = 0.1
NAMED = 3  # damaged files that a message lists
Pixels = NDArray[np.uint8]
Depths = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """Where the images of each split lie: places in the labelled file, or paths."""

    path: Path
    splits: dict[str, list[int]] | dict[str, list[Path]]

    @property
    def count(self) -> int:
        """How many images there are in all."""
        return sum(map(len, self.splits.values()))


def find(path: Path, seed: int) -> Source:
    """Which images are trained on, held out and tested; `seed` draws the scenes.

    Raises `DataError` for what is not there or not NYU Depth V2.
    """
    path = path.expanduser().resolve()
    if path.is_dir():
        return Source(path, _folder_splits(path, seed))
    if not path.exists():
        raise DataError(f"{path} does not exist; give the labelled .mat file or a folder with "
                        "train and val")  # fmt: skip
    return Source(path, _labelled_splits(path, seed))


def read(source: Source, split: str, height: int, width: int) -> tuple[Pixels, Depths]:
    """The images of a split, uint8 [N, 3, height, width], and their depths float32 [N, 1, ...].

    Raises `DataError` naming damaged files.
    """
    places = source.splits[split]
    pixels = np.empty((len(places), 3, height, width), np.uint8)
    depths = np.empty((len(places), 1, height, width), np.float32)
    damaged = []
    # The labelled file is opened once, the others one by one.
    for number, (image, depth, name) in enumerate(_pairs(source, places)):
        try:
            pixels[number], depths[number, 0] = _fitted(image, depth, height, width)
        except ValueError as error:
            damaged.append(f"{name} ({error})")
    if damaged:
        more = f" and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
        raise DataError(
            f"cannot read {', '.join(damaged[:NAMED])}{more}; download these files again"
        )
    return pixels, depths


def _pairs(source: Source, places: Sequence[Any]) -> Iterable[tuple[Any, Any, str]]:
    """Image [H, W, 3] and depth [H, W] of each place, None for what is not there, and a name."""
    if source.path.is_dir():
        for path in places:
            with _open(path) as file:
                yield (_array(file, "rgb", (1, 2, 0)), _array(file, "depth", (0, 1)), str(path))
        return
    with _open(source.path) as file:
        for place in places:  # MATLAB's order: [N, 3, W, H]
            image = _array(file, "images", (2, 1, 0), place)
            depth = _array(file, "depths", (1, 0), place)
            yield image, depth, f"image {place + 1} of {source.path}"


def _array(file: Any, name: str, axes: tuple[int, ...], place: int | None = None) -> Any:
    try:
        values = file[name][()] if place is None else file[name][place]
        return np.asarray(values).transpose(axes)
    except (KeyError, OSError, ValueError, TypeError, AttributeError, RuntimeError):
        return None


def _fitted(image: Any, depth: Any, height: int, width: int) -> tuple[Pixels, Depths]:
    """Both at the size that is wanted. Raises ValueError saying what does not fit."""
    if image is None or depth is None:
        raise ValueError("it has no image, or no depth")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"its image is {image.dtype} of shape {image.shape}")
    if depth.shape != image.shape[:2] or not np.issubdtype(depth.dtype, np.number):
        raise ValueError(f"its depth is {depth.dtype} of shape {depth.shape}")
    metres = depth.astype(np.float32)
    if not np.isfinite(metres).all() or metres.min() < 0 or metres.max() > 1000:
        raise ValueError("its depths are no metres")
    picture = ImageOps.fit(Image.fromarray(image), (width, height), Image.Resampling.BILINEAR)
    # The nearest pixel: a mean of a near and a far surface is the depth of neither.
    cut = ImageOps.fit(Image.fromarray(metres), (width, height), Image.Resampling.NEAREST)
    if not np.asarray(cut).any():
        raise ValueError("it has no known depth in its middle")
    return np.asarray(picture).transpose(2, 0, 1), np.asarray(cut)


def _folder_splits(path: Path, seed: int) -> dict[str, list[Path]]:
    files = {name: sorted((path / name).rglob("*.h5")) for name in ("train", "val")}
    for name, found in files.items():
        if not found:
            raise DataError(f"{path / name} has no .h5 files; give the folder that has train "
                            "and val")  # fmt: skip
    scenes = [str(file.parent) for file in files["train"]]
    held_out = _drawn(scenes, HOLDOUT_SHARE, seed)
    train, holdout = (
        [file for file, held in zip(files["train"], held_out, strict=True) if held == wanted]
        for wanted in (False, True)
    )
    return {"train": train, "holdout": holdout, "test": files["val"]}


def _labelled_splits(path: Path, seed: int) -> dict[str, list[int]]:
    with _open(path) as file:
        try:
            count = len(file["images"])
            if len(file["depths"]) != count:
                raise ValueError(f"{count} images have {len(file['depths'])} depths")
            scenes = _scenes(file, count)
        except (KeyError, TypeError, ValueError, OSError, RuntimeError) as error:
            raise DataError(
                f"{path} is not the labelled file of NYU Depth V2 ({error}); give "
                "nyu_depth_v2_labeled.mat"
            ) from error
    tested = _official_test(path.with_name("splits.mat"), count)
    if tested is None:
        tested = _drawn(scenes, TEST_SHARE, seed)
    others = np.flatnonzero(~tested)
    held_out = _drawn([scenes[place] for place in others], HOLDOUT_SHARE, seed)
    return {
        "train": others[~held_out].tolist(),
        "holdout": others[held_out].tolist(),
        "test": np.flatnonzero(tested).tolist(),
    }


def _scenes(file: Any, count: int) -> list[str]:
    """The name of each image's scene; without names every image is one of its own."""
    if "scenes" not in file:
        return [str(number) for number in range(count)]
    references = np.asarray(file["scenes"]).reshape(-1)
    names = [np.asarray(file[reference]).tobytes().hex() for reference in references]
    if len(names) != count:
        raise ValueError(f"{count} images have {len(names)} scenes")
    return names


def _official_test(path: Path, count: int) -> NDArray[np.bool_] | None:
    """Which images the authors test on, where their file is there."""
    if not path.exists():
        return None
    from scipy.io import loadmat

    tested = np.zeros(count, bool)
    try:
        places = loadmat(path)["testNdxs"].reshape(-1).astype(np.int64) - 1
        if len(places) == 0 or places.min() < 0 or places.max() >= count:
            raise ValueError(f"its images are not those of a file of {count}")
        tested[places] = True
    except Exception as error:  # SciPy's reader raises whatever a damaged file makes it raise
        raise DataError(f"{path} cannot be read ({error}); download it again") from error
    return tested


def _drawn(groups: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Whole groups, at random, until they hold `share` of all; where there is one group alone,
    members of it."""
    names = sorted(set(groups))
    if len(names) < 2:
        groups = [str(number) for number in range(len(groups))]
        names = sorted(set(groups))
    drawn: set[str] = set()
    held = np.zeros(len(groups), bool)
    for number in np.random.default_rng(seed).permutation(len(names))[: len(names) - 1]:
        if held.sum() >= max(1, share * len(groups)):
            break
        drawn.add(names[number])
        held = np.array([group in drawn for group in groups])
    return held


def _open(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise BoardfitError(
            "reading NYU Depth V2 needs h5py; pip install 'boardfit[depth]'"
        ) from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path} is not an HDF5 file, or a damaged one ({error}); download it again"
        ) from error
