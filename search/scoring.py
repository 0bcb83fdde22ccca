"""How well a network does on images: its outputs, and what the task makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .examples import CHUNK, Examples, in_order, normalise
from .task import Task


@dataclass(frozen=True)
class Score:
    """Means over images of a task's accuracy (0 to 1) and loss, and its further metrics."""

    accuracy: float
    loss: float
    figures: Mapping[str, float] = field(default_factory=dict)


def score(task: Task, outputs: Tensor, targets: Tensor) -> Score:
    """What outputs are worth that were predicted for images with these targets."""
    return Score(
        float(task.accuracies(outputs, targets).mean(dtype=torch.float64)),
        float(task.losses(outputs, targets).mean()),
        task.figures(outputs, targets),
    )


def evaluate(module: nn.Module, examples: Examples, task: Task) -> Score:
    """The score on images, with the module's own running statistics."""
    module.eval()
    return score(task, predict(module, examples), examples.targets)


def evaluate_on_batch_statistics(module: nn.Module, examples: Examples, task: Task) -> Score:
    """The score with batch normalisation by the statistics of the images themselves.

    A sub-network cut out of a super-network has no statistics of its own. Those of the holdout
    rank networks like re-estimated ones, and cost nothing. Many images are split evenly, so that
    none is normalised by the statistics of a few left over.
    """
    module.train()
    parts = -(-len(examples) // CHUNK)
    outputs = predict(module, examples, batch_size=-(-len(examples) // parts))
    return score(task, outputs, examples.targets)


def predict(
    module: nn.Module, examples: Examples, *, batch_size: int = CHUNK, workers: int = 0
) -> Tensor:
    """The module's outputs for all images (on the CPU), in the mode (training or not) that it is
    in."""
    device = next(module.parameters()).device
    with torch.inference_mode():
        return torch.cat(
            [
                module(normalise(chunk.images.to(device))).cpu()
                for chunk in in_order(examples, size=batch_size, workers=workers)
            ]
        )
