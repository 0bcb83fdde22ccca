"""The stages of a decoder: upsampling with channel-level bypass, skip connections, and the map.

The decoder is that of FastDepth (Wofk et al., "FastDepth: Fast Monocular Depth Estimation on
Embedded Systems", ICRA 2019) as we recall it: depthwise 5x5, pointwise, twice the size, and the
encoder's features added. That its widths are searched with a bypass is ours: a stage keeps the
first M of its T filters; where filter i is removed, input channel i takes its place, if there is
one, and M = 0 leaves the resizing alone. Nothing is normalised or shifted between depthwise and
pointwise convolution, so that channels that are not there stay 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from ..devices.errors import SpaceError
from ..profiler.network_builder import NetworkBuilder
from .space import Choice, Coordinate
from .stages import Bypass, add_channels, check_kernels, one_of, slice_channels, width_values

Upsampling = Literal["bilinear", "nearest"]


@dataclass(frozen=True)
class Upsample:
    """A stage of the decoder; its output has twice the height and width.

    `input_filters` and `filters` are those of the full network. At most `bypass_cap` channels
    (default: `filters`) may be bypassed; 0 means none, and then the stage cannot vanish. Raises
    `SpaceError` where a field makes no sense.
    """

    name: str
    input_filters: int
    filters: int
    kernels: tuple[int, ...] = (5,)
    granule: int = 8
    upsampling: Upsampling = "bilinear"
    bypass_cap: int | None = None

    def __post_init__(self) -> None:
        one_of(self.name, "upsampling", self.upsampling, get_args(Upsampling))
        check_kernels(self.name, self.kernels)
        if self.bypass_cap is not None and self.bypass_cap < 0:
            raise SpaceError(f"{self.name}: bypass_cap is {self.bypass_cap}, less than 0")
        for width in (self.input_filters, self.filters):
            width_values(self.name, width, self.granule)

    @property
    def cap(self) -> int:
        """How many channels may be bypassed."""
        return self.filters if self.bypass_cap is None else min(self.bypass_cap, self.filters)

    @cached_property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """Filters (0 where the convolutions may vanish), and the kernel where it varies."""
        filters = width_values(self.name, self.filters, self.granule)
        found = [
            Coordinate(f"{self.name}.filters", "filters", (0, *filters) if self.cap else filters)
        ]
        if len(self.kernels) > 1:
            found.append(Coordinate(f"{self.name}.kernel", "kernel", self.kernels))
        return tuple(found)

    def canonical(self, choice: Choice) -> Choice:
        """Without filters the kernel decides nothing: at its largest."""
        return (0, *(c.values[-1] for c in self.coordinates[1:])) if choice[0] == 0 else choice

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        """Write the stage as it runs on a board, on whatever the layers before it deliver."""
        filters, *kernel = choice
        height, width, channels = builder.shape(x)
        if channels > self.input_filters:
            raise SpaceError(f"{self.name} takes {self.input_filters} channels, got {channels}")
        passing = min(channels, self.cap)
        y = slice_channels(builder, x, 0, passing) if filters == 0 else x
        if filters:
            y = builder.depthwise_conv_2d(
                x,
                kernel=kernel[0] if kernel else self.kernels[-1],
                name=f"{self.name}.depthwise",
                bias=False,
            )
            y = builder.conv_2d(
                y, filters, activation="relu", name=f"{self.name}.project", batch_norm=True
            )
            if passing > filters:
                y = builder.concatenation([y, slice_channels(builder, x, filters, passing)])
        if self.upsampling == "nearest":
            return builder.resize_nearest_neighbor(y, 2 * height, 2 * width)
        return builder.resize_bilinear(y, 2 * height, 2 * width)


@dataclass(frozen=True)
class SkipSum:
    """The end of an additive skip connection: the sum of both inputs on the channels that both
    have, and beyond them those of the wider one. `bypass` says how that is deployed, as in
    `InvertedResidual`."""

    name: str
    source: str
    bypass: Bypass = "concat"

    def __post_init__(self) -> None:
        one_of(self.name, "bypass", self.bypass, get_args(Bypass))

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """Nothing is chosen here."""
        return ()

    def canonical(self, choice: Choice) -> Choice:
        """There is one choice."""
        return choice

    def join(self, builder: NetworkBuilder, x: int, skip: int, choice: Choice) -> int:
        """Write the sum. Raises `SpaceError` where the inputs have different heights or widths."""
        if builder.shape(x)[:2] != builder.shape(skip)[:2]:
            raise SpaceError(
                f"{self.name} adds {self.source}, whose output is {builder.shape(skip)}, to "
                f"{builder.shape(x)}; their heights and widths have to be the same: choose an "
                "input size that is divisible by the network's stride"
            )
        outputs = max(builder.shape(x)[-1], builder.shape(skip)[-1])
        return add_channels(builder, x, skip, outputs, self.bypass)


@dataclass(frozen=True)
class MapHead:
    """The last layer of a network whose output is a map: a 1x1 convolution to `channels` values
    for each pixel, without an activation."""

    name: str
    channels: int = 1

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise SpaceError(f"{self.name}: a map of {self.channels} values is impossible")

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """Nothing is chosen here."""
        return ()

    def canonical(self, choice: Choice) -> Choice:
        """There is one choice."""
        return choice

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        """Write the convolution."""
        return builder.conv_2d(x, self.channels, name=f"{self.name}.conv")
