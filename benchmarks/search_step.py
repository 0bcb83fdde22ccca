"""What ordered dropout adds to a training step, and what else makes steps faster or slower.

All variants take turns in one run on one thread, so that ratios hold on a busy machine, too; the
figure is the median over rounds of a variant's time by that of the plain step beside it.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from bars import bar
from torch import Tensor, nn

from boardfit.search.network_module import NetworkModule, run
from boardfit.search.space import SearchSpace
from boardfit.search.spaces import open_space
from boardfit.search.supernet import SuperNetwork
from boardfit.search.widths import Draw, OrderedDropout, Sandwich, SinglePath, repeat

LIMIT = 1.25  # of an ordered-dropout step by a plain one of the full network
ROUNDS, WARM = 15, 2
CASES = (("mobilenetv3-32", {}, 64), ("mobilenetv3-large", {"input_size": 96}, 8))
Loss = Callable[[], Tensor]


def main() -> int:
    """Print the ratios of each case."""
    torch.set_num_threads(1)
    met = True
    for name, options, batch in CASES:
        space = open_space(name, **options)
        print(f"{name} at {space.input_shape[0]} pixels, {batch} images a batch, {ROUNDS} rounds:")
        ratios = compare(variants(space, batch))
        met &= bar("ordered dropout by a plain step", ratios["dropout"], LIMIT,
                   least=False, form=".3f")  # fmt: skip
    return int(not met)


def variants(space: SearchSpace, batch: int) -> dict[str, tuple[nn.Module, list[Loss]]]:
    """The module whose weights are stepped, and the losses of one step, `plain` first."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, *space.input_shape, generator=generator).permute(0, 3, 1, 2)
    labels = torch.arange(batch) % space.classes
    plain = NetworkModule(space.network(space.full), torch.Generator().manual_seed(0)).train()
    nchw = NetworkModule(space.network(space.full), torch.Generator().manual_seed(0)).train()
    nchw.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    network = SuperNetwork(space, torch.Generator().manual_seed(0)).train()
    rng = np.random.default_rng(0)
    dropout = OrderedDropout(space, rng)
    path, sandwich = SinglePath(space, rng), Sandwich(space, rng)
    layers = list(nchw.layers.values())
    first = next(n for n, node in enumerate(nchw.network.nodes) if node.layer.weight_shapes)
    order = [n for n, node in enumerate(nchw.network.nodes) if node.layer.weight_shapes]

    def weighted(number: int, x: Tensor) -> Tensor:
        y: Tensor = layers[order.index(number)](x.contiguous() if number == first else x)
        return y

    def loss(outputs: Callable[[], Tensor]) -> Loss:
        return lambda: F.cross_entropy(outputs(), labels)

    def lower(outputs: Callable[[], Tensor]) -> Loss:
        def of() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return outputs().float()

        return loss(of)

    def masked(draw: Callable[[], Draw]) -> Callable[[], Tensor]:
        return lambda: network.forward_masked(images, draw())

    def widest() -> Draw:
        """Ordered dropout with every kernel at its largest: what masks alone cost."""
        (draw,) = dropout.draw(batch)
        widths = np.array([c.is_width for c in space.coordinates])
        return np.where(widths, draw, np.array(space.full))

    return {
        "plain": (plain, [loss(lambda: plain(images))]),
        "plain, contiguous": (nchw, [loss(lambda: run(nchw.network, images, weighted))]),
        "plain, bfloat16": (plain, [lower(lambda: plain(images))]),
        "dropout": (network, [loss(masked(lambda: dropout.draw(batch)[0]))]),
        "dropout, largest kernels": (network, [loss(masked(widest))]),
        "dropout, bfloat16": (network, [lower(masked(lambda: dropout.draw(batch)[0]))]),
        "full network in masks": (network, [loss(masked(lambda: repeat(space.full, batch)))]),
        "single path": (network, [loss(lambda: network(images, path.draw(batch)[0]))]),
        "sandwich": (
            network,
            [
                loss(lambda n=n: network(images, sandwich.draw(batch)[n]))
                for n in range(sandwich.between + 2)
            ],
        ),
    }


def compare(steps: dict[str, tuple[nn.Module, list[Loss]]]) -> dict[str, float]:
    """Run all in turn; print and return the median ratio of each to the first."""
    optimizers = {
        name: torch.optim.AdamW(module.parameters(), lr=1e-4) for name, (module, _) in steps.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(WARM + ROUNDS):
        for name, (module, losses) in steps.items():
            begin = time.perf_counter()
            module.zero_grad()
            for loss in losses:
                loss().backward()  # type: ignore[no-untyped-call]
            optimizers[name].step()
            if number >= WARM:
                seconds[name].append(time.perf_counter() - begin)
    reference = np.array(next(iter(seconds.values())))
    ratios = {}
    for name, values in seconds.items():
        each = np.array(values) / reference
        ratios[name] = float(np.median(each))
        low, high = np.quantile(each, [0.25, 0.75])
        print(
            f"  {name:26s} {ratios[name]:.3f} of a plain step (quartiles {low:.2f} to {high:.2f}),"
            f" median {1e3 * np.median(values):.1f} ms",
            flush=True,
        )
    return ratios


if __name__ == "__main__":
    sys.exit(main())
