"""A network as the profiler sees it: operators with shapes, wired together.

`Layer` is the signature that is timed and priced. `Network` adds the wiring and, optionally, the
weights. Shapes are `(height, width, channels)` for one image, a vector is `(channels,)`; the
batch is always 1. Nothing here knows of PyTorch, TFLite or boards.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Operator = Literal[
    "conv_2d",
    "depthwise_conv_2d",
    "fully_connected",
    "add",
    "mul",
    "pad",
    "slice",
    "concatenation",
    "mean",
    "average_pool_2d",
    "relu",
    "relu6",
    "hard_swish",
    "logistic",
    "reshape",
    "resize_bilinear",
    "resize_nearest_neighbor",
    "softmax",
]
Activation = Literal["none", "relu", "relu6"]
Dtype = Literal["float32", "int8"]
Shape = tuple[int, ...]
FloatArray = NDArray[np.float32]

OPERATORS: tuple[Operator, ...] = get_args(Operator)
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
ELEMENTWISE: frozenset[Operator] = frozenset({"relu", "relu6", "hard_swish", "logistic", "softmax"})
WEIGHTED: frozenset[Operator] = frozenset({"conv_2d", "depthwise_conv_2d", "fully_connected"})
BINARY: frozenset[Operator] = frozenset({"add", "mul"})
FUSES_ACTIVATION: frozenset[Operator] = WEIGHTED | BINARY
BYTES_PER_ELEMENT: dict[Dtype, int] = {"float32": 4, "int8": 1}
_BYTES_PER_BIAS = 4  # float32, or int32 beside int8 weights


@dataclass(frozen=True)
class Layer:
    """One operator with everything that decides how long it takes.

    `inputs` and `output` are shapes; `kernel` and `stride` are those of convolutions and pooling
    (padding is TensorFlow's SAME for convolutions; for pooling see `padded`). `offset` is the first
    channel that a slice takes; it is no part of `signature`, since it does not change the time.
    `dtype` is that of activations and weights; int8 is statically quantised.
    """

    op: Operator
    inputs: tuple[Shape, ...]
    output: Shape
    kernel: int = 1
    stride: int = 1
    activation: Activation = "none"
    offset: int = 0
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        if self.op not in OPERATORS:
            raise ValueError(f"unknown operator {self.op!r}; known: {', '.join(OPERATORS)}")
        expected = 2 if self.op in BINARY else 1
        if len(self.inputs) != expected and not (self.op == "concatenation" and self.inputs):
            raise ValueError(f"{self.op} cannot have {len(self.inputs)} inputs")
        for shape in (*self.inputs, self.output):
            if not shape or any(size < 1 for size in shape):
                raise ValueError(f"{self.op}: the shape {shape} has no elements")
        if min(self.kernel, self.stride) < 1 or self.offset < 0:
            raise ValueError(
                f"{self.op}: kernel {self.kernel} and stride {self.stride} must be 1 or more, "
                f"the offset {self.offset} 0 or more"
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {self.activation!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"unknown dtype {self.dtype!r}; known: {', '.join(DTYPES)}")
        if self.activation != "none" and self.op not in FUSES_ACTIVATION:
            raise ValueError(f"{self.op} cannot carry a fused {self.activation}")

    @cached_property
    def signature(self) -> str:
        """The key of a lookup table, e.g. `conv_2d 16x16x24>16x16x72 k1 s1 relu float32`."""
        shapes = "+".join(shape_text(shape) for shape in self.inputs)
        window = f" k{self.kernel} s{self.stride}" if self.op in _WINDOWED else ""
        return (
            f"{self.op} {shapes}>{shape_text(self.output)}{window} {self.activation} {self.dtype}"
        )

    @property
    def padded(self) -> bool:
        """Whether a pooling's windows reach beyond the border (TensorFlow's SAME, whose averages
        leave out what is beyond) or stay inside (VALID): its output's size says which."""
        sizes = zip(self.inputs[0][:2], self.output[:2], strict=True)
        return any(out != (size - self.kernel) // self.stride + 1 for size, out in sizes)

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of one inference (convolutions and matrices only)."""
        if self.op == "conv_2d":
            return math.prod(self.output) * self.kernel**2 * self.inputs[0][-1]
        if self.op == "depthwise_conv_2d":
            return math.prod(self.output) * self.kernel**2
        if self.op == "fully_connected":
            return self.inputs[0][-1] * self.output[-1]
        return 0

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(math.prod(shape) for shape in self.weight_shapes)

    @property
    def weight_shapes(self) -> tuple[Shape, ...]:
        """Kernel (TFLite's order: OHWI, 1HWC, or OI) and bias; empty where there is none."""
        channels_in, channels_out = self.inputs[0][-1], self.output[-1]
        if self.op == "conv_2d":
            return (channels_out, self.kernel, self.kernel, channels_in), (channels_out,)
        if self.op == "depthwise_conv_2d":
            return (1, self.kernel, self.kernel, channels_out), (channels_out,)
        if self.op == "fully_connected":
            return (channels_out, channels_in), (channels_out,)
        return ()

    @property
    def bytes_moved(self) -> int:
        """Activations read and written plus parameters read, each once."""
        elements = sum(math.prod(shape) for shape in (*self.inputs, self.output))
        return elements * BYTES_PER_ELEMENT[self.dtype] + self.parameter_bytes

    @property
    def parameter_bytes(self) -> int:
        """Bytes of weights and biases; those beside int8 weights are int32."""
        if not self.weight_shapes:
            return 0
        kernel, bias = (math.prod(shape) for shape in self.weight_shapes)
        return kernel * BYTES_PER_ELEMENT[self.dtype] + bias * _BYTES_PER_BIAS

    def as_dtype(self, dtype: Dtype) -> Layer:
        """The same operator on values of another dtype."""
        return self if dtype == self.dtype else replace(self, dtype=dtype)


_WINDOWED: frozenset[Operator] = frozenset({"conv_2d", "depthwise_conv_2d", "average_pool_2d"})


def shape_text(shape: Shape) -> str:
    """`(16, 16, 24)` as `16x16x24`."""
    return "x".join(str(size) for size in shape)


@dataclass(frozen=True)
class Node:
    """A layer in its place: `inputs` are tensor numbers (0 is the network's input, i + 1 the
    output of node i). `name` ties it to trained weights; `batch_norm` says that it is trained
    with batch normalisation, which is folded into the weights before emission, `bias` that it is
    trained with a bias where there is none (otherwise the bias is 0)."""

    layer: Layer
    inputs: tuple[int, ...]
    name: str = ""
    batch_norm: bool = False
    bias: bool = True


def peak_elements(
    inputs: Sequence[Shape], nodes: Sequence[Node], held: Collection[int] = ()
) -> int:
    """The elements of the tensors that are alive at once, at the worst moment; 0 without nodes.

    Tensors are the inputs, then the nodes' outputs. Each lives from the node that writes it to the
    last node that reads it; those in `held`, and the last, live on.
    """
    last_use = {tensor: i for i, node in enumerate(nodes) for tensor in node.inputs}
    last_use |= dict.fromkeys([*held, len(inputs) + len(nodes) - 1], len(nodes))
    alive = {tensor: math.prod(shape) for tensor, shape in enumerate(inputs)}
    peak = 0
    for number, node in enumerate(nodes):
        alive[len(inputs) + number] = math.prod(node.layer.output)
        peak = max(peak, sum(alive.values()))
        alive = {t: size for t, size in alive.items() if last_use.get(t, -1) > number}
    return peak


@dataclass(frozen=True)
class Weights:
    """The kernel (TFLite's order, see `Layer.weight_shapes`) and bias of one node."""

    kernel: FloatArray
    bias: FloatArray


@dataclass(frozen=True)
class Network:
    """Nodes in the order in which they run; the last one's output is the network's.

    `weights` maps the number of a node to its `Weights`; without it the structure can be counted
    and priced, and emitted with random weights. All layers have one dtype; an int8 network carries
    no weights.
    """

    input_shape: Shape
    nodes: tuple[Node, ...]
    weights: Mapping[int, Weights] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.nodes:
            raise ValueError("a network needs at least one layer")
        if len({node.layer.dtype for node in self.nodes}) > 1:
            raise ValueError("the layers of a network have one dtype; use Network.as_dtype")
        if self.weights and self.dtype != "float32":
            raise ValueError(
                f"an {self.dtype} network cannot carry trained weights, since they are not "
                "quantised here: emit it as float32 and quantise the file"
            )
        shapes = [self.input_shape]
        for number, node in enumerate(self.nodes):
            if any(not 0 <= tensor <= number for tensor in node.inputs):
                raise ValueError(f"node {number} reads a tensor that is not there yet")
            if tuple(shapes[tensor] for tensor in node.inputs) != node.layer.inputs:
                raise ValueError(f"node {number} ({node.layer.signature}): input shapes differ")
            shapes.append(node.layer.output)
        for number, weights in (self.weights or {}).items():
            expected = self.nodes[number].layer.weight_shapes
            if (weights.kernel.shape, weights.bias.shape) != expected:
                raise ValueError(
                    f"node {number}: weights {weights.kernel.shape} and {weights.bias.shape}, "
                    f"expected {expected}"
                )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers without their wiring."""
        return tuple(node.layer for node in self.nodes)

    @property
    def dtype(self) -> Dtype:
        """The dtype of all layers."""
        return self.nodes[0].layer.dtype

    @property
    def output_shape(self) -> Shape:
        """The shape of the last node's output."""
        return self.nodes[-1].layer.output

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of one inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Weights and biases of all layers, batch normalisation folded."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def parameter_bytes(self) -> int:
        """Bytes of the weights and biases of all layers."""
        return sum(layer.parameter_bytes for layer in self.layers)

    @property
    def peak_memory(self) -> int:
        """Bytes of the activations that are alive at once, at the worst moment.

        A tensor lives from the node that writes it to the last node that reads it; nothing is
        computed in place.
        """
        elements = peak_elements([self.input_shape], self.nodes)
        return elements * BYTES_PER_ELEMENT[self.dtype]

    def with_weights(self, weights: Mapping[int, Weights]) -> Network:
        """The same structure carrying trained weights."""
        return replace(self, weights=dict(weights))

    def as_dtype(self, dtype: Dtype) -> Network:
        """The same structure on values of another dtype.

        Raises ValueError where trained weights would have to be quantised.
        """
        if dtype == self.dtype:
            return self
        nodes = tuple(replace(node, layer=node.layer.as_dtype(dtype)) for node in self.nodes)
        return replace(self, nodes=nodes)
