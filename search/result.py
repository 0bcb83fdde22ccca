"""What a search found, as data: written to the run folder, read by reports."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..devices.errors import RunFolderError
from ..devices.files import write_atomically
from ..profiler.measurement import Interval
from ..profiler.table import Estimate
from .candidate import Candidate, Reading
from .space import Architecture
from .trial import Trial

FILE_NAME = "result.json"
FORMAT = "boardfit search result"
VERSION = 3


@dataclass(frozen=True)
class Int8File:
    """A finalist as a static int8 file: `accuracy` is the file's own on the test images in the
    board's runtime, `seconds` its measured latency in the table's terms with the limits between
    which another session's value falls (95 %), `verdict` what its samples are worth, `size` in
    bytes."""

    accuracy: float
    seconds: float
    limits: tuple[float, float] | None
    verdict: str
    file: str
    size: int


@dataclass(frozen=True)
class Finalist:
    """A network that was trained on its own, exported and measured.

    `seconds` is the measured latency in the table's terms (`anchor_ratio`: the board's slowness
    now relative to then) with the `limits` between which another session's value falls (95 %),
    `measured` the median as it was taken, `verdict` what its samples are worth. `accuracy` is
    PyTorch's on the test images, `exported_accuracy` the float file's own on the board;
    `accuracies` has that of each test image, in order (0 or 1 where an image has a class). `int8`
    is its int8 form, where that was asked for, `figures` are the task's further metrics on the
    test images.
    """

    architecture: Architecture
    predicted: Estimate
    seconds: float
    anchor_ratio: float
    measured: Interval
    verdict: str
    accuracy: float
    exported_accuracy: float
    difference: float
    accuracies: tuple[float, ...]
    macs: int
    parameters: int
    peak_memory: int
    file: str
    size: int
    limits: tuple[float, float] | None = None
    int8: Int8File | None = None
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def prediction_error(self) -> float:
        """Predicted relative to measured, minus one."""
        return self.predicted.seconds / self.seconds - 1


@dataclass(frozen=True)
class SearchResult:
    """A finished search. Times in seconds; `parts` are the seconds that each part took.

    `coordinates` are the name, kind and full value of each of the space's coordinates, `trials`
    all scored networks in order, iterates of the descent marked by their origin. `candidates` were
    measured on the board during the search.
    """

    space: str
    data: str
    device: str
    table: str
    conditions: Mapping[str, Any]
    settings: Mapping[str, Any]
    target: float
    full_seconds: float
    coordinates: tuple[tuple[str, str, int], ...]
    trials: tuple[Trial, ...]
    finalists: Mapping[str, Finalist]
    parts: Mapping[str, float]
    candidates: tuple[Candidate, ...] = ()

    @property
    def found(self) -> Finalist:
        """The network that the search chose."""
        return self.finalists["found"]

    @property
    def uniform(self) -> Finalist:
        """The uniformly narrowed network of equal latency, trained the same way."""
        return self.finalists["uniform"]

    @property
    def gain(self) -> float:
        """Test accuracy of the found network minus the uniform one's (both PyTorch's)."""
        return self.found.accuracy - self.uniform.accuracy

    @property
    def gain_error(self) -> float:
        """The gain's standard error, from what the two differ by on each image.

        Both are judged on the same images, so the difference is paired (of images with a class:
        McNemar 1947). It spans the choice of test images, not of training seeds.
        """
        pairs = list(zip(self.found.accuracies, self.uniform.accuracies, strict=True))
        squares = sum((a - b) ** 2 for a, b in pairs)
        return math.sqrt(max(squares / len(pairs) - self.gain**2, 0.0) / len(pairs))

    @property
    def is_better(self) -> bool:
        """Whether the found network is shown to be better than the uniform one."""
        return self.gain > 2 * self.gain_error

    @property
    def meets_target(self) -> bool:
        """Whether the found network, as measured, is at most 5 % over the target."""
        return self.found.seconds <= 1.05 * self.target

    @property
    def verdict(self) -> str:
        """In words: is the found network better than the uniform one?"""
        points = f"{abs(self.gain) * 100:.1f} points"
        error = f"standard error {self.gain_error * 100:.1f}"
        if self.uniform.predicted.seconds > self.target:
            error += "; narrowing alone does not reach the target, the uniform one is slower"
        if abs(self.gain) <= 2 * self.gain_error:
            return (
                f"no difference shown: the found network is {points} "
                f"{'above' if self.gain >= 0 else 'below'} the uniform one ({error}, one training "
                "seed each)"
            )
        if self.is_better:
            return f"the found network is {points} better than the uniform one ({error})"
        return f"the found network is NOT better: {points} below the uniform one ({error})"


def write_result(result: SearchResult, folder: Path) -> None:
    """Write `result.json`. Raises `StorageError`."""
    content = {"format": FORMAT, "version": VERSION, **asdict(result)}
    write_atomically(folder / FILE_NAME, json.dumps(content, indent=1).encode())


def read_result(folder: Path) -> SearchResult | None:
    """Read `result.json`, or return None where the run is not finished.

    Raises `RunFolderError` where the file is foreign or damaged.
    """
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_bytes())
        if content.pop("format") != FORMAT or content.pop("version") != VERSION:
            raise ValueError("another format or version")
        content["coordinates"] = tuple(
            (str(n), str(k), int(v)) for n, k, v in content["coordinates"]
        )
        content["trials"] = tuple(_trial(trial) for trial in content["trials"])
        content["finalists"] = {
            name: _finalist(finalist) for name, finalist in content["finalists"].items()
        }
        content["candidates"] = tuple(map(_candidate, content.get("candidates", ())))
        result = SearchResult(**content)
        if not {"found", "uniform"} <= result.finalists.keys():
            raise ValueError("a finalist is missing")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror}") from error
    except (
        KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError
    ) as error:  # fmt: skip
        raise RunFolderError(
            f"{path} is not a search result of boardfit's, or a damaged one ({error}); remove it "
            "and run the search again: it goes on from its last state"
        ) from error
    return result


def _trial(content: dict[str, Any]) -> Trial:
    return Trial(**{**content, "architecture": tuple(content["architecture"])})


def _finalist(content: dict[str, Any]) -> Finalist:
    fields = {
        **content,
        "architecture": tuple(content["architecture"]),
        "accuracies": tuple(content["accuracies"]),
        "predicted": Estimate(**content["predicted"]),
        "measured": Interval(**content["measured"]),
        "limits": _limits(content.get("limits")),
    }
    if (int8 := content.get("int8")) is not None:
        fields["int8"] = Int8File(**{**int8, "limits": _limits(int8["limits"])})
    return Finalist(**fields)


def _candidate(content: dict[str, Any]) -> Candidate:
    reading = content["reading"]
    reading = Reading(
        **{
            **reading,
            "predicted": Estimate(**reading["predicted"]),
            "limits": _limits(reading["limits"]),
        }
    )
    return Candidate(tuple(content["architecture"]), float(content["expected"]), reading)


def _limits(content: Any) -> tuple[float, float] | None:
    if content is None:
        return None
    low, high = content
    return float(low), float(high)
