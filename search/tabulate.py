"""From a search space to the plan of its lookup table: every operator that it can need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from ..profiler.fragments import Fragment
from ..profiler.layers import Dtype, Layer, Network, Shape
from ..profiler.network_builder import NetworkBuilder
from ..profiler.plan import OPERATORS, TablePlan
from ..profiler.selection import Usage
from .space import Architecture, Choice, Join, SearchSpace, Stage, append_stage

CHECKED_NETWORKS = 200
SAMPLED_NETWORKS = 300  # that say how often each operator occurs


def plan_table(
    space: SearchSpace,
    *,
    options: Mapping[str, Any] | None = None,
    calibration: int = 20,
    validation: int = 60,
    operators: int | None = OPERATORS,
    seed: int = 0,
    dtype: Dtype = "float32",
    in_blocks: bool = False,
) -> TablePlan:
    """What a table of `space` has to price: all signatures, and random networks to calibrate with
    and to judge by (disjoint). The same seed gives the same plan.

    `options` are what the space was opened with besides its name, remembered in the table; `dtype`
    is that of all layers and networks. At most `operators` signatures are measured, the others
    interpolated (None: all are measured). `in_blocks` measures whole stages instead, for a runtime
    that fuses layers, where the space has no more of them than that.
    """
    rng = np.random.default_rng(seed)
    networks = _different_networks(space, calibration + validation, rng)
    layers = signatures(space, rng, [space.full, space.smallest])
    return TablePlan(
        tuple(layer.as_dtype(dtype) for layer in layers.values()),
        tuple(network.as_dtype(dtype) for network in networks[:calibration]),
        tuple(network.as_dtype(dtype) for network in networks[calibration:]),
        {
            "space": space.name,
            "options": dict(options or {}),
            "coordinates": len(space.coordinates),
            "seed": seed,
            "dtype": dtype,
        },
        operators,
        Usage.of(
            [space.network(space.random(rng)).as_dtype(dtype) for _ in range(SAMPLED_NETWORKS)]
        ),
        blocks=tuple(blocks(space, operators) or ()) if in_blocks else (),
    )


def blocks(space: SearchSpace, limit: int | None) -> list[Network] | None:
    """Every form that a stage can have, on every input that it can meet, as a network of its own;
    None where there are more than `limit` (31,195 of `mobilenetv3-32`)."""
    found: dict[str, Network] = {}
    tensors: list[dict[Shape, None]] = [{space.input_shape: None}]
    for stage, reads in zip(space.stages, space.reads, strict=True):
        if isinstance(stage, Join):
            return None  # a model of a block has one input
        inputs = tensors[reads[0]]
        outputs: dict[Shape, None] = {}
        choices = dict.fromkeys(
            stage.canonical(choice) for choice in product(*(c.values for c in stage.coordinates))
        )
        for shape, choice in product(inputs, choices):
            builder = NetworkBuilder(shape)
            outputs.setdefault(builder.shape(stage.append(builder, 0, choice)))
            if not builder.nodes:  # the stage vanishes
                continue
            block = builder.build()
            found.setdefault(Fragment(tuple(block.layers)).signature, block)
            if limit is not None and len(found) > limit:
                return None
        tensors.append(outputs)
    return list(found.values())


def signatures(
    space: SearchSpace, rng: np.random.Generator, also: Iterable[Architecture] = ()
) -> dict[str, Layer]:
    """Every operator that a network of the space can have, by signature.

    A layer depends on at most two of: the channels that come in, and the stage's coordinates (an
    expansion on the channels and its width, a projection on both widths). So it suffices to vary
    them in pairs, the others at their ends. That this holds for the space is checked on random
    networks; what they add is added.
    """
    found: dict[str, Layer] = {}
    tensors: list[dict[Shape, None]] = [{space.input_shape: None}]
    for stage, reads in zip(space.stages, space.reads, strict=True):
        outputs: dict[Shape, None] = {}
        inputs = list(product(*(tensors[tensor] for tensor in reads)))
        for shapes, choice in _pairs(stage, inputs):
            builder = NetworkBuilder(*shapes)
            output = append_stage(stage, builder, range(len(shapes)), choice)
            outputs.setdefault(builder.shape(output))
            for node in builder.nodes:
                found.setdefault(node.layer.signature, node.layer)
        tensors.append(outputs)
    for architecture in [*also, *(space.random(rng) for _ in range(CHECKED_NETWORKS))]:
        for layer in space.network(architecture).layers:
            found.setdefault(layer.signature, layer)
    return found


def _pairs(
    stage: Stage | Join, inputs: Sequence[tuple[Shape, ...]]
) -> Iterator[tuple[tuple[Shape, ...], Choice]]:
    """Inputs and choices in which two things vary and the others are at their ends."""
    axes: list[list[int]] = [list(range(len(inputs)))]
    axes += [list(coordinate.values) for coordinate in stage.coordinates]
    # The smallest width but 0 is an end, too: a removed block has no layers.
    ends = [sorted({axis[0], next((v for v in axis if v), axis[0]), axis[-1]}) for axis in axes]
    seen: dict[tuple[int, ...], None] = {}
    for first, second in combinations(range(len(axes)), 2):
        for at_end in range(3):
            point = [end[min(at_end, len(end) - 1)] for end in ends]
            for a in axes[first]:
                for b in axes[second]:
                    point[first], point[second] = a, b
                    seen.setdefault(tuple(point))
    if len(axes) == 1:
        seen = {(i,): None for i in axes[0]}
    for number, *choice in seen:
        yield inputs[number], tuple(choice)


def _different_networks(space: SearchSpace, count: int, rng: np.random.Generator) -> list[Network]:
    """Random networks, no two of them equal (as many as the space has, if it is tiny)."""
    networks: dict[Architecture, Network] = {}
    for _ in range(100 * count):
        if len(networks) == count:
            break
        architecture = space.random(rng)
        networks.setdefault(architecture, space.network(architecture))
    return list(networks.values())
