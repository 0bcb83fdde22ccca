"""What is emitted is what was described: each operator in LiteRT against PyTorch and NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.profiler.emit_tflite import emit, emit_layer, random_weights
from boardfit.profiler.layers import Activation, FloatArray, Layer, Network, Operator, Weights
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.read_tflite import inspect

from .random_networks import every_layer, networks
from .runtimes import run_litert as run

ACTIVATIONS: Mapping[Activation, Callable[[FloatArray], FloatArray]] = {
    "none": lambda y: y,
    "relu": lambda y: np.maximum(y, 0),
    "relu6": lambda y: np.clip(y, 0, 6),
}


def noise(*shape: int, seed: int = 0) -> FloatArray:
    """Values beyond 6 and below -6, so that each activation has something to cut."""
    return (5 * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def expect(network: Network, image: FloatArray, expected: FloatArray) -> None:
    got = run(emit(network), image)
    assert got.shape == network.output_shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def channels_first(image: FloatArray) -> torch.Tensor:
    return torch.from_numpy(image)[None].permute(0, 3, 1, 2)


def channels_last(tensor: torch.Tensor) -> FloatArray:
    image: FloatArray = tensor[0].permute(1, 2, 0).numpy()
    return image


def same(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """TensorFlow's SAME padding: what cannot be shared evenly goes to the right and below."""
    padding: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(x, padding)


# Convolutions: even and odd sizes, since SAME padding at stride 2 differs between them


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_conv_2d(kernel: int, stride: int, activation: Activation) -> None:
    for height, width in ((8, 7), (9, 10), (3, 2)):
        builder = NetworkBuilder((height, width, 3))
        builder.conv_2d(0, 4, kernel=kernel, stride=stride, activation=activation)
        weights = Weights(noise(4, kernel, kernel, 3, seed=1), noise(4, seed=2))
        image = noise(height, width, 3)
        x = same(channels_first(image), kernel, stride)
        w = torch.from_numpy(weights.kernel).permute(0, 3, 1, 2)
        y = F.conv2d(x, w, torch.from_numpy(weights.bias), stride)
        expected = ACTIVATIONS[activation](channels_last(y))
        network = builder.build().with_weights({0: weights})
        np.testing.assert_allclose(run(emit(network), image), expected, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_depthwise_conv_2d(kernel: int, stride: int, activation: Activation) -> None:
    for height, width in ((8, 7), (9, 10), (3, 2)):
        builder = NetworkBuilder((height, width, 6))
        builder.depthwise_conv_2d(0, kernel=kernel, stride=stride, activation=activation)
        weights = Weights(noise(1, kernel, kernel, 6, seed=1), noise(6, seed=2))
        image = noise(height, width, 6)
        x = same(channels_first(image), kernel, stride)
        w = torch.from_numpy(weights.kernel).permute(3, 0, 1, 2)
        y = F.conv2d(x, w, torch.from_numpy(weights.bias), stride, groups=6)
        expected = ACTIVATIONS[activation](channels_last(y))
        network = builder.build().with_weights({0: weights})
        np.testing.assert_allclose(run(emit(network), image), expected, rtol=1e-3, atol=1e-2)


def test_padding_at_stride_2_is_not_symmetric_on_even_sizes() -> None:
    builder = NetworkBuilder((4, 4, 1))
    builder.conv_2d(0, 1, kernel=3, stride=2)
    ones = Weights(np.ones((1, 3, 3, 1), np.float32), np.zeros(1, np.float32))
    got = run(emit(builder.build().with_weights({0: ones})), np.ones((4, 4, 1), np.float32))
    # Nothing is added above and to the left, one row and one column below and to the right.
    assert got[..., 0].tolist() == [[9, 6], [6, 4]]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_fully_connected(activation: Activation) -> None:
    builder = NetworkBuilder((7,))
    builder.fully_connected(0, 4, activation=activation)
    weights = Weights(noise(4, 7, seed=1), noise(4, seed=2))
    image = noise(7)
    expected = ACTIVATIONS[activation](weights.kernel @ image + weights.bias)
    network = builder.build().with_weights({0: weights})
    np.testing.assert_allclose(run(emit(network), image), expected, rtol=1e-4, atol=1e-3)


# Two inputs


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 1, 6), (4, 5, 1), (6,)], ids=str)
@pytest.mark.parametrize("op", ["add", "mul"])
def test_sums_and_products_broadcast(
    op: Operator, shape: tuple[int, ...], activation: Activation
) -> None:
    x, y = noise(4, 5, 6), noise(*shape, seed=1)
    layer = Layer(op, (x.shape, shape), x.shape, activation=activation)
    expected = ACTIVATIONS[activation](x + y if op == "add" else x * y)
    np.testing.assert_allclose(run(emit_layer(layer), x, y), expected, rtol=1e-5, atol=1e-5)


def test_concatenation_keeps_the_order() -> None:
    shapes = ((3, 4, 2), (3, 4, 5), (3, 4, 1))
    images = [noise(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    layer = Layer("concatenation", shapes, (3, 4, 8))
    assert (run(emit_layer(layer), *images) == np.concatenate(images, -1)).all()
    vectors = [noise(2), noise(3, seed=1)]
    layer = Layer("concatenation", ((2,), (3,)), (5,))
    assert (run(emit_layer(layer), *vectors) == np.concatenate(vectors)).all()


# Moving values around


@pytest.mark.parametrize("shape", [(3, 4, 5), (5,)], ids=str)
def test_pad_appends_zeros(shape: tuple[int, ...]) -> None:
    builder = NetworkBuilder(shape)
    builder.pad_channels(0, 8)
    image = noise(*shape)
    expect(builder.build(), image, np.pad(image, [(0, 0)] * (len(shape) - 1) + [(0, 3)]))


@pytest.mark.parametrize(("begin", "end"), [(0, 2), (2, 5), (4, 5), (0, 5)])
def test_slice_takes_the_channels_from_its_offset(begin: int, end: int) -> None:
    for shape in ((3, 4, 5), (5,)):
        builder = NetworkBuilder(shape)
        builder.slice_channels(0, begin, end)
        image = noise(*shape)
        expect(builder.build(), image, image[..., begin:end])


def test_reshape_keeps_the_order() -> None:
    builder = NetworkBuilder((2, 3, 4))
    builder.reshape(0, (24,))
    image = noise(2, 3, 4)
    expect(builder.build(), image, image.reshape(24))


@pytest.mark.parametrize("size", [(8, 10), (3, 4), (7, 5), (4, 5)], ids=str)
def test_resize_bilinear_has_half_pixel_centres(size: tuple[int, int]) -> None:
    builder = NetworkBuilder((4, 5, 3))
    builder.resize_bilinear(0, *size)
    image = noise(4, 5, 3)
    y = F.interpolate(channels_first(image), size, mode="bilinear", align_corners=False)
    expect(builder.build(), image, channels_last(y))


@pytest.mark.parametrize("size", [(8, 10), (3, 4), (7, 5), (4, 5)], ids=str)
def test_resize_nearest_neighbor_repeats(size: tuple[int, int]) -> None:
    builder = NetworkBuilder((4, 5, 3))
    builder.resize_nearest_neighbor(0, *size)
    image = noise(4, 5, 3)
    y = F.interpolate(channels_first(image), size, mode="nearest")
    expect(builder.build(), image, channels_last(y))


# Averages


@pytest.mark.parametrize("keep", [True, False])
def test_mean_over_space(keep: bool) -> None:
    builder = NetworkBuilder((3, 4, 5))
    builder.mean(0, keep_dimensions=keep)
    image = noise(3, 4, 5)
    expected = image.mean((0, 1), keepdims=keep)
    expect(builder.build(), image, expected)


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 1), (3, 2)])
def test_average_pool_2d_has_no_padding(kernel: int, stride: int) -> None:
    builder = NetworkBuilder((7, 8, 3))
    builder.average_pool_2d(0, kernel=kernel, stride=stride)
    image = noise(7, 8, 3)
    y = F.avg_pool2d(channels_first(image), kernel, stride)
    expect(builder.build(), image, channels_last(y))


@pytest.mark.parametrize(("kernel", "stride"), [(2, 1), (2, 2), (3, 1), (3, 2), (5, 3)])
def test_average_pool_2d_with_padding_leaves_out_what_is_beyond(kernel: int, stride: int) -> None:
    builder = NetworkBuilder((7, 8, 3))
    x = builder.average_pool_2d(0, kernel=kernel, stride=stride, padded=True)
    image = noise(7, 8, 3)
    expected = np.empty(builder.shape(x), np.float32)
    for place in np.ndindex(*builder.shape(x)[:2]):
        window = []
        for at, size in zip(place, (7, 8), strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            begin = at * stride - total // 2
            window.append(slice(max(begin, 0), begin + kernel))
        expected[place] = image[tuple(window)].mean((0, 1))
    expect(builder.build(), image, expected)


# One value at a time


@pytest.mark.parametrize(
    ("op", "reference"),
    [
        ("relu", F.relu),
        ("relu6", F.relu6),
        ("hard_swish", F.hardswish),
        ("logistic", torch.sigmoid),
        ("softmax", lambda x: torch.softmax(x, -1)),
    ],
)
@pytest.mark.parametrize("shape", [(3, 4, 5), (5,)], ids=str)
def test_elementwise(
    op: Operator, reference: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...]
) -> None:
    builder = NetworkBuilder(shape)
    builder.elementwise(op, 0)
    image = noise(*shape)
    expect(builder.build(), image, reference(torch.from_numpy(image)).numpy())


# Weights


def test_weights_that_are_missing_are_drawn() -> None:
    builder = NetworkBuilder((4, 4, 2))
    builder.conv_2d(builder.conv_2d(0, 3), 2)
    network = builder.build()
    second = {1: Weights(np.zeros((2, 1, 1, 3), np.float32), np.array([7, 8], np.float32))}
    got = run(emit(network.with_weights(second)), noise(4, 4, 2))
    assert (got == [7, 8]).all()
    assert np.ptp(run(emit(network), noise(4, 4, 2))) > 0


@given(st.integers(0, 2**63))
def test_equal_networks_and_seeds_give_equal_bytes(seed: int) -> None:
    builder = NetworkBuilder((4, 4, 2))
    builder.conv_2d(0, 3)
    network = builder.build()
    assert emit(network, seed=seed) == emit(network, seed=seed)
    assert emit(network, seed=seed) != emit(network, seed=seed + 1)
    layer = network.layers[0]
    assert emit_layer(layer, seed=seed) == emit_layer(layer, seed=seed)
    assert emit_layer(layer, seed=seed) != emit_layer(layer, seed=seed + 1)


@pytest.mark.parametrize(
    "layer",
    [
        Layer("conv_2d", ((8, 8, 64),), (8, 8, 64), kernel=3),
        Layer("depthwise_conv_2d", ((8, 8, 64),), (8, 8, 64), kernel=5),
        Layer("fully_connected", ((256,),), (256,)),
    ],
    ids=lambda layer: layer.op,
)
def test_drawn_weights_keep_activations_near_one(layer: Layer) -> None:
    weights = random_weights(layer, np.random.default_rng(0))
    assert (weights.kernel.shape, weights.bias.shape) == layer.weight_shapes
    image = np.random.default_rng(1).normal(size=layer.inputs[0]).astype(np.float32)
    assert 0.5 < run(emit_layer(layer), image).std() < 2.5


# The law: whatever network is written down, the file names the same operators


@given(networks())
@settings(max_examples=150, deadline=None)
def test_the_file_names_the_operators_that_were_described(network: Network) -> None:
    model = emit(network)
    info = inspect(model)
    assert [operator.name for operator in info.operators] == [layer.op for layer in network.layers]
    assert [tensor.shape for tensor in info.inputs] == [(1, *network.input_shape)]
    assert [tensor.shape for tensor in info.outputs] == [(1, *network.output_shape)]
    assert info.size == len(model)
    for operator, layer in zip(info.operators, network.layers, strict=True):
        assert operator.inputs == tuple((1, *shape) for shape in layer.inputs)
        assert operator.outputs == ((1, *layer.output),)
        if layer.weight_shapes:
            assert operator.parameters == layer.parameters


@given(networks())
@settings(max_examples=60, deadline=None)
def test_the_runtime_takes_every_network(network: Network) -> None:
    assert run(emit(network), noise(*network.input_shape)).shape == network.output_shape


def test_every_operator_is_emitted_alone() -> None:
    """As the table's entries are: one layer, as many inputs as it has."""
    for layer in every_layer():
        images = [noise(*shape) for shape in layer.inputs]
        assert run(emit_layer(layer), *images).shape == layer.output
