"""A trained network in static int8: smaller, and on many boards faster, for little accuracy.

Post-training quantisation (Jacob et al., CVPR 2018) by ai-edge-quantizer: kernels of one scale a
channel, activations of one scale a tensor, whose ranges are those of training images. Ranges are
taken here, in PyTorch, and not by the quantiser, see `docs/decisions.md`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..devices.errors import BoardfitError, DataError
from ..profiler.emit_tflite import emit, tensor_name
from .network_module import NetworkModule, to_network

CALIBRATION_IMAGES = 200
NARROWEST = 1e-3  # range of a tensor; XNNPACK refuses scales far below those of what it sums up

Ranges = dict[str, tuple[float, float]]  # what a tensor of the file holds: from, to


def quantize(module: NetworkModule, batches: Iterable[Tensor]) -> bytes:
    """The module as the bytes of a `.tflite` file in int8, its inputs and outputs included.

    `batches` are training images [N, C, H, W] as the network is fed them, some hundred in all; the
    more, the wider the ranges. Raises `BoardfitError` where ai-edge-quantizer is missing or refuses
    the network, `DataError` without images, or where an activation is no number.
    """
    check_quantizer()
    found = ranges(module, batches)
    written = emit(to_network(module))
    try:
        # What it says are progress bars of parts of a second, and that its interpreter is one for
        # debugging; real errors are raised.
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from ai_edge_quantizer import quantizer, recipe

            form = quantizer.Quantizer(written, recipe.static_wi8_ai8())
            result = form.quantize(
                {name: _statistics(*limits) for name, limits in found.items()},
                enable_progress_report=False,
            )
    except (ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        raise BoardfitError(
            f"ai-edge-quantizer refuses the network ({error}); go without --int8"
        ) from error
    return bytes(result.quantized_model)


def check_quantizer() -> None:
    """Raise `BoardfitError` where the package that quantises is not installed."""
    if importlib.util.find_spec("ai_edge_quantizer") is None:
        raise BoardfitError(
            "int8 needs ai-edge-quantizer, which is not installed: pip install 'boardfit[int8]'"
        )


def ranges(module: NetworkModule, batches: Iterable[Tensor]) -> Ranges:
    """The smallest and the largest value of each tensor of the network, over all images."""
    module.eval()
    nodes = module.network.nodes
    found: Ranges = {}

    def see(number: int, values: Tensor) -> None:
        name = tensor_name(nodes, number)
        low, high = (float(limit) for limit in torch.aminmax(values))
        if name in found:
            low, high = min(low, found[name][0]), max(high, found[name][1])
        found[name] = low, high

    with torch.inference_mode():
        for images in batches:
            module(images, see)
    if not found:
        raise DataError("int8 needs training images to find the ranges of activations; got none")
    if not np.isfinite(list(found.values())).all():
        raise DataError("an activation is no longer a number, so that it has no range in int8")
    return found


def _statistics(low: float, high: float) -> dict[str, object]:
    """As the quantiser keeps them. Arrays of one value stand for all of a tensor.

    One that was zero on all images (a squeeze whose units are dead) still needs a scale.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    high = max(high, low + NARROWEST)
    return {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
