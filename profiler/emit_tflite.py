"""Write a `Network` as a TFLite model, in milliseconds and without a converter.

The flatbuffer is written directly: what was described is what runs, operator by operator. A
network without weights gets random ones, since the time does not depend on their values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .layers import FloatArray, Layer, Network, Node, Shape, Weights
from .quantization import Quantization, Step, quantize_activations, quantize_weights
from .tflite_format import ACTIVATION_CODE, OPERATOR_FORMAT, PADDING_SAME, PADDING_VALID
from .worker import POOL, drawn
from .write_tflite import Field, ModelWriter


def emit(network: Network, *, seed: int = 0) -> bytes:
    """Return the network as the bytes of a `.tflite` file (NHWC, batch 1).

    `seed` draws the weights that the network does not carry; equal networks and seeds give equal
    bytes, so that content hashes can name models. An int8 network is statically quantised, see
    `quantization`.
    """
    names = [node.name for node in network.nodes]
    steps = [(node.layer, node.inputs) for node in network.nodes]
    return _emit({"input": network.input_shape}, steps, names, network.weights or {}, seed)


def emit_layer(layer: Layer, *, seed: int = 0) -> bytes:
    """Return a model that consists of one layer, to be timed on its own.

    A layer with several inputs becomes a model with as many inputs.
    """
    inputs = {f"input_{i}": shape for i, shape in enumerate(layer.inputs)}
    return _emit(inputs, [(layer, tuple(range(len(inputs))))], [""], {}, seed)


def _emit(
    inputs: Mapping[str, Shape],
    steps: Sequence[Step],
    names: Sequence[str],
    weights: Mapping[int, Weights],
    seed: int,
) -> bytes:
    """Tensors are numbered as in `Network`: first the inputs, then the output of each step."""
    writer = ModelWriter()
    rng = np.random.default_rng(seed)
    int8 = steps[0][0].dtype == "int8"
    scales: Sequence[Quantization | None] = [None] * (len(inputs) + len(steps))
    if int8:
        scales = quantize_activations(len(inputs), steps)
    tensors = [
        writer.tensor((1, *shape), name=name, quantization=scale)
        for (name, shape), scale in zip(inputs.items(), scales, strict=False)
    ]
    for number, (layer, reads) in enumerate(steps):
        scale = scales[len(inputs) + number]
        name = _tensor_name(names, number)
        output = writer.tensor((1, *layer.output), name=name, quantization=scale)
        constants: list[int] = []
        if layer.weight_shapes:
            found = weights.get(number) or random_weights(layer, rng)
            read = scales[reads[0]]
            if read is None:
                constants = [writer.constant(found.kernel), writer.constant(found.bias)]
            else:
                constants = [writer.constant(*x) for x in quantize_weights(layer, found, read)]
        else:
            constants = [writer.constant(np.array(x, np.int32)) for x in _integers(layer)]
        form = OPERATOR_FORMAT[layer.op]
        version = form.int8_version if int8 else form.version
        read_tensors = [tensors[tensor] for tensor in reads]
        writer.operator(form, version, [*read_tensors, *constants], output, _options(layer))
        tensors.append(output)
    return writer.finish(inputs=tensors[: len(inputs)], outputs=[tensors[-1]])


def tensor_name(nodes: Sequence[Node], tensor: int) -> str:
    """What a tensor of a network is called in its file: tensor 0 is the input, and n + 1 the output
    of node n."""
    return "input" if tensor == 0 else _tensor_name([node.name for node in nodes], tensor - 1)


def _tensor_name(names: Sequence[str], number: int) -> str:
    return "output" if number == len(names) - 1 else names[number] or f"tensor_{number}"


def random_weights(layer: Layer, rng: np.random.Generator) -> Weights:
    """Weights that keep activations near one, so that no run meets denormal numbers.

    They are numbers that a worker can draw itself (`worker.drawn`); `rng` chooses which.
    """
    kernel_shape, bias_shape = layer.weight_shapes
    fan_in = math.prod(kernel_shape) // (1 if layer.op == "depthwise_conv_2d" else kernel_shape[0])
    if layer.op == "depthwise_conv_2d":
        fan_in = layer.kernel**2

    def random(shape: Shape, deviation: float) -> FloatArray:
        # The drawn numbers' root mean square is 1.53 times two to the exponent.
        exponent = round(math.log2(deviation / 1.53))
        return drawn(exponent, int(rng.integers(POOL)), math.prod(shape)).reshape(shape)

    return Weights(random(kernel_shape, math.sqrt(2.0 / fan_in)), random(bias_shape, 0.06))


def _integers(layer: Layer) -> list[object]:
    """The integer constants that an operator without weights reads."""
    integers: list[object] = []
    rank = len(layer.output) + 1
    if layer.op == "pad":
        added = layer.output[-1] - layer.inputs[0][-1]
        integers = [[[0, 0]] * (rank - 1) + [[0, added]]]
    elif layer.op == "slice":
        integers = [[0] * (rank - 1) + [layer.offset], [1, *layer.output]]
    elif layer.op == "mean":
        integers = [[1, 2]]
    elif layer.op == "reshape":
        integers = [[1, *layer.output]]
    elif layer.op in {"resize_bilinear", "resize_nearest_neighbor"}:
        integers = [list(layer.output[:2])]
    return integers


def _options(layer: Layer) -> list[Field]:
    """The fields of the operator's options table."""
    activation = ACTIVATION_CODE[layer.activation]
    stride = layer.stride
    if layer.op == "conv_2d":
        return [
            (0, "int8", PADDING_SAME),
            (1, "int32", stride),
            (2, "int32", stride),
            (3, "int8", activation),
        ]
    if layer.op == "depthwise_conv_2d":
        return [
            (0, "int8", PADDING_SAME),
            (1, "int32", stride),
            (2, "int32", stride),
            (3, "int32", 1),  # depth multiplier
            (4, "int8", activation),
        ]
    if layer.op == "average_pool_2d":
        return [
            (0, "int8", PADDING_SAME if layer.padded else PADDING_VALID),
            (1, "int32", stride),
            (2, "int32", stride),
            (3, "int32", layer.kernel),
            (4, "int32", layer.kernel),
        ]
    if layer.op in {"fully_connected", "add", "mul"}:
        return [(0, "int8", activation)]
    if layer.op == "concatenation":
        return [(0, "int32", len(layer.output))]  # the axis, counted with the batch
    if layer.op == "mean":
        return [(0, "bool", len(layer.output) == 3)]  # keep the dimensions
    if layer.op == "softmax":
        return [(0, "float32", 1.0)]
    if layer.op == "resize_bilinear":
        return [(2, "bool", False), (3, "bool", True)]  # corners not aligned, half-pixel centres
    return []
