"""Search spaces around channel plans of MobileNetV3.

`mobilenetv3-large` is built around the plan of Howard et al., "Searching for MobileNetV3" (ICCV
2019, table 1), widened so that a search can also find broader layers than the published ones. Its
first block has an expansion convolution like all others, so that its width can be searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..devices.errors import SpaceError
from .space import Architecture, SearchSpace, Stage
from .stages import (
    BlockActivation,
    Bypass,
    Head,
    InvertedResidual,
    Residual,
    Stem,
    StrideBypass,
    round_up,
)


class Row(NamedTuple):
    """One block of a channel plan; `kernel` is the published network's own."""

    kernel: int
    expansion: int
    filters: int
    squeeze_excite: bool
    activation: BlockActivation
    stride: int


class Plan(NamedTuple):
    """The widths of a network from the stem to the layer before the classifier.

    The head's widths are searched in steps of `head_granules` granules: wide layers in fine steps
    would need tens of thousands of table entries that hardly differ.
    """

    stem: int
    rows: tuple[Row, ...]
    head: int
    hidden: int | None
    head_granules: int = 1


# Howard et al., "Searching for MobileNetV3", table 1.
LARGE = Plan(
    stem=16,
    rows=(
        Row(3, 16, 16, False, "relu", 1),
        Row(3, 64, 24, False, "relu", 2),
        Row(3, 72, 24, False, "relu", 1),
        Row(5, 72, 40, True, "relu", 2),
        Row(5, 120, 40, True, "relu", 1),
        Row(5, 120, 40, True, "relu", 1),
        Row(3, 240, 80, False, "hard_swish", 2),
        Row(3, 200, 80, False, "hard_swish", 1),
        Row(3, 184, 80, False, "hard_swish", 1),
        Row(3, 184, 80, False, "hard_swish", 1),
        Row(3, 480, 112, True, "hard_swish", 1),
        Row(3, 672, 112, True, "hard_swish", 1),
        Row(5, 672, 160, True, "hard_swish", 2),
        Row(5, 960, 160, True, "hard_swish", 1),
        Row(5, 960, 160, True, "hard_swish", 1),
    ),
    head=960,
    hidden=1280,
    head_granules=8,
)

# Ours: small enough to be trained on two CPU cores in minutes.
SMALL = Plan(
    stem=16,
    rows=(
        Row(5, 48, 24, False, "relu", 1),
        Row(5, 64, 24, False, "relu", 1),
        Row(5, 72, 40, True, "relu", 2),
        Row(5, 96, 40, True, "relu", 1),
        Row(5, 96, 40, False, "relu", 1),
        Row(5, 120, 64, False, "hard_swish", 1),
        Row(5, 160, 64, False, "hard_swish", 1),
        Row(5, 192, 96, True, "hard_swish", 2),
        Row(5, 288, 96, True, "hard_swish", 1),
        Row(5, 288, 96, True, "hard_swish", 1),
    ),
    head=256,
    hidden=None,
)


def check_widening(name: str, width_factor: float, granule: int) -> None:
    """Raise `SpaceError` where a plan's widths cannot be multiplied and rounded so."""
    if not 0 < width_factor <= 16:
        raise SpaceError(f"{name}: width_factor is {width_factor}; it has to lie in (0, 16]")
    if granule < 1:
        raise SpaceError(f"{name}: a granule of {granule} channels is impossible")


def inverted_residuals(
    rows: Sequence[Row],
    input_filters: int,
    *,
    width_factor: float,
    kernels: tuple[int, ...],
    granule: int,
    residual: Residual,
    bypass: Bypass,
    stride_bypass: StrideBypass,
    bypass_cap: int | None,
) -> list[InvertedResidual]:
    """The blocks of a plan's rows, one after the other: `block1`, `block2`, ...

    `input_filters` come into the first one; widths are those of the rows times `width_factor`,
    rounded up to the granule. The other fields are those of `InvertedResidual`, for all blocks.
    """
    blocks = []
    for number, row in enumerate(rows, 1):
        block = InvertedResidual(
            name=f"block{number}",
            input_filters=input_filters,
            filters=round_up(row.filters * width_factor, granule),
            expansion=round_up(row.expansion * width_factor, granule),
            kernels=tuple(kernels),
            stride=row.stride,
            squeeze_excite=row.squeeze_excite,
            activation=row.activation,
            granule=granule,
            residual=residual,
            bypass=bypass,
            stride_bypass=stride_bypass,
            bypass_cap=bypass_cap,
        )
        blocks.append(block)
        input_filters = block.filters
    return blocks


def mobilenetv3(
    name: str,
    plan: Plan,
    *,
    classes: int,
    input_size: int,
    width_factor: float,
    kernels: tuple[int, ...],
    granule: int = 8,
    residual: Residual = "keep",
    bypass: Bypass = "concat",
    stride_bypass: StrideBypass = "average_pool",
    bypass_cap: int | None = None,
) -> SearchSpace:
    """A space around a channel plan: every width times `width_factor`, rounded up to the granule,
    is its largest network's. The other fields are those of `InvertedResidual`, for all blocks.

    Images are `input_size` x `input_size` x 3. Raises `SpaceError` for values that do not fit.
    """
    check_widening(name, width_factor, granule)
    if input_size < 1:
        raise SpaceError(f"{name}: images of {input_size}x{input_size} are impossible")
    stem = Stem("stem", round_up(plan.stem * width_factor, granule), granule=granule)
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
    coarse = granule * plan.head_granules
    hidden = None if plan.hidden is None else round_up(plan.hidden * width_factor, coarse)
    head = Head("head", round_up(plan.head * width_factor, coarse), classes, hidden, coarse)
    stages: tuple[Stage, ...] = (stem, *blocks, head)
    return SearchSpace(name, (input_size, input_size, 3), classes, stages)


def reference(space: SearchSpace, plan: Plan) -> Architecture:
    """The plan's own network as an architecture of a space around it, for comparison.

    Raises `SpaceError` where the space does not hold it (a granule or a kernel that differs).
    """
    values = {"stem.filters": plan.stem, "head.filters": plan.head}
    if plan.hidden is not None:
        values["head.hidden"] = plan.hidden
    for number, row in enumerate(plan.rows, 1):
        for field in ("filters", "expansion", "kernel"):
            values[f"block{number}.{field}"] = getattr(row, field)
    architecture = tuple(values[coordinate.name] for coordinate in space.coordinates)
    space.check(architecture)
    return architecture
