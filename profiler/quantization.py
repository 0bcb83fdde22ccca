"""Static int8: which scale and zero point each tensor of a network gets.

    value = scale * (stored - zero point)

Activations are int8 with one scale, kernels symmetric int8 with one scale a channel (matrices: one
scale, since older runtimes know no more), biases int32 with the product of the scales of input and
kernel. The ranges of the activations follow from what `random_weights` gives, without running the
network. They obey TFLite's kernels and XNNPACK: operators that only move or average values keep
their input's scale, logistic and softmax have a fixed one. Where a concatenation or the like joins
such a fixed scale with others, all of them take it, and values beyond its range saturate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .layers import FloatArray, Layer, Operator, Weights

Step = tuple[Layer, tuple[int, ...]]  # a layer and the numbers of the tensors that it reads

KEEPS_SCALE: frozenset[Operator] = frozenset(
    {
        "pad",
        "slice",
        "concatenation",
        "mean",
        "average_pool_2d",
        "relu",
        "relu6",
        "reshape",
        "resize_bilinear",
        "resize_nearest_neighbor",
    }
)
FIXED_SCALE: frozenset[Operator] = frozenset({"logistic", "softmax"})
_INPUT_RANGE = (-1.0, 1.0)  # what networks are fed, see `search/data.py`
_DEVIATIONS = 6.0  # a weighted sum is represented as far as so many standard deviations
_LARGEST, _SMALLEST = 1e4, 1e-3  # limits of a range: ratios of scales stay within XNNPACK's


@dataclass(frozen=True)
class Quantization:
    """`scale` has one value, or one for each index of the axis `axis`."""

    scale: FloatArray
    zero_point: int = 0
    axis: int = 0

    def dequantize(self, stored: NDArray[np.integer]) -> FloatArray:
        """The values that stored integers stand for."""
        shape = [1] * stored.ndim
        if self.scale.size > 1:
            shape[self.axis] = -1
        values: FloatArray = (stored - float(self.zero_point)) * self.scale.reshape(shape)
        return values.astype(np.float32)


@dataclass(frozen=True)
class _Range:
    """What a tensor is expected to hold: its limits and its root mean square."""

    low: float
    high: float
    rms: float

    def joined(self, other: _Range) -> _Range:
        return _Range(
            min(self.low, other.low), max(self.high, other.high), max(self.rms, other.rms)
        )

    def activated(self, layer: Layer) -> _Range:
        """After the layer's fused activation."""
        if layer.activation == "none" and layer.op not in {"relu", "relu6"}:
            return self
        top = 6.0 if "relu6" in {layer.activation, layer.op} else math.inf
        return _Range(0.0, max(0.0, min(self.high, top)), self.rms / math.sqrt(2))

    def quantization(self) -> Quantization:
        """Zero is represented exactly, as padding needs."""
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        low, high = max(low, -_LARGEST), min(high, _LARGEST)
        scale = np.float32(max(high - low, _SMALLEST) / 255)
        zero_point = int(np.clip(round(-128 - low / float(scale)), -128, 127))
        return Quantization(np.array([scale]), zero_point)


def quantize_activations(inputs: int, steps: Sequence[Step]) -> list[Quantization]:
    """The quantisation of each tensor: of the `inputs`, then of the output of each step."""
    ranges = [_Range(*_INPUT_RANGE, math.sqrt(1 / 3))] * inputs
    groups = list(range(inputs + len(steps)))  # each tensor's group, named by its first tensor
    fixed = set()
    for number, (layer, reads) in enumerate(steps, start=inputs):
        ranges.append(_output_range(layer, [ranges[tensor] for tensor in reads]))
        if layer.op in FIXED_SCALE:
            fixed.add(number)
        if layer.op in KEEPS_SCALE:
            joined = {groups[number], *(groups[tensor] for tensor in reads)}
            groups = [min(joined) if group in joined else group for group in groups]
    together: dict[int, _Range] = {}
    for group, found in zip(groups, ranges, strict=True):
        together[group] = together[group].joined(found) if group in together else found
    shared = {group: found.quantization() for group, found in together.items()}
    # TFLite's kernels take no other scale for these.
    shared |= {groups[t]: Quantization(np.array([1 / 256], np.float32), -128) for t in fixed}
    return [shared[group] for group in groups]


def _output_range(layer: Layer, inputs: Sequence[_Range]) -> _Range:
    first = inputs[0]
    if layer.weight_shapes:
        # `random_weights` doubles the mean square, for activations that halve it.
        rms = min(math.sqrt(2 * first.rms**2 + 0.1**2 / 3), _LARGEST)
        return _Range(-_DEVIATIONS * rms, _DEVIATIONS * rms, rms).activated(layer)
    if layer.op == "add":
        x, y = inputs
        found = _Range(x.low + y.low, x.high + y.high, math.hypot(x.rms, y.rms))
    elif layer.op == "mul":
        x, y = inputs
        ends = [a * b for a in (x.low, x.high) for b in (y.low, y.high)]
        found = _Range(min(ends), max(ends), x.rms * y.rms)
    elif layer.op in FIXED_SCALE:
        return _Range(0.0, 255 / 256, 0.6)
    elif layer.op == "hard_swish":
        found = _Range(max(first.low, -0.375), max(first.high, 0.0), first.rms / math.sqrt(2))
    else:
        found = first
        for other in inputs[1:]:
            found = found.joined(other)
    limited = _Range(max(found.low, -_LARGEST), min(found.high, _LARGEST), found.rms)
    return limited.activated(layer)


def quantize_weights(
    layer: Layer, weights: Weights, read: Quantization
) -> list[tuple[NDArray[np.int8] | NDArray[np.int32], Quantization]]:
    """Kernel and bias of a layer as integers, with their quantisation; `read` is its input's."""
    kernel, bias = weights.kernel, weights.bias
    axis = kernel.ndim - 1 if layer.op == "depthwise_conv_2d" else 0
    others: tuple[int, ...] | None = tuple(i for i in range(kernel.ndim) if i != axis)
    if layer.op == "fully_connected":
        others = None
    largest = np.abs(kernel).max(others, keepdims=True)
    scale = np.maximum(largest, np.float32(1e-6)) / np.float32(127)
    stored = np.clip(np.rint(kernel / scale), -127, 127).astype(np.int8)
    scales = scale.reshape(-1)
    bias_scales = scales * read.scale
    stored_bias = np.rint(bias / bias_scales).astype(np.int32)
    return [
        (stored, Quantization(scales, 0, axis)),
        (stored_bias, Quantization(bias_scales, 0, 0)),
    ]
