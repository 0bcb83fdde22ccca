"""From a trained network to a `.tflite` file that is proven to compute the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..devices.base import Device
from ..devices.errors import MeasurementError
from ..devices.files import write_atomically
from ..profiler.emit_tflite import emit
from ..profiler.run_litert import Model, WorkerSession
from .data import Images, normalise
from .network_module import NetworkModule, to_network
from .training import predict

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
    test: Images,
    *,
    threads: int = 1,
    runtime: str = "auto",
) -> Exported:
    """Write the module as a TFLite model, run it on the board, and compare.

    Every test image goes through both. Raises `MeasurementError` where the outputs differ.
    """
    module.eval()
    data = emit(to_network(module))
    write_atomically(path, data)
    expected = predict(module, test).numpy()
    with WorkerSession(device, threads=threads, runtime=runtime) as session:
        for _ in session.load([Model("exported", lambda: data)]):
            pass
        outputs = np.concatenate(
            [
                # The board takes height, width, channels.
                session.predict("exported", normalise(group).permute(0, 2, 3, 1).numpy())
                for group in torch.split(test.images, 500)
            ]
        )
    difference = float(np.abs(outputs - expected).max() / np.abs(expected).max())
    if not difference <= TOLERANCE:
        raise MeasurementError(
            f"{path} does not compute what PyTorch does: outputs differ by {difference:.1e} of "
            f"the largest (allowed: {TOLERANCE:.0e}); please report this with the file"
        )
    accuracy = float((outputs.argmax(1) == test.labels.numpy()).mean())
    return Exported(path, len(data), accuracy, difference)
