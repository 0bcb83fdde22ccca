"""Depth estimation as a task: a depth for each pixel, in metres.

Targets are maps [N, 1, H, W], float32; 0 says that nobody knows a pixel's depth, and then it
counts for nothing. Figures are those of Eigen, Puhrsch and Fergus (NIPS 2014): delta1 is the share
of pixels whose predicted and true depths are within a factor of 1.25.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..devices.errors import DataError

DepthLoss = Literal["l1", "berhu"]
FACTOR = 1.25
_AXES = (1, 2, 3)


@dataclass(frozen=True)
class DepthEstimation:
    """Outputs and targets [N, 1, H, W] in metres. The accuracy of an image is its delta1.

    `loss` is the mean absolute difference (`l1`), or the reverse Huber loss (`berhu`; Laina et al.,
    3DV 2016): beyond a fifth of the image's largest difference it grows with the square.
    """

    loss: DepthLoss = "l1"

    def __post_init__(self) -> None:
        if self.loss not in get_args(DepthLoss):
            raise DataError(f"no loss of depths is called {self.loss!r}; known: l1, berhu")

    def check(self, targets: Tensor) -> None:
        """Raise `DataError` where these are no depths, or an image has none."""
        if not targets.is_floating_point() or targets.dim() != 4 or targets.shape[1] != 1:
            raise DataError(
                f"depths are maps [N, 1, H, W] of floats, not {targets.dtype} of shape "
                f"{list(targets.shape)}"
            )
        if not bool(torch.isfinite(targets).all()) or float(targets.min()) < 0:
            raise DataError("depths have to be numbers, in metres, 0 where they are not known")
        known = (targets > 0).flatten(1).any(1)
        if not bool(known.all()):
            raise DataError(f"image {int((~known).nonzero()[0])} has no depth at all")

    def losses(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """The loss of each image, over the pixels whose depth is known."""
        if smoothing:
            raise DataError("depths have no classes to smooth; set the label smoothing to 0")
        known = targets > 0
        difference = (outputs - targets).abs() * known
        if self.loss == "berhu":
            limit = 0.2 * difference.detach().amax(_AXES, keepdim=True).clamp_min(1e-6)
            square = (difference**2 + limit**2) / (2 * limit)
            difference = torch.where(difference <= limit, difference, square)
        return _mean(difference, known)

    def accuracies(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """delta1 of each image. What is not in front of the camera is wrong."""
        known = targets > 0
        right = (outputs < FACTOR * targets) & (outputs * FACTOR > targets) & known
        return _mean(right.double(), known)

    def imitation(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """The mean absolute difference from the teacher's depths."""
        return (outputs - teacher).abs().mean(_AXES)

    def figures(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """`rmse` in metres (over all images' pixels, each image weighing the same), and the mean
        relative difference."""
        known = targets > 0
        difference = (outputs - targets).double() * known
        relative = difference.abs() / targets.clamp_min(1e-6)
        return {
            "rmse": float(_mean(difference**2, known).mean().sqrt()),
            "relative": float(_mean(relative, known).mean()),
        }


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """The mean of each image over its known pixels, [N]; 0 where there are none."""
    return (values * known).sum(_AXES) / known.sum(_AXES).clamp_min(1)
