"""Train a network, or a super-network, so that a kill loses seconds and changes nothing.

Everything that a step depends on is in the checkpoint, or follows from the step's number. On a CPU
a run that was resumed ends with the same bits as one that was not; `compute` says what else decides
about the bits.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..devices.errors import DataError, InputError
from ..profiler.progress import Progress, Report, silent
from .augmentation import Batch
from .checkpoint import TrainingState, checkpoint_bytes
from .compute import Compute, check_compiler
from .data import Dataset
from .feed import Feed
from .network_module import NetworkModule
from .ranks import lost_ranks
from .recipe import Recipe, make_optimizer
from .supernet import SuperNetwork
from .task import Task
from .weight_average import WeightAverage
from .widths import Sampler, repeat

# The mean loss of a part of a step's batch, given which rows of the whole batch it is.
Pass = Callable[[Batch, slice], Tensor]
# The passes of a step, whose gradients are added up; the first argument is called for the module.
Passes = Callable[[nn.Module, int], list[Pass]]


def train_supernet(
    supernet: SuperNetwork,
    sampler: Sampler,
    dataset: Dataset,
    recipe: Recipe,
    rng: np.random.Generator,
    *,
    seed: int,
    checkpoint: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    compute: Compute | None = None,
    report: Report = silent,
) -> None:
    """Train all sub-networks together; `rng` is the generator that `sampler` draws from.

    With several processes each calls this, with generators in the same state; only the first needs
    a `checkpoint`. The super-network stays on the accelerator. It is not compiled: kernels and
    masks change with each step. Raises `DataError` where the loss diverges or images cannot be
    read, `InputError` for a recipe that does not fit, `RunFolderError` for a checkpoint that is
    damaged or another run's, `RankLost`.
    """
    if recipe.distillation or recipe.inherit:
        raise InputError(
            "a super-network has no teacher and inherits no weights: leave distillation and "
            "inherit to the final recipe"
        )
    full_steps = round(recipe.full_first * recipe.steps)

    def passes(run: nn.Module, step: int) -> list[Pass]:
        if step < full_steps:
            draws = [repeat(supernet.space.full, recipe.batch_size)]
        else:
            draws = sampler.draw(recipe.batch_size)

        def one(draw: np.ndarray[Any, np.dtype[np.int64]]) -> Pass:
            def loss(part: Batch, rows: slice) -> Tensor:
                outputs = _outputs(run, recipe, part.images, draw[rows])
                return _loss(dataset.task, outputs, part, recipe) / len(draws)

            return loss

        return [one(draw) for draw in draws]

    _train(
        supernet, passes, dataset, recipe, rng, seed, checkpoint, identity or {},
        replace(compute or Compute(), compile=False), "train the super-network", report,
    )  # fmt: skip


def train_network(
    module: NetworkModule,
    dataset: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    teacher: NetworkModule | None = None,
    stage: str = "train the network",
    checkpoint: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    compute: Compute | None = None,
    report: Report = silent,
) -> None:
    """Train one network on its own; see `train_supernet` for processes and errors.

    With `distillation` in the recipe the `teacher`, in evaluation mode, says what is right as well.
    """
    if bool(recipe.distillation) != (teacher is not None):
        raise InputError("distillation needs a teacher, and a teacher a share of the loss")
    task, share = dataset.task, recipe.distillation

    def passes(run: nn.Module, step: int) -> list[Pass]:
        def loss(part: Batch, rows: slice) -> Tensor:
            outputs = _outputs(run, recipe, part.images)
            own = _loss(task, outputs, part, recipe)
            if teacher is None:
                return own
            with torch.no_grad():
                answers = _outputs(teacher, recipe, part.images)
            return (1 - share) * own + share * task.imitation(outputs, answers).mean()

        return [loss]

    compute = compute or Compute()
    if teacher is not None:
        teacher.to(compute.device).eval()
    _train(
        module, passes, dataset, recipe, None, seed, checkpoint, identity or {}, compute, stage,
        report,
    )  # fmt: skip


def _outputs(run: nn.Module, recipe: Recipe, images: Tensor, *others: Any) -> Tensor:
    """What a module gives, as float32, computed in the recipe's precision."""
    half = recipe.precision == "bfloat16"
    with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        outputs: Tensor = run(images, *others)
    return outputs.float()


def _loss(task: Task, outputs: Tensor, batch: Batch, recipe: Recipe) -> Tensor:
    """The mean over images, each target with its share where images are mixtures."""
    smoothing = recipe.label_smoothing
    losses = task.losses(outputs, batch.targets, smoothing=smoothing)
    if batch.others is not None and batch.share is not None:
        others = task.losses(outputs, batch.others, smoothing=smoothing)
        losses = batch.share * losses + (1 - batch.share) * others
    return losses.mean()


def _train(
    module: nn.Module,
    passes: Passes,
    dataset: Dataset,
    recipe: Recipe,
    rng: np.random.Generator | None,
    seed: int,
    checkpoint: Path | None,
    identity: Mapping[str, Any],
    compute: Compute,
    stage: str,
    report: Report,
) -> None:
    device, ranks = compute.device, compute.ranks
    if compute.compile:
        check_compiler(device)
    module.to(device)
    augmentation = dataset.augmentation.joined(recipe.augmentation)
    feed = Feed(dataset.train, recipe.batch_size, augmentation, seed)
    rows = ranks.rows(recipe.batch_size, recipe.accumulation)
    average = WeightAverage(module, recipe.average) if recipe.average else None
    of_run = {**identity, "recipe": asdict(recipe), "seed": seed, "images": len(dataset.train)}
    state = TrainingState(module, make_optimizer(module, recipe), average, rng, of_run)
    known = checkpoint_bytes(checkpoint) if checkpoint and checkpoint.exists() else None
    if (stored := ranks.share(known)) is not None:
        state.load(stored, checkpoint or "the first process's checkpoint")
    module.train()
    saved, replaced = time.monotonic(), 0
    with lost_ranks(), warnings.catch_warnings():
        # Of depthwise kernels, in which channels-last memory and the usual one are the same.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        run = compute.wrapped(module)
        steps = range(state.step, recipe.steps)
        batches = feed.batches(steps, device, rows=rows, workers=compute.workers)
        for step, (batch, unread) in zip(steps, batches, strict=True):
            loss = _step(run, state, passes(run, step), batch, recipe, rows.start)
            state.step = step + 1
            replaced += unread
            if average is not None:
                average.update(step)
            note = f", {replaced} images could not be read" if replaced else ""
            report(Progress(stage, state.step, recipe.steps, f"loss {loss:.3f}{note}"))
            due = time.monotonic() - saved > compute.checkpoint_seconds
            if checkpoint is not None and (due or state.step == recipe.steps):
                state.save(checkpoint)
                saved = time.monotonic()
        if average is not None:
            average.apply()
        ranks.equalise(module)
    module.eval()


def _step(
    run: nn.Module,
    state: TrainingState,
    passes: list[Pass],
    batch: Batch,
    recipe: Recipe,
    begin: int,
) -> float:
    """One step of the optimiser; `begin` is the batch's first row in the whole one.

    Returns the loss. Raises `DataError` where it is no number.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.rate(state.step)
    state.optimizer.zero_grad(set_to_none=True)
    size = len(batch) // recipe.accumulation
    parts = [slice(b, b + size) for b in range(0, len(batch), size)]
    work = [(one, part) for part in parts for one in passes]
    total = torch.zeros((), device=batch.images.device)
    for number, (one, part) in enumerate(work):
        last = number == len(work) - 1
        with _gradients_kept(run, share=last):
            rows = slice(begin + part.start, begin + part.stop)
            loss = one(batch.part(part), rows) / len(parts)
            loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    norm = nn.utils.clip_grad_norm_(run.parameters(), recipe.clip_norm or math.inf)
    # The norm is that of all processes: where one of them diverges, all of them stop here.
    found, length = torch.stack([total, norm.to(total)]).tolist()
    if not math.isfinite(length) or not math.isfinite(found):
        raise DataError(
            f"the loss is no longer a number at step {state.step}; lower the learning rate"
        )
    state.optimizer.step()
    return float(found)


def _gradients_kept(run: nn.Module, *, share: bool) -> contextlib.AbstractContextManager[None]:
    """Processes exchange gradients once a step, with its last pass."""
    if isinstance(run, DistributedDataParallel) and not share:
        return run.no_sync()
    return contextlib.nullcontext()
