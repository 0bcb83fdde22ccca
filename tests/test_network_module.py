"""A network in PyTorch: the same numbers as its definition, before and after folding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from boardfit.profiler.layers import Layer, Network, Node, Weights
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.search.network_module import (
    NetworkModule,
    WeightedLayer,
    centre,
    same_padding,
    to_network,
)
from boardfit.search.spaces import open_space

FloatArray = NDArray[np.floating[Any]]


def randomised(network: Network, seed: int = 0) -> NetworkModule:
    """A module in eval mode whose every parameter and statistic is away from its default."""
    generator = torch.Generator().manual_seed(seed)
    module = NetworkModule(network, generator).eval()
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, WeightedLayer) and layer.bias is not None:
                layer.bias.normal_(generator=generator)
            if isinstance(layer, torch.nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.normal_(generator=generator)
                layer.running_mean.normal_(generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)
    return module


def run(module: NetworkModule, image: FloatArray) -> FloatArray:
    """One image or vector in the network's own order (NHWC), and so the output."""
    x = torch.from_numpy(image[None].astype(np.float32))
    with torch.no_grad():
        y = module(x.permute(0, 3, 1, 2) if x.dim() == 4 else x)
    output: FloatArray = (y.permute(0, 2, 3, 1) if y.dim() == 4 else y)[0].numpy()
    return output


def random_image(*shape: int) -> FloatArray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def by_hand(
    image: FloatArray, weights: Weights, stride: int, *, depthwise: bool = False
) -> FloatArray:
    """A convolution as TensorFlow defines it: output o reads rows from o * stride - before on."""
    _, size, _, _ = weights.kernel.shape
    height, width, channels = image.shape
    rows, columns = -(-height // stride), -(-width // stride)
    top = max((rows - 1) * stride + size - height, 0) // 2
    left = max((columns - 1) * stride + size - width, 0) // 2
    padded = np.zeros((height + 2 * size, width + 2 * size, channels))
    padded[top : top + height, left : left + width] = image
    output = np.empty((rows, columns, len(weights.bias)))
    for i in range(rows):
        for j in range(columns):
            window = padded[i * stride : i * stride + size, j * stride : j * stride + size]
            if depthwise:
                output[i, j] = (window * weights.kernel[0]).sum((0, 1)) + weights.bias
            else:
                output[i, j] = (window * weights.kernel).sum((1, 2, 3)) + weights.bias
    return output


@given(
    height=st.integers(1, 8),
    width=st.integers(1, 8),
    kernel=st.sampled_from([1, 2, 3, 5, 7]),
    stride=st.sampled_from([1, 2, 3]),
    depthwise=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_convolutions_pad_as_tensorflow_does(
    height: int, width: int, kernel: int, stride: int, depthwise: bool
) -> None:
    builder = NetworkBuilder((height, width, 2))
    if depthwise:
        builder.depthwise_conv_2d(0, kernel=kernel, stride=stride)
    else:
        builder.conv_2d(0, 3, kernel=kernel, stride=stride)
    module = randomised(builder.build())
    weights = (to_network(module).weights or {})[0]
    image = random_image(height, width, 2)
    expected = by_hand(image, weights, stride, depthwise=depthwise)
    np.testing.assert_allclose(run(module, image), expected, atol=1e-4)


def test_the_odd_row_of_padding_comes_last() -> None:
    assert same_padding(224, 3, 2) == (0, 1)
    assert same_padding(225, 3, 2) == (1, 1)
    assert same_padding(8, 5, 2) == (1, 2)
    assert same_padding(8, 5, 1) == (2, 2)
    assert same_padding(8, 1, 2) == (0, 0)


def test_the_centre_of_a_kernel() -> None:
    kernel = torch.arange(25.0).reshape(1, 1, 5, 5)
    assert centre(kernel, 3)[0, 0].tolist() == [[6, 7, 8], [11, 12, 13], [16, 17, 18]]
    assert torch.equal(centre(kernel, 5), kernel)


IMAGE = random_image(4, 6, 3)
X = IMAGE.astype(np.float64)
EXPECTED: dict[str, tuple[Callable[[NetworkBuilder], int], FloatArray]] = {
    "relu": (lambda b: b.elementwise("relu", 0), X.clip(0)),
    "relu6": (lambda b: b.elementwise("relu6", b.add(b.add(0, 0), 0)), (3 * X).clip(0, 6)),
    "hard swish": (lambda b: b.elementwise("hard_swish", 0), X * (X + 3).clip(0, 6) / 6),
    "logistic": (lambda b: b.elementwise("logistic", 0), 1 / (1 + np.exp(-X))),
    "softmax": (
        lambda b: b.elementwise("softmax", 0),
        np.exp(X) / np.exp(X).sum(-1, keepdims=True),
    ),
    "add, fused": (lambda b: b.add(0, 0, activation="relu"), (2 * X).clip(0)),
    "mul, fused": (lambda b: b.mul(0, 0, activation="relu6"), (X * X).clip(0, 6)),
    "mul by channel": (lambda b: b.mul(0, b.mean(0)), X * X.mean((0, 1))),
    "add a vector": (lambda b: b.add(0, b.mean(0, keep_dimensions=False)), X + X.mean((0, 1))),
    "mean": (lambda b: b.mean(0), X.mean((0, 1), keepdims=True)),
    "mean as a vector": (lambda b: b.mean(0, keep_dimensions=False), X.mean((0, 1))),
    "slice": (lambda b: b.slice_channels(0, 1, 3), X[..., 1:3]),
    "pad": (lambda b: b.pad_channels(0, 5), np.pad(X, ((0, 0), (0, 0), (0, 2)))),
    "concatenation": (
        lambda b: b.concatenation([b.slice_channels(0, 2, 3), 0]),
        np.concatenate([X[..., 2:3], X], axis=-1),
    ),
    "average pool": (lambda b: b.average_pool_2d(0), X.reshape(2, 2, 3, 2, 3).mean((1, 3))),
    "nearest": (
        lambda b: b.resize_nearest_neighbor(0, 8, 12),
        X.repeat(2, axis=0).repeat(2, axis=1),
    ),
    "flatten": (lambda b: b.reshape(0, (72,)), X.reshape(72)),
    "reshape": (lambda b: b.reshape(0, (6, 4, 3)), X.reshape(6, 4, 3)),
    "unflatten": (lambda b: b.reshape(b.reshape(0, (72,)), (2, 3, 12)), X.reshape(2, 3, 12)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_operators_without_weights(name: str) -> None:
    write, expected = EXPECTED[name]
    builder = NetworkBuilder(IMAGE.shape)
    write(builder)
    got = run(NetworkModule(builder.build()), IMAGE)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_vectors_have_their_channels_last() -> None:
    vector = np.arange(4, dtype=np.float32)
    builder = NetworkBuilder((4,))
    x = builder.concatenation([builder.slice_channels(0, 1, 3), builder.pad_channels(0, 5)])
    builder.elementwise("relu", builder.add(x, x))
    got = run(NetworkModule(builder.build()), vector)
    np.testing.assert_array_equal(got, 2 * np.array([1, 2, 0, 1, 2, 3, 0]))


def test_resizing_has_half_pixel_centres() -> None:
    builder = NetworkBuilder((1, 2, 1))
    builder.resize_bilinear(0, 1, 4)
    got = run(NetworkModule(builder.build()), np.array([[[0.0], [4.0]]]))
    np.testing.assert_allclose(got[0, :, 0], [0, 1, 3, 4])


def test_a_matrix_and_its_activation() -> None:
    builder = NetworkBuilder((3,))
    builder.fully_connected(0, 2, activation="relu")
    kernel = np.array([[1, 2, 3], [-1, -1, -1]], np.float32)
    network = builder.build().with_weights({0: Weights(kernel, np.array([1, 0], np.float32))})
    got = run(NetworkModule(network), np.ones(3))
    np.testing.assert_array_equal(got, [7, 0])


def test_folding_batch_normalisation_keeps_the_outputs() -> None:
    for name in ("mobilenetv3-32", "mobilenetv3-large"):
        space = open_space(name, input_size=32, classes=5)
        module = randomised(space.network(space.random(np.random.default_rng(1))))
        folded = to_network(module)
        assert not any(node.batch_norm for node in folded.nodes)
        assert folded.layers == module.network.layers
        image = random_image(32, 32, 3)
        expected = run(module, image)
        got = run(NetworkModule(folded).eval(), image)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(got / scale, expected / scale, atol=1e-5)


def test_weights_stand_for_folded_batch_normalisation() -> None:
    """Weights on a structure that still says batch_norm are not normalised a second time."""
    space = open_space("mobilenetv3-32")
    folded = to_network(randomised(space.network(space.narrowed(0.3))))
    structure = space.network(space.narrowed(0.3))
    image = random_image(32, 32, 3)
    got = run(NetworkModule(structure.with_weights(folded.weights or {})).eval(), image)
    np.testing.assert_array_equal(got, run(NetworkModule(folded).eval(), image))


def test_folding_by_hand() -> None:
    builder = NetworkBuilder((1, 1, 1))
    builder.conv_2d(0, 1, name="a", batch_norm=True)
    module = NetworkModule(builder.build())
    layer = module.layer("a")
    assert layer.norm is not None
    with torch.no_grad():
        layer.weight.fill_(3.0)
        layer.norm.weight.fill_(2.0)
        layer.norm.bias.fill_(1.0)
        layer.norm.running_mean = torch.tensor([5.0])
        layer.norm.running_var = torch.tensor([4.0 - layer.norm.eps])
    weights = (to_network(module).weights or {})[0]
    assert weights.kernel.item() == pytest.approx(3.0)  # 3 * 2 / sqrt(4)
    assert weights.bias.item() == pytest.approx(-4.0)  # 1 - 5 * 2 / sqrt(4)
    assert weights.kernel.dtype == weights.bias.dtype == np.float32


def test_weights_survive_the_way_there_and_back() -> None:
    builder = NetworkBuilder((4, 4, 2))
    x = builder.conv_2d(0, 3, kernel=3, name="a")
    x = builder.depthwise_conv_2d(x, kernel=5, name="b.c")
    builder.fully_connected(builder.mean(x, keep_dimensions=False), 4)
    rng = np.random.default_rng(0)
    weights = {}
    for number, layer in enumerate(builder.build().layers):
        if layer.weight_shapes:
            kernel, bias = (
                rng.normal(size=shape).astype(np.float32) for shape in layer.weight_shapes
            )
            weights[number] = Weights(kernel, bias)
    network = builder.build().with_weights(weights)
    back = to_network(NetworkModule(network))
    assert back == network
    for number, expected in weights.items():
        got = (back.weights or {})[number]
        np.testing.assert_array_equal(got.kernel, expected.kernel)
        np.testing.assert_array_equal(got.bias, expected.bias)


def test_layers_are_found_by_name() -> None:
    space = open_space("mobilenetv3-32")
    module = NetworkModule(space.network(space.full))
    named = [node.name for node in module.network.nodes if node.layer.weight_shapes]
    assert list(module.names) == named
    assert module.layer("block3.excite").layer.output == (1, 1, 72)
    with pytest.raises(KeyError):
        module.layer("block99.expand")


def test_names_that_could_not_be_told_apart_are_refused() -> None:
    builder = NetworkBuilder((4, 4, 2))
    builder.conv_2d(builder.conv_2d(0, 3, name="a"), 3, name="a")
    with pytest.raises(ValueError, match="two weighted nodes are called 'a'"):
        NetworkModule(builder.build())
    builder = NetworkBuilder((4, 4, 2))
    builder.conv_2d(0, 3, name="a/b")
    with pytest.raises(ValueError, match="may not hold a slash"):
        NetworkModule(builder.build())


def test_batch_normalisation_of_a_vector_is_refused() -> None:
    layer = Layer("fully_connected", ((3,),), (2,))
    network = Network((3,), (Node(layer, (0,), "a", batch_norm=True),))
    with pytest.raises(ValueError, match="batch normalisation of vectors"):
        NetworkModule(network)


def test_initial_weights_come_from_the_generator_alone() -> None:
    space = open_space("mobilenetv3-32")
    network = space.network(space.full)
    state = torch.random.get_rng_state()
    one, same, other = (NetworkModule(network, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    empty = NetworkModule(network)
    assert torch.equal(state, torch.random.get_rng_state())
    name = "block10.project"
    assert torch.equal(one.layer(name).weight, same.layer(name).weight)
    assert not torch.equal(one.layer(name).weight, other.layer(name).weight)
    assert not empty.layer(name).weight.any()
    # He et al.: variance 2 / fan-in, so that activations keep their size
    assert float(one.layer(name).weight.detach().std()) == pytest.approx((2 / 288) ** 0.5, rel=0.05)
    classifier = one.layer("head.classifier")
    assert float(classifier.weight.detach().std()) == pytest.approx((1 / 256) ** 0.5, rel=0.05)


def test_a_module_trains() -> None:
    """A step of gradient descent on a batch lowers its loss, and every parameter has a part."""
    space = open_space("mobilenetv3-32")
    generator = torch.Generator().manual_seed(0)
    module = NetworkModule(space.network(space.narrowed(0.5)), generator)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    labels = torch.randint(0, 12, (8,), generator=generator)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05)
    losses = []
    for _ in range(3):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_state_dicts_go_from_one_module_to_another() -> None:
    space = open_space("mobilenetv3-32")
    one = randomised(space.network(space.narrowed(0.5)))
    other = NetworkModule(one.network).eval()
    other.load_state_dict(one.state_dict())
    image = random_image(32, 32, 3)
    np.testing.assert_array_equal(run(one, image), run(other, image))
