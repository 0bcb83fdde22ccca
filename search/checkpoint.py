"""Everything that a training run depends on, in one file that is written and read as a whole."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..devices.errors import RunFolderError
from ..devices.files import write_atomically
from .weight_average import WeightAverage

FORMAT = "boardfit checkpoint"
VERSION = 2


@dataclass
class TrainingState:
    """Weights, their average, the optimiser, the generator that sub-networks are drawn from, and
    the number of steps that are done: the place in the data and the learning rate follow from it.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    rng: np.random.Generator | None
    identity: Mapping[str, Any]
    step: int = 0

    def save(self, path: Path) -> None:
        """Replace the checkpoint. Raises `StorageError`."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "identity": self._identity,
            "step": self.step,
            "module": self.module.state_dict(),
            "average": self.average.state if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "rng": json.dumps(self.rng.bit_generator.state if self.rng else None),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(path, buffer.getvalue())

    def load(self, data: bytes, path: Path | str) -> None:
        """Continue from what a checkpoint's file holds; `path` is for messages only.

        Raises `RunFolderError` where it is damaged or another run's.
        """
        content = decode_checkpoint(data, path)
        if content["identity"] != self._identity:
            raise RunFolderError(
                f"{path} was begun with other settings{self._changed(content['identity'])}; choose "
                "another folder, or remove it to begin anew"
            )
        try:
            self.module.load_state_dict(content["module"])
            self.optimizer.load_state_dict(content["optimizer"])
            if self.average is not None:
                self.average.load(content["average"])
            self.step = int(content["step"])
            if self.rng is not None:
                self.rng.bit_generator.state = json.loads(content["rng"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunFolderError(
                f"{path} is damaged ({error}); remove it to train again from the beginning"
            ) from error

    @property
    def _identity(self) -> str:
        return json.dumps(self.identity, sort_keys=True)

    def _changed(self, found: object) -> str:
        """The names of what differs, where that can be told."""
        try:
            old, new = json.loads(str(found)), json.loads(self._identity)
            changed = sorted(n for n in {*old, *new} if old.get(n) != new.get(n))
        except (ValueError, TypeError, AttributeError):
            return ""
        return f" ({', '.join(changed)})"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; nothing in it is executed (`weights_only`).

    Raises `RunFolderError` where it is missing, foreign or damaged.
    """
    return decode_checkpoint(checkpoint_bytes(path), path)


def checkpoint_bytes(path: Path) -> bytes:
    """What the file holds. Raises `RunFolderError` where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise RunFolderError(f"there is no checkpoint {path}") from None
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror}") from error


def decode_checkpoint(data: bytes, path: Path | str) -> dict[str, Any]:
    """The content of a checkpoint's bytes; see `read_checkpoint`."""
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}")
        if content["version"] != VERSION:
            raise ValueError(
                f"version {content['version']!r}, this program reads version {VERSION}"
            )
    except (
        OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError
    ) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunFolderError(
            f"{path} is not a checkpoint of boardfit's, or a damaged one ({reason}); remove it to "
            "train again from the beginning"
        ) from error
    return dict(content)
