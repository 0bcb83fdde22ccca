"""A trained network becomes a file that is proven in the runtime that it will be used in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from boardfit.devices.errors import MeasurementError
from boardfit.profiler.connect import connect
from boardfit.profiler.model_format import format_of_runtime
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.search.data import open_dataset
from boardfit.search.examples import Examples
from boardfit.search.export import export
from boardfit.search.network_module import NetworkModule
from boardfit.search.task import Classification

TASK = Classification(12)


@pytest.fixture(scope="module")
def images() -> Examples:
    return open_dataset("shapes:120", input_shape=(32, 32, 3), classes=12, seed=0).test


def small_module() -> NetworkModule:
    builder = NetworkBuilder((32, 32, 3))
    x = builder.conv_2d(0, 8, kernel=3, stride=2, activation="relu", name="a", batch_norm=True)
    x = builder.depthwise_conv_2d(x, kernel=5, stride=2, name="b")
    x = builder.mean(builder.elementwise("hard_swish", x), keep_dimensions=False)
    builder.fully_connected(x, 12, name="c")
    return NetworkModule(builder.build(), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("runtime", "ending"), [("auto", ".tflite"), ("onnxruntime", ".onnx")], ids=["tflite", "onnx"]
)
def test_the_file_computes_what_pytorch_does(
    tmp_path: Path, images: Examples, runtime: str, ending: str
) -> None:
    device = connect("local")
    exported = export(small_module(), tmp_path / "found", device, images, TASK, runtime=runtime)
    device.transport.close()
    assert exported.path == tmp_path / f"found{ending}"
    assert exported.difference < 1e-5
    assert 0 <= exported.accuracy <= 1
    data = exported.path.read_bytes()
    assert exported.size == len(data)
    info = format_of_runtime(runtime).inspect(data)
    assert (len(info.inputs), info.outputs[0].shape) == (1, (1, 12))


def test_a_network_that_computes_no_numbers_is_not_proven(tmp_path: Path, images: Examples) -> None:
    module = small_module()
    with torch.no_grad():
        next(module.parameters()).fill_(float("nan"))
    device = connect("local")
    with pytest.raises(MeasurementError, match=r"found\.onnx does not compute what PyTorch does"):
        export(module, tmp_path / "found", device, images, TASK, runtime="onnxruntime")
    device.transport.close()
