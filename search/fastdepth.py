"""Search spaces for depth maps: an encoder of inverted residual blocks, a decoder of five stages.

`fastdepth` follows Wofk et al., "FastDepth" (ICRA 2019), in its decoder and in its three additive
skip connections; its encoder is MobileNetV2 (Sandler et al., CVPR 2018, table 2), whose blocks have
the bypass. Widths that differ where a skip ends add up on the channels that both have.
"""

from __future__ import annotations

from typing import NamedTuple

from ..devices.errors import SpaceError
from .depth_stages import MapHead, SkipSum, Upsample, Upsampling
from .mobilenetv3 import Row, check_widening, inverted_residuals
from .space import Join, SearchSpace, Stage
from .stages import Bypass, InvertedResidual, Residual, Stem, StrideBypass, round_up

SKIPS = 3  # to the decoder's stages before the last


class Plan(NamedTuple):
    """The widths of encoder and decoder; one stage of the decoder for each halving before."""

    stem: int
    rows: tuple[Row, ...]
    decoder: tuple[int, ...]


def _mobilenetv2() -> tuple[Row, ...]:
    """Sandler et al., table 2: expansion factor, filters, repeats, stride."""
    table = [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
        (6, 160, 3, 2), (6, 320, 1, 1),
    ]  # fmt: skip
    rows, channels = [], 32
    for factor, filters, repeats, stride in table:
        for number in range(repeats):
            width = channels * factor
            rows.append(Row(3, width, filters, False, "relu", 1 if number else stride))
            channels = filters
    return tuple(rows)


LARGE = Plan(32, _mobilenetv2(), (256, 128, 64, 32, 16))

# Ours: small enough to be trained on two CPU cores in minutes.
SMALL = Plan(
    stem=16,
    rows=(
        Row(3, 32, 16, False, "relu", 1),
        Row(5, 64, 24, False, "relu", 2),
        Row(5, 96, 24, False, "relu", 1),
        Row(5, 96, 40, False, "relu", 2),
        Row(5, 120, 40, False, "relu", 1),
        Row(5, 160, 64, False, "relu", 2),
        Row(5, 192, 64, False, "relu", 1),
        Row(5, 256, 96, False, "relu", 2),
        Row(5, 288, 96, False, "relu", 1),
    ),
    decoder=(64, 40, 24, 16, 16),
)


def fastdepth(
    name: str,
    plan: Plan,
    *,
    classes: int = 1,
    input_size: int,
    width_factor: float,
    kernels: tuple[int, ...],
    granule: int = 8,
    residual: Residual = "keep",
    bypass: Bypass = "concat",
    stride_bypass: StrideBypass = "average_pool",
    bypass_cap: int | None = None,
    upsampling: Upsampling = "bilinear",
) -> SearchSpace:
    """A space around a plan: every width times `width_factor`, rounded up to the granule, is its
    largest network's. The fields are those of `mobilenetv3` and `Upsample`, for all stages;
    `classes` is the number of values for each pixel.

    Images are `input_size` square, RGB, and so is the map. Raises `SpaceError` for values that do
    not fit.
    """
    check_widening(name, width_factor, granule)
    halvings = 1 + sum(row.stride == 2 for row in plan.rows)
    if input_size < 1 or input_size % 2**halvings:
        raise SpaceError(
            f"{name}: images of {input_size}x{input_size} cannot be halved {halvings} times; "
            f"choose a multiple of {2**halvings}"
        )

    def widened(width: int) -> int:
        return round_up(width * width_factor, granule)

    stem = Stem("stem", widened(plan.stem), granule=granule)
    blocks = inverted_residuals(
        plan.rows,
        stem.filters,
        width_factor=width_factor,
        kernels=kernels,
        granule=granule,
        residual=residual,
        bypass=bypass,
        stride_bypass=stride_bypass,
        bypass_cap=bypass_cap,
    )
    encoder: list[Stem | InvertedResidual] = [stem, *blocks]
    stages: list[Stage | Join] = [*encoder]
    # The last stage of each size, and its filters.
    sources = [
        (before.name, before.filters)
        for before, block in zip(encoder, blocks, strict=False)
        if block.stride == 2
    ]
    filters = encoder[-1].filters
    for number, width in enumerate(plan.decoder, 1):
        decoder = Upsample(
            f"decoder{number}",
            filters,
            widened(width),
            tuple(kernels),
            granule,
            upsampling,
            bypass_cap,
        )
        stages.append(decoder)
        filters = decoder.filters
        left = len(plan.decoder) - number
        if 1 <= left <= SKIPS:
            source, skipped = sources[left - 1]
            stages.append(SkipSum(f"skip{number}", source, bypass))
            filters = max(filters, skipped)
    stages.append(MapHead("head", classes))
    return SearchSpace(name, (input_size, input_size, 3), classes, tuple(stages))
