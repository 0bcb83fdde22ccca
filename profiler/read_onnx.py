"""Look into any ONNX file: its operators, inputs and outputs, without running it.

The file is not trusted. It is read by the `onnx` package with its checker; before that, what could
make the package open other files or work for ever is refused. Whatever is wrong ends in
`ModelFileError`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message
from onnx import ModelProto, TensorProto, helper

from ..devices.errors import ModelFileError
from .read_tflite import ModelInfo, OperatorInfo, TensorInfo

_MOST_NODES = 100_000  # with functions written out; far above any real model
_LARGEST_TENSOR = 2**40  # elements
_DEFAULT_DOMAINS = ("", "ai.onnx")
_EXPORT_AGAIN = "copy or export it again"

_Name = tuple[str, str, str]  # of a function: domain, name, overload


def inspect_onnx(data: bytes, *, source: str = "the model") -> ModelInfo:
    """Return what an ONNX model holds; sizes that it leaves open are 1.

    `source` names it in errors. Raises `ModelFileError` where the bytes are not an ONNX model, a
    damaged one, or one whose weights lie in other files.
    """
    try:
        model = onnx.load_from_string(data)
    except (DecodeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{source} is not an ONNX model ({error}); {_EXPORT_AGAIN}") from error
    try:
        _refuse_traps(model)
        return _inspect(_checked(model), data)
    except _Damaged as error:
        raise ModelFileError(
            f"{source} is an ONNX model that cannot be used ({error}); {_EXPORT_AGAIN}"
        ) from error


class _Damaged(Exception):
    """Something in the file cannot be."""


def _refuse_traps(model: ModelProto) -> None:
    """What the checker and the inference of shapes must not meet."""
    for tensor in _tensors(model):
        # Followed, it would read any file that this user can read.
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            raise _Damaged("its weights lie in other files, which are not followed: save it as one")
    bodies = {(f.domain, f.name, f.overload): f.node for f in model.functions}
    sizes: dict[_Name, int] = {}

    def written_out(nodes: Iterable[Any], inside: tuple[_Name, ...]) -> int:
        """How many nodes there are once functions are written out; a few lines can spell 2^60."""
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            if key in inside:
                raise _Damaged(f"the function {node.op_type} calls itself")
            if key in bodies and key not in sizes:
                sizes[key] = written_out(bodies[key], (*inside, key))
            total += 1 + sizes.get(key, 0)
            total += sum(written_out(graph.node, inside) for graph in _subgraphs(node))
            if total > _MOST_NODES:
                raise _Damaged(f"more than {_MOST_NODES} operators")
        return total

    try:
        written_out(model.graph.node, ())
    except RecursionError:
        raise _Damaged("its functions are nested too deeply") from None


def _tensors(message: Message) -> Iterator[TensorProto]:
    """Every tensor in a message, wherever it stands."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from _tensors(part)


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _checked(model: ModelProto) -> ModelProto:
    """The model with the shapes of its tensors, once the checker has found nothing wrong."""
    try:
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model)
    except Exception as error:  # whatever a library in C++ raises on a file of a stranger
        words = " ".join(str(error).split())
        raise _Damaged(words[:300]) from error


def _inspect(model: ModelProto, data: bytes) -> ModelInfo:
    graph = model.graph
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    constants |= {t.values.name: tuple(t.dims) for t in graph.sparse_initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in _DEFAULT_DOMAINS:
            constants[node.output[0]] = _constant_shape(node)
    values = (*graph.value_info, *graph.input, *graph.output)
    shapes = {value.name: _shape(value) for value in values}
    dtypes = {value.name: _dtype(value) for value in values}

    def known(names: Iterable[str]) -> tuple[tuple[int, ...], ...]:
        """Shapes of activations; inputs that are left out have no name."""
        return tuple(shapes.get(name, ()) for name in names if name and name not in constants)

    operators = tuple(
        OperatorInfo(
            node.op_type if node.domain in _DEFAULT_DOMAINS else f"{node.domain}.{node.op_type}",
            known(node.input),
            known(node.output),
            sum(_elements(constants[name]) for name in node.input if name in constants),
            dtypes.get(next(iter(node.output), ""), "float32"),
        )
        for node in graph.node
        if not (node.op_type == "Constant" and node.domain in _DEFAULT_DOMAINS)
    )
    return ModelInfo(
        hashlib.sha256(data).hexdigest(),
        len(data),
        # Up to version 3 of the format constants are listed as inputs, too.
        tuple(_described(value) for value in graph.input if value.name not in constants),
        tuple(_described(value) for value in graph.output),
        operators,
    )


def _constant_shape(node: Any) -> tuple[int, ...]:
    for attribute in node.attribute:
        if attribute.name == "value":
            return tuple(attribute.t.dims)
        if attribute.name == "sparse_value":
            return tuple(attribute.sparse_tensor.dims)
        for values in (attribute.floats, attribute.ints, attribute.strings):
            if values:
                return (len(values),)
    return ()


def _elements(shape: tuple[int, ...]) -> int:
    if any(size < 0 for size in shape) or math.prod(shape) > _LARGEST_TENSOR:
        raise _Damaged(f"a tensor of shape {shape[:16]}")
    return math.prod(shape)


def _shape(value: Any) -> tuple[int, ...]:
    """The shape that is declared or follows; what is open (a name, or nothing) is 1."""
    shape = tuple(max(d.dim_value, 1) for d in value.type.tensor_type.shape.dim)
    _elements(shape)
    return shape


def _dtype(value: Any) -> str:
    """NumPy's name, or the number of a type that NumPy does not have."""
    kind = value.type.tensor_type.elem_type
    try:
        return str(helper.tensor_dtype_to_np_dtype(kind).name)
    except (KeyError, ValueError):
        return f"type {kind}"


def _described(value: Any) -> TensorInfo:
    return TensorInfo(value.name, _shape(value), _dtype(value))
