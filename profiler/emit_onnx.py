"""Write a `Network` as an ONNX model, in milliseconds and without a converter.

What is described and what is drawn is the same as in `emit_tflite`: equal seeds give equal
weights. Inside of ONNX the channels come first, so inputs and outputs are `(1, channels, height,
width)`, a vector is `(1, channels)`; whoever has images with the channels last transposes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..devices.errors import InputError
from .emit_tflite import random_weights
from .layers import Layer, Network, Shape, Weights

OPSET = 17  # what runtimes from 2022 on take; HardSwish needs 14
IR_VERSION = 8

_PLAIN: dict[str, str] = {  # operators that need no attributes
    "relu": "Relu",
    "hard_swish": "HardSwish",
    "logistic": "Sigmoid",
    "add": "Add",
    "mul": "Mul",
}


def emit_onnx(network: Network, *, seed: int = 0) -> bytes:
    """Return the network as the bytes of an `.onnx` file (float32, channels first, batch 1).

    `seed` draws the weights that the network does not carry; equal networks and seeds give equal
    bytes, so that content hashes can name models.
    """
    writer = _Writer()
    rng = np.random.default_rng(seed)
    tensors = [writer.input("input", network.input_shape)]
    for number, node in enumerate(network.nodes):
        weights = (network.weights or {}).get(number)
        if weights is None and node.layer.weight_shapes:
            weights = random_weights(node.layer, rng)
        last = number == len(network.nodes) - 1
        # The number makes the name unique: blocks that are repeated may repeat their names.
        output = "output" if last else f"{node.name or node.layer.op}_{number}"
        inputs = [tensors[tensor] for tensor in node.inputs]
        writer.layer(node.layer, inputs, output, weights)
        tensors.append(output)
    return writer.finish(network.output_shape)


def emit_onnx_layer(layer: Layer, *, seed: int = 0) -> bytes:
    """Return a model that consists of one layer, to be timed on its own.

    A layer with several inputs becomes a model with as many inputs.
    """
    writer = _Writer()
    inputs = [writer.input(f"input_{i}", shape) for i, shape in enumerate(layer.inputs)]
    weights = random_weights(layer, np.random.default_rng(seed)) if layer.weight_shapes else None
    writer.layer(layer, inputs, "output", weights)
    return writer.finish(layer.output)


def channels_first(shape: Shape) -> list[int]:
    """`(height, width, channels)` with the batch, as it stands in ONNX."""
    return [1, shape[-1], *shape[:-1]]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """What TensorFlow's SAME padding adds before and behind: an odd rest goes behind."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class _Writer:
    """Collects nodes and constants, and serialises them once."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Any] = []

    def input(self, name: str, shape: Shape) -> str:
        """Declare an input of the model."""
        self._inputs.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, channels_first(shape))
        )
        return name

    def layer(
        self, layer: Layer, inputs: Sequence[str], output: str, weights: Weights | None
    ) -> None:
        """Write one layer: its operator, and behind it the activation that it carries."""
        if layer.dtype != "float32":
            raise InputError(
                f"networks are written as ONNX in float32 only, not in {layer.dtype}; measure "
                f"{layer.dtype} in LiteRT, without --runtime"
            )
        fused = layer.activation != "none"
        result = f"{output}/linear" if fused else output
        if weights is not None:
            self._weighted(layer, inputs[0], result, weights)
        elif layer.op in {"add", "mul"}:
            ranks = [len(shape) for shape in layer.inputs]
            names = [
                self._expanded(name, shape, max(ranks), result)
                for name, shape in zip(inputs, layer.inputs, strict=True)
            ]
            self._node(_PLAIN[layer.op], names, result)
        elif layer.op == "mean":
            self._mean(layer, inputs[0], result)
        elif layer.op == "reshape":
            self._reshape(layer, inputs[0], result)
        else:
            self._unweighted(layer, inputs, result)
        if fused:
            self._activation(layer.activation, result, output)

    def finish(self, output: Shape) -> bytes:
        """The bytes of the whole model."""
        result = helper.make_tensor_value_info("output", TensorProto.FLOAT, channels_first(output))
        graph = helper.make_graph(
            self._nodes, "main", self._inputs, [result], list(self._constants.values())
        )
        model = helper.make_model(
            graph,
            producer_name="boardfit",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        return bytes(model.SerializeToString(deterministic=True))

    def _node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def _constant(self, name: str, values: NDArray[Any]) -> str:
        self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def _integers(self, output: str, what: str, values: Sequence[int]) -> str:
        return self._constant(f"{output}/{what}", np.array(values, np.int64))

    def _weighted(self, layer: Layer, x: str, output: str, weights: Weights) -> None:
        names = [x, f"{output}/kernel", f"{output}/bias"]
        self._constant(names[2], weights.bias)
        if layer.op == "fully_connected":
            self._constant(names[1], weights.kernel)
            self._node("Gemm", names, output, transB=1)
            return
        # OHWI becomes OIHW; the depthwise 1HWC becomes C1HW, with a group a channel.
        depthwise = layer.op == "depthwise_conv_2d"
        self._constant(
            names[1], weights.kernel.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2))
        )
        top_bottom, left_right = (
            same_padding(size, layer.kernel, layer.stride) for size in layer.inputs[0][:2]
        )
        self._node(
            "Conv",
            names,
            output,
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            pads=[top_bottom[0], left_right[0], top_bottom[1], left_right[1]],
            group=layer.output[-1] if depthwise else 1,
        )

    def _unweighted(self, layer: Layer, inputs: Sequence[str], output: str) -> None:
        x, channels = inputs[0], layer.output[-1]
        if layer.op == "pad":
            before = [0] * (len(layer.output) + 1)
            behind = [0, channels - layer.inputs[0][-1], *before[2:]]
            self._node("Pad", [x, self._integers(output, "pads", before + behind)], output)
        elif layer.op == "slice":
            bounds = {"starts": layer.offset, "ends": layer.offset + channels, "axes": 1}
            names = [self._integers(output, what, [value]) for what, value in bounds.items()]
            self._node("Slice", [x, *names], output)
        elif layer.op == "concatenation":
            self._node("Concat", inputs, output, axis=1)
        elif layer.op == "average_pool_2d":
            window = {"kernel_shape": [layer.kernel] * 2, "strides": [layer.stride] * 2}
            padding = {"auto_pad": "SAME_UPPER"} if layer.padded else {}
            self._node("AveragePool", [x], output, **window, **padding)
        elif layer.op == "resize_bilinear":
            sizes = self._integers(output, "sizes", channels_first(layer.output))
            how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
            self._node("Resize", [x, "", "", sizes], output, **how)
        elif layer.op == "resize_nearest_neighbor":
            sizes = self._integers(output, "sizes", channels_first(layer.output))
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}
            self._node("Resize", [x, "", "", sizes], output, nearest_mode="floor", **how)
        elif layer.op == "softmax":
            self._node("Softmax", [x], output, axis=1)
        else:
            self._activation(layer.op, x, output)

    def _activation(self, op: str, x: str, output: str) -> None:
        if op == "relu6":
            zero = self._constant("zero", np.array(0, np.float32))
            self._node("Clip", [x, zero, self._constant("six", np.array(6, np.float32))], output)
        else:
            self._node(_PLAIN[op], [x], output)

    def _mean(self, layer: Layer, x: str, output: str) -> None:
        keeps = len(layer.output) == 3
        self._node("GlobalAveragePool", [x], output if keeps else f"{output}/mean")
        if not keeps:
            self._node("Flatten", [f"{output}/mean"], output)

    def _expanded(self, x: str, shape: Shape, rank: int, output: str) -> str:
        """A tensor with ones put in until it has as many dimensions as the one it meets.

        Broadcasting aligns the last dimensions, which are the channels only while they come last.
        """
        if len(shape) == rank:
            return x
        wanted = channels_first((*[1] * (rank - len(shape)), *shape))
        name = f"{output}/expanded"
        self._node("Reshape", [x, self._integers(output, "shape", wanted)], name)
        return name

    def _reshape(self, layer: Layer, x: str, output: str) -> None:
        """Elements keep the order that they have with the channels last."""
        (before,), after = layer.inputs, layer.output
        if _order_matters(before):
            self._node("Transpose", [x], f"{output}/last", perm=[0, *range(2, len(before) + 1), 1])
            x = f"{output}/last"
        if not _order_matters(after):
            self._node(
                "Reshape", [x, self._integers(output, "shape", channels_first(after))], output
            )
            return
        shape = self._integers(output, "shape", [1, *after])
        self._node("Reshape", [x, shape], f"{output}/reshaped")
        last = len(after)
        self._node("Transpose", [f"{output}/reshaped"], output, perm=[0, last, *range(1, last)])


def _order_matters(shape: Shape) -> bool:
    """Whether channels first is another order of the elements than channels last."""
    return min(math.prod(shape[:-1]), shape[-1]) > 1
