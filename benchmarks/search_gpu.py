"""Super-network training on a GPU: images per second, and what ordered dropout adds to a step.

`mobilenetv3-large` at 224 pixels in bfloat16 with channels last. Plain steps of the full network
and steps with ordered dropout take turns, so that both meet the same clocks and temperatures; a
step is forward, backward, clipping and the optimiser, on images that are on the GPU already.
Without a GPU nothing is run. `python benchmarks/search_gpu.py cpu` runs a few small steps on the
processor, to see that the script works; its figures say nothing.
"""

import statistics
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from boardfit.search.recipe import DEFAULT, make_optimizer
from boardfit.search.spaces import open_space
from boardfit.search.supernet import SuperNetwork
from boardfit.search.widths import OrderedDropout, repeat


@dataclass(frozen=True)
class Size:
    """How much is run: images a step, steps a turn, turns, pixels."""

    batch: int = 256
    steps: int = 20
    turns: int = 8
    pixels: int = 224


def synchronize(device: torch.device) -> None:
    """Wait for the GPU, which works on while Python goes ahead."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(device: torch.device, size: Size) -> dict[str, list[float]]:
    """Seconds of a step, one value a turn."""
    space = open_space("mobilenetv3-large", input_size=size.pixels)
    supernet = SuperNetwork(space, torch.Generator().manual_seed(0)).to(device).train()
    optimizer = make_optimizer(supernet, DEFAULT)
    images = torch.randn(size.batch, 3, size.pixels, size.pixels, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, space.classes, (size.batch,), device=device)
    sampler = OrderedDropout(space, np.random.default_rng(0))

    def step(outputs_of: str) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            outputs: Tensor
            if outputs_of == "plain":
                outputs = supernet.full(images)
            elif outputs_of == "masked, full":
                outputs = supernet(images, repeat(space.full, size.batch))
            else:
                outputs = supernet(images, sampler.draw(size.batch)[0])
        nn.functional.cross_entropy(outputs.float(), targets).backward()
        nn.utils.clip_grad_norm_(supernet.parameters(), DEFAULT.clip_norm)
        optimizer.step()

    kinds = ("plain", "masked, full", "ordered dropout")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for turn in range(size.turns + 1):  # the first warms up
        for kind in kinds:
            synchronize(device)
            begin = time.perf_counter()
            for _ in range(size.steps):
                step(kind)
            synchronize(device)
            if turn:
                seconds[kind].append((time.perf_counter() - begin) / size.steps)
    return seconds


def main() -> int:
    if sys.argv[1:] == ["cpu"]:
        device, size = torch.device("cpu"), Size(batch=4, steps=1, turns=2, pixels=64)
    elif torch.cuda.is_available():
        device, size = torch.device("cuda"), Size()
        print(f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}")
    else:
        print(f"not run: PyTorch {torch.__version__} finds no GPU on this machine")
        return 0
    seconds = measure(device, size)
    print(f"mobilenetv3-large, {size.pixels} pixels, {size.batch} images a step, bfloat16; median "
          f"of {size.turns} turns of {size.steps} steps (lowest to highest)")  # fmt: skip
    for kind, values in seconds.items():
        low, middle, high = (
            size.batch / value for value in (max(values), statistics.median(values), min(values))
        )
        print(f"  {kind:16} {middle:8.0f} images a second ({low:.0f} to {high:.0f})")
    ratios = [
        with_dropout / plain
        for with_dropout, plain in zip(seconds["ordered dropout"], seconds["plain"], strict=True)
    ]
    share = statistics.median(1 - 1 / ratio for ratio in ratios)
    print(
        f"ordered dropout takes {statistics.median(ratios):.3f} times a plain step "
        f"({min(ratios):.3f} to {max(ratios):.3f}): {share:.1%} of its step is added"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
