"""From a trained network to a `.tflite` or `.onnx` file that is proven to compute the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..devices.base import Device
from ..devices.errors import InputError, MeasurementError
from ..devices.files import write_atomically
from ..profiler.connect import connect
from ..profiler.model_format import AUTO, TFLITE, format_of_runtime
from ..profiler.open_session import Session, open_session, tells_outputs
from ..profiler.visits import Model
from .examples import Examples, in_order, normalise
from .network_module import NetworkModule, to_network
from .quantize import check_quantizer, quantize
from .scoring import predict
from .task import Task

TOLERANCE = 1e-3  # of the largest output; float32 sums in another order differ by 1e-6 or so


@dataclass(frozen=True)
class Exported:
    """A written model: bytes, the accuracy of the file itself on the test images in the board's
    runtime, and the largest difference to PyTorch's outputs relative to the largest of them."""

    path: Path
    size: int
    accuracy: float
    difference: float


def export(
    module: NetworkModule,
    path: Path,
    device: Device,
    test: Examples,
    task: Task,
    *,
    threads: int = 1,
    runtime: str = AUTO,
) -> Exported:
    """Write the module in the format that the runtime takes, run it on the board, and compare.

    `path` is given the ending of the format. Every test image goes through both; where the board's
    runtime only tells times, the file is run on this machine. Raises `MeasurementError` where the
    outputs differ.
    """
    module.eval()
    kind = format_of_runtime(runtime)
    exported = _prove(
        module, kind.emit(to_network(module)), path.with_suffix(kind.suffix), device, test,
        task, threads, runtime,
    )  # fmt: skip
    if not exported.difference <= TOLERANCE:
        raise MeasurementError(
            f"{exported.path} does not compute what PyTorch does: outputs differ by "
            f"{exported.difference:.1e} of the largest (allowed: {TOLERANCE:.0e}); please report "
            "this with the file"
        )
    return exported


def export_int8(
    module: NetworkModule,
    path: Path,
    device: Device,
    test: Examples,
    task: Task,
    calibration: Iterable[Tensor],
    *,
    threads: int = 1,
    runtime: str = AUTO,
) -> Exported:
    """Write the module in static int8 as `PATH.int8.tflite`, and judge the file on the board.

    `calibration` are batches of training images, see `quantize`. What int8 costs in accuracy is
    told and not judged. Raises what `quantize` raises, and `InputError` for a runtime that does not
    take TFLite's files.
    """
    module.eval()
    check_int8(runtime)
    data = quantize(module, calibration)
    path = path.with_name(f"{path.name}.int8{TFLITE.suffix}")
    return _prove(module, data, path, device, test, task, threads, runtime)


def check_int8(runtime: str) -> None:
    """Raise `InputError` where a runtime does not take int8 files of ours, and `BoardfitError`
    where the package that writes them is missing."""
    if format_of_runtime(runtime) != TFLITE:
        raise InputError(
            f"int8 files are written for TFLite's runtimes, not for {runtime}; go without --int8"
        )
    check_quantizer()


def _prove(
    module: NetworkModule,
    data: bytes,
    path: Path,
    device: Device,
    test: Examples,
    task: Task,
    threads: int,
    runtime: str,
) -> Exported:
    """Write the file, and run it on the test images where it will be used."""
    write_atomically(path, data)
    expected = predict(module, test).numpy()
    with _outputs(device, threads, runtime) as session:
        session.load_one(Model("exported", lambda: data))
        last = format_of_runtime(runtime).channels_last
        order = (0, 2, 3, 1) if last else (0, 1, 2, 3)
        outputs = np.concatenate(
            [
                session.predict("exported", normalise(chunk.images).permute(order).numpy())
                for chunk in in_order(test)
            ]
        )
    if expected.ndim == 4:  # a session hands out rows of numbers
        count, channels, height, width = expected.shape
        if last:
            outputs = outputs.reshape(count, height, width, channels).transpose(0, 3, 1, 2)
        else:
            outputs = outputs.reshape(expected.shape)
    difference = float(np.abs(outputs - expected).max() / np.abs(expected).max())
    accuracies = task.accuracies(torch.from_numpy(outputs.copy()), test.targets)
    accuracy = float(accuracies.mean(dtype=torch.float64))
    return Exported(path, len(data), accuracy, difference)


@contextlib.contextmanager
def _outputs(device: Device, threads: int, runtime: str) -> Iterator[Session]:
    """A session that gives outputs: the board's own, or this machine's where that has none."""
    if tells_outputs(device, runtime):
        with open_session(device, threads=threads, runtime=runtime) as session:
            yield session
        return
    kind = format_of_runtime(runtime)
    with connect("local") as here, open_session(here, runtime=kind.runtime) as session:
        yield session
