"""The super-network: one set of weights, trained so that every architecture's slice works.

Training runs full-size layers and masks what an image's sub-network does not have (ordered
dropout, NetAdaptV2); deployment cuts the weights. For image n with M[n] filters a block gives

    y = m * f(x) [+ x, where the block has a residual] + (1 - m) * fit(x),   m[n, i] = i < M[n]

where fit(x) takes the first min(C, cap) channels of x and pads them with zeros. Channels that a
sub-network does not have are exactly zero on both sides, so the number of channels that an image
really has is never needed. Masked and sliced outputs agree for every architecture; a batch of one
architecture is trained in the sliced form, which costs only what that network costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import singledispatch

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..devices.errors import DataError, SpaceError
from ..profiler.layers import Network
from .depth_stages import MapHead, SkipSum, Upsample
from .network_module import NetworkModule, WeightedLayer, cut, run
from .space import Architecture, Join, SearchSpace, Stage
from .stages import Head, InvertedResidual, Stem
from .widths import Draw

FindLayer = Callable[[str], WeightedLayer]


@singledispatch
def masked(stage: Stage, layer: FindLayer, x: Tensor, draw: Draw) -> Tensor:
    """The masked form of a stage; register your own with `@masked.register(YourStage)`.

    `layer` finds the full-size layers by name, x is [N, C, H, W] at full width with zeros where an
    image has no channel, `draw` int64 [N, coordinates of the stage]. The result must be zero where
    an image's sub-network has no channel, and otherwise what the layers that `stage.append` writes
    would give.
    """
    raise SpaceError(
        f"{type(stage).__name__} has no masked form; register one with boardfit.search.supernet."
        "masked.register"
    )


@singledispatch
def masked_join(stage: Join, layer: FindLayer, x: Tensor, skip: Tensor, draw: Draw) -> Tensor:
    """The masked form of a join, as `masked` is of other stages; `skip` is its second input."""
    raise SpaceError(
        f"{type(stage).__name__} has no masked form; register one with boardfit.search.supernet."
        "masked_join.register"
    )


def width_mask(widths: NDArray[np.int64], channels: int, like: Tensor) -> Tensor:
    """1 where a channel's number is less than the image's width, otherwise 0: [N, channels], with
    as many axes, the dtype and the device of `like`."""
    mask = torch.from_numpy(np.arange(channels) < widths[:, None]).to(like.device, like.dtype)
    return mask.reshape(*mask.shape, *[1] * (like.dim() - 2))


@masked.register
def _(stage: Stem, layer: FindLayer, x: Tensor, draw: Draw) -> Tensor:
    mask = width_mask(draw[:, 0], stage.filters, x)
    return F.hardswish(layer(f"{stage.name}.conv")(x, mask=mask))


@masked.register
def _(stage: Head, layer: FindLayer, x: Tensor, draw: Draw) -> Tensor:
    # The mask comes after the average: the same numbers at a fraction of the elements.
    x = F.hardswish(layer(f"{stage.name}.conv")(x)).mean((2, 3))
    x = x * width_mask(draw[:, 0], stage.filters, x)
    if stage.hidden is not None:
        x = layer(f"{stage.name}.hidden")(x, mask=width_mask(draw[:, 1], stage.hidden, x))
        x = F.hardswish(x)
    logits: Tensor = layer(f"{stage.name}.classifier")(x)
    return logits


@masked.register
def _(stage: InvertedResidual, layer: FindLayer, x: Tensor, draw: Draw) -> Tensor:
    kept = width_mask(draw[:, 0], stage.filters, x)
    expanded = width_mask(draw[:, 1], stage.expansion, x)
    kernel = int(draw[0, 2]) if len(stage.kernels) > 1 else None
    activate = F.hardswish if stage.activation == "hard_swish" else _same

    h = activate(layer(f"{stage.name}.expand")(x))
    # The expansion is masked once, after the depthwise convolution: that acts on each channel
    # alone, so a mask before it changes nothing but its batch statistics, which the zeros of
    # narrower images would dilute.
    depthwise = layer(f"{stage.name}.depthwise")
    if stage.squeeze_excite:
        # With a gate for each channel and image the mask is part of the gate and costs nothing.
        h = activate(depthwise(h, kernel=kernel))
        h = h * _gate(stage, layer, h, draw[:, 1], expanded)
    else:
        h = activate(depthwise(h, kernel=kernel, mask=expanded))
    project, passing = layer(f"{stage.name}.project"), min(stage.input_filters, stage.cap)
    if stage.has_residual and passing == stage.filters:
        # m * f(x) + m * x + (1 - m) * x, with the mask in the addition
        return torch.addcmul(x, project(h), kept)
    f = project(h, mask=kept)
    return f if stage.cap == 0 and not stage.has_residual else _bypass(stage, x, f, kept)


def _same(x: Tensor) -> Tensor:
    return x


def _gate(
    stage: InvertedResidual,
    layer: FindLayer,
    h: Tensor,
    expansion: NDArray[np.int64],
    expanded: Tensor,
) -> Tensor:
    """Squeeze and excite: [N, E, 1, 1], zero where the image has no channel."""
    of_width = {width: stage.squeezed(width) for width in set(expansion.tolist())}
    squeezed = np.array([of_width[width] for width in expansion.tolist()])
    gate = h.mean((2, 3), keepdim=True) * expanded
    squeeze = layer(f"{stage.name}.squeeze")
    gate = squeeze(gate, mask=width_mask(squeezed, stage.squeezed(stage.expansion), gate))
    return torch.sigmoid(layer(f"{stage.name}.excite")(gate)) * expanded


def _bypass(stage: InvertedResidual, x: Tensor, f: Tensor, kept: Tensor) -> Tensor:
    """Add to the masked filters f what passes by: the residual, and x on removed filters."""
    passing = min(stage.input_filters, stage.cap)
    if stage.has_residual:  # beyond the cap x is only the residual of filters that stay
        kept = kept.clone()
        kept[:, :passing] = 1.0
        return torch.addcmul(f, x, kept)
    x = x[:, :passing]
    if stage.stride == 2:
        x = F.avg_pool2d(x, 2)
    x = x * (1.0 - kept[:, :passing])
    return f + F.pad(x, (0, 0, 0, 0, 0, stage.filters - passing))


@masked.register
def _(stage: Upsample, layer: FindLayer, x: Tensor, draw: Draw) -> Tensor:
    kept = width_mask(draw[:, 0], stage.filters, x)
    kernel = int(draw[0, 1]) if len(stage.kernels) > 1 else None
    # A channel that is not there is 0 after the depthwise convolution, too, which has no bias.
    h = layer(f"{stage.name}.depthwise")(x, kernel=kernel)
    y = layer(f"{stage.name}.project")(h, mask=kept)
    if passing := min(stage.input_filters, stage.cap):
        bypassed = x[:, :passing] * (1.0 - kept[:, :passing])
        y = y + F.pad(bypassed, (0, 0, 0, 0, 0, stage.filters - passing))
    if stage.upsampling == "nearest":
        return F.interpolate(y, scale_factor=2.0, mode="nearest")
    return F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)


@masked_join.register
def _(stage: SkipSum, layer: FindLayer, x: Tensor, skip: Tensor, draw: Draw) -> Tensor:
    more = x.shape[1] - skip.shape[1]
    x, skip = (F.pad(t, (0, 0, 0, 0, 0, max(0, n))) for t, n in ((x, -more), (skip, more)))
    return x + skip


@masked.register
def _(stage: MapHead, layer: FindLayer, x: Tensor, draw: Draw) -> Tensor:
    values: Tensor = layer(f"{stage.name}.conv")(x)
    return values


class SuperNetwork(nn.Module):
    """All architectures of a space in one module.

    `forward` takes images [N, C, H, W] and a draw [N, coordinates] (see `widths`), each image
    through its own sub-network. `slice` gives one architecture as a module of its own. Weights are
    drawn from `generator`. Raises `SpaceError` where a layer with weights has no name, and from
    `forward` where images differ in their architectures and a stage has no masked form.
    """

    def __init__(self, space: SearchSpace, generator: torch.Generator) -> None:
        super().__init__()
        for node in space.network(space.full).nodes:
            if node.layer.weight_shapes and not node.name:
                raise SpaceError(
                    f"{space.name}: the {node.layer.signature} has no name, by which its weights "
                    "would be found again in a narrower network; give it one in Stage.append"
                )
        self.space = space
        self.full = NetworkModule(space.network(space.full), generator)
        self._common = [i for i, c in enumerate(space.coordinates) if not c.is_width]

    def forward(self, images: Tensor, draw: Draw) -> Tensor:
        self._check(images, draw)
        if (draw == draw[0]).all():
            return self._as_one(images, tuple(draw[0].tolist()))
        return self.forward_masked(images, draw)

    def forward_masked(self, images: Tensor, draw: Draw) -> Tensor:
        """`forward`, but masked also where all images have one architecture: at the costs of the
        full network, which a small network's new shapes can exceed where a library compiles a
        kernel for each."""
        self._check(images, draw)
        if (draw[:, self._common] != draw[0, self._common]).any():
            raise SpaceError("all images of a batch need the same kernels and operators")
        tensors = [images.contiguous(memory_format=torch.channels_last)]
        begin = 0
        for stage, reads in zip(self.space.stages, self.space.reads, strict=True):
            end = begin + len(stage.coordinates)
            x, choice = tensors[reads[0]], draw[:, begin:end]
            if isinstance(stage, Join):
                skip = tensors[reads[1]]
                tensors.append(masked_join(stage, self.full.layer, x, skip, choice))
            else:
                tensors.append(masked(stage, self.full.layer, x, choice))
            begin = end
        return tensors[-1]

    def _check(self, images: Tensor, draw: Draw) -> None:
        expected = (len(images), len(self.space.coordinates))
        if draw.shape != expected:
            raise SpaceError(f"the draw is {draw.shape}, expected (images, coordinates) {expected}")

    def _as_one(self, images: Tensor, architecture: Architecture) -> Tensor:
        """A batch in which all images have one architecture, on parts of the weights: the same
        outputs and gradients as with masks, at the costs of that network alone."""
        network = self.space.network(architecture)

        def weighted(number: int, x: Tensor) -> Tensor:
            node = network.nodes[number]
            y: Tensor = self.full.layer(node.name)(x, narrow=node.layer)
            return y

        outputs = run(network, images, weighted)
        # Layers that it does not have get gradients of 0, as with masks: optimisers go on with
        # their moments, and processes that share gradients wait for all of them.
        names = {node.name for node in network.nodes}
        absent = [p for n in self.full.names if n not in names for p in self._parameters_of(n)]
        if absent and torch.is_grad_enabled():
            outputs = outputs + 0.0 * torch.stack([p.sum() for p in absent]).sum()
        return outputs

    def _parameters_of(self, name: str) -> list[nn.Parameter]:
        return list(self.full.layer(name).parameters())

    def slice(self, architecture: Architecture) -> NetworkModule:
        """One architecture with its own copy of the weights: the first filters, the centres of
        the kernels, the first entries of batch normalisation.

        Raises `SpaceError` where the architecture is not in the space.
        """
        return cut_out(self.full, self.space.network(architecture)).train(self.training)


def cut_out(source: NetworkModule, network: Network) -> NetworkModule:
    """A narrower network with its own copy of the weights of a wider one: the first filters, the
    centres of the kernels, the first entries of batch normalisation."""
    module = NetworkModule(network)
    first = next(source.parameters())
    module.to(first.device, first.dtype)
    with torch.no_grad():
        for name in module.names:
            narrow, wide = module.layer(name), source.layer(name).state_dict()
            wide["weight"] = cut(wide["weight"], narrow.layer)
            for field, target in narrow.state_dict().items():
                target.copy_(wide[field][tuple(slice(size) for size in target.shape[:1])])
    return module.train(source.training)


def reestimate(module: NetworkModule, batches: Iterable[Tensor]) -> None:
    """Give a sliced network the batch statistics of its own, not those of the super-network.

    Running means and variances become the plain average over the given training batches
    [N, C, H, W]; weights stay. Raises `DataError` without batches, or for a batch of one image.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    training = module.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch's word for the cumulative average
    seen = False
    try:
        module.train()
        with torch.no_grad():
            for images in batches:
                if len(images) < 2:
                    raise DataError("batch statistics need batches of two images or more")
                module(images)
                seen = True
    finally:
        module.train(training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    if not seen:
        raise DataError("batch statistics need at least one batch of training images")
