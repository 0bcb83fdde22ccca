"""Networks of int8: the arithmetic that LiteRT does on them is that of their float twins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.profiler.emit_tflite import emit, emit_layer
from boardfit.profiler.layers import (
    OPERATORS,
    Activation,
    FloatArray,
    Layer,
    Network,
    Operator,
    Weights,
)
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.quantization import KEEPS_SCALE, Quantization, quantize_activations
from boardfit.search.spaces import open_space

litert = pytest.importorskip("ai_edge_litert.interpreter")

LAYERS = [
    Layer("conv_2d", ((8, 7, 8),), (4, 4, 16), kernel=3, stride=2, activation="relu"),
    Layer("conv_2d", ((8, 8, 8),), (8, 8, 5), activation="relu6"),
    Layer("conv_2d", ((1, 1, 24),), (1, 1, 8)),
    Layer("depthwise_conv_2d", ((8, 8, 8),), (8, 8, 8), kernel=3),
    Layer("depthwise_conv_2d", ((9, 8, 8),), (5, 4, 8), kernel=5, stride=2, activation="relu"),
    Layer("fully_connected", ((40,),), (12,)),
    Layer("fully_connected", ((40,),), (12,), activation="relu"),
    Layer("add", ((4, 4, 8), (4, 4, 8)), (4, 4, 8)),
    Layer("add", ((4, 4, 8), (4, 4, 8)), (4, 4, 8), activation="relu"),
    Layer("mul", ((4, 4, 8), (1, 1, 8)), (4, 4, 8)),
    Layer("pad", ((4, 4, 2),), (4, 4, 3)),
    Layer("pad", ((5,),), (8,)),
    Layer("slice", ((4, 4, 5),), (4, 4, 2), offset=1),
    Layer("concatenation", ((4, 4, 2), (4, 4, 1)), (4, 4, 3)),
    Layer("mean", ((4, 4, 2),), (1, 1, 2)),
    Layer("mean", ((4, 4, 2),), (2,)),
    Layer("average_pool_2d", ((4, 4, 2),), (2, 2, 2), kernel=2, stride=2),
    *(Layer(op, ((4, 4, 8),), (4, 4, 8)) for op in ("relu", "relu6", "hard_swish")),
    *(Layer(op, ((4, 4, 8),), (4, 4, 8)) for op in ("logistic", "softmax")),
    Layer("reshape", ((4, 4, 2),), (32,)),
    Layer("resize_bilinear", ((4, 4, 2),), (8, 8, 2)),
    Layer("resize_nearest_neighbor", ((4, 4, 2),), (8, 8, 2)),
]
# What LiteRT's XNNPACK has no int8 kernel for.
OUTSIDE: set[Operator] = {
    "average_pool_2d", "relu", "relu6", "hard_swish", "softmax", "resize_nearest_neighbor"
}  # fmt: skip


def load(model: bytes) -> Any:
    interpreter = litert.Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def run(interpreter: Any, images: list[Any]) -> Any:
    for tensor, image in zip(interpreter.get_input_details(), images, strict=True):
        interpreter.set_tensor(tensor["index"], image[None])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


def quantization(tensor: Mapping[str, Any]) -> Quantization:
    """As the runtime read it from the file, whatever the emitter meant to write."""
    found = tensor["quantization_parameters"]
    return Quantization(
        found["scales"].astype(np.float32),
        int(found["zero_points"][0]),
        int(found["quantized_dimension"]),
    )


def quantize(values: FloatArray, by: Quantization) -> Any:
    return np.clip(np.rint(values / by.scale) + by.zero_point, -128, 127).astype(np.int8)


def dequantized_weights(interpreter: Any, layers: tuple[Layer, ...]) -> dict[int, Weights]:
    """The kernels and biases that the file holds, as floats, by node."""
    tensors = interpreter.get_tensor_details()
    constants = [t for t in tensors if t["name"].startswith("constant_")]
    values = iter(sorted(constants, key=lambda t: int(t["name"].removeprefix("constant_"))))
    integers = {"pad": 1, "slice": 2, "mean": 1, "reshape": 1}
    integers |= {"resize_bilinear": 1, "resize_nearest_neighbor": 1}
    weights = {}
    for number, layer in enumerate(layers):
        if layer.weight_shapes:
            kernel, bias = (
                quantization(t).dequantize(interpreter.get_tensor(t["index"]))
                for t in (next(values), next(values))
            )
            weights[number] = Weights(kernel, bias)
        for _ in range(integers.get(layer.op, 0)):
            next(values)
    assert next(values, None) is None
    return weights


def twin_error(
    int8: bytes, inputs: int, network: Network | None, layer: Layer | None
) -> FloatArray:
    """The outputs of LiteRT in int8 minus those of the float twin, in steps of the output."""
    interpreter = load(int8)
    rng = np.random.default_rng(0)
    scales = [quantization(tensor) for tensor in interpreter.get_input_details()]
    assert len(scales) == inputs
    images = [
        quantize(rng.uniform(-1, 1, t["shape"][1:]).astype(np.float32), scale)
        for t, scale in zip(interpreter.get_input_details(), scales, strict=True)
    ]
    got = run(interpreter, images)
    floats = [scale.dequantize(image) for scale, image in zip(scales, images, strict=True)]
    if network is not None:
        weights = dequantized_weights(interpreter, network.layers)
        expected = run(load(emit(network.with_weights(weights))), floats)
    else:
        assert layer is not None
        expected = run(load(emit_layer(layer)), floats)
    output = quantization(interpreter.get_output_details()[0])
    low, high = (float(output.dequantize(np.array([x], np.int8))[0]) for x in (-128, 127))
    steps: FloatArray = (output.dequantize(got) - np.clip(expected, low, high)) / output.scale
    assert network is None or np.ptp(got.astype(int)) >= 5  # not all cut off
    return steps


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.signature)
def test_each_operator_computes_what_its_float_twin_does(layer: Layer) -> None:
    model = emit_layer(layer.as_dtype("int8"))
    network = None
    if layer.weight_shapes:
        network = _single(layer)
    error = twin_error(model, len(layer.inputs), network, layer)
    assert np.abs(error).max() <= 1.5, error


def _single(layer: Layer) -> Network:
    builder = NetworkBuilder(layer.inputs[0])
    if layer.op == "conv_2d":
        builder.conv_2d(
            0,
            layer.output[-1],
            kernel=layer.kernel,
            stride=layer.stride,
            activation=layer.activation,
        )
    elif layer.op == "depthwise_conv_2d":
        builder.depthwise_conv_2d(
            0, kernel=layer.kernel, stride=layer.stride, activation=layer.activation
        )
    else:
        builder.fully_connected(0, layer.output[-1], activation=layer.activation)
    network = builder.build()
    assert network.layers == (layer,)
    return network


def test_the_examples_have_every_operator() -> None:
    assert {layer.op for layer in LAYERS} == set(OPERATORS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.signature)
def test_xnnpack_takes_every_operator_that_it_has_in_int8(layer: Layer) -> None:
    operators = load(emit_layer(layer.as_dtype("int8")))._get_ops_details()
    delegated = any(operator["op_name"] == "DELEGATE" for operator in operators)
    assert delegated == (layer.op not in OUTSIDE)


def bottleneck(activation: Operator, *, bypass: bool) -> Network:
    """A block of the spaces: expansion, depthwise, squeeze-excite, projection, residual."""
    builder = NetworkBuilder((8, 8, 8))
    x = builder.conv_2d(0, 16, activation="relu")
    x = builder.elementwise(activation, builder.depthwise_conv_2d(x, kernel=3))
    gate = builder.conv_2d(builder.mean(x), 4, activation="relu")
    gate = builder.elementwise("logistic", builder.conv_2d(gate, 16))
    x = builder.conv_2d(builder.mul(x, gate), 8)
    if bypass:
        kept = builder.slice_channels(x, 0, 6)
        x = builder.concatenation([kept, builder.slice_channels(0, 6, 8)])
    x = builder.add(0, x)
    x = builder.pad_channels(builder.average_pool_2d(x), 12)
    x = builder.resize_bilinear(x, 6, 6)
    builder.fully_connected(builder.mean(x, keep_dimensions=False), 10)
    return builder.build()


@pytest.mark.parametrize("bypass", [False, True])
@pytest.mark.parametrize("activation", ["hard_swish", "relu6"])
def test_whole_networks_compute_what_their_float_twins_do(
    activation: Operator, bypass: bool
) -> None:
    network = bottleneck(activation, bypass=bypass)
    error = twin_error(emit(network.as_dtype("int8")), 1, network, None)
    assert np.abs(error).max() <= 4, error


@pytest.mark.parametrize("name", ["mobilenetv3-32", "mobilenetv3-large"])
def test_only_hard_swish_and_pooling_leave_xnnpack_in_the_spaces(name: str) -> None:
    space = open_space(name, input_size=32)
    rng = np.random.default_rng(0)
    for architecture in (space.full, space.smallest, space.random(rng)):
        network = space.network(architecture).as_dtype("int8")
        interpreter = load(emit(network))
        names = [operator["op_name"] for operator in interpreter._get_ops_details()]
        outside = sum(layer.op in OUTSIDE for layer in network.layers)
        # The partitions between what is left outside; XNNPACK's own operators are listed, too.
        assert 1 <= names.count("DELEGATE") <= outside + 1
        interpreter.invoke()


# Laws of the scales


@given(st.lists(st.sampled_from(OPERATORS), min_size=1, max_size=10), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_the_runtime_takes_every_int8_network(operators: list[Operator], seed: int) -> None:
    rng = np.random.default_rng(seed)
    builder = NetworkBuilder((4, 5, 6))
    for op in operators:
        x, y = (int(n) for n in rng.integers(0, len(builder.nodes) + 1, 2))
        activation: Activation = "relu" if seed % 2 else "none"
        try:
            match op:
                case "conv_2d":
                    builder.conv_2d(x, 6, kernel=3, activation=activation)
                case "depthwise_conv_2d":
                    builder.depthwise_conv_2d(x, kernel=3, activation=activation)
                case "fully_connected":
                    builder.fully_connected(x, 6, activation=activation)
                case "add":
                    builder.add(x, y, activation=activation)
                case "mul":
                    builder.mul(x, y, activation=activation)
                case "pad":
                    builder.pad_channels(x, builder.shape(x)[-1] + 1)
                case "slice":
                    builder.slice_channels(x, 0, 6)
                case "concatenation":
                    builder.concatenation([x, y])
                case "mean":
                    builder.mean(x, keep_dimensions=bool(y % 2))
                case "average_pool_2d":
                    builder.average_pool_2d(x)
                case "reshape":
                    builder.reshape(x, (int(np.prod(builder.shape(x))),))
                case "resize_bilinear":
                    builder.resize_bilinear(x, 4, 5)
                case "resize_nearest_neighbor":
                    builder.resize_nearest_neighbor(x, 4, 5)
                case _:
                    builder.elementwise(op, x)
        except ValueError:
            continue
    if not builder.nodes:
        builder.elementwise("relu", 0)
    network = builder.build().as_dtype("int8")
    steps = [(node.layer, node.inputs) for node in network.nodes]
    scales = quantize_activations(1, steps)
    for number, (layer, reads) in enumerate(steps, start=1):
        assert -128 <= scales[number].zero_point <= 127
        if layer.op in KEEPS_SCALE - {"average_pool_2d", "relu", "relu6"}:
            assert all(scales[read] is scales[number] for read in reads)
        if layer.op in {"logistic", "softmax"}:
            assert scales[number].scale.tolist() == [1 / 256]
            assert scales[number].zero_point == -128
    interpreter = load(emit(network))
    image = np.zeros(network.input_shape, np.int8)
    assert run(interpreter, [image]).shape == network.output_shape


def test_equal_int8_networks_give_equal_bytes() -> None:
    network = bottleneck("hard_swish", bypass=True).as_dtype("int8")
    assert emit(network) == emit(network)
    assert emit(network) != emit(network, seed=1)


@pytest.mark.parametrize(
    ("layer", "scales"),
    [
        (Layer("conv_2d", ((4, 4, 3),), (4, 4, 7)), 7),
        (Layer("depthwise_conv_2d", ((4, 4, 6),), (4, 4, 6), kernel=3), 6),
        (Layer("fully_connected", ((5,),), (4,)), 1),
    ],
    ids=lambda value: value.op if isinstance(value, Layer) else "",
)
def test_kernels_have_a_scale_for_each_channel_and_matrices_one(layer: Layer, scales: int) -> None:
    tensors = load(emit_layer(layer.as_dtype("int8"))).get_tensor_details()
    kernel, bias = (t for t in tensors if t["name"].startswith("constant_"))
    assert (kernel["dtype"], bias["dtype"]) == (np.int8, np.int32)
    # LiteRT repeats the one scale of a matrix's kernel, so the biases tell what the file holds.
    assert len(quantization(bias).scale) == scales
