"""What is emitted as ONNX computes what is emitted as TFLite, with the same weights."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.profiler.emit_onnx import channels_first, emit_onnx, emit_onnx_layer, same_padding
from boardfit.profiler.emit_tflite import emit, emit_layer
from boardfit.profiler.layers import FloatArray, Layer, Network, Weights
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.search.spaces import open_space
from boardfit.search.stages import Bypass

from .random_networks import every_layer, networks
from .runtimes import run_litert, run_onnx


def noise(*shape: int, seed: int = 0) -> FloatArray:
    """Values beyond 6 and below -6, so that each activation has something to cut."""
    return (5 * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def weighted(network: Network, seed: int) -> Network:
    """The network with uniform weights (He et al. 2015), on which float32's rounding stays small.

    With weights that are drawn for timing a deep network may be badly conditioned: of one, LiteRT
    and ONNX Runtime are 9e-4 and 5e-4 of the largest output away from PyTorch's float64.
    """
    rng = np.random.default_rng(seed)
    weights = {}
    for number, node in enumerate(network.nodes):
        if node.layer.weight_shapes:
            kernel, bias = node.layer.weight_shapes
            depthwise = node.layer.op == "depthwise_conv_2d"
            fan_in = node.layer.kernel**2 if depthwise else math.prod(kernel[1:])
            limit = math.sqrt(6 / fan_in)
            weights[number] = Weights(
                rng.uniform(-limit, limit, kernel).astype(np.float32),
                rng.normal(0.0, 0.06, bias).astype(np.float32),
            )
    return network.with_weights(weights)


def expect_equal(got: FloatArray, expected: FloatArray) -> None:
    assert got.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got / scale, expected / scale, atol=1e-4)


def check(network: Network, seed: int) -> None:
    image = noise(*network.input_shape, seed=seed)
    model = emit_onnx(network, seed=seed)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    expect_equal(run_onnx(model, image), run_litert(emit(network, seed=seed), image))


@pytest.mark.parametrize("bypass", ["concat", "pad"])
@pytest.mark.parametrize("name", ["mobilenetv3-32", "mobilenetv3-large"])
def test_random_architectures_of_each_space(name: str, bypass: Bypass) -> None:
    size = 32 if name == "mobilenetv3-32" else 64
    cap = None if bypass == "concat" else 28
    space = open_space(name, input_size=size, classes=10, bypass=bypass, bypass_cap=cap)
    rng = np.random.default_rng(1)
    architectures = [space.random(rng) for _ in range(8)]
    for seed, architecture in enumerate([*architectures, space.full, space.smallest]):
        check(weighted(space.network(architecture), seed), seed)


@given(networks(), st.integers(0, 100))
@settings(max_examples=80, deadline=None)
def test_whatever_is_wired_computes_the_same(network: Network, seed: int) -> None:
    check(weighted(network, seed), seed)


@pytest.mark.parametrize("layer", every_layer(), ids=lambda layer: layer.op)
def test_every_operator_is_emitted_alone(layer: Layer) -> None:
    """As the table's entries are: one layer, as many inputs as it has."""
    images = [noise(*shape, seed=i) for i, shape in enumerate(layer.inputs)]
    expect_equal(
        run_onnx(emit_onnx_layer(layer, seed=3), *images),
        run_litert(emit_layer(layer, seed=3), *images),
    )


@pytest.mark.parametrize(
    "layer",
    [
        Layer("reshape", ((2, 3, 4),), (4, 3, 2)),
        Layer("reshape", ((24,),), (2, 3, 4)),
        Layer("reshape", ((1, 1, 6),), (6,)),
        Layer("reshape", ((6, 4),), (2, 3, 4)),
        Layer("add", ((3, 4, 5), (5,)), (3, 4, 5)),
        Layer("mul", ((5,), (3, 4, 5)), (3, 4, 5)),
        Layer("add", ((4, 1), (3, 1, 5)), (3, 4, 5)),
        Layer("pad", ((3,),), (5,)),
        Layer("slice", ((4,),), (2,), offset=1),
        Layer("softmax", ((3, 4),), (3, 4)),
    ],
    ids=lambda layer: layer.signature,
)
def test_other_ranks_keep_the_order_of_their_elements(layer: Layer) -> None:
    images = [noise(*shape, seed=i) for i, shape in enumerate(layer.inputs)]
    expected = run_litert(emit_layer(layer), *images)
    expect_equal(run_onnx(emit_onnx_layer(layer), *images), expected)


def test_given_weights_are_written_and_others_drawn() -> None:
    builder = NetworkBuilder((4, 4, 2))
    builder.conv_2d(builder.conv_2d(0, 3), 2)
    network = builder.build()
    second = {1: Weights(np.zeros((2, 1, 1, 3), np.float32), np.array([7, 8], np.float32))}
    assert (run_onnx(emit_onnx(network.with_weights(second)), noise(4, 4, 2)) == [7, 8]).all()
    check(network, 5)


def test_nodes_may_share_a_name() -> None:
    builder = NetworkBuilder((4, 4, 2))
    builder.conv_2d(builder.conv_2d(builder.conv_2d(0, 2, name="a"), 2, name="a"), 2, name="output")
    check(builder.build(), 0)


@given(st.integers(0, 2**63))
@settings(deadline=None)
def test_equal_networks_and_seeds_give_equal_bytes(seed: int) -> None:
    builder = NetworkBuilder((4, 4, 2))
    builder.conv_2d(0, 3)
    network = builder.build()
    assert emit_onnx(network, seed=seed) == emit_onnx(network, seed=seed)
    assert emit_onnx(network, seed=seed) != emit_onnx(network, seed=seed + 1)
    layer = network.layers[0]
    assert emit_onnx_layer(layer, seed=seed) == emit_onnx_layer(layer, seed=seed)
    assert emit_onnx_layer(layer, seed=seed) != emit_onnx_layer(layer, seed=seed + 1)


@given(st.integers(1, 64), st.integers(1, 9), st.integers(1, 4))
def test_same_padding_gives_the_rounded_up_size(size: int, kernel: int, stride: int) -> None:
    before, behind = same_padding(size, kernel, stride)
    assert 0 <= behind - before <= 1
    windows = (size + before + behind - kernel) // stride + 1
    assert windows == -(-size // stride)


def test_shapes_are_written_with_the_channels_first() -> None:
    assert channels_first((4, 5, 6)) == [1, 6, 4, 5]
    assert channels_first((7,)) == [1, 7]
    builder = NetworkBuilder((4, 5, 6))
    builder.conv_2d(0, 3, stride=2)
    graph = onnx.load_from_string(emit_onnx(builder.build())).graph
    for tensor, shape in ((graph.input[0], [1, 6, 4, 5]), (graph.output[0], [1, 3, 2, 3])):
        assert [d.dim_value for d in tensor.type.tensor_type.shape.dim] == shape
