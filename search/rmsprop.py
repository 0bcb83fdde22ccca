"""RMSProp as TensorFlow has it, which MobileNets' recipes are made for.

PyTorch's own adds epsilon behind the root and begins with mean squares of 0; rates that were found
with TensorFlow's are too high for it in the first steps, where gradients are divided by nearly 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class RMSprop(torch.optim.Optimizer):
    """For each weight w with gradient g (to which weight_decay * w was added):

        s <- decay * s + (1 - decay) * g^2,   from s = 1
        v <- momentum * v + lr * g / sqrt(s + epsilon),   from v = 0
        w <- w - v

    The learning rate is within v, so that a falling rate does not stop what is under way at once.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        decay: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "decay": decay,
            "momentum": momentum,
            "epsilon": epsilon,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move all weights that have a gradient; a closure is not supported."""
        if closure is not None:
            raise ValueError("RMSprop evaluates no closure; call backward before step")
        with torch.no_grad():
            for group in self.param_groups:
                self._move(group)

    def _move(self, group: dict[str, Any]) -> None:
        weights = [p for p in group["params"] if p.grad is not None]
        if not weights:
            return
        squares: list[Tensor] = []
        velocities: list[Tensor] = []
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["square"] = torch.ones_like(weight)
                state["velocity"] = torch.zeros_like(weight)
            squares.append(state["square"])
            velocities.append(state["velocity"])
        gradients = [weight.grad for weight in weights]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
        roots = torch._foreach_add(squares, group["epsilon"])
        torch._foreach_sqrt_(roots)
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_addcdiv_(velocities, gradients, roots, group["lr"])
        torch._foreach_sub_(weights, velocities)
