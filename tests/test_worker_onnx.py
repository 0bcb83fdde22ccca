"""ONNX Runtime in the worker: the real one, over a real process, and its profile of operators."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from boardfit.devices.base import Device
from boardfit.devices.errors import WorkerError
from boardfit.profiler.connect import connect
from boardfit.profiler.emit_onnx import emit_onnx
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.run_litert import WorkerSession
from boardfit.profiler.visits import Model, Round, Visit
from boardfit.profiler.worker_onnx import OnnxRuntime, read_profile

AZURE, CPU = "AzureExecutionProvider", "CPUExecutionProvider"


def small_model() -> bytes:
    builder = NetworkBuilder((8, 8, 3))
    x = builder.conv_2d(0, 16, kernel=3, stride=2, activation="relu", name="stem")
    x = builder.elementwise("hard_swish", builder.depthwise_conv_2d(x, kernel=3, name="spatial"))
    builder.fully_connected(builder.mean(x, keep_dimensions=False), 5, name="classifier")
    return emit_onnx(builder.build())


MODEL = small_model()


def model_of(kind: int, shape: list[Any], operator: str = "Identity") -> bytes:
    x, y = (helper.make_tensor_value_info(name, kind, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", [x], [y])
    opsets = [helper.make_opsetid("", 17)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


@pytest.fixture
def device() -> Iterator[Device]:
    found = connect("local")
    yield found
    found.transport.close()


def load(session: WorkerSession, **models: bytes) -> None:
    for _ in session.load([Model(key, partial(bytes, data)) for key, data in models.items()]):
        pass


def ask(session: WorkerSession, request: dict[str, Any]) -> dict[str, Any]:
    session._send(request)
    return session._answer()


# The protocol, as any runtime speaks it


def test_it_measures_and_predicts(device: Device) -> None:
    with WorkerSession(device, runtime="onnxruntime") as session:
        hello = session.hello
        assert (hello["runtime"], hello["version"]) == ("onnxruntime", onnxruntime.__version__)
        load(session, a=MODEL)
        visit, done = session.measure([("a", 3)], number=7, warmup=2, samples=4)
        assert isinstance(visit, Visit)
        assert (visit.key, len(visit.warmup), len(visit.seconds)) == ("a", 2, 4)
        assert min(visit.seconds) > 0
        assert isinstance(done, Round)
        assert 0 < done.inside <= done.wall
        images = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
        outputs = session.predict("a", images)
    direct: Any = onnxruntime.InferenceSession(MODEL, providers=[CPU])
    expected = [direct.run(None, {"input": image[None]})[0][0] for image in images]
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


def test_several_threads_run_it(device: Device) -> None:
    with WorkerSession(device, runtime="onnxruntime", threads=2) as session:
        load(session, a=MODEL)
        assert session.hello["threads"] == 2
        assert len(list(session.measure([("a", 1)]))) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no model", "cannot load x on local: .*protobuf parsing failed"),
        (MODEL[: len(MODEL) // 2], "cannot load x on local: "),
        (b"\0\0\0\0TFL3", "cannot load x on local: "),
        (model_of(TensorProto.STRING, [1]), r"the input x is a tensor\(string\), not numbers"),
    ],
    ids=["text", "cut", "tflite", "strings"],
)
def test_what_it_does_not_take_is_named_and_it_lives_on(
    device: Device, data: bytes, words: str
) -> None:
    with WorkerSession(device, runtime="onnxruntime") as session:
        with pytest.raises(WorkerError, match=words):
            load(session, x=data)
        load(session, a=MODEL)
        assert len(list(session.measure([("a", 1)]))) == 2


@pytest.mark.parametrize(
    "kind",
    ["FLOAT", "DOUBLE", "FLOAT16", "BOOL", "INT8", "UINT8", "INT32", "INT64"],
)
def test_inputs_of_every_type_and_open_sizes_are_filled(kind: str) -> None:
    model = OnnxRuntime("onnxruntime").load(
        model_of(getattr(TensorProto, kind), ["batch", 3, None]), 1
    )
    model.invoke()


def test_every_input_is_filled_and_a_prediction_gives_the_first() -> None:
    x, z, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xzy")
    graph = helper.make_graph([helper.make_node("Sub", ["x", "z"], ["y"])], "g", [x, z], [y])
    opsets = [helper.make_opsetid("", 17)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    model = OnnxRuntime("onnxruntime").load(data, 1)
    at_zero, at_one = (
        np.frombuffer(model.predict(np.full(2, value, np.float32).tobytes()), np.float32)
        for value in (0, 1)
    )
    np.testing.assert_allclose(at_one - at_zero, 1, rtol=1e-6)
    model.invoke()


# Providers: by name, and none in secret


def test_another_runtime_than_asked_for_is_refused() -> None:
    fake = connect("fake")
    with pytest.raises(WorkerError, match="fake runs models in simulated, not in onnxruntime"):
        WorkerSession(fake, runtime="onnxruntime")


@pytest.mark.parametrize("wanted", ["onnxruntime:cuda", "onnxruntime:Nonsense,cpu", "onnxruntime:"])
def test_a_provider_that_is_missing_names_those_there_are(device: Device, wanted: str) -> None:
    with pytest.raises(WorkerError, match=rf"cannot start on local: .*it has .*{CPU}: give one"):
        WorkerSession(device, runtime=wanted)


def test_without_its_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeError, match=r"no ONNX Runtime \(.*\); install onnxruntime"):
        OnnxRuntime("onnxruntime")


@pytest.mark.parametrize("wanted", ["onnxruntime", "onnxruntime:cpu", f"onnxruntime:{CPU}"])
def test_the_cpu_is_the_usual_one(wanted: str) -> None:
    assert OnnxRuntime(wanted).name == "onnxruntime"


azure = pytest.mark.skipif(
    AZURE not in onnxruntime.get_available_providers(),
    reason="needs a second provider, which this build of onnxruntime lacks",
)


@azure
def test_nodes_do_not_fall_back_to_the_cpu_in_secret(device: Device) -> None:
    """The Azure provider is in every CPU build and runs none of these operators."""
    with WorkerSession(device, runtime="onnxruntime:azure") as session:
        assert session.hello["runtime"] == f"onnxruntime:{AZURE}"
        with pytest.raises(
            WorkerError,
            match=f"{AZURE} cannot run all of the model .* --runtime onnxruntime:{AZURE},{CPU}",
        ):
            load(session, a=MODEL)


@azure
def test_the_cpu_runs_the_rest_where_it_is_named(device: Device) -> None:
    with WorkerSession(device, runtime="onnxruntime:azure,cpu") as session:
        assert session.hello["runtime"] == f"onnxruntime:{AZURE},{CPU}"
        load(session, a=MODEL)
        answer = ask(session, {"do": "operators", "model": "a", "runs": 1})
    assert {operator["delegate"] for operator in answer["operators"]} == {CPU}


@azure
def test_what_the_preferred_provider_does_not_run_is_listed() -> None:
    assert OnnxRuntime("onnxruntime").load(MODEL, 1).placement() == []
    outside = OnnxRuntime("onnxruntime:azure,cpu").load(MODEL, 1).placement()
    assert outside is not None
    assert [index for index, _ in outside] == list(range(len(outside)))
    assert [kind for _, kind in outside].count("Conv") == 2


def branching() -> bytes:
    """A model with an If, whose branches' operators the profile counts apart."""
    x, y, one = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y", "z"))
    branches = {
        name: helper.make_graph([helper.make_node(kind, ["x", "x"], ["z"])], name, [], [one])
        for name, kind in (("then_branch", "Add"), ("else_branch", "Mul"))
    }
    nodes = [
        helper.make_node("Greater", ["x", "half"], ["large"]),
        helper.make_node("If", ["large"], ["y"], **branches),
    ]
    half = helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5])
    graph = helper.make_graph(nodes, "g", [x], [y], [half])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found: bytes = model.SerializeToString()
    return found


@azure
def test_of_a_model_with_branches_the_placement_is_not_known() -> None:
    assert OnnxRuntime("onnxruntime:azure,cpu").load(branching(), 1).placement() is None


@pytest.mark.parametrize("others", [[], [CPU]])
def test_a_provider_that_does_not_start_is_noticed(others: list[str]) -> None:
    """ONNX Runtime leaves it out with no more than a warning."""
    runtime = OnnxRuntime("onnxruntime")
    runtime._providers = ["TensorrtExecutionProvider", *others]
    with (
        pytest.warns(UserWarning, match="not in available provider names"),
        pytest.raises(RuntimeError, match=f"did not use TensorrtExecutionProvider, only {CPU}"),
    ):
        runtime.load(MODEL, 1)


# Operators


def test_operators_are_timed_run_by_run(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")  # the worker does it by itself
    with WorkerSession(device, runtime="onnxruntime") as session:
        load(session, a=MODEL)
        answer = ask(session, {"do": "operators", "model": "a", "runs": 20})
        assert len(list(session.measure([("a", 1)]))) == 2  # the model goes on as before
    assert answer.keys() == {"operators", "profiled", "plain"}
    assert len(answer["profiled"]) == len(answer["plain"]) == 20
    assert min(*answer["profiled"], *answer["plain"]) > 0
    operators = answer["operators"]
    assert [operator["index"] for operator in operators] == list(range(len(operators)))
    for operator in operators:
        assert operator.keys() == {"name", "kind", "index", "delegate", "seconds"}
        assert operator["delegate"] == CPU
        assert len(operator["seconds"]) == 20
        assert min(operator["seconds"]) >= 0
    kinds = [operator["kind"] for operator in operators]
    assert kinds.count("Conv") == 2  # the activation of the first is fused
    assert {"GlobalAveragePool", "Gemm"} <= set(kinds)
    assert any("spatial" in operator["name"] for operator in operators)
    # Run by run, the operators are a part of the whole; each is told to a microsecond.
    sums = np.sum([operator["seconds"] for operator in operators], axis=0)
    assert (sums <= np.array(answer["profiled"]) + 1e-6 * len(operators)).all()
    assert not list(temporary.iterdir())  # neither the profile nor what telemetry would leave


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"model": "a", "runs": 0}, "0 runs give no times"),
        ({"model": "none", "runs": 1}, "KeyError: 'none'"),
        ({"model": "a"}, "KeyError: 'runs'"),
        ({"model": "a", "runs": "many"}, "ValueError"),
    ],
)
def test_a_request_for_operators_that_cannot_be_met_is_answered(
    device: Device, request_: dict[str, Any], words: str
) -> None:
    with WorkerSession(device, runtime="onnxruntime") as session:
        load(session, a=MODEL)
        assert words in ask(session, {"do": "operators", **request_})["error"]


def event(
    index: int, dur: int = 5, op: str = "Conv", name: str = "c_kernel_time"
) -> dict[str, Any]:
    args = {"op_name": op, "provider": CPU, "node_index": str(index)}
    return {"cat": "Node", "name": name, "dur": dur, "args": args}


def test_a_profile_is_read_in_the_order_in_which_nodes_ran() -> None:
    runs = [[event(7, dur), {"cat": "Session", "name": "model_run"}, event(3, 1)] for dur in (9, 4)]
    fence = event(7, name="c_fence_before")  # of older versions
    first, second = read_profile([fence, *runs[0], *runs[1]], runs=2, warm_up=1)
    assert (first["index"], first["seconds"]) == (0, [4e-6])
    assert (second["index"], second["seconds"]) == (1, [1e-6])
    assert first["name"] == "c"


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([event(1), event(2), event(1)], "has 1 times of c in 2 runs; ask for fewer runs"),
        ([event(1), event(1), event(1)], "has 3 times of c in 2 runs"),
        ([event(1, op="Loop"), event(1, op="Loop")], "the model has a Loop: times of"),
    ],
)
def test_a_profile_that_does_not_add_up_is_refused(
    events: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        read_profile(events, runs=2, warm_up=0)


# TFLite and ONNX apart


def test_the_models_of_the_other_runtime_are_refused(device: Device) -> None:
    builder = NetworkBuilder((4, 4, 2))
    builder.conv_2d(0, 2)
    with (
        WorkerSession(device, runtime="onnxruntime") as session,
        pytest.raises(WorkerError, match="cannot load tflite"),
    ):
        load(session, tflite=emit(builder.build()))
    with WorkerSession(device) as session, pytest.raises(WorkerError, match="cannot load onnx"):
        load(session, onnx=MODEL)
