"""Write down a network operator by operator, with shapes that follow from one another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .layers import (
    ELEMENTWISE,
    Activation,
    Layer,
    Network,
    Node,
    Operator,
    Shape,
    shape_text,
)


class NetworkBuilder:
    """Write a network down operator by operator; tensors are numbers, 0 is the input.

    Each method appends one node and returns the number of its output tensor; shapes are worked
    out, mistakes raise ValueError at the line that makes them. `bypassing` shapes are those of
    further inputs, 1 and so on, for a part of a network that is looked at on its own: what is
    written then can be priced, but `build` takes one input.
    """

    def __init__(self, input_shape: Shape, *bypassing: Shape) -> None:
        self.nodes: list[Node] = []
        self._shapes: list[Shape] = [input_shape, *bypassing]
        self.inputs = tuple(self._shapes)

    def shape(self, tensor: int) -> Shape:
        """The shape of a tensor."""
        if not 0 <= tensor < len(self._shapes):
            raise ValueError(f"there is no tensor {tensor} yet")
        return self._shapes[tensor]

    def _image(self, tensor: int) -> Shape:
        """The shape of a tensor that must have height and width."""
        shape = self.shape(tensor)
        if len(shape) != 3:
            raise ValueError(f"tensor {tensor} is {shape_text(shape)}, no height, width, channels")
        return shape

    def build(self) -> Network:
        """The network written so far. Raises ValueError where it has several inputs."""
        if len(self.inputs) > 1:
            raise ValueError(f"a network has one input, this has {len(self.inputs)}")
        return Network(self._shapes[0], tuple(self.nodes))

    def _append(
        self,
        op: Operator,
        inputs: Sequence[int],
        output: Shape,
        *,
        kernel: int = 1,
        stride: int = 1,
        activation: Activation = "none",
        offset: int = 0,
        name: str = "",
        batch_norm: bool = False,
        bias: bool = True,
    ) -> int:
        shapes = tuple(self.shape(tensor) for tensor in inputs)
        layer = Layer(op, shapes, output, kernel, stride, activation, offset)
        self.nodes.append(Node(layer, tuple(inputs), name, batch_norm, bias))
        self._shapes.append(output)
        return len(self._shapes) - 1

    def _strided(self, x: int, stride: int) -> Shape:
        """Height and width after a convolution with SAME padding."""
        height, width, _ = self._image(x)
        if stride < 1:
            raise ValueError(f"the stride {stride} must be 1 or more")
        return -(-height // stride), -(-width // stride)

    def conv_2d(
        self,
        x: int,
        filters: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        activation: Activation = "none",
        name: str = "",
        batch_norm: bool = False,
    ) -> int:
        """A convolution with bias and SAME padding."""
        output = (*self._strided(x, stride), filters)
        return self._append(
            "conv_2d",
            [x],
            output,
            kernel=kernel,
            stride=stride,
            activation=activation,
            name=name,
            batch_norm=batch_norm,
        )

    def depthwise_conv_2d(
        self,
        x: int,
        *,
        kernel: int,
        stride: int = 1,
        activation: Activation = "none",
        name: str = "",
        batch_norm: bool = False,
        bias: bool = True,
    ) -> int:
        """A depthwise convolution (one filter a channel) with bias and SAME padding."""
        output = (*self._strided(x, stride), self.shape(x)[-1])
        return self._append(
            "depthwise_conv_2d",
            [x],
            output,
            kernel=kernel,
            stride=stride,
            activation=activation,
            name=name,
            batch_norm=batch_norm,
            bias=bias,
        )

    def fully_connected(
        self, x: int, units: int, *, activation: Activation = "none", name: str = ""
    ) -> int:
        """A matrix with bias, on a vector."""
        if len(self.shape(x)) != 1:
            raise ValueError(f"tensor {x} is {shape_text(self.shape(x))}, no vector")
        return self._append("fully_connected", [x], (units,), activation=activation, name=name)

    def add(self, x: int, y: int, *, activation: Activation = "none") -> int:
        """The sum of two tensors, broadcast."""
        shape = np.broadcast_shapes(self.shape(x), self.shape(y))
        return self._append("add", [x, y], shape, activation=activation)

    def mul(self, x: int, y: int, *, activation: Activation = "none") -> int:
        """The product of two tensors, broadcast (the scaling of squeeze-excite)."""
        shape = np.broadcast_shapes(self.shape(x), self.shape(y))
        return self._append("mul", [x, y], shape, activation=activation)

    def pad_channels(self, x: int, channels: int) -> int:
        """Append channels of zeros until there are `channels`."""
        *space, have = self.shape(x)
        if channels < have:
            raise ValueError(f"cannot pad {have} channels to {channels}")
        return self._append("pad", [x], (*space, channels))

    def slice_channels(self, x: int, begin: int, end: int) -> int:
        """The channels `begin` to `end` (exclusive)."""
        *space, have = self.shape(x)
        if not 0 <= begin < end <= have:
            raise ValueError(f"cannot take channels {begin} to {end} of {have}")
        return self._append("slice", [x], (*space, end - begin), offset=begin)

    def concatenation(self, tensors: Sequence[int]) -> int:
        """Tensors one behind the other along the channels."""
        spaces = {self.shape(tensor)[:-1] for tensor in tensors}
        if len(spaces) != 1:
            raise ValueError("concatenated tensors differ in more than their channels")
        channels = sum(self.shape(tensor)[-1] for tensor in tensors)
        return self._append("concatenation", tensors, (*spaces.pop(), channels))

    def mean(self, x: int, *, keep_dimensions: bool = True) -> int:
        """The average over height and width, as `(1, 1, channels)` or `(channels,)`."""
        channels = self._image(x)[-1]
        return self._append("mean", [x], (1, 1, channels) if keep_dimensions else (channels,))

    def average_pool_2d(
        self, x: int, *, kernel: int = 2, stride: int = 2, padded: bool = False
    ) -> int:
        """The average over windows: those inside the image, or (`padded`) TensorFlow's SAME,
        where what is beyond the border is no part of the average."""
        height, width, channels = self._image(x)
        if stride < 1:
            raise ValueError(f"the stride {stride} must be 1 or more")
        inside = ((height - kernel) // stride + 1, (width - kernel) // stride + 1, channels)
        output = (*self._strided(x, stride), channels) if padded else inside
        return self._append("average_pool_2d", [x], output, kernel=kernel, stride=stride)

    def elementwise(self, op: Operator, x: int) -> int:
        """One of relu, relu6, hard_swish, logistic, softmax."""
        if op not in ELEMENTWISE:
            raise ValueError(f"{op} is not an elementwise operator")
        return self._append(op, [x], self.shape(x))

    def reshape(self, x: int, shape: Shape) -> int:
        """The same elements in another shape."""
        if math.prod(shape) != math.prod(self.shape(x)):
            raise ValueError(f"cannot reshape {self.shape(x)} to {shape}")
        return self._append("reshape", [x], shape)

    def resize_bilinear(self, x: int, height: int, width: int) -> int:
        """Bilinear resizing with half-pixel centres."""
        return self._append("resize_bilinear", [x], (height, width, self._image(x)[-1]))

    def resize_nearest_neighbor(self, x: int, height: int, width: int) -> int:
        """Resizing by repetition: output row i is input row floor(i * input height / height)."""
        return self._append("resize_nearest_neighbor", [x], (height, width, self._image(x)[-1]))
