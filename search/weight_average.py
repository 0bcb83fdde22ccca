"""An average of the weights that training went through: better than the last ones, for nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of a module's weights and batch statistics.

    After step t (from 0) the decay is min(decay, (1 + t) / (10 + t)), as in TensorFlow, so that a
    short training is averaged over less, and what the weights began with is forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        self.state: dict[str, Tensor] = {k: v.clone() for k, v in module.state_dict().items()}

    def update(self, step: int) -> None:
        """Take in the weights as they are after a step."""
        decay = min(self._decay, (1 + step) / (10 + step))
        now = self._module.state_dict()
        names = [name for name, value in now.items() if value.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([self.state[n] for n in names], [now[n] for n in names], 1 - decay)
            for name in now.keys() - names:
                self.state[name].copy_(now[name])

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from an average that was stored. Raises `KeyError` where a weight is missing."""
        for name, value in self.state.items():
            value.copy_(state[name])

    def apply(self) -> None:
        """Give the module the averaged weights."""
        self._module.load_state_dict(self.state)
