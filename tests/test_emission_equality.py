"""What is emitted computes what PyTorch computes: sliced networks in LiteRT, to 1e-4."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.layers import FloatArray, Network
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.search.network_module import NetworkModule, WeightedLayer, to_network
from boardfit.search.spaces import open_space
from boardfit.search.stages import Bypass
from boardfit.search.supernet import SuperNetwork

litert = pytest.importorskip("ai_edge_litert.interpreter")


def run_litert(network: Network, image: FloatArray) -> FloatArray:
    interpreter: Any = litert.Interpreter(model_content=emit(network), num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    output: FloatArray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    only: FloatArray = output[0]
    return only


def run_torch(module: NetworkModule, image: FloatArray) -> FloatArray:
    with torch.no_grad():
        y = module(torch.from_numpy(image[None]).permute(0, 3, 1, 2))
    output: FloatArray = (y.permute(0, 2, 3, 1) if y.dim() == 4 else y)[0].numpy()
    return output


def randomise(module: torch.nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, WeightedLayer) and layer.bias is not None:
                layer.bias.normal_(0.0, 0.5, generator=generator)
            if isinstance(layer, torch.nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.weight.uniform_(0.5, 1.5, generator=generator)
                layer.bias.normal_(0.3, 0.5, generator=generator)
                layer.running_mean.normal_(0.0, 0.5, generator=generator)
                layer.running_var.uniform_(0.5, 2.0, generator=generator)


def check(module: NetworkModule, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=module.network.input_shape)
    image = noise.astype(np.float32)
    expected = run_torch(module, image)
    got = run_litert(to_network(module), image)
    assert got.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got / scale, expected / scale, atol=1e-4)


@pytest.mark.parametrize("bypass", ["concat", "pad"])
@pytest.mark.parametrize("name", ["mobilenetv3-32", "mobilenetv3-large"])
def test_random_architectures_of_each_space(name: str, bypass: Bypass) -> None:
    size = 32 if name == "mobilenetv3-32" else 64
    cap = None if bypass == "concat" else 28
    space = open_space(name, input_size=size, classes=10, bypass=bypass, bypass_cap=cap)
    generator = torch.Generator().manual_seed(0)
    network = SuperNetwork(space, generator).eval()
    randomise(network, generator)
    rng = np.random.default_rng(1)
    for seed in range(50):
        check(network.slice(space.random(rng)), seed)
    for architecture in (space.full, space.smallest):
        check(network.slice(architecture), 0)


def test_every_other_operator() -> None:
    """What the spaces do not use: resizing, odd sizes, ReLU6, reshape, softmax, fused sums."""
    builder = NetworkBuilder((7, 10, 3))
    x = builder.conv_2d(0, 8, kernel=3, stride=2, activation="relu6", name="a", batch_norm=True)
    x = builder.depthwise_conv_2d(x, kernel=5, stride=2, activation="relu", name="b")
    x = builder.resize_bilinear(x, 4, 6)
    x = builder.add(x, builder.elementwise("relu", x), activation="relu6")
    x = builder.elementwise("relu6", builder.mul(x, builder.mean(x), activation="relu"))
    x = builder.average_pool_2d(x)
    x = builder.reshape(x, (48,))
    builder.elementwise("softmax", builder.fully_connected(x, 5, activation="relu", name="c"))
    generator = torch.Generator().manual_seed(0)
    module = NetworkModule(builder.build(), generator).eval()
    randomise(module, generator)
    check(module, 0)
