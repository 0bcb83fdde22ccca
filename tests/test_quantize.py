"""Networks in int8: what the file answers, how it is written, and what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from boardfit.devices.errors import DataError, InputError
from boardfit.profiler.connect import connect
from boardfit.profiler.layers import Network
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.read_tflite import inspect
from boardfit.search.data import Dataset, open_dataset
from boardfit.search.examples import Images, normalise
from boardfit.search.export import check_int8, export, export_int8
from boardfit.search.finalists import calibration_batches
from boardfit.search.network_module import NetworkModule
from boardfit.search.quantize import quantize, ranges
from boardfit.search.recipe import Recipe
from boardfit.search.scoring import evaluate
from boardfit.search.space import SearchSpace
from boardfit.search.stages import Head, InvertedResidual, Stem
from boardfit.search.training import train_network

pytest.importorskip("ai_edge_quantizer")
litert = pytest.importorskip("ai_edge_litert.interpreter")


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_dataset("digits", input_shape=(16, 16, 3), classes=10, seed=0)


@pytest.fixture(scope="module")
def trained(digits: Dataset) -> NetworkModule:
    """All that int8 finds hard: hard swish, squeeze and excite, bypass, removed blocks."""
    stages = (
        Stem("stem", 16),
        InvertedResidual("a", 16, 16, 32, squeeze_excite=True, activation="hard_swish"),
        InvertedResidual("b", 16, 16, 32),
        InvertedResidual("c", 16, 24, 48, stride=2),
        Head("head", 64, 10),
    )
    space = SearchSpace("small", (16, 16, 3), 10, stages)
    # Both kinds of bypass, and a block that is gone.
    architecture = (16, 8, 32, 0, 32, 8, 48, 64)
    network = space.network(architecture)
    assert {"hard_swish", "slice", "concatenation", "add", "logistic", "average_pool_2d"} <= {
        layer.op for layer in network.layers
    }
    module = NetworkModule(network, torch.Generator().manual_seed(0))
    train_network(module, digits, Recipe(steps=60, batch_size=64, learning_rate=0.02), seed=0)
    return module


def first(images: object, count: int) -> torch.Tensor:
    assert isinstance(images, Images)
    return normalise(images.images[:count])


def test_float_and_int8_files_keep_the_accuracy(
    tmp_path: Path, trained: NetworkModule, digits: Dataset
) -> None:
    accuracy = evaluate(trained, digits.test, digits.task).accuracy
    assert accuracy > 0.8  # otherwise nothing is shown
    with connect("local") as device:
        as_float = export(trained, tmp_path / "found", device, digits.test, digits.task)
        as_int8 = export_int8(
            trained,
            tmp_path / "found",
            device,
            digits.test,
            digits.task,
            [first(digits.train, 200)],
        )
    assert as_float.accuracy == pytest.approx(accuracy, abs=0.005)
    assert as_int8.accuracy == pytest.approx(accuracy, abs=0.02)
    assert as_int8.path == tmp_path / "found.int8.tflite"
    assert as_int8.size == as_int8.path.stat().st_size < as_float.size
    model = inspect(as_int8.path.read_bytes())
    assert {operator.dtype for operator in model.operators} == {"int8"}
    assert (model.inputs[0].dtype, model.outputs[0].dtype) == ("int8", "int8")


def test_ranges_are_those_of_all_images(trained: NetworkModule, digits: Dataset) -> None:
    whole = ranges(trained, [first(digits.train, 40)])
    parts = ranges(trained, [first(digits.train, 40)[i : i + 10] for i in range(0, 40, 10)])
    assert parts.keys() == whole.keys()
    for name, limits in whole.items():
        assert parts[name] == pytest.approx(limits, rel=1e-4, abs=1e-5)
    outputs = trained(first(digits.train, 40)).detach()
    assert whole["output"] == pytest.approx((float(outputs.min()), float(outputs.max())), rel=1e-4)
    assert whole["input"] == pytest.approx(
        (float(first(digits.train, 40).min()), float(first(digits.train, 40).max()))
    )
    # A range that is averaged over images, as the quantiser's own, would cut off half of them.
    single = ranges(trained, [first(digits.train, 1)])
    assert whole["output"][1] > single["output"][1]


def test_every_tensor_has_the_scale_of_its_range(trained: NetworkModule, digits: Dataset) -> None:
    images = [first(digits.train, 50)]
    interpreter = litert.Interpreter(model_content=quantize(trained, images), num_threads=1)
    (output,) = interpreter.get_output_details()
    (low, high), (scale, _) = ranges(trained, images)["output"], output["quantization"]
    assert scale == pytest.approx((max(high, 0) - min(low, 0)) / 255, rel=0.02)


def test_a_layer_whose_units_are_dead_is_written_nonetheless(
    trained: NetworkModule, digits: Dataset
) -> None:
    module = copy.deepcopy(trained)
    squeeze = dict(module.named_parameters())["layers.a/squeeze.bias"]
    with torch.no_grad():
        squeeze.fill_(-1e3)
    images = first(digits.train, 50)
    assert ranges(module, [images])["a.squeeze"] == (0.0, 0.0)
    interpreter = litert.Interpreter(model_content=quantize(module, [images]), num_threads=1)
    interpreter.allocate_tensors()  # refused where the dead layer's scale is next to nothing


def test_two_nodes_of_one_name_share_a_range() -> None:
    builder = NetworkBuilder((4, 4, 2))
    x = builder.elementwise("relu", builder.pad_channels(0, 4))
    builder.add(x, x)
    network = builder.build()
    twice = Network(
        network.input_shape, tuple(replace(node, name="same") for node in network.nodes), {}
    )
    found = ranges(NetworkModule(twice), [torch.full((1, 2, 4, 4), -2.0)])
    assert found == {"input": (-2.0, -2.0), "same": (-2.0, 0.0), "output": (0.0, 0.0)}


def test_without_images_or_numbers_there_are_no_ranges(trained: NetworkModule) -> None:
    with pytest.raises(DataError, match="needs training images"):
        quantize(trained, [])
    with pytest.raises(DataError, match="no longer a number"):
        quantize(trained, [torch.full((2, 3, 16, 16), float("nan"))])


def test_int8_files_are_for_runtimes_of_tflite() -> None:
    check_int8("auto")
    check_int8("benchmark_model:gpu")
    with pytest.raises(InputError, match="not for onnxruntime; go without --int8"):
        check_int8("onnxruntime")


def test_a_worker_gives_the_numbers_that_integers_stand_for(
    trained: NetworkModule, digits: Dataset
) -> None:
    from boardfit.profiler.open_session import open_session
    from boardfit.profiler.visits import Model

    data = quantize(trained, [first(digits.train, 200)])
    images = first(digits.test, 20)
    with connect("local") as device, open_session(device) as session:
        session.load_one(Model("int8", lambda: data))
        outputs = session.predict("int8", images.permute(0, 2, 3, 1).numpy())
        beyond = session.predict("int8", np.full((1, 16, 16, 3), 1e6, np.float32))
        largest = session.predict("int8", np.full((1, 16, 16, 3), 2, np.float32))
    expected = trained(images).detach().numpy()
    np.testing.assert_allclose(outputs, expected, atol=0.25 * np.abs(expected).max())
    assert np.corrcoef(outputs.ravel(), expected.ravel())[0, 1] > 0.99
    np.testing.assert_array_equal(beyond, largest)  # saturates, and does not wrap around


def test_ranges_are_found_on_images_of_the_whole_split() -> None:
    images = torch.arange(1000).reshape(-1, 1, 1, 1).expand(-1, 3, 2, 2) / 1000.0
    (batch,) = calibration_batches(Images(images, torch.zeros(1000, dtype=torch.int64)))
    assert len(batch) == 200
    assert float(batch.min()) == 0.0
    assert float(batch.max()) == pytest.approx(0.999)
    assert len(calibration_batches(Images(images[:7], torch.zeros(7)))[0]) == 7
