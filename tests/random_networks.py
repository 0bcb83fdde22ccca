"""Random networks of every operator, for whatever should hold for all that can be written down."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from boardfit.profiler.layers import ACTIVATIONS, OPERATORS, Layer, Network
from boardfit.profiler.network_builder import NetworkBuilder


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Random wiring of every operator; a step that does not fit is left out."""
    size = st.integers(1, 8)
    builder = NetworkBuilder((draw(size), draw(size), draw(size)))
    for op in draw(st.lists(st.sampled_from(OPERATORS), min_size=1, max_size=12)):
        tensors = st.integers(0, len(builder.nodes))
        x, y = draw(tensors), draw(tensors)
        number = draw(st.integers(1, 5))
        activation = draw(st.sampled_from(ACTIVATIONS))
        try:
            if op == "conv_2d":
                builder.conv_2d(x, number, kernel=number, stride=1 + y % 2, activation=activation)
            elif op == "depthwise_conv_2d":
                builder.depthwise_conv_2d(x, kernel=number, activation=activation)
            elif op == "fully_connected":
                builder.fully_connected(x, number, activation=activation)
            elif op == "add":
                builder.add(x, y, activation=activation)
            elif op == "mul":
                builder.mul(x, y, activation=activation)
            elif op == "pad":
                builder.pad_channels(x, builder.shape(x)[-1] + number - 1)
            elif op == "slice":
                builder.slice_channels(x, number - 1, number + y)
            elif op == "concatenation":
                builder.concatenation([x, y, x][:number])
            elif op == "mean":
                builder.mean(x, keep_dimensions=number > 2)
            elif op == "average_pool_2d":
                builder.average_pool_2d(x, kernel=number, stride=1 + y % 2, padded=(x + y) % 2 == 1)
            elif op == "reshape":
                builder.reshape(x, (int(np.prod(builder.shape(x))),))
            elif op == "resize_bilinear":
                builder.resize_bilinear(x, number, y + 1)
            elif op == "resize_nearest_neighbor":
                builder.resize_nearest_neighbor(x, number, y + 1)
            else:
                builder.elementwise(op, x)
        except ValueError:
            continue
    if not builder.nodes:
        builder.elementwise("relu", 0)
    return builder.build()


def every_layer() -> list[Layer]:
    """One layer of each operator."""
    layers = [
        Layer("conv_2d", ((4, 4, 2),), (2, 2, 3), kernel=3, stride=2),
        Layer("depthwise_conv_2d", ((4, 4, 2),), (4, 4, 2), kernel=3),
        Layer("fully_connected", ((4,),), (3,)),
        Layer("add", ((4, 4, 2), (4, 4, 2)), (4, 4, 2)),
        Layer("mul", ((4, 4, 2), (1, 1, 2)), (4, 4, 2)),
        Layer("pad", ((4, 4, 2),), (4, 4, 3)),
        Layer("slice", ((4, 4, 2),), (4, 4, 1), offset=1),
        Layer("concatenation", ((4, 4, 2), (4, 4, 1)), (4, 4, 3)),
        Layer("mean", ((4, 4, 2),), (1, 1, 2)),
        Layer("average_pool_2d", ((4, 4, 2),), (2, 2, 2), kernel=2, stride=2),
        *(Layer(op, ((4, 4, 2),), (4, 4, 2)) for op in ("relu", "relu6", "hard_swish")),
        *(Layer(op, ((4, 4, 2),), (4, 4, 2)) for op in ("logistic", "softmax")),
        Layer("reshape", ((4, 4, 2),), (32,)),
        Layer("resize_bilinear", ((4, 4, 2),), (8, 8, 2)),
        Layer("resize_nearest_neighbor", ((4, 4, 2),), (8, 8, 2)),
    ]
    assert {layer.op for layer in layers} == set(OPERATORS)
    return layers
