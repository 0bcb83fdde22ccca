"""Whether a space of one's own holds what a search relies on, tried on random networks.

    print(check_space(space()))

Super-network training sees a stage masked, the board sees it sliced, and the table prices what
`append` writes. A mistake in one of the three shows nowhere else than in bad results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..devices.errors import SpaceError
from ..profiler.connect import connect
from ..profiler.emit_tflite import emit
from ..profiler.open_session import open_session
from ..profiler.visits import Model
from .network_module import to_network
from .space import Architecture, SearchSpace
from .supernet import SuperNetwork
from .tabulate import signatures
from .widths import repeat

TOLERANCE = 1e-4  # of the largest output, in float32
CHOICES = 6  # that are tried of each stage, the others at their largest
IMAGES = 2


@dataclass(frozen=True)
class SpaceCheck:
    """What was tried: `networks` masked and sliced, `files` run in LiteRT, and the `operators` that
    a table of the space has to price."""

    networks: int
    files: int
    operators: int

    def __str__(self) -> str:
        return (
            f"{self.networks} networks compute the same masked and sliced, {self.files} of them as "
            f"files, too; a table of the space prices {self.operators} operators"
        )


def check_space(space: SearchSpace, *, seed: int = 0, files: int = 3) -> SpaceCheck:
    """Try random choices of each stage, and random networks.

    Masked and sliced forms have to agree, choices with one canonical form to be one network,
    `files` emitted networks to compute in LiteRT what PyTorch computes (0: none is tried), and
    every operator to be found for a table. Raises `SpaceError` naming the choice that shows it, and
    the stage whose it is, the others at their largest.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    supernet = SuperNetwork(space, generator).eval()
    _disturb(supernet, generator)
    height, width, channels = space.input_shape
    images = torch.randn(IMAGES, channels, height, width, generator=generator)
    tried = 0
    for where, architecture in _to_try(space, rng):
        canonical = space.canonical(architecture)
        if space.canonical(canonical) != canonical or _layers(space, architecture) != _layers(
            space, canonical
        ):
            raise SpaceError(
                f"{where}: its canonical form {canonical} is another network; see `canonical` of "
                "the stages"
            )
        with torch.inference_mode():
            masked = supernet.forward_masked(images, repeat(architecture, IMAGES))
            sliced = supernet.slice(architecture)(images)
        if masked.shape != sliced.shape or not _agree(masked.numpy(), sliced.numpy()):
            raise SpaceError(
                f"{where}: masked and sliced networks compute different things; look at this stage "
                "and at those that read what it gives: what is registered with supernet.masked has "
                "to be what append writes, and 0 on channels that an image does not have"
            )
        tried += 1
    _check_files(space, supernet, images, rng, files)
    return SpaceCheck(tried, files, len(signatures(space, rng)))


def _to_try(space: SearchSpace, rng: np.random.Generator) -> Iterator[tuple[str, Architecture]]:
    """Architectures, each with words that say where to look if it fails."""
    begin = 0
    for stage in space.stages:
        end = begin + len(stage.coordinates)
        for number in range(CHOICES if end > begin else 0):
            ends = {0: 0, 1: -1}  # the smallest and the largest come first
            choice = tuple(
                c.values[ends.get(number, int(rng.integers(len(c.values))))]
                for c in stage.coordinates
            )
            yield f"stage {stage.name} {choice}", (*space.full[:begin], *choice, *space.full[end:])
        begin = end
    for _ in range(2 * CHOICES):
        architecture = space.random(rng)
        yield f"network {architecture}", architecture


def _layers(space: SearchSpace, architecture: Architecture) -> list[str]:
    return [layer.signature for layer in space.network(architecture).layers]


def _disturb(module: nn.Module, generator: torch.Generator) -> None:
    """Batch normalisation that changes what it sees, as it does once it is trained."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            with torch.no_grad():
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.uniform_(-0.5, 0.5, generator=generator)
            for buffer, low, high in ((norm.running_mean, -0.5, 0.5), (norm.running_var, 0.5, 1.5)):
                assert buffer is not None
                buffer.uniform_(low, high, generator=generator)


def _agree(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= TOLERANCE * max(1.0, float(np.abs(b).max())))


def _check_files(
    space: SearchSpace,
    supernet: SuperNetwork,
    images: torch.Tensor,
    rng: np.random.Generator,
    count: int,
) -> None:
    if not count:
        return
    with connect("local") as device, open_session(device) as session:
        for number in range(count):
            architecture = space.full if number == 0 else space.random(rng)
            module = supernet.slice(architecture)
            data = emit(to_network(module))
            session.load_one(Model(str(number), lambda data=data: data))  # type: ignore[misc]
            outputs = session.predict(str(number), images.permute(0, 2, 3, 1).numpy())
            with torch.inference_mode():
                expected = module(images).numpy()
            if not _agree(outputs, expected.reshape(len(outputs), -1)):
                raise SpaceError(
                    f"network {architecture} computes something else in LiteRT than in PyTorch; "
                    "please report this with the file of the space"
                )
