"""Look into any TFLite file: its operators, inputs and outputs, without running it.

The file is not trusted: every offset is checked against the end of the file before it is
followed, counts are bounded, and whatever is wrong ends in `ModelFileError`.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ..devices.errors import ModelFileError
from .tflite_format import BUILTIN_NAMES, IDENTIFIER, TENSOR_TYPES

LARGEST_FILE = 2**31 - 1  # bytes; what offsets in TFLite and lengths in ONNX can reach
_MOST_ITEMS = 1_000_000  # tensors or operators; far above any real model
_SHARING = 16  # how often a file's bytes may be read on average: lists can be shared, a little


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's name, shape (with the batch; dynamic sizes as 1) and NumPy dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class OperatorInfo:
    """An operator of a model that is not ours: its name and the shapes that go in and come out.

    Constant inputs (weights) are not listed in `inputs`; their elements are counted in
    `parameters`. `dtype` is that of the first output.
    """

    name: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]
    parameters: int
    dtype: str = "float32"


@dataclass(frozen=True)
class ModelInfo:
    """What a model file holds. `digest` is the SHA-256 of its bytes, `size` is in bytes."""

    digest: str
    size: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: tuple[OperatorInfo, ...]

    @property
    def operator_counts(self) -> dict[str, int]:
        """How often each operator occurs, most frequent first."""
        return dict(Counter(operator.name for operator in self.operators).most_common())

    @property
    def dtype(self) -> str:
        """The dtype that most operators write; float32 where there are none."""
        counts = Counter(operator.dtype for operator in self.operators)
        return max(counts, key=counts.__getitem__, default="float32")

    @property
    def parameters(self) -> int:
        """Elements of all constant tensors that operators read."""
        return sum(operator.parameters for operator in self.operators)


def read_model_file(path: Path) -> bytes:
    """Return a model file's bytes. Raises `ModelFileError` where it cannot be read."""
    if not path.exists():
        raise ModelFileError(f"there is no model file {path}; check the path")
    # A pipe would block for ever, /dev/zero would never end.
    if not path.is_file():
        raise ModelFileError(f"the model {path} is not an ordinary file; check the path")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ModelFileError(f"the model {path} is larger than 2 GB; give a smaller one")
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"cannot read the model {path}: {error.strerror}") from error


def inspect(data: bytes, *, source: str = "the model") -> ModelInfo:
    """Return what a TFLite model holds.

    `source` names it in errors. Raises `ModelFileError` where the bytes are not a TFLite model,
    or a damaged one.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ModelFileError(
            f"{source} is not a TFLite model (the mark TFL3 is missing); convert it first, for "
            "example with litert-torch or onnx2tf"
        )
    try:
        return _inspect(data)
    except (struct.error, IndexError, UnicodeDecodeError, _Damaged) as error:
        detail = str(error) or "an offset leads out of the file"
        raise ModelFileError(
            f"{source} is a damaged TFLite model ({detail}); copy or convert it again"
        ) from error


class _Damaged(Exception):
    """Something in the file cannot be."""


class _File:
    """The bytes, and how many more items may be read from them.

    A small file can name one long list a thousand times; reading it would take for ever.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = _SHARING * len(data)

    def spend(self, items: int) -> None:
        self._left -= items
        if self._left < 0:
            raise _Damaged("its lists overlap")


class _Table:
    """A FlatBuffers table: fields found through its own list of offsets."""

    def __init__(self, file: _File, position: int) -> None:
        self._file = file
        self._data = file.data
        self._position = position
        self._fields = position - self._unpack("<i", position)
        self._fields_size = self._unpack("<H", self._fields)

    def _unpack(self, form: str, position: int) -> int:
        if position < 0:  # struct would count from the end
            raise _Damaged("an offset leads before the beginning of the file")
        return int(struct.unpack_from(form, self._data, position)[0])

    def _place(self, field: int) -> int | None:
        """Where the value of a field lies, or None where it has its default."""
        entry = 4 + 2 * field
        if entry + 2 > self._fields_size:
            return None
        offset = self._unpack("<H", self._fields + entry)
        return self._position + offset if offset else None

    def number(self, field: int, form: str, default: int = 0) -> int:
        place = self._place(field)
        return default if place is None else self._unpack(form, place)

    def _vector(self, field: int, item_size: int) -> tuple[int, int]:
        """The first byte and the length of a vector."""
        place = self._place(field)
        if place is None:
            return 0, 0
        begin = place + self._unpack("<I", place)
        length = self._unpack("<I", begin)
        if length > _MOST_ITEMS * (64 if item_size == 1 else 1) * 64:
            raise _Damaged(f"a list of {length} items")
        if begin + 4 + length * item_size > len(self._data):
            raise _Damaged("a list reaches beyond the end of the file")
        return begin + 4, length

    def integers(self, field: int) -> tuple[int, ...]:
        begin, length = self._vector(field, 4)
        self._file.spend(length)
        return struct.unpack_from(f"<{length}i", self._data, begin) if length else ()

    def text(self, field: int) -> str:
        begin, length = self._vector(field, 1)
        self._file.spend(length)
        return self._data[begin : begin + length].decode(errors="replace")

    def length(self, field: int) -> int:
        return self._vector(field, 1)[1]

    def tables(self, field: int) -> list[_Table]:
        begin, length = self._vector(field, 4)
        if length > _MOST_ITEMS:
            raise _Damaged(f"a list of {length} tables")
        self._file.spend(length)
        places = range(begin, begin + 4 * length, 4)
        return [_Table(self._file, place + self._unpack("<I", place)) for place in places]


def _inspect(data: bytes) -> ModelInfo:
    model = _Table(_File(data), struct.unpack_from("<I", data, 0)[0])
    subgraphs = model.tables(2)
    if not subgraphs:
        raise _Damaged("it has no graph")
    graph = subgraphs[0]
    names = [_operator_name(code) for code in model.tables(1)]
    buffers = model.tables(4)
    tensors = graph.tables(0)
    shapes = [_shape(tensor) for tensor in tensors]
    constant = [_is_constant(tensor, buffers) for tensor in tensors]

    def activations(numbers: tuple[int, ...]) -> list[int]:
        if any(number >= len(tensors) for number in numbers):
            raise _Damaged("an operator reads a tensor that is not there")
        return [number for number in numbers if number >= 0]  # -1: an input left out

    operators = []
    for operator in graph.tables(3):
        code = operator.number(0, "<I")
        if code >= len(names):
            raise _Damaged("an operator without a code")
        inputs = activations(operator.integers(1))
        outputs = activations(operator.integers(2))
        operators.append(
            OperatorInfo(
                names[code],
                tuple(shapes[number] for number in inputs if not constant[number]),
                tuple(shapes[number] for number in outputs),
                sum(math.prod(shapes[number]) for number in inputs if constant[number]),
                _dtype(tensors[outputs[0]]) if outputs else "float32",
            )
        )

    def described(numbers: tuple[int, ...]) -> tuple[TensorInfo, ...]:
        return tuple(
            TensorInfo(tensors[n].text(3), shapes[n], _dtype(tensors[n]))
            for n in activations(numbers)
        )

    return ModelInfo(
        hashlib.sha256(data).hexdigest(),
        len(data),
        described(graph.integers(1)),
        described(graph.integers(2)),
        tuple(operators),
    )


def _operator_name(code: _Table) -> str:
    # Old files have the code in a byte (field 0), newer ones in field 3; the larger one counts.
    number = max(code.number(0, "<b"), code.number(3, "<i"))
    name = BUILTIN_NAMES[number] if 0 <= number < len(BUILTIN_NAMES) else f"operator {number}"
    return f"custom {code.text(1)}" if name == "custom" else name


def _shape(tensor: _Table) -> tuple[int, ...]:
    shape = tensor.integers(0)
    if len(shape) > 16 or math.prod(max(size, 1) for size in shape) > 2**40:
        raise _Damaged(f"a tensor of shape {shape[:16]}")
    return tuple(max(size, 1) for size in shape)


def _is_constant(tensor: _Table, buffers: list[_Table]) -> bool:
    number = tensor.number(2, "<I")
    if number >= len(buffers):
        raise _Damaged("a tensor without its buffer")
    buffer = buffers[number]
    return buffer.length(0) > 0 or buffer.number(2, "<Q") > 0  # data here, or behind the table


def _dtype(tensor: _Table) -> str:
    number = tensor.number(1, "<b")
    return TENSOR_TYPES.get(number, (f"type {number}", 0))[0]
