"""ONNX files that are not trusted: whatever they are, a `ModelInfo` or a `ModelFileError`."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from boardfit.devices.errors import ModelFileError
from boardfit.profiler.emit_onnx import emit_onnx
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.read_onnx import inspect_onnx
from boardfit.profiler.read_tflite import ModelInfo, OperatorInfo, TensorInfo


def small_model() -> bytes:
    builder = NetworkBuilder((8, 8, 3))
    x = builder.conv_2d(0, 4, kernel=3, stride=2, activation="relu6")
    x = builder.add(x, builder.depthwise_conv_2d(x, kernel=3))
    x = builder.concatenation([x, builder.slice_channels(x, 1, 3)])
    x = builder.mean(builder.resize_bilinear(x, 3, 3), keep_dimensions=False)
    builder.elementwise("softmax", builder.fully_connected(x, 2))
    return emit_onnx(builder.build())


MODEL = small_model()


def read(data: bytes) -> ModelInfo | None:
    """What is found; None where the file is refused with a next step."""
    try:
        return inspect_onnx(data, source="x.onnx")
    except ModelFileError as error:
        words = str(error)
    assert words.startswith("x.onnx is ")
    assert words.endswith("copy or export it again")
    return None


def graph_of(
    nodes: list[Any], inputs: list[Any] | None = None, functions: list[Any] | None = None
) -> bytes:
    """A model of nodes from `x` to `y`."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    graph = helper.make_graph(nodes, "g", inputs or [x], [y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=functions or [])
    return bytes(model.SerializeToString())


def test_a_model_tells_what_it_holds() -> None:
    info = inspect_onnx(MODEL)
    assert info.digest == hashlib.sha256(MODEL).hexdigest()
    assert info.size == len(MODEL)
    assert info.inputs == (TensorInfo("input", (1, 3, 8, 8), "float32"),)
    assert info.outputs == (TensorInfo("output", (1, 2), "float32"),)
    # conv 4*3*3*3 + 4, limits 2, depthwise 3*3*4 + 4, slice 3, sizes 4, full 2*6 + 2.
    assert info.parameters == 112 + 2 + 40 + 3 + 4 + 14
    assert info.operators[0] == OperatorInfo("Conv", ((1, 3, 8, 8),), ((1, 4, 4, 4),), 112)
    names = "Conv Clip Add Slice Concat Resize GlobalAveragePool Flatten Gemm Softmax"
    assert info.operator_counts == dict.fromkeys(names.split(), 1) | {"Conv": 2}


def test_constants_count_as_parameters_wherever_they_stand() -> None:
    """In nodes, in initialisers that are listed as inputs (old files), and in sparse ones."""
    two = numpy_helper.from_array(np.ones(2, np.float32), "two")
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(2, "f"))),
        helper.make_node("Constant", [], ["d"], value_floats=[1.0, 2.0]),
        helper.make_node("Sum", ["x", "c", "d", "two"], ["y"]),
    ]
    model = onnx.load_from_string(graph_of(nodes))
    model.graph.initializer.append(two)
    model.graph.input.append(helper.make_tensor_value_info("two", TensorProto.FLOAT, [2]))
    info = inspect_onnx(model.SerializeToString())
    assert info.operators == (OperatorInfo("Sum", ((1, 2),), ((1, 2),), 6),)
    assert info.inputs == (TensorInfo("x", (1, 2), "float32"),)  # the open size is 1


def test_other_types_and_foreign_operators_are_named() -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [2, 3])]
    function = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Cast", ["a"], ["b"], to=1)],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [helper.make_node("Twice", ["x"], ["y"], domain="own")]
    info = inspect_onnx(graph_of(nodes, inputs, [function]))
    assert info.inputs == (TensorInfo("x", (2, 3), "float16"),)
    assert info.operator_counts == {"own.Twice": 1}


def test_the_dtype_is_that_of_most_operators() -> None:
    half = TensorProto.FLOAT16
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=half),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
    ]
    info = inspect_onnx(graph_of(nodes))
    assert [operator.dtype for operator in info.operators] == ["float16", "float16", "float32"]
    assert info.dtype == "float16"


# Files of strangers


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "weights.bin"])
@pytest.mark.parametrize("place", ["initializer", "attribute", "function"])
def test_no_other_file_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(bytes(8))  # one that exists is not read either
    tensor = TensorProto(name="w", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=name)
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    functions = []
    if place == "function":
        body = [constant, helper.make_node("Add", ["a", "c"], ["b"])]
        opsets = [helper.make_opsetid("", 17)]
        functions = [helper.make_function("own", "F", ["a"], ["b"], body, opsets)]
        nodes = [helper.make_node("F", ["x"], ["y"], domain="own")]
    else:
        nodes = [helper.make_node("Add", ["x", "w" if place == "initializer" else "c"], ["y"])]
        nodes[:0] = [] if place == "initializer" else [constant]
    model = onnx.load_from_string(graph_of(nodes, functions=functions))
    if place == "initializer":
        model.graph.initializer.append(tensor)
    with pytest.raises(ModelFileError, match="weights lie in other files, which are not followed"):
        inspect_onnx(model.SerializeToString())


def nested_functions(depth: int, *, circle: bool = False) -> list[Any]:
    """Functions that each call the next one twice: 2^depth nodes in a few lines."""
    functions = []
    for level in range(depth):
        callee, domain = (f"f{level + 1}", "own") if level + 1 < depth else ("Relu", "")
        if circle and not domain:
            callee, domain = "f0", "own"
        body = [
            helper.make_node(callee, ["a"], ["m"], domain=domain),
            helper.make_node(callee, ["m"], ["b"], domain=domain),
        ]
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], body, opsets))
    return functions


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        (nested_functions(60), "more than 100000 operators"),
        (nested_functions(3, circle=True), "the function f0 calls itself"),
        (nested_functions(5000), "its functions are nested too deeply"),
    ],
    ids=["bomb", "circle", "depth"],
)
def test_functions_that_would_take_for_ever_are_refused(functions: list[Any], words: str) -> None:
    nodes = [helper.make_node("f0", ["x"], ["y"], domain="own")]
    begin = time.monotonic()
    with pytest.raises(ModelFileError, match=words):
        inspect_onnx(graph_of(nodes, functions=functions))
    assert time.monotonic() - begin < 20


def test_functions_within_reason_are_read() -> None:
    nodes = [helper.make_node("f0", ["x"], ["y"], domain="own")]
    info = inspect_onnx(graph_of(nodes, functions=nested_functions(4)))
    assert info.operators == (OperatorInfo("own.f0", ((1, 2),), ((1, 2),), 0),)


@pytest.mark.parametrize(
    "data",
    [b"", b"not a model", b"\0" * 100, MODEL[:-40], b"\xff" * 64, MODEL + MODEL],
    ids=["empty", "text", "zeros", "cut", "ones", "twice"],
)
def test_what_is_no_model_is_refused(data: bytes) -> None:
    assert read(data) is None


def test_damaged_bytes_never_surprise() -> None:
    rng = random.Random(0)
    found = 0
    for _ in range(4000):
        data = bytearray(MODEL)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(len(data))
            if rng.random() < 0.8:
                data[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
            else:
                del data[at : at + rng.choice([1, 2, 8])]
        found += read(bytes(data)) is not None
    assert 200 < found < 3800  # some hit weights, some hit the structure


def test_damaged_fields_never_surprise() -> None:
    """Files that are whole as protobuf, with fields that contradict one another."""
    whole = onnx.load_from_string(MODEL)
    found = 0
    for seed in range(3000):
        model = ModelProto()
        model.CopyFrom(whole)
        rng = random.Random(seed)
        for _ in range(rng.choice([1, 1, 2, 5])):
            damage(model, rng)
        found += read(model.SerializePartialToString()) is not None
    assert 150 < found < 2850


OPERATORS = [schema.name for schema in onnx.defs.get_all_schemas()]
TEXTS = ["", "input", "output", "output/kernel", "x" * 500, "\u00e9", "ai.onnx.ml"]
NUMBERS = [0, 1, -1, 2, 7, 99, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 0.5, float("nan")]


def damage(model: ModelProto, rng: random.Random) -> None:
    """Change one field of one message to something that another one might hold."""
    everything = list(messages(model))
    message = rng.choice(everything)
    field = rng.choice(list(message.DESCRIPTOR.fields))
    if rng.random() < 0.2:
        message.ClearField(field.name)
    elif field.message_type is not None:
        donors = [m for m in everything if m.DESCRIPTOR is field.message_type]
        if donors:
            donor = type(donors[0])()
            donor.ParseFromString(rng.choice(donors).SerializePartialToString())
            held = getattr(message, field.name)
            (held.add() if field.is_repeated else held).CopyFrom(donor)
    else:
        texts = OPERATORS if field.name == "op_type" else TEXTS
        for value in rng.sample([*NUMBERS, rng.choice(texts), b"\0" * 7], len(NUMBERS) + 2):
            try:
                if field.is_repeated:
                    getattr(message, field.name).append(value)
                else:
                    setattr(message, field.name, value)
            except (TypeError, ValueError):  # another type of field
                continue
            return


def messages(message: Message) -> Iterator[Message]:
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from messages(part)


@given(st.binary(max_size=400))
@example(b"\x08\x08")
def test_random_bytes_never_surprise(data: bytes) -> None:
    read(data)
    read(MODEL[:2] + data)
