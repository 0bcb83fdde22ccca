"""What networks are trained for: how their outputs are compared with the targets.

A data set carries its task, and training, scoring and search ask nothing else about outputs. All
figures are given for each image, so that whoever mixes images, or compares two networks image by
image, can weigh them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from ..devices.errors import DataError


class Task(Protocol):
    """What is right. `outputs` [N, ...] are float32, as networks give them; [N] is one an image."""

    def check(self, targets: Tensor) -> None:
        """Raise `DataError` where these cannot be targets of the task."""

    def losses(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """What training minimises: [N], differentiable, the lower the better.

        `smoothing` is the share of the target that is spread over all classes (label smoothing,
        Szegedy et al. 2016). Raises `DataError` where the task has none and it is not 0.
        """

    def accuracies(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How right each image is, 0 to 1: [N]. The mean is what a search maximises."""

    def imitation(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """How far outputs are from a teacher's for the same images: [N], differentiable."""

    def figures(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Further metrics of the field over all images, by their names."""


@dataclass(frozen=True)
class Classification:
    """One class for each image. Outputs are logits [N, classes], targets int64 [N] from 0.

    The loss is the negative log-likelihood, the accuracy whether the largest logit is the right
    one. A teacher is imitated by the Kullback-Leibler divergence from its softmax at
    `temperature`, times the temperature squared (Hinton, Vinyals and Dean 2015).
    """

    classes: int
    temperature: float = 2.0

    def check(self, targets: Tensor) -> None:
        """Raise `DataError` where a label is no whole number from 0 to `classes` - 1."""
        if targets.is_floating_point() or targets.dim() != 1:
            raise DataError(
                f"labels are whole numbers, one an image, not {targets.dtype} of shape "
                f"{list(targets.shape)}"
            )
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= self.classes:
            raise DataError(
                f"labels run from {low} to {high}; with {self.classes} classes they have to be "
                f"0 to {self.classes - 1}"
            )

    def losses(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """Cross-entropy with (smoothed) labels."""
        return F.cross_entropy(outputs, targets, reduction="none", label_smoothing=smoothing)

    def accuracies(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1 where the largest logit is the target's, otherwise 0."""
        return (outputs.argmax(1) == targets).double()

    def imitation(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """The divergence from the teacher's softened answers."""
        ours = F.log_softmax(outputs / self.temperature, dim=1)
        theirs = F.log_softmax(teacher / self.temperature, dim=1)
        divergence = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
        return divergence * self.temperature**2

    def figures(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """None beyond accuracy and loss."""
        return {}
