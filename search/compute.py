"""Where and how fast networks are trained: what a recipe's result does not depend on.

Results are equal bit for bit where processor, PyTorch, number of threads and number of processes
are the same, on a CPU. A GPU sums in changing order, `compile` and another number of processes in
another order; there results agree up to rounding (and, with several processes, up to batch
statistics, which each takes of its own images).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..devices.errors import InputError
from .ranks import Ranks

Accelerator = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Compute:
    """What trains: `accelerator` (`auto` takes a GPU where PyTorch finds one), `compile` with
    torch.compile, `workers` processes that read images from a disk, `ranks` processes that share
    each step. At most `checkpoint_seconds` of training are lost when the process is killed.

    Raises `InputError` for values that make no sense.
    """

    accelerator: Accelerator = "auto"
    compile: bool = False
    workers: int = 0
    checkpoint_seconds: float = 15.0
    ranks: Ranks = field(default_factory=Ranks)

    def __post_init__(self) -> None:
        if self.accelerator not in get_args(Accelerator):
            raise InputError(
                f"no accelerator is called {self.accelerator!r}; known: "
                f"{', '.join(get_args(Accelerator))}"
            )
        if self.workers < 0 or not self.checkpoint_seconds >= 0:
            raise InputError("workers and the seconds between checkpoints are 0 or more")

    @property
    def device(self) -> torch.device:
        """Where tensors lie. Raises `InputError` where there is no such GPU."""
        found = torch.cuda.is_available()
        if self.accelerator == "cpu" or (self.accelerator == "auto" and not found):
            return torch.device("cpu")
        if not found:
            raise InputError(
                f"PyTorch {torch.__version__} finds no GPU; use --accelerator cpu, or install a "
                "build of PyTorch for CUDA and check with nvidia-smi that the driver sees the card"
            )
        if self.ranks.local >= torch.cuda.device_count():
            raise InputError(
                f"process {self.ranks.local} of this machine has no GPU of its own: there are "
                f"{torch.cuda.device_count()}; use torchrun --nproc_per_node "
                f"{torch.cuda.device_count()}"
            )
        return torch.device("cuda", self.ranks.local)

    def wrapped(self, module: nn.Module) -> nn.Module:
        """What to call in place of a module, so that it is compiled and gradients are shared."""
        running: Any = torch.compile(module) if self.compile else module
        if self.ranks.count == 1:
            return running  # type: ignore[no-any-return]
        device = self.device
        places = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(running, device_ids=places)


def check_compiler(device: torch.device) -> None:
    """Raise `InputError` where torch.compile does not work on a device, with its reason."""
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:  # it has as many kinds of them as backends
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"torch.compile does not work on {device.type} here ({reason}); install a C++ compiler "
            "(g++), or train without --compile"
        ) from error
