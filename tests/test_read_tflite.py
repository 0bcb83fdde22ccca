"""Files that are not trusted: whatever the bytes are, a `ModelInfo` or a `ModelFileError`."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import time
from pathlib import Path

import flatbuffers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from boardfit.devices.errors import ModelFileError
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.read_tflite import ModelInfo, TensorInfo, inspect, read_model_file


def small_model() -> bytes:
    builder = NetworkBuilder((8, 8, 3))
    x = builder.conv_2d(0, 4, kernel=3, stride=2, activation="relu")
    x = builder.add(x, builder.depthwise_conv_2d(x, kernel=3))
    x = builder.concatenation([x, builder.slice_channels(x, 1, 3)])
    x = builder.mean(x, keep_dimensions=False)
    builder.elementwise("softmax", builder.fully_connected(x, 2))
    return emit(builder.build())


MODEL = small_model()


def read(data: bytes) -> ModelInfo | None:
    """What is found; None where the file is refused with a next step."""
    try:
        return inspect(data, source="x.tflite")
    except ModelFileError as error:
        words = str(error)
    assert words.startswith("x.tflite is ")
    assert words.endswith(("it again", "litert-torch or onnx2tf"))
    return None


def test_a_model_tells_what_it_holds() -> None:
    info = inspect(MODEL)
    assert info.digest == hashlib.sha256(MODEL).hexdigest()
    assert info.size == len(MODEL)
    assert info.inputs == (TensorInfo("input", (1, 8, 8, 3), "float32"),)
    assert info.outputs == (TensorInfo("output", (1, 2), "float32"),)
    # conv 4*3*3*3 + 4, depthwise 3*3*4 + 4, slice 4 + 4, mean 2 axes, full 2*6 + 2.
    assert info.parameters == 112 + 40 + 8 + 2 + 14
    assert info.operators[0].inputs == ((1, 8, 8, 3),)
    assert info.operators[0].outputs == ((1, 4, 4, 4),)
    assert info.operator_counts == {
        operator: 1
        for operator in (
            "conv_2d",
            "depthwise_conv_2d",
            "add",
            "slice",
            "concatenation",
            "mean",
            "fully_connected",
            "softmax",
        )
    }


def test_counts_begin_with_the_most_frequent() -> None:
    builder = NetworkBuilder((4,))
    x = builder.elementwise("relu", 0)
    builder.elementwise("softmax", builder.elementwise("softmax", x))
    counts = inspect(emit(builder.build())).operator_counts
    assert list(counts.items()) == [("softmax", 2), ("relu", 1)]


@pytest.mark.parametrize("data", [b"", b"TFL3", MODEL[:7], b"PK\3\4" * 100, b"\0\0\0\0TFL2" * 9])
def test_another_kind_of_file_is_called_so(data: bytes) -> None:
    with pytest.raises(ModelFileError, match=r"not a TFLite model .* convert it first"):
        inspect(data)


def test_a_model_cut_short_is_refused_or_still_true() -> None:
    whole = inspect(MODEL)
    refused = 0
    for length in range(0, len(MODEL), 97):
        found = read(MODEL[:length])
        refused += found is None
        assert found is None or found.operators == whole.operators
    assert refused > 10


def test_damaged_bytes_never_surprise() -> None:
    rng = random.Random(0)
    found = 0
    begin = time.monotonic()
    for _ in range(20_000):
        data = bytearray(MODEL)
        for _ in range(rng.choice([1, 1, 2, 8])):
            # Sizes and offsets, the vulnerable part, are at the two ends.
            at = rng.choice([rng.randrange(len(data)), rng.randrange(300), -rng.randrange(1, 300)])
            data[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        found += read(bytes(data)) is not None
    assert 1000 < found < 19_000  # some hit weights, some hit the structure
    assert time.monotonic() - begin < 60


def test_damaged_offsets_never_surprise() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        data = bytearray(MODEL)
        at = 4 * rng.randrange(2, len(data) // 4)
        value = rng.choice([0, 2**31 - 1, 2**31, 2**32 - 1, len(data), rng.randrange(2 * at)])
        data[at : at + 4] = struct.pack("<I", value)
        read(bytes(data))


@given(st.binary(max_size=400))
@example(b"")
@example(bytes(8) + b"\xff" * 64)
def test_random_bytes_behind_the_mark_never_surprise(data: bytes) -> None:
    read(data)
    read(data[:4] + b"TFL3" + data[4:])


def model_of_shared_lists(operators: int, inputs: int) -> bytes:
    """A small file that names one operator many times, whose list of inputs is long."""
    builder = flatbuffers.Builder(0)

    def table(*fields: int) -> int:
        builder.StartObject(len(fields))
        for position, offset in enumerate(fields):
            if offset:
                builder.PrependUOffsetTRelativeSlot(position, offset, 0)
        return int(builder.EndObject())

    def tables(items: list[int]) -> int:
        builder.StartVector(4, len(items), 4)
        for item in items:
            builder.PrependUOffsetTRelative(item)
        return int(builder.EndVector())

    builder.StartVector(4, inputs, 4)
    for _ in range(inputs):
        builder.PrependInt32(0)
    long_list = builder.EndVector()
    empty = table()
    operator = table(0, long_list)
    graph = table(tables([empty]), 0, 0, tables([operator] * operators))
    buffers, codes, graphs = tables([empty]), tables([empty]), tables([graph])
    builder.Finish(table(0, codes, graphs, 0, buffers), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_a_file_whose_lists_overlap_does_not_take_for_ever() -> None:
    assert len(inspect(model_of_shared_lists(3, 5)).operators) == 3
    data = model_of_shared_lists(100_000, 100_000)  # 1 MB that spells 10 billion inputs
    begin = time.monotonic()
    with pytest.raises(ModelFileError, match="its lists overlap"):
        inspect(data)
    assert time.monotonic() - begin < 20


# Files


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(MODEL)
    assert read_model_file(tmp_path / "m.tflite") == MODEL


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**31)  # a hole: it takes no space
    for name, words in (
        ("none.tflite", "there is no model file .*none.tflite; check the path"),
        (".", "is not an ordinary file"),
        ("large", "the model .*large is larger than 2 GB"),
        ("pipe", "the model .*pipe is not an ordinary file; check the path"),
    ):
        with pytest.raises(ModelFileError, match=words):
            read_model_file(tmp_path / name)
