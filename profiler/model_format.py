"""The two formats of models: which one a runtime takes, and who writes and reads it.

The modules for ONNX are imported where they are needed: their packages are an optional part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..devices.errors import BoardfitError, InputError
from .emit_tflite import emit, emit_layer
from .read_tflite import ModelInfo, inspect
from .tflite_format import IDENTIFIER

AUTO = "auto"  # of runtimes: whichever there is that takes the format; for tables, TFLite's
ONNX_RUNTIME = "onnxruntime"
ONNX_SUFFIX = ".onnx"
SIMULATED = "simulated"  # what the fake board says
BENCHMARK_MODEL = "benchmark_model"  # TFLite's tool; behind a colon its delegate
TRTEXEC = "trtexec"  # TensorRT's tool
TFLITE_RUNTIMES = ("ai-edge-litert", "tflite-runtime", BENCHMARK_MODEL)
ONNX_RUNTIMES = (ONNX_RUNTIME, TRTEXEC)


@dataclass(frozen=True)
class ModelFormat:
    """A format: `emit(network)` and `emit_layer(layer)` write it, `inspect(data, source=...)`
    reads it, and `runtime` is the one that takes it unless another is named. Files end in
    `suffix`; images have their channels last, or first. `session_bytes` is what a runtime keeps for
    a model besides weights and activations."""

    name: str
    suffix: str
    channels_last: bool
    runtime: str
    emit: Callable[..., bytes]
    emit_layer: Callable[..., bytes]
    inspect: Callable[..., ModelInfo]
    session_bytes: int = 100_000


TFLITE = ModelFormat("TFLite", ".tflite", True, AUTO, emit, emit_layer, inspect)


def onnx_format() -> ModelFormat:
    """ONNX. Raises `BoardfitError` where its package is not installed."""
    try:
        from .emit_onnx import emit_onnx, emit_onnx_layer
        from .read_onnx import inspect_onnx
    except ModuleNotFoundError as error:
        raise BoardfitError(
            f"this needs {error.name}, which is not installed: pip install 'boardfit[onnx]'"
        ) from error
    return ModelFormat(
        "ONNX",
        ONNX_SUFFIX,
        False,
        ONNX_RUNTIME,
        emit_onnx,
        emit_onnx_layer,
        inspect_onnx,
        session_bytes=300_000,
    )


def format_of_runtime(runtime: object) -> ModelFormat:
    """What a runtime takes, by the name that was asked for or that a worker says.

    Raises `InputError` for a name that is none.
    """
    name, colon, _ = str(runtime).partition(":")  # behind the colon: providers, or a delegate
    if name in ONNX_RUNTIMES and not (name == TRTEXEC and colon):
        return onnx_format()
    if name in (AUTO, SIMULATED, *TFLITE_RUNTIMES) and not (name != BENCHMARK_MODEL and colon):
        return TFLITE
    names = (AUTO, *TFLITE_RUNTIMES, ONNX_RUNTIME)
    raise InputError(f"there is no runtime {runtime!r}; give {', '.join(names)}, or {TRTEXEC}")


def format_of_file(path: Path, data: bytes) -> ModelFormat:
    """TFLite files bear a mark; ONNX files have none and are told by their name."""
    if data[4:8] != IDENTIFIER and path.suffix.lower() == ONNX_SUFFIX:
        return onnx_format()
    return TFLITE


def runtime_for(path: Path, kind: ModelFormat, runtime: str) -> str:
    """The runtime to measure a file with. Raises `InputError` where the one wanted cannot."""
    if runtime == AUTO:
        return kind.runtime
    if format_of_runtime(runtime) != kind:
        raise InputError(
            f"{path} is a model in the format {kind.name}, which {runtime} cannot run; leave out "
            "--runtime"
        )
    return runtime
