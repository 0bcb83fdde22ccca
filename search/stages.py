"""The stages of MobileNetV3 with channel-level bypass: stem, inverted residual block, head.

A block keeps the first M of its T filters; where filter i is removed, input channel i takes its
place, if there is one. With C' channels coming in, Z = max(min(C', cap), M) channels go out, and
M = 0 removes the block: depth is nothing but some widths at 0. The idea is that of Yang, Liao and
Sze, "NetAdaptV2" (CVPR 2021); that the block is the unit of bypass, seen from outside, is ours.

Blocks and activations are those of Howard et al., "Searching for MobileNetV3" (ICCV 2019), but
the gate of squeeze-excite is a logistic function: TFLite has no operator for the hard sigmoid.
Nothing here knows of PyTorch; the masked forms for training are in `supernet.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from ..devices.errors import SpaceError
from ..profiler.network_builder import NetworkBuilder
from .space import Choice, Coordinate

BlockActivation = Literal["relu", "hard_swish"]
Residual = Literal["keep", "drop"]
Bypass = Literal["concat", "pad"]
StrideBypass = Literal["average_pool", "none"]


def round_up(size: float, granule: int) -> int:
    """The smallest multiple of `granule` that is not less than `size`, and at least one granule."""
    return max(granule, int(-(-size // granule)) * granule)


def width_values(name: str, full: int, granule: int) -> tuple[int, ...]:
    """One granule, two, ... up to the full width."""
    if granule < 1:
        raise SpaceError(f"{name}: a granule of {granule} channels is impossible")
    if full < granule or full % granule:
        raise SpaceError(
            f"{name}: a width of {full} is not a multiple of the granule ({granule}); "
            "change the width or the granule"
        )
    return tuple(range(granule, full + 1, granule))


def one_of(name: str, field: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise `SpaceError` for a value that a field cannot have."""
    if value not in allowed:
        raise SpaceError(f"{name}: {field} is {value!r}; allowed: {', '.join(map(repr, allowed))}")


def check_kernels(name: str, kernels: tuple[int, ...]) -> None:
    """Raise `SpaceError` for sizes that do not ascend, or have no centre."""
    if any(kernel % 2 == 0 for kernel in kernels):
        raise SpaceError(
            f"{name}: the kernels {kernels} must be odd, so that the smaller ones are the centre "
            "of the largest"
        )
    Coordinate(f"{name}.kernel", "kernel", kernels)


@dataclass(frozen=True)
class Stem:
    """The first convolution, 3x3 with a hard swish; at least one granule of filters stays."""

    name: str
    filters: int
    stride: int = 2
    granule: int = 8

    def __post_init__(self) -> None:
        one_of(self.name, "stride", self.stride, (1, 2))
        width_values(self.name, self.filters, self.granule)

    @cached_property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """The number of filters."""
        widths = width_values(self.name, self.filters, self.granule)
        return (Coordinate(f"{self.name}.filters", "filters", widths),)

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        """Write the convolution and its activation."""
        (filters,) = choice
        x = builder.conv_2d(
            x, filters, kernel=3, stride=self.stride, name=f"{self.name}.conv", batch_norm=True
        )
        return builder.elementwise("hard_swish", x)

    def canonical(self, choice: Choice) -> Choice:
        """Every width gives other layers."""
        return choice


@dataclass(frozen=True)
class InvertedResidual:
    """A block: expand, depthwise, squeeze and excite (if asked for), project, then the bypass.

    `input_filters`, `filters` and `expansion` are those of the full network. `residual` says
    whether filters that stay keep their shortcut (`keep`; it exists only where the full block's
    input and output have one shape), `bypass` how a shortcut of unequal widths is deployed: as
    SLICE, ADD, CONCATENATION (`concat`) or PAD, ADD (`pad`); both compute the same.
    `stride_bypass` says how a block of stride 2 bypasses: 2x2 averages, or not at all. At most
    `bypass_cap` channels (default: `filters`) may be bypassed; 0 means none, and then the block
    cannot vanish. Raises `SpaceError` where a field makes no sense.
    """

    name: str
    input_filters: int
    filters: int
    expansion: int
    kernels: tuple[int, ...] = (3,)
    stride: int = 1
    squeeze_excite: bool = False
    activation: BlockActivation = "relu"
    granule: int = 8
    residual: Residual = "keep"
    bypass: Bypass = "concat"
    stride_bypass: StrideBypass = "average_pool"
    bypass_cap: int | None = None

    def __post_init__(self) -> None:
        one_of(self.name, "stride", self.stride, (1, 2))
        one_of(self.name, "activation", self.activation, get_args(BlockActivation))
        one_of(self.name, "residual", self.residual, get_args(Residual))
        one_of(self.name, "bypass", self.bypass, get_args(Bypass))
        one_of(self.name, "stride_bypass", self.stride_bypass, get_args(StrideBypass))
        check_kernels(self.name, self.kernels)
        if self.bypass_cap is not None and self.bypass_cap < 0:
            raise SpaceError(f"{self.name}: bypass_cap is {self.bypass_cap}, less than 0")
        for width in (self.input_filters, self.filters, self.expansion):
            width_values(self.name, width, self.granule)

    @property
    def cap(self) -> int:
        """How many channels may be bypassed; 0 where the block has no bypass."""
        if self.stride == 2 and self.stride_bypass == "none":
            return 0
        return self.filters if self.bypass_cap is None else min(self.bypass_cap, self.filters)

    @property
    def has_residual(self) -> bool:
        """Whether filters that stay have a shortcut."""
        same_shape = self.stride == 1 and self.input_filters == self.filters
        return same_shape and self.residual == "keep"

    @cached_property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """Filters (0 where the block may vanish), expansion width, and kernel where it varies."""
        filters = width_values(self.name, self.filters, self.granule)
        if self.cap:
            filters = (0, *filters)
        expansion = width_values(self.name, self.expansion, self.granule)
        found = [
            Coordinate(f"{self.name}.filters", "filters", filters),
            Coordinate(f"{self.name}.expansion", "expansion", expansion),
        ]
        if len(self.kernels) > 1:
            found.append(Coordinate(f"{self.name}.kernel", "kernel", self.kernels))
        return tuple(found)

    def squeezed(self, expansion: int) -> int:
        """The channels between squeeze and excite: a quarter of the expansion, rounded up."""
        return round_up(expansion / 4, self.granule)

    def canonical(self, choice: Choice) -> Choice:
        """Without filters the expansion and the kernel decide nothing: both at their largest."""
        if choice[0] == 0:
            return (0, *(c.values[-1] for c in self.coordinates[1:]))
        return choice

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        """Write the block as it runs on a board, on whatever the layers before it deliver."""
        filters, expansion, *kernel = choice
        height, width, channels = builder.shape(x)
        if channels > self.input_filters:
            raise SpaceError(f"{self.name} takes {self.input_filters} channels, got {channels}")
        if self.stride == 2 and self.cap and (height % 2 or width % 2):
            # 2x2 averages without padding would leave out the last row that the convolution has.
            raise SpaceError(
                f"{self.name}: a bypass by 2x2 averages needs an even size, not {height}x{width}; "
                "choose an input size divisible by the network's stride, or stride_bypass='none'"
            )
        if filters == 0:
            return self._bypassed(builder, x, 0)
        kept = self._convolutions(builder, x, expansion, filters, kernel[0] if kernel else None)
        if self.has_residual:
            return self._shortcut(builder, x, kept)
        if min(channels, self.cap) <= filters:
            return kept
        return builder.concatenation([kept, self._bypassed(builder, x, filters)])

    def _convolutions(
        self, builder: NetworkBuilder, x: int, expansion: int, filters: int, kernel: int | None
    ) -> int:
        fused: Literal["relu", "none"] = "relu" if self.activation == "relu" else "none"
        x = builder.conv_2d(
            x, expansion, activation=fused, name=f"{self.name}.expand", batch_norm=True
        )
        if self.activation == "hard_swish":
            x = builder.elementwise("hard_swish", x)
        x = builder.depthwise_conv_2d(
            x,
            kernel=kernel or self.kernels[-1],
            stride=self.stride,
            activation=fused,
            name=f"{self.name}.depthwise",
            batch_norm=True,
        )
        if self.activation == "hard_swish":
            x = builder.elementwise("hard_swish", x)
        if self.squeeze_excite:
            gate = builder.mean(x)
            gate = builder.conv_2d(
                gate, self.squeezed(expansion), activation="relu", name=f"{self.name}.squeeze"
            )
            gate = builder.conv_2d(gate, expansion, name=f"{self.name}.excite")
            x = builder.mul(x, builder.elementwise("logistic", gate))
        return builder.conv_2d(x, filters, name=f"{self.name}.project", batch_norm=True)

    def _bypassed(self, builder: NetworkBuilder, x: int, begin: int) -> int:
        """The input channels from `begin` to the cap, at the size of the block's output."""
        x = slice_channels(builder, x, begin, min(builder.shape(x)[-1], self.cap))
        return builder.average_pool_2d(x) if self.stride == 2 else x

    def _shortcut(self, builder: NetworkBuilder, x: int, kept: int) -> int:
        """`kept` + x where both have a channel; beyond, whichever has it (x only up to the cap)."""
        channels, filters = builder.shape(x)[-1], builder.shape(kept)[-1]
        outputs = max(min(channels, self.cap), filters)
        return add_channels(builder, kept, x, outputs, self.bypass)


def add_channels(builder: NetworkBuilder, x: int, y: int, outputs: int, how: Bypass) -> int:
    """The sum of two tensors on the channels that both have, and beyond them those of the wider
    one, up to `outputs` in all (as many as the narrower one has, or more)."""
    widths = [builder.shape(tensor)[-1] for tensor in (x, y)]
    if how == "pad":
        x = slice_channels(builder, x, 0, min(widths[0], outputs))
        y = slice_channels(builder, y, 0, min(widths[1], outputs))
        return builder.add(_pad(builder, x, outputs), _pad(builder, y, outputs))
    both = min(widths)
    total = builder.add(slice_channels(builder, x, 0, both), slice_channels(builder, y, 0, both))
    if outputs == both:
        return total
    longer = x if widths[0] > widths[1] else y
    return builder.concatenation([total, slice_channels(builder, longer, both, outputs)])


def slice_channels(builder: NetworkBuilder, x: int, begin: int, end: int) -> int:
    """Channels of x; x itself where these are all it has, since an operator costs time."""
    return x if (begin, end) == (0, builder.shape(x)[-1]) else builder.slice_channels(x, begin, end)


def _pad(builder: NetworkBuilder, x: int, channels: int) -> int:
    return x if builder.shape(x)[-1] == channels else builder.pad_channels(x, channels)


@dataclass(frozen=True)
class Head:
    """The last 1x1 convolution, the average over the image, and the classifier.

    `hidden` is the width of a fully connected layer before the classifier, `None` for none. Both
    widths are searched and keep at least one granule; the output is one logit for each class.
    """

    name: str
    filters: int
    classes: int
    hidden: int | None = None
    granule: int = 8

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise SpaceError(f"{self.name}: {self.classes} classes are impossible")
        for width in (self.filters, self.hidden):
            if width is not None:
                width_values(self.name, width, self.granule)

    @cached_property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """The width of the convolution, and of the hidden layer where there is one."""
        widths = [(f"{self.name}.filters", self.filters)]
        if self.hidden is not None:
            widths.append((f"{self.name}.hidden", self.hidden))
        return tuple(
            Coordinate(name, "filters", width_values(name, full, self.granule))
            for name, full in widths
        )

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        """Write the layers from the last feature map to the logits."""
        filters, *hidden = choice
        x = builder.conv_2d(x, filters, name=f"{self.name}.conv", batch_norm=True)
        x = builder.mean(builder.elementwise("hard_swish", x), keep_dimensions=False)
        for units in hidden:
            x = builder.fully_connected(x, units, name=f"{self.name}.hidden")
            x = builder.elementwise("hard_swish", x)
        return builder.fully_connected(x, self.classes, name=f"{self.name}.classifier")

    def canonical(self, choice: Choice) -> Choice:
        """Every width gives other layers."""
        return choice
