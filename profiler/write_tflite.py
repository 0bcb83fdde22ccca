"""Write TFLite's flatbuffer: tensors, buffers and operators, whatever they compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from .quantization import Quantization
from .tflite_format import (
    FLOAT32,
    IDENTIFIER,
    INT8,
    SCHEMA_VERSION,
    TENSOR_TYPES,
    OperatorFormat,
)

# A field of a FlatBuffers table: its position, its type ("offset", "int8", ...) and its value.
Field = tuple[int, str, Any]

TYPE_CODE = {name: code for code, (name, _) in TENSOR_TYPES.items()}


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]
    dtype: int
    buffer: int
    name: str
    quantization: Quantization | None


class ModelWriter:
    """Collects tensors, buffers and operators, and serialises them once.

    Tensors are known by their numbers.
    """

    def __init__(self) -> None:
        self._tensors: list[_Tensor] = []
        self._buffers: list[bytes] = [b""]  # buffer 0 is empty by definition
        self._codes: dict[tuple[int, int], int] = {}
        self._operators: list[tuple[int, list[int], int, int, int, list[Field]]] = []

    def tensor(
        self, shape: tuple[int, ...], *, name: str, quantization: Quantization | None = None
    ) -> int:
        """An activation: float32, or int8 where it is quantised."""
        dtype = FLOAT32 if quantization is None else INT8
        self._tensors.append(_Tensor(shape, dtype, 0, name, quantization))
        return len(self._tensors) - 1

    def constant(self, values: NDArray[Any], quantization: Quantization | None = None) -> int:
        """A constant of float32, int32 or int8."""
        dtype = TYPE_CODE[values.dtype.name]
        self._buffers.append(np.ascontiguousarray(values).tobytes())
        number = len(self._buffers) - 1
        name = f"constant_{number}"
        self._tensors.append(_Tensor(values.shape, dtype, number, name, quantization))
        return len(self._tensors) - 1

    def operator(
        self,
        form: OperatorFormat,
        version: int,
        inputs: list[int],
        output: int,
        options: list[Field],
    ) -> None:
        """An operator that reads `inputs` and writes `output`."""
        code = self._codes.setdefault((form.code, version), len(self._codes))
        self._operators.append((code, inputs, output, form.options, form.option_fields, options))

    def finish(self, *, inputs: list[int], outputs: list[int]) -> bytes:
        """The file."""
        size = sum(len(data) + 64 for data in self._buffers) + 256 * len(self._tensors)
        builder = flatbuffers.Builder(size + 1024)
        integers = _vector_of_integers
        buffers = _vector(builder, self._buffers, self._write_buffer)
        tensors = _vector(builder, self._tensors, self._write_tensor)
        operators = _vector(builder, self._operators, self._write_operator)
        subgraph_fields = [
            (0, "offset", tensors),
            (1, "offset", integers(builder, inputs)),
            (2, "offset", integers(builder, outputs)),
            (3, "offset", operators),
            (4, "offset", builder.CreateString("main")),
        ]
        subgraph = _table(builder, 5, subgraph_fields)
        model_fields = [
            (0, "uint32", SCHEMA_VERSION),
            (1, "offset", _vector(builder, list(self._codes), self._write_code)),
            (2, "offset", _offsets(builder, [subgraph])),
            (3, "offset", builder.CreateString("boardfit")),
            (4, "offset", buffers),
        ]
        builder.Finish(_table(builder, 5, model_fields), file_identifier=IDENTIFIER)
        return bytes(builder.Output())

    @staticmethod
    def _write_buffer(builder: Any, data: bytes) -> int:
        if not data:
            return _table(builder, 3, [])
        # XNNPACK reads weights in place and wants them aligned to 16 bytes.
        builder.StartVector(1, len(data), 16)
        builder.head -= len(data)
        builder.Bytes[builder.head : builder.head + len(data)] = data
        builder.vectorNumElems = len(data)
        return _table(builder, 3, [(0, "offset", builder.EndVector())])

    @staticmethod
    def _write_tensor(builder: Any, tensor: _Tensor) -> int:
        fields: list[Field] = [
            (0, "offset", _vector_of_integers(builder, tensor.shape)),
            (1, "int8", tensor.dtype),
            (2, "uint32", tensor.buffer),
            (3, "offset", builder.CreateString(tensor.name)),
        ]
        if (found := tensor.quantization) is not None:
            zero_points = np.full(found.scale.shape, found.zero_point, np.int64)
            parameters: list[Field] = [
                (2, "offset", int(builder.CreateNumpyVector(found.scale))),
                (3, "offset", int(builder.CreateNumpyVector(zero_points))),
                (6, "int32", found.axis),
            ]
            fields.append((4, "offset", _table(builder, 7, parameters)))
        return _table(builder, 10, fields)

    @staticmethod
    def _write_operator(
        builder: Any, operator: tuple[int, list[int], int, int, int, list[Field]]
    ) -> int:
        code, inputs, output, options, option_fields, values = operator
        fields: list[Field] = [
            (0, "uint32", code),
            (1, "offset", _vector_of_integers(builder, inputs)),
            (2, "offset", _vector_of_integers(builder, [output])),
        ]
        if options:
            table = _table(builder, option_fields, values)
            fields += [(3, "uint8", options), (4, "offset", table)]
        return _table(builder, 9, fields)

    @staticmethod
    def _write_code(builder: Any, code_and_version: tuple[int, int]) -> int:
        code, version = code_and_version
        # Field 0 is the code of old readers, which had one byte for it.
        return _table(
            builder, 4, [(0, "int8", min(code, 127)), (2, "int32", version), (3, "int32", code)]
        )


def _table(builder: Any, field_count: int, fields: Sequence[Field]) -> int:
    builder.StartObject(field_count)
    add = {
        "offset": builder.PrependUOffsetTRelativeSlot,
        "int8": builder.PrependInt8Slot,
        "uint8": builder.PrependUint8Slot,
        "bool": builder.PrependBoolSlot,
        "int32": builder.PrependInt32Slot,
        "uint32": builder.PrependUint32Slot,
        "float32": builder.PrependFloat32Slot,
    }
    for position, kind, value in fields:
        add[kind](position, value, 0)
    return int(builder.EndObject())


def _offsets(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _vector(builder: Any, items: Sequence[Any], write: Callable[[Any, Any], int]) -> int:
    return _offsets(builder, [write(builder, item) for item in items])


def _vector_of_integers(builder: Any, values: Sequence[int]) -> int:
    return int(builder.CreateNumpyVector(np.array(values, np.int32)))
