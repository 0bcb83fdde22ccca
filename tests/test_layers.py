"""What networks cost on paper, worked out by hand, and what cannot be written down at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.profiler.layers import (
    ELEMENTWISE,
    FUSES_ACTIVATION,
    OPERATORS,
    Activation,
    Layer,
    Network,
    Node,
    Operator,
    Weights,
    shape_text,
)
from boardfit.profiler.network_builder import NetworkBuilder

# One layer of each kind of arithmetic: MACs, parameters, weight shapes, bytes moved.
# conv_2d     2x3 positions x 5 filters x (3x3 kernel x 4 channels) = 30 * 36 = 1080 MACs;
#             5*3*3*4 + 5 = 185 parameters; (4*6*4 + 2*3*5 + 185) floats = 96 + 30 + 185 = 311.
# depthwise   4x6 positions x 4 channels x 5x5 = 96 * 25 = 2400; 25*4 + 4 = 104; 96 + 96 + 104.
# full        7 * 3 = 21; 7*3 + 3 = 24; 7 + 3 + 24 = 34.
# add, mul    no MACs, no parameters; both inputs and the output are moved: 24 + 4 + 24 = 52.
CONV = Layer("conv_2d", ((4, 6, 4),), (2, 3, 5), kernel=3, stride=2, activation="relu")
DEPTHWISE = Layer("depthwise_conv_2d", ((4, 6, 4),), (4, 6, 4), kernel=5)
FULL = Layer("fully_connected", ((7,),), (3,))
MUL = Layer("mul", ((2, 3, 4), (1, 1, 4)), (2, 3, 4))
RESIZE = Layer("resize_bilinear", ((2, 2, 3),), (4, 4, 3))


@pytest.mark.parametrize(
    ("layer", "macs", "weight_shapes", "parameters", "floats_moved"),
    [
        (CONV, 1080, ((5, 3, 3, 4), (5,)), 185, 311),
        (DEPTHWISE, 2400, ((1, 5, 5, 4), (4,)), 104, 296),
        (FULL, 21, ((3, 7), (3,)), 24, 34),
        (MUL, 0, (), 0, 52),
        (RESIZE, 0, (), 0, 12 + 48),
    ],
    ids=lambda value: value.op if isinstance(value, Layer) else "",
)
def test_a_layer_costs_what_the_hand_works_out(
    layer: Layer,
    macs: int,
    weight_shapes: tuple[tuple[int, ...], ...],
    parameters: int,
    floats_moved: int,
) -> None:
    assert layer.macs == macs
    assert layer.weight_shapes == weight_shapes
    assert layer.parameters == parameters
    assert layer.bytes_moved == 4 * floats_moved


def small_network() -> Network:
    """A block with a shortcut, squeeze-excite and a classifier."""
    builder = NetworkBuilder((4, 4, 2))
    x = builder.conv_2d(0, 6, activation="relu")  # 16 positions * 6 * 2 = 192 MACs, 18 parameters
    x = builder.depthwise_conv_2d(x, kernel=3)  # 16 * 6 * 9 = 864 MACs, 60 parameters
    y = builder.mean(x)
    y = builder.conv_2d(y, 6)  # 36 MACs, 42 parameters
    x = builder.mul(x, y)
    x = builder.conv_2d(x, 2)  # 16 * 2 * 6 = 192 MACs, 14 parameters
    x = builder.add(x, 0)
    x = builder.mean(x, keep_dimensions=False)
    builder.fully_connected(x, 10)  # 20 MACs, 30 parameters
    return builder.build()


def test_a_network_costs_the_sum_of_its_layers() -> None:
    network = small_network()
    assert network.macs == 192 + 864 + 36 + 192 + 20
    assert network.parameters == 18 + 60 + 42 + 14 + 30
    assert (network.input_shape, network.output_shape) == ((4, 4, 2), (10,))
    assert [layer.op for layer in network.layers] == [
        "conv_2d",
        "depthwise_conv_2d",
        "mean",
        "conv_2d",
        "mul",
        "conv_2d",
        "add",
        "mean",
        "fully_connected",
    ]


def test_peak_memory_counts_what_is_alive_at_the_worst_moment() -> None:
    # Floats alive at each node of the small network; the input (32) lives until the sum:
    #   conv 32+96, depthwise 32+96+96 = 224, mean 32+96+6, conv 32+96+6+6,
    #   mul 32+96+6+96 = 230 (the worst), conv 32+96+32, sum 32+32+32, mean 32+2, full 2+10.
    assert small_network().peak_memory == 4 * 230


def test_peak_memory_of_a_chain_is_its_largest_neighbours() -> None:
    builder = NetworkBuilder((2, 2, 1))  # 4 floats
    x = builder.conv_2d(0, 5)  # 20
    x = builder.conv_2d(x, 3)  # 12
    builder.mean(x)  # 3
    assert builder.build().peak_memory == 4 * (20 + 12)


def test_peak_memory_holds_a_tensor_for_its_last_reader() -> None:
    builder = NetworkBuilder((1, 1, 8))
    early = builder.elementwise("relu", 0)  # 8 + 8
    x = builder.slice_channels(early, 0, 1)  # 8 + 1: the input is gone
    for _ in range(3):
        x = builder.elementwise("relu6", x)  # 8 + 1 + 1
    builder.concatenation([x, early])  # 1 + 8 + 9 = 18: the worst
    assert builder.build().peak_memory == 4 * 18


def test_a_signature_reads_as_documented() -> None:
    layer = Layer("conv_2d", ((16, 16, 24),), (16, 16, 72), activation="relu")
    assert layer.signature == "conv_2d 16x16x24>16x16x72 k1 s1 relu float32"
    assert MUL.signature == "mul 2x3x4+1x1x4>2x3x4 none float32"
    assert shape_text((16, 16, 24)) == "16x16x24"


def layers() -> st.SearchStrategy[Layer]:
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 12))
    return st.builds(
        Layer,
        st.sampled_from(["conv_2d", "depthwise_conv_2d", "fully_connected"]),
        st.tuples(shapes),
        shapes,
        kernel=st.sampled_from([1, 3]),
        stride=st.sampled_from([1, 2]),
        activation=st.sampled_from(get_args(Activation)),
    )


def what_decides(layer: Layer) -> tuple[Any, ...]:
    window = (layer.kernel, layer.stride) if layer.op != "fully_connected" else None
    return layer.op, layer.inputs, layer.output, window, layer.activation


@given(layers(), layers())
def test_signatures_differ_exactly_where_the_time_may(one: Layer, other: Layer) -> None:
    assert (one.signature == other.signature) == (what_decides(one) == what_decides(other))


def test_the_place_of_a_slice_is_no_part_of_its_signature() -> None:
    first, second = (Layer("slice", ((2, 2, 8),), (2, 2, 4), offset=at) for at in (0, 4))
    assert first.signature == second.signature
    assert first != second


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"op": "conv_3d"}, "unknown operator 'conv_3d'; known: conv_2d, "),
        ({"output": (4, 0, 4)}, r"shape \(4, 0, 4\) has no elements"),
        ({"output": ()}, r"shape \(\) has no elements"),
        ({"inputs": ((4, -1, 4),)}, "has no elements"),
        ({"inputs": ()}, "cannot have 0 inputs"),
        ({"inputs": ((4, 4, 4), (4, 4, 4))}, "cannot have 2 inputs"),
        ({"op": "add"}, "add cannot have 1 inputs"),
        ({"op": "concatenation", "inputs": ()}, "concatenation cannot have 0 inputs"),
        ({"kernel": 0}, "kernel 0 and stride 1 must be 1 or more"),
        ({"stride": 0}, "kernel 1 and stride 0 must be 1 or more"),
        ({"op": "slice", "offset": -1}, "the offset -1 0 or more"),
        ({"activation": "tanh"}, "unknown activation 'tanh'"),
        ({"op": "mean", "activation": "relu"}, "mean cannot carry a fused relu"),
    ],
    ids=str,
)
def test_a_layer_that_cannot_be_is_refused(arguments: dict[str, Any], words: str) -> None:
    good: dict[str, Any] = {"op": "conv_2d", "inputs": ((4, 4, 4),), "output": (4, 4, 4)}
    Layer(**good)
    with pytest.raises(ValueError, match=words):
        Layer(**{**good, **arguments})


@pytest.mark.parametrize("op", OPERATORS)
def test_only_some_operators_carry_an_activation(op: Operator) -> None:
    inputs = ((1, 1, 4),) * (2 if op in {"add", "mul"} else 1)
    if op in FUSES_ACTIVATION:
        assert " relu6 " in Layer(op, inputs, (1, 1, 4), activation="relu6").signature
    else:
        with pytest.raises(ValueError, match="cannot carry"):
            Layer(op, inputs, (1, 1, 4), activation="relu6")


# Networks


def test_a_network_needs_a_layer() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        Network((2, 2, 2), ())


@pytest.mark.parametrize("tensor", [-1, 1, 2])
def test_a_layer_reads_only_what_was_written_before(tensor: int) -> None:
    relu = Layer("relu", ((2,),), (2,))
    with pytest.raises(ValueError, match="node 0 reads a tensor that is not there yet"):
        Network((2,), (Node(relu, (tensor,)), Node(relu, (0,))))


def test_shapes_must_fit() -> None:
    relu = Layer("relu", ((2,),), (2,))
    with pytest.raises(ValueError, match=r"node 0 \(relu 2>2 none float32\): input shapes differ"):
        Network((3,), (Node(relu, (0,)),))
    with pytest.raises(ValueError, match="input shapes differ"):
        Network((2,), (Node(relu, (0, 0)),))


def test_weights_must_fit_their_layer() -> None:
    network = Network((7,), (Node(FULL, (0,)),))
    kernel, bias = np.zeros((3, 7), np.float32), np.zeros(3, np.float32)
    assert network.with_weights({0: Weights(kernel, bias)}).weights is not None
    with pytest.raises(ValueError, match=r"node 0: weights \(7, 3\) and \(3,\), expected"):
        network.with_weights({0: Weights(kernel.T, bias)})
    with pytest.raises(ValueError, match="expected"):
        network.with_weights({0: Weights(kernel, bias[:2])})


def test_weights_do_not_change_what_a_network_is() -> None:
    network = Network((7,), (Node(FULL, (0,)),))
    weights = {0: Weights(np.zeros((3, 7), np.float32), np.zeros(3, np.float32))}
    assert network.with_weights(weights) == network
    assert network.weights is None


# The builder


@pytest.mark.parametrize(
    ("size", "stride", "expected"), [(7, 1, 7), (7, 2, 4), (8, 2, 4), (1, 2, 1), (9, 4, 3)]
)
def test_convolutions_round_sizes_up(size: int, stride: int, expected: int) -> None:
    builder = NetworkBuilder((size, 2 * size, 3))
    x = builder.conv_2d(0, 5, kernel=3, stride=stride)
    y = builder.depthwise_conv_2d(0, kernel=3, stride=stride)
    assert builder.shape(x)[0] == builder.shape(y)[0] == expected
    assert (builder.shape(x)[2], builder.shape(y)[2]) == (5, 3)


def test_pooling_rounds_sizes_down() -> None:
    builder = NetworkBuilder((7, 5, 3))
    assert builder.shape(builder.average_pool_2d(0)) == (3, 2, 3)
    assert builder.shape(builder.average_pool_2d(0, kernel=3, stride=1)) == (5, 3, 3)


def test_the_builder_works_out_every_other_shape() -> None:
    builder = NetworkBuilder((4, 4, 6))
    assert builder.shape(builder.pad_channels(0, 9)) == (4, 4, 9)
    assert builder.shape(builder.slice_channels(0, 2, 5)) == (4, 4, 3)
    assert builder.nodes[-1].layer.offset == 2
    assert builder.shape(builder.concatenation([0, 1, 0])) == (4, 4, 6 + 9 + 6)
    pooled = builder.mean(0)
    assert builder.shape(pooled) == (1, 1, 6)
    assert builder.shape(builder.mul(pooled, 0)) == (4, 4, 6)
    assert builder.shape(builder.mean(0, keep_dimensions=False)) == (6,)
    assert builder.shape(builder.reshape(0, (96,))) == (96,)
    assert builder.shape(builder.resize_bilinear(0, 9, 7)) == (9, 7, 6)
    for op in sorted(ELEMENTWISE):
        assert builder.shape(builder.elementwise(op, 0)) == (4, 4, 6)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda b: b.pad_channels(0, 5), "cannot pad 6 channels to 5"),
        (lambda b: b.slice_channels(0, 3, 3), "cannot take channels 3 to 3 of 6"),
        (lambda b: b.slice_channels(0, -1, 3), "cannot take channels -1 to 3"),
        (lambda b: b.slice_channels(0, 0, 7), "cannot take channels 0 to 7 of 6"),
        (lambda b: b.concatenation([0, b.mean(0)]), "differ in more than their channels"),
        (lambda b: b.concatenation([]), "differ in more than their channels"),
        (lambda b: b.reshape(0, (95,)), r"cannot reshape \(4, 4, 6\) to \(95,\)"),
        (lambda b: b.elementwise("add", 0), "add is not an elementwise operator"),
        (lambda b: b.add(0, b.conv_2d(0, 5)), "broadcast"),
        (lambda b: b.conv_2d(1, 5), "there is no tensor 1 yet"),
        (lambda b: b.conv_2d(-1, 5), "there is no tensor -1"),
        (lambda b: b.add(0, 7), "there is no tensor 7 yet"),
        (lambda b: b.conv_2d(0, 0), "has no elements"),
        (lambda b: b.conv_2d(0, 5, kernel=0), "kernel 0"),
        (lambda b: b.conv_2d(0, 5, stride=0), "stride 0 must be 1 or more"),
        (lambda b: b.average_pool_2d(0, stride=0), "stride 0 must be 1 or more"),
        (lambda b: b.average_pool_2d(0, kernel=5), "has no elements"),
        (lambda b: b.fully_connected(0, 5), "tensor 0 is 4x4x6, no vector"),
        (lambda b: b.mean(b.mean(0, keep_dimensions=False)), "tensor 1 is 6, no height"),
        (lambda b: b.conv_2d(b.reshape(0, (96,)), 5), "tensor 1 is 96, no height"),
        (lambda b: b.resize_bilinear(b.reshape(0, (96,)), 2, 2), "no height"),
        (lambda b: b.build(), "at least one layer"),
    ],
)
def test_a_mistake_is_refused_at_the_line_that_makes_it(
    write: Callable[[NetworkBuilder], object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        write(NetworkBuilder((4, 4, 6)))
