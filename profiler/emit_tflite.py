"""Write a `Network` as a TFLite model, in milliseconds and without a converter.

The flatbuffer is written directly: what was described is what runs, operator by operator. A
network without weights gets random ones, since the time does not depend on their values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from .layers import FloatArray, Layer, Network, Shape, Weights
from .tflite_format import (
    ACTIVATION_CODE,
    FLOAT32,
    IDENTIFIER,
    INT32,
    OPERATOR_FORMAT,
    PADDING_SAME,
    PADDING_VALID,
    SCHEMA_VERSION,
)
from .worker import POOL, drawn

# A field of a FlatBuffers table: its position, its type ("offset", "int8", ...) and its value.
_Field = tuple[int, str, Any]


def emit(network: Network, *, seed: int = 0) -> bytes:
    """Return the network as the bytes of a `.tflite` file (float32, NHWC, batch 1).

    `seed` draws the weights that the network does not carry; equal networks and seeds give equal
    bytes, so that content hashes can name models.
    """
    writer = _Writer()
    rng = np.random.default_rng(seed)
    tensors = [writer.tensor((1, *network.input_shape), name="input")]
    for number, node in enumerate(network.nodes):
        weights = (network.weights or {}).get(number)
        if weights is None and node.layer.weight_shapes:
            weights = random_weights(node.layer, rng)
        inputs = [tensors[tensor] for tensor in node.inputs]
        last = number == len(network.nodes) - 1
        output = writer.tensor(
            (1, *node.layer.output), name="output" if last else node.name or f"tensor_{number}"
        )
        tensors.append(output)
        writer.operator(node.layer, [*inputs, *_constants(writer, node.layer, weights)], output)
    return writer.finish(inputs=[tensors[0]], outputs=[tensors[-1]])


def emit_layer(layer: Layer, *, seed: int = 0) -> bytes:
    """Return a model that consists of one layer, to be timed on its own.

    A layer with several inputs becomes a model with as many inputs.
    """
    writer = _Writer()
    rng = np.random.default_rng(seed)
    weights = random_weights(layer, rng) if layer.weight_shapes else None
    inputs = [writer.tensor((1, *shape), name=f"input_{i}") for i, shape in enumerate(layer.inputs)]
    output = writer.tensor((1, *layer.output), name="output")
    writer.operator(layer, [*inputs, *_constants(writer, layer, weights)], output)
    return writer.finish(inputs=inputs, outputs=[output])


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


def _constants(writer: _Writer, layer: Layer, weights: Weights | None) -> list[int]:
    """The operator's inputs that are not activations."""
    if weights is not None:
        return [writer.constant(weights.kernel), writer.constant(weights.bias)]
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
    elif layer.op == "resize_bilinear":
        integers = [list(layer.output[:2])]
    return [writer.constant(np.array(values, np.int32)) for values in integers]


def _options(layer: Layer) -> list[_Field]:
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
            (0, "int8", PADDING_VALID),
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


class _Writer:
    """Collects tensors, buffers and operators, and serialises them once."""

    def __init__(self) -> None:
        self._tensors: list[tuple[tuple[int, ...], int, int, str]] = []
        self._buffers: list[bytes] = [b""]  # buffer 0 is empty by definition
        self._codes: dict[tuple[int, int], int] = {}
        self._operators: list[tuple[int, list[int], int, int, int, list[_Field]]] = []

    def tensor(
        self, shape: tuple[int, ...], *, name: str, dtype: int = FLOAT32, buffer: int = 0
    ) -> int:
        self._tensors.append((shape, dtype, buffer, name))
        return len(self._tensors) - 1

    def constant(self, values: NDArray[np.float32] | NDArray[np.int32]) -> int:
        dtype = INT32 if values.dtype == np.int32 else FLOAT32
        self._buffers.append(np.ascontiguousarray(values).tobytes())
        number = len(self._buffers) - 1
        return self.tensor(values.shape, name=f"constant_{number}", dtype=dtype, buffer=number)

    def operator(self, layer: Layer, inputs: list[int], output: int) -> None:
        form = OPERATOR_FORMAT[layer.op]
        code = self._codes.setdefault((form.code, form.version), len(self._codes))
        self._operators.append(
            (code, inputs, output, form.options, form.option_fields, _options(layer))
        )

    def finish(self, *, inputs: list[int], outputs: list[int]) -> bytes:
        size = sum(len(data) + 64 for data in self._buffers) + 256 * len(self._tensors)
        builder = flatbuffers.Builder(size + 1024)
        integers = _vector_of_integers
        buffers = _vector(builder, self._buffers, self._write_buffer)
        tensors = _vector(builder, self._tensors, self._write_tensor)
        operators = _vector(builder, self._operators, self._write_operator)
        subgraph_fields = [
            (0, "offset", tensors),
            (1, "offset", integers(builder, inputs)),
            (2, "offset", integers(builder, outputs)),
            (3, "offset", operators),
            (4, "offset", builder.CreateString("main")),
        ]
        subgraph = _table(builder, 5, subgraph_fields)
        model_fields = [
            (0, "uint32", SCHEMA_VERSION),
            (1, "offset", _vector(builder, list(self._codes), self._write_code)),
            (2, "offset", _offsets(builder, [subgraph])),
            (3, "offset", builder.CreateString("boardfit")),
            (4, "offset", buffers),
        ]
        builder.Finish(_table(builder, 5, model_fields), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    @staticmethod
    def _write_buffer(builder: Any, data: bytes) -> int:
        if not data:
            return _table(builder, 3, [])
        # XNNPACK reads weights in place and wants them aligned to 16 bytes.
        builder.StartVector(1, len(data), 16)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        builder.vectorNumElems = len(data)
        return _table(builder, 3, [(0, "offset", builder.EndVector())])

    @staticmethod
    def _write_tensor(builder: Any, tensor: tuple[tuple[int, ...], int, int, str]) -> int:
        shape, dtype, buffer, name = tensor
        fields = [
            (0, "offset", _vector_of_integers(builder, shape)),
            (1, "int8", dtype),
            (2, "uint32", buffer),
            (3, "offset", builder.CreateString(name)),
        ]
        return _table(builder, 10, fields)

    @staticmethod
    def _write_operator(
        builder: Any, operator: tuple[int, list[int], int, int, int, list[_Field]]
    ) -> int:
        code, inputs, output, options, option_fields, values = operator
        fields: list[_Field] = [
            (0, "uint32", code),
            (1, "offset", _vector_of_integers(builder, inputs)),
            (2, "offset", _vector_of_integers(builder, [output])),
        ]
        if options:
            table = _table(builder, option_fields, values)
            fields += [(3, "uint8", options), (4, "offset", table)]
        return _table(builder, 9, fields)

    @staticmethod
    def _write_code(builder: Any, code_and_version: tuple[int, int]) -> int:
        code, version = code_and_version
        # Field 0 is the code of old readers, which had one byte for it.
        return _table(
            builder, 4, [(0, "int8", min(code, 127)), (2, "int32", version), (3, "int32", code)]
        )


def _table(builder: Any, field_count: int, fields: Sequence[_Field]) -> int:
    builder.StartObject(field_count)
    add = {
        "offset": builder.PrependUOffsetTRelativeSlot,
        "int8": builder.PrependInt8Slot,
        "uint8": builder.PrependUint8Slot,
        "bool": builder.PrependBoolSlot,
        "int32": builder.PrependInt32Slot,
        "uint32": builder.PrependUint32Slot,
        "float32": builder.PrependFloat32Slot,
    }
    for position, kind, value in fields:
        add[kind](position, value, 0)
    return int(builder.EndObject())


def _offsets(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _vector(builder: Any, items: Sequence[Any], write: Callable[[Any, Any], int]) -> int:
    return _offsets(builder, [write(builder, item) for item in items])


def _vector_of_integers(builder: Any, values: Sequence[int]) -> int:
    return int(builder.CreateNumpyVector(np.array(values, np.int32)))
