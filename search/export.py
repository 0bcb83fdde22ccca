"""From a trained network to a `.tflite` or `.onnx` file that is proven to compute the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..devices.base import Device
from ..devices.errors import MeasurementError
from ..devices.files import write_atomically
from ..profiler.connect import connect
from ..profiler.model_format import AUTO, format_of_runtime
from ..profiler.open_session import Session, open_session, tells_outputs
from ..profiler.run_litert import Model
from .examples import Examples, in_order, normalise
from .network_module import NetworkModule, to_network
from .scoring import predict

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
    path = path.with_suffix(kind.suffix)
    data = kind.emit(to_network(module))
    write_atomically(path, data)
    expected = predict(module, test).numpy()
    with _outputs(device, threads, runtime) as session:
        for _ in session.load([Model("exported", lambda: data)]):
            pass
        order = (0, 2, 3, 1) if kind.channels_last else (0, 1, 2, 3)
        outputs = np.concatenate(
            [
                session.predict("exported", normalise(chunk.images).permute(order).numpy())
                for chunk in in_order(test)
            ]
        )
    difference = float(np.abs(outputs - expected).max() / np.abs(expected).max())
    if not difference <= TOLERANCE:
        raise MeasurementError(
            f"{path} does not compute what PyTorch does: outputs differ by {difference:.1e} of "
            f"the largest (allowed: {TOLERANCE:.0e}); please report this with the file"
        )
    accuracy = float((outputs.argmax(1) == test.targets.numpy()).mean())
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
