"""Train a network, or a super-network, so that a kill loses seconds and changes nothing.

Everything that a step depends on is in the checkpoint: weights, optimiser, step, the generators'
states, the place in the epoch. On a CPU a run that was resumed ends with the same bits as one
that was not.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..devices.errors import DataError, RunFolderError
from ..devices.files import write_atomically
from ..profiler.progress import Progress, Report, silent
from .data import Dataset, batches
from .network_module import NetworkModule
from .supernet import SuperNetwork
from .widths import Sampler, repeat

FORMAT = "boardfit checkpoint"
VERSION = 1
CHECKPOINT_SECONDS = 15.0

# A step's loss on images and targets, given its number; the gradient is left in the parameters.
Backward = Callable[[Tensor, Tensor, int], float]


@dataclass(frozen=True)
class Recipe:
    """How to train: AdamW (Loshchilov and Hutter 2019), linear warm-up for `warmup` (a fraction
    of the steps), then a cosine to zero; weight decay on kernels only.

    A super-network trains its full network alone for `full_first` (a fraction of the steps):
    until the largest has learnt something, random sub-networks only disturb one another.
    """

    steps: int = 1500
    batch_size: int = 64
    learning_rate: float = 0.04
    weight_decay: float = 1e-2
    warmup: float = 0.1
    full_first: float = 0.25
    clip_norm: float = 5.0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size) < 1 or self.learning_rate <= 0:
            raise ValueError("steps, batch size and learning rate must be above 0")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return (
            self.learning_rate
            * 0.5
            * (1 + math.cos(math.pi * (step - warm) / self.steps_after(warm)))
        )

    def steps_after(self, warm: int) -> int:
        """Steps that follow the warm-up, at least 1."""
        return max(1, self.steps - warm)


def train_supernet(
    supernet: SuperNetwork,
    sampler: Sampler,
    dataset: Dataset,
    recipe: Recipe,
    rng: np.random.Generator,
    *,
    seed: int,
    checkpoint: Path | None = None,
    identity: dict[str, Any] | None = None,
    report: Report = silent,
) -> None:
    """Train all sub-networks together; `rng` is the generator that `sampler` draws from."""

    task = dataset.task
    full_steps = round(recipe.full_first * recipe.steps)

    def backward(images: Tensor, targets: Tensor, step: int) -> float:
        if step < full_steps:
            draws = [repeat(supernet.space.full, len(images))]
        else:
            draws = sampler.draw(len(images))
        total = 0.0
        for draw in draws:
            loss = task.losses(supernet(images, draw), targets).mean() / len(draws)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return total

    _train(
        supernet, backward, dataset, recipe, rng, seed, checkpoint, identity or {},
        "train the super-network", report,
    )  # fmt: skip


def train_network(
    module: NetworkModule,
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    stage: str = "train the network",
    checkpoint: Path | None = None,
    identity: dict[str, Any] | None = None,
    report: Report = silent,
) -> None:
    """Train one network on its own."""
    task = dataset.task

    def backward(images: Tensor, targets: Tensor, step: int) -> float:
        loss = task.losses(module(images), targets).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    _train(module, backward, dataset, recipe, None, seed, checkpoint, identity or {}, stage, report)


def _train(
    module: nn.Module,
    backward: Backward,
    dataset: Dataset,
    recipe: Recipe,
    rng: np.random.Generator | None,
    seed: int,
    checkpoint: Path | None,
    identity: dict[str, Any],
    stage: str,
    report: Report,
) -> None:
    optimizer = _optimizer(module, recipe)
    generator = torch.Generator().manual_seed(seed)
    state = _State(module, optimizer, generator, rng, identity)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
    module.train()
    saved = time.monotonic()
    while state.step < recipe.steps:
        for images, targets in state.epoch(dataset, recipe.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(state.step)
            optimizer.zero_grad(set_to_none=True)
            loss = backward(images, targets, state.step)
            nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_norm)
            optimizer.step()
            if not math.isfinite(loss):
                raise DataError(
                    f"the loss is no longer a number at step {state.step}; lower the learning rate"
                )
            state.step += 1
            state.used += 1
            report(Progress(stage, state.step, recipe.steps, f"loss {loss:.3f}"))
            finished = state.step == recipe.steps
            if checkpoint and (finished or time.monotonic() - saved > CHECKPOINT_SECONDS):
                state.save(checkpoint)
                saved = time.monotonic()
            if finished:
                break
        else:
            state.end_epoch()
    module.eval()


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    kernels = [p for p in module.parameters() if p.dim() > 1]
    others = [p for p in module.parameters() if p.dim() <= 1]
    groups = [
        {"params": kernels, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


class _State:
    """All that a training run depends on, in one place that can be written and read."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        generator: torch.Generator,
        rng: np.random.Generator | None,
        identity: dict[str, Any],
    ) -> None:
        self._module = module
        self._optimizer = optimizer
        self._generator = generator
        self._rng = rng
        self._identity = json.dumps(identity, sort_keys=True)
        self._epoch_begin = generator.get_state()
        self.step = 0
        self.used = 0  # batches of the epoch that are done

    def epoch(self, dataset: Dataset, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The epoch's batches that have not been used yet."""
        self._generator.set_state(self._epoch_begin)
        return batches(
            dataset.train, batch_size, self._generator, dataset.augmentation, skip=self.used
        )

    def end_epoch(self) -> None:
        """Go on to the next epoch."""
        self._epoch_begin = self._generator.get_state()
        self.used = 0

    def save(self, path: Path) -> None:
        """Replace the checkpoint."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "identity": self._identity,
            "step": self.step,
            "used": self.used,
            "module": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "epoch_begin": self._epoch_begin,
            "rng": json.dumps(self._rng.bit_generator.state if self._rng else None),
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(path, buffer.getvalue())

    def load(self, path: Path) -> None:
        """Continue from a checkpoint. Raises `RunFolderError` where it is damaged or another's."""
        content = read_checkpoint(path)
        if content["identity"] != self._identity:
            raise RunFolderError(
                f"{path} was begun with other settings; choose another folder, or remove it to "
                "begin anew"
            )
        try:
            self._module.load_state_dict(content["module"])
            self._optimizer.load_state_dict(content["optimizer"])
            self._epoch_begin = content["epoch_begin"]
            self.step, self.used = int(content["step"]), int(content["used"])
            if self._rng is not None:
                self._rng.bit_generator.state = json.loads(content["rng"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunFolderError(
                f"{path} is damaged ({error}); remove it to train again from the beginning"
            ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; nothing in it is executed (`weights_only`).

    Raises `RunFolderError` where it is missing, foreign or damaged.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
    except FileNotFoundError:
        raise RunFolderError(f"there is no checkpoint {path}") from None
    except (
        OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError
    ) as error:  # fmt: skip
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunFolderError(
            f"{path} is not a checkpoint of boardfit's, or a damaged one ({reason}); remove it to "
            "train again from the beginning"
        ) from error
    return dict(content)
