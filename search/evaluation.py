"""Score each network once, and lose nothing when the process is killed.

`History` is a file of JSON lines in the run folder, `Evaluator` answers from it. A search is
resumed by replay: begun again with the same seed, it asks for the same networks, the finished
ones are answered from the file, and so it arrives where it was.

The file's first line holds the format, its version, and the identity of the run. Each further
line is one trial with the CRC-32 of its fields. A line is one write, synced to the disk.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, Protocol

from ..devices.errors import (
    BoardfitError,
    BudgetSpent,
    ConstraintNotMet,
    InUse,
    RunFolderError,
    storage_errors,
)
from .metrics import Metric
from .space import Architecture, SearchSpace

FORMAT = "boardfit search history"
VERSION = 1
FILE_NAME = "history.jsonl"

Criterion = Literal["accuracy", "loss"]
Identity = Mapping[str, str | int | float]


@dataclass(frozen=True)
class Trial:
    """A network that was scored: `number` counts from 0 in the order of scoring.

    `architecture` is canonical. `loss` and `accuracy` are those of the search holdout under the
    super-network's weights, `metric` is in the metric's own unit (seconds for latency). `origin`
    says what it was tried for: "sample", "iterate", "polish", "uniform", ...
    """

    number: int
    architecture: Architecture
    accuracy: float
    loss: float
    metric: float
    origin: str

    def __post_init__(self) -> None:
        if self.number < 0 or not self.architecture or not self.origin:
            raise ValueError("a trial needs a number, an architecture and an origin")
        for name in ("accuracy", "loss", "metric"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"the {name} of a trial is {getattr(self, name)}")


class Evaluate(Protocol):
    """What an optimiser is handed: the trials of some architectures, in their order."""

    def __call__(
        self, architectures: Sequence[Architecture], origin: str = "sample"
    ) -> list[Trial]:
        """Score those that are new, remember the others."""


def rank(trial: Trial, criterion: Criterion) -> tuple[float, float, int]:
    """A key that sorts the better trial first; ties are broken by the other figure."""
    scores = (-trial.accuracy, trial.loss)
    return (*(scores if criterion == "accuracy" else scores[::-1]), trial.number)


def best_trial(trials: Iterable[Trial], target: float, criterion: Criterion = "loss") -> Trial:
    """The best trial whose metric is at most `target`. Raises `ConstraintNotMet` without one."""
    trials = list(trials)
    within = [trial for trial in trials if trial.metric <= target]
    if not within:
        least = min((trial.metric for trial in trials), default=math.inf)
        raise ConstraintNotMet(
            f"none of {len(trials)} evaluated networks meets the target {target:.6g}: the smallest "
            f"value among them is {least:.6g}; let the search run to its end"
        )
    return min(within, key=lambda trial: rank(trial, criterion))


class History:
    """The trials of one run, in an append-only file that survives any kill.

    `identity` says what the run was begun with (space, seed, target, ...): a file of another run
    is refused. Raises `RunFolderError` for that and for damage (naming the line), `InUse` where
    another process has the file open, `StorageError` where it cannot be written. A torn last line
    is what a kill leaves behind: it is cut off. Use it as a context manager.
    """

    def __init__(self, folder: Path, identity: Identity) -> None:
        self.path = folder / FILE_NAME
        self.trials: list[Trial] = []
        header = {"format": FORMAT, "version": VERSION, "identity": dict(identity)}
        with storage_errors(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InUse(
                    f"{self.path} is open in another process; wait for that search to end, or "
                    "choose another run folder"
                ) from error
            self._read(_line(header))
        except BaseException:
            os.close(self._file)
            raise

    def append(self, trial: Trial) -> None:
        """Add a trial; when this returns it is on the disk."""
        if trial.number != len(self.trials):
            raise ValueError(f"trial {trial.number} cannot follow {len(self.trials)} others")
        self._write(_encode(trial))
        self.trials.append(trial)

    def close(self) -> None:
        """Let other processes open the file. Closing twice does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> History:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def _read(self, header: bytes) -> None:
        content = self.path.read_bytes()
        if not content.endswith(b"\n"):
            whole = content.rfind(b"\n") + 1
            if whole == 0 and not header.startswith(content):
                raise RunFolderError(f"{self.path} is not a search history of boardfit")
            with storage_errors(self.path):
                os.ftruncate(self._file, whole)
            content = content[:whole]
        if not content:
            self._write(header)
            return
        first, *lines = content.splitlines(keepends=True)
        if first != header:
            raise RunFolderError(f"{self.path}: {_difference(first, header)}")
        seen: set[Architecture] = set()
        for number, line in enumerate(lines):
            trial = _decode(line)
            if trial is None or trial.number != number or trial.architecture in seen:
                raise RunFolderError(
                    f"{self.path} is damaged in line {number + 2}; cut the file off before that "
                    "line and the search goes on from there"
                )
            seen.add(trial.architecture)
            self.trials.append(trial)

    def _write(self, line: bytes) -> None:
        end = os.lseek(self._file, 0, os.SEEK_END)
        with storage_errors(self.path):
            try:
                written = os.write(self._file, line)
                if written < len(line):  # a full disk takes a part first, the rest fails
                    os.write(self._file, line[written:])
                os.fsync(self._file)
            except OSError:
                os.ftruncate(self._file, end)
                raise


def _line(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _encode(trial: Trial) -> bytes:
    content = asdict(trial)
    return _line({**content, "crc32": zlib.crc32(_line(content))})


def _decode(line: bytes) -> Trial | None:
    """The trial of a line, `None` where it is not exactly what `_encode` would write."""
    try:
        content = json.loads(line)
        content["architecture"] = tuple(content["architecture"])
        trial = Trial(**{field.name: content[field.name] for field in fields(Trial)})
        return trial if _encode(trial) == line else None
    except (ValueError, TypeError, KeyError):
        return None


def _difference(found: bytes, expected: bytes) -> str:
    """What is wrong with a first line, in the user's terms."""
    ours = json.loads(expected)
    try:
        theirs = json.loads(found)
        if theirs["format"] != ours["format"]:
            raise ValueError
        if theirs["version"] != ours["version"]:
            return (
                f"written in version {theirs['version']} of the format, this program reads version "
                f"{ours['version']}; use the program that wrote it, or another run folder"
            )
        old, new = theirs["identity"], ours["identity"]
        changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if changed:
            words = "; ".join(f"{key} {old.get(key)}, now {new.get(key)}" for key in changed)
            return f"this run was begun with other settings ({words}); choose another run folder"
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    return "line 1 is not that of a search history of boardfit; choose another run folder"


class Evaluator:
    """Hand an optimiser its trials: every network is scored once, whatever was killed between.

    `score` returns (accuracy, loss) of a canonical architecture. Without a history, trials are
    kept in memory only. `budget` bounds the different networks that may be asked for, the ones
    answered from the history included, so that a resumed search ends where it would have ended.
    """

    def __init__(
        self,
        space: SearchSpace,
        score: Callable[[Architecture], tuple[float, float]],
        metric: Metric,
        history: History | None = None,
        *,
        budget: int | None = None,
    ) -> None:
        if budget is not None and budget < 1:
            raise ValueError(f"a budget of {budget} evaluations allows nothing")
        self._space = space
        self._score = score
        self._metric = metric
        self._history = history
        self._budget = budget
        self._known = {t.architecture: t for t in history.trials} if history else {}
        self._asked: dict[Architecture, Trial] = {}

    @property
    def trials(self) -> list[Trial]:
        """The trials that this search asked for, each once, in order."""
        return list(self._asked.values())

    @property
    def evaluations(self) -> int:
        """How many different networks were asked for, scored now or in an earlier process."""
        return len(self._asked)

    @property
    def remaining(self) -> int | None:
        """How many further networks the budget allows; `None` without a budget."""
        return None if self._budget is None else self._budget - self.evaluations

    def __call__(
        self, architectures: Sequence[Architecture], origin: str = "sample"
    ) -> list[Trial]:
        """The trials of the architectures, in their order.

        Raises `SpaceError` for one outside of the space, `BudgetSpent` before the first that the
        budget does not allow, `RunFolderError` where the history was written with other prices.
        """
        if not architectures:
            return []
        for architecture in architectures:
            self._space.check(architecture)
        canonical = [self._space.canonical(architecture) for architecture in architectures]
        values = self._metric(canonical).tolist()
        return [
            self._asked.get(architecture) or self._answer(architecture, value, origin)
            for architecture, value in zip(canonical, values, strict=True)
        ]

    def _answer(self, architecture: Architecture, value: float, origin: str) -> Trial:
        if self.remaining == 0:
            raise BudgetSpent(
                f"the budget of {self._budget} evaluations is spent; the trials so far are kept: "
                "choose the best of them, or run again with a larger budget"
            )
        trial = self._known.get(architecture)
        if trial is None:
            trial = self._scored(architecture, value, origin)
        elif not math.isclose(trial.metric, value, rel_tol=1e-9):
            raise RunFolderError(
                f"trial {trial.number} of the history has the metric {trial.metric!r}, now it is "
                f"{value!r}: the prices have changed; choose another run folder"
            )
        self._asked[architecture] = trial
        return trial

    def _scored(self, architecture: Architecture, value: float, origin: str) -> Trial:
        accuracy, loss = self._score(architecture)
        if not (math.isfinite(accuracy) and math.isfinite(loss)):
            raise BoardfitError(
                f"the network {architecture} scored accuracy {accuracy} and loss {loss}: the "
                "super-network's training has diverged; train it again with a lower learning rate"
            )
        trial = Trial(len(self._known), architecture, float(accuracy), float(loss), value, origin)
        if self._history is not None:
            self._history.append(trial)
        self._known[architecture] = trial
        return trial
