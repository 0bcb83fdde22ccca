"""A `Network` run by PyTorch: the one interpretation for training, evaluation and export.

Images and feature maps are [N, C, H, W] here (in `channels_last` memory, which is NHWC underneath
and 2-4 times faster on a CPU); a network's own shapes stay those of `profiler.layers`. Weights and
numbers agree with TFLite: SAME padding with the odd row at the end, hard swish as
x * relu6(x + 3) / 6, bilinear resizing with half-pixel centres.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..profiler.layers import Activation, FloatArray, Layer, Network, Node, Shape, Weights

EPSILON = 1e-3  # of batch normalisation, as in MobileNetV3
MOMENTUM = 0.1


def _same(x: Tensor) -> Tensor:
    return x


_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": _same,
    "relu": F.relu,
    "relu6": F.relu6,
}


class WeightedLayer(nn.Module):
    """A convolution or matrix with its batch normalisation and its fused activation.

    The kernel is [O, I, k, k] (depthwise [C, 1, k, k], matrix [O, I]); a bias exists only without
    batch normalisation, and where it is not left out. All weights are 0 until they are initialised
    or loaded: constructing draws nothing from PyTorch's global generator.
    """

    def __init__(self, layer: Layer, *, batch_norm: bool, bias: bool = True) -> None:
        super().__init__()
        if batch_norm and layer.op == "fully_connected":
            raise ValueError(f"{layer.signature}: batch normalisation of vectors is not supported")
        self.layer = layer
        stored = torch.zeros(layer.weight_shapes[0])
        self.weight = nn.Parameter(_from_tflite(stored, layer))
        channels = layer.output[-1]
        self.norm = nn.BatchNorm2d(channels, EPSILON, MOMENTUM) if batch_norm else None
        self.bias = nn.Parameter(torch.zeros(channels)) if bias and not batch_norm else None

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the kernel (He et al. 2015: variance 2 / fan-in; 1 / fan-in for a matrix)."""
        fan_in = math.prod(self.weight.shape[1:])
        gain = 1.0 if self.layer.op == "fully_connected" else 2.0
        with torch.no_grad():
            self.weight.normal_(0.0, math.sqrt(gain / fan_in), generator=generator)

    def forward(
        self,
        x: Tensor,
        *,
        kernel: int | None = None,
        mask: Tensor | None = None,
        narrow: Layer | None = None,
    ) -> Tensor:
        """Run the layer; `kernel` takes the centre of the weights, and `mask` multiplies what the
        activation gets (it keeps 0 at 0), so that batch statistics are those before the mask.
        `narrow` runs a layer of fewer channels or a smaller kernel, with the first and the centre
        of the weights; nothing is copied."""
        weight: Tensor = self.weight
        norm = self.norm
        if narrow is not None:
            weight = cut(weight, narrow)
        elif kernel is not None:
            weight = centre(weight, kernel)
        filters = weight.shape[0]
        bias = None if self.bias is None else self.bias[:filters]
        if self.layer.op == "fully_connected":
            y = F.linear(x, weight, bias)
        else:
            y = self._convolve(x, weight, bias)
        if norm is not None:
            y = norm(y) if filters == len(norm.weight) else _normalised(norm, y)
        if mask is not None:
            # In place: neither a convolution nor batch normalisation needs its output for the
            # backward pass, and a copy of a feature map costs as much as the multiplication.
            y = y.mul_(mask)
        return _ACTIVATIONS[self.layer.activation](y)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        stride, size = self.layer.stride, weight.shape[-1]
        depthwise = self.layer.op == "depthwise_conv_2d"
        groups = weight.shape[0] if depthwise else 1
        padding = tuple(same_padding(length, size, stride) for length in x.shape[2:])
        symmetric = [before for before, after in padding if before == after]
        if len(symmetric) < 2:
            (top, bottom), (left, right) = padding
            x, symmetric = F.pad(x, (left, right, top, bottom)), [0, 0]
        return F.conv2d(x, weight, bias, stride, symmetric, 1, groups)


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME: the rows to add before and after; the odd one comes after."""
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


def _normalised(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Batch normalisation of the first channels, by their part of its weights and statistics."""
    channels = x.shape[1]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    if norm.training:
        norm.num_batches_tracked.add_(1)
    return F.batch_norm(
        x,
        norm.running_mean[:channels],
        norm.running_var[:channels],
        norm.weight[:channels],
        norm.bias[:channels],
        norm.training,
        MOMENTUM,
        norm.eps,
    )


def cut(weight: Tensor, narrow: Layer) -> Tensor:
    """The part of a kernel that a layer of fewer channels, or a smaller kernel, is computed with:
    its first filters and input channels, and its centre."""
    if narrow.op == "fully_connected":
        return weight[: narrow.output[-1], : narrow.inputs[0][-1]]
    channels = 1 if narrow.op == "depthwise_conv_2d" else narrow.inputs[0][-1]
    return centre(weight, narrow.kernel)[: narrow.output[-1], :channels]


def centre(weight: Tensor, kernel: int) -> Tensor:
    """The centre of larger kernels [..., k, k]."""
    begin = (weight.shape[-1] - kernel) // 2
    return weight[..., begin : begin + kernel, begin : begin + kernel]


class NetworkModule(nn.Module):
    """A network to train, evaluate or export.

    `forward` takes images [N, C, H, W] (or vectors [N, C]) and gives the last node's output in the
    same order of axes. Nodes that carry weights get these, without batch normalisation, which is
    folded into them; the others are drawn from `generator`, or left at 0 to be loaded where there
    is none. Weighted nodes are found again by their names: `layer("block1.expand")`.

    Raises `ValueError` where two weighted nodes have one name.
    """

    def __init__(self, network: Network, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.network = network
        self.layers = nn.ModuleDict()
        weights = network.weights or {}
        for number, node in enumerate(network.nodes):
            if not node.layer.weight_shapes:
                continue
            key = _key(node, number)
            if key in self.layers:
                raise ValueError(f"two weighted nodes are called {node.name!r}")
            given = number in weights
            layer = WeightedLayer(
                node.layer,
                batch_norm=node.batch_norm and not given,
                bias=node.bias or given,
            )
            self.layers[key] = layer
            if number in weights:
                _load(layer, weights[number])
            elif generator is not None:
                layer.initialise(generator)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def layer(self, name: str) -> WeightedLayer:
        """The weighted layer of that name. Raises `KeyError` where there is none."""
        found = self.layers[name.replace(".", "/")]
        assert isinstance(found, WeightedLayer)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the weighted layers, in the order in which they run."""
        return tuple(key.replace("/", ".") for key in self.layers)

    def forward(self, images: Tensor, see: Callable[[int, Tensor], None] | None = None) -> Tensor:
        """Run the network; `see` is shown each tensor with its number (0: the images)."""
        return run(self.network, images, self._weighted, see)

    def _weighted(self, number: int, x: Tensor) -> Tensor:
        y: Tensor = self.layers[_key(self.network.nodes[number], number)](x)
        return y


def run(
    network: Network,
    images: Tensor,
    weighted: Callable[[int, Tensor], Tensor],
    see: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """The output of a network for images [N, C, H, W] or vectors [N, C]; `weighted` runs a node
    that carries weights, given its number and its input, and `see` is shown each tensor with its
    number (0: the images)."""
    if images.dim() == 4:
        images = images.contiguous(memory_format=torch.channels_last)
    last_use = {tensor: i for i, node in enumerate(network.nodes) for tensor in node.inputs}
    tensors = {0: images}
    if see is not None:
        see(0, images)
    for number, node in enumerate(network.nodes):
        inputs = [tensors[tensor] for tensor in node.inputs]
        if node.layer.weight_shapes:
            tensors[number + 1] = weighted(number, inputs[0])
        else:
            tensors[number + 1] = _operator(node.layer, inputs)
        if see is not None:
            see(number + 1, tensors[number + 1])
        for tensor in set(node.inputs):
            if last_use[tensor] == number:
                del tensors[tensor]
    return tensors[len(network.nodes)]


def _key(node: Node, number: int) -> str:
    """The node's name as PyTorch allows it: without dots, and "/" in their place."""
    if "/" in node.name:
        raise ValueError(f"node {number}: the name {node.name!r} may not hold a slash")
    return node.name.replace(".", "/") or f"node{number}"


def _operator(layer: Layer, inputs: Sequence[Tensor]) -> Tensor:
    """An operator without weights. Feature maps have their channels in axis 1, all else last."""
    x = inputs[0]
    axis = _channel_axis(layer.inputs[0])
    match layer.op:
        case "add":
            return _ACTIVATIONS[layer.activation](torch.add(*_broadcast(layer, inputs)))
        case "mul":
            return _ACTIVATIONS[layer.activation](torch.mul(*_broadcast(layer, inputs)))
        case "pad":
            more = layer.output[-1] - layer.inputs[0][-1]
            return F.pad(x, (0, 0, 0, 0, 0, more) if axis == 1 else (0, more))
        case "slice":
            return x.narrow(axis, layer.offset, layer.output[-1])
        case "concatenation":
            return torch.cat(list(inputs), dim=axis)
        case "mean":
            return x.mean((2, 3), keepdim=len(layer.output) == 3)
        case "average_pool_2d":
            return _average_pool(x, layer)
        case "relu":
            return F.relu(x)
        case "relu6":
            return F.relu6(x)
        case "hard_swish":
            return F.hardswish(x)
        case "logistic":
            return torch.sigmoid(x)
        case "softmax":
            return F.softmax(x, dim=axis)
        case "reshape":
            return _reshape(x, layer.output)
        case "resize_bilinear":
            return F.interpolate(x, layer.output[:2], mode="bilinear", align_corners=False)
        case "resize_nearest_neighbor":
            return F.interpolate(x, layer.output[:2], mode="nearest")
        case _:
            raise ValueError(f"PyTorch has no form of {layer.signature}")


def _average_pool(x: Tensor, layer: Layer) -> Tensor:
    """Averages over windows; beyond the border there is nothing to average."""
    kernel, stride = layer.kernel, layer.stride
    if not layer.padded:
        return F.avg_pool2d(x, kernel, stride)
    (top, bottom), (left, right) = (same_padding(n, kernel, stride) for n in x.shape[2:])
    if (top, left) == (bottom, right) and top == left:
        return F.avg_pool2d(x, kernel, stride, top, count_include_pad=False)
    border = (left, right, top, bottom)
    inside = F.avg_pool2d(F.pad(torch.ones_like(x[:1, :1]), border), kernel, stride)
    return F.avg_pool2d(F.pad(x, border), kernel, stride) / inside


def _channel_axis(shape: Shape) -> int:
    return 1 if len(shape) == 3 else -1


def _broadcast(layer: Layer, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Vectors beside feature maps stand for their channels, as they do in NHWC."""
    if len(layer.output) < 3:
        return list(inputs)
    return [x[:, :, None, None] if x.dim() == 2 else x for x in inputs]


def _reshape(x: Tensor, shape: Shape) -> Tensor:
    """TFLite reshapes with channels last."""
    if x.dim() == 4:
        x = x.permute(0, 2, 3, 1)
    x = x.reshape(x.shape[0], *shape)
    return x.permute(0, 3, 1, 2) if len(shape) == 3 else x


def to_network(module: NetworkModule) -> Network:
    """The module as a network that can be emitted: weights in TFLite's order, float32, batch
    normalisation folded into them (in float64) with its running statistics."""
    nodes = tuple(replace(node, batch_norm=False) for node in module.network.nodes)
    weights = {}
    for number, node in enumerate(module.network.nodes):
        if node.layer.weight_shapes:
            layer = module.layers[_key(node, number)]
            assert isinstance(layer, WeightedLayer)
            weights[number] = _folded(layer)
    return Network(module.network.input_shape, nodes, weights)


def _folded(layer: WeightedLayer) -> Weights:
    kernel = layer.weight.detach().double()
    if layer.norm is None and layer.bias is None:
        bias = torch.zeros(layer.layer.output[-1])
    elif layer.norm is None:
        assert layer.bias is not None
        bias = layer.bias.detach().double()
    else:
        norm = layer.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        kernel = kernel * scale.reshape(-1, 1, 1, 1)
        bias = norm.bias.detach().double() - norm.running_mean.double() * scale
    return Weights(_float32(_to_tflite(kernel, layer.layer)), _float32(bias))


def _float32(x: Tensor) -> FloatArray:
    return np.ascontiguousarray(x.cpu().numpy(), dtype=np.float32)


def _load(layer: WeightedLayer, weights: Weights) -> None:
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight.copy_(_from_tflite(torch.tensor(weights.kernel), layer.layer))
        layer.bias.copy_(torch.tensor(weights.bias))


def _from_tflite(kernel: Tensor, layer: Layer) -> Tensor:
    """OHWI to OIHW, 1HWC to C1HW; a matrix is OI in both."""
    if layer.op == "fully_connected":
        return kernel
    return kernel.permute((3, 0, 1, 2) if layer.op == "depthwise_conv_2d" else (0, 3, 1, 2))


def _to_tflite(kernel: Tensor, layer: Layer) -> Tensor:
    """The way back from `_from_tflite`."""
    if layer.op == "fully_connected":
        return kernel
    return kernel.permute((1, 2, 3, 0) if layer.op == "depthwise_conv_2d" else (0, 2, 3, 1))
