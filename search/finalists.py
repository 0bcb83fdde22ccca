"""The last part of a search: networks trained on their own, exported, and measured on the board."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..devices.base import Device
from ..profiler.build import model_memory
from ..profiler.measurement import Measurement
from ..profiler.progress import Report
from ..profiler.table import LookupTable
from ..profiler.tie import (
    file_model,
    limits_in_terms_of_table,
    measure_with_anchors,
    network_model,
)
from .compute import Compute
from .data import Dataset
from .examples import Examples, Request, normalise
from .export import Exported, export, export_int8
from .network_module import NetworkModule, to_network
from .quantize import CALIBRATION_IMAGES
from .result import Finalist, Int8File
from .scoring import predict
from .settings import SearchSettings
from .space import Architecture, SearchSpace
from .strategies import reestimation_batches
from .supernet import SuperNetwork, reestimate
from .training import train_network

DIGITS = 5  # of an image's accuracy that are kept


def train_finalist(
    name: str,
    space: SearchSpace,
    architecture: Architecture,
    dataset: Dataset,
    settings: SearchSettings,
    folder: Path | None,
    supernet: SuperNetwork,
    compute: Compute,
    report: Report,
) -> NetworkModule:
    """Train one network on its own; finalists start from the same seed.

    It begins at random, or with the super-network's weights where the recipe says `inherit`. Where
    it asks for distillation the super-network's full network is the teacher. The training's
    checkpoint is in `folder`, if that is given. The module comes back on the CPU.
    """
    if settings.final.inherit:
        module = supernet.slice(architecture)
    else:
        generator = torch.Generator().manual_seed(settings.seed + 2)
        module = NetworkModule(space.network(architecture), generator)
    with compute.ranks.training({"train": name, "architecture": list(architecture)}):
        train_network(
            module,
            dataset,
            settings.final,
            seed=settings.seed + 2,
            teacher=full_teacher(supernet, dataset) if settings.final.distillation else None,
            stage=f"train the {name} network",
            checkpoint=folder / f"{name}.pt" if folder else None,
            identity={"architecture": list(architecture)},
            compute=compute,
            report=report,
        )
    module.cpu()
    return module


def full_teacher(supernet: SuperNetwork, dataset: Dataset) -> NetworkModule:
    """The full network of a trained super-network, with batch statistics of its own."""
    teacher = supernet.slice(supernet.space.full)
    reestimate(teacher, reestimation_batches(supernet, dataset.train))
    return teacher


def prove_finalists(
    space: SearchSpace,
    architectures: Mapping[str, Architecture],
    modules: Mapping[str, NetworkModule],
    table: LookupTable,
    device: Device,
    dataset: Dataset,
    folder: Path,
    report: Report,
    *,
    int8: bool = False,
) -> dict[str, Finalist]:
    """Write each trained network to a file, judge the file on the board, and measure them all
    interleaved with anchors of the table.

    With `int8` the same is done with each network's int8 form. Of an int8 table the int8 file is
    what is measured.
    """
    how: dict[str, Any] = {"threads": table.threads, "runtime": table.runtime}
    test, task = dataset.test, dataset.task
    calibration = calibration_batches(dataset.train) if int8 else []
    floats, quantized = {}, {}
    for name, module in modules.items():
        floats[name] = export(module, folder / name, device, test, task, **how)
        if int8:
            quantized[name] = export_int8(
                module, folder / name, device, test, task, calibration, **how
            )
    models = {}
    for name, module in modules.items():
        network = to_network(module)
        if int8:
            data = quantized[name].path.read_bytes()
            memory = len(data) + model_memory(network)
            models[name, "int8"] = file_model(f"{name} int8", data, memory)
        if not (int8 and table.dtype == "int8"):
            models[name, "float32"] = network_model(table, name, table.form_of(network))
    ratio, measured = measure_with_anchors(
        table,
        device,
        list(models.values()),
        path=folder / "measured.boardfit",
        stage="measure the networks",
        report=report,
    )
    taken = {which: measured[entry.key] for which, (entry, _) in models.items()}
    finalists = {}
    for name, architecture in architectures.items():
        network = space.network(architecture)
        found = taken.get((name, "float32")) or taken[name, "int8"]
        outputs = predict(modules[name].eval(), test)
        accuracies = task.accuracies(outputs, test.targets).double()
        finalists[name] = Finalist(
            architecture=architecture,
            predicted=table.latency(table.form_of(network)),
            seconds=found.minimum / ratio,
            anchor_ratio=ratio,
            measured=found.median,
            verdict=found.verdict,
            accuracy=float(accuracies.mean()),
            exported_accuracy=floats[name].accuracy,
            difference=floats[name].difference,
            accuracies=tuple(round(value, DIGITS) for value in accuracies.tolist()),
            macs=network.macs,
            parameters=network.parameters,
            peak_memory=network.peak_memory,
            file=floats[name].path.name,
            size=floats[name].size,
            limits=limits_in_terms_of_table(found, ratio),
            int8=_int8_file(quantized[name], taken[name, "int8"], ratio) if int8 else None,
            figures=task.figures(outputs, test.targets),
        )
    return finalists


def calibration_batches(training: Examples) -> list[Tensor]:
    """Training images as networks are fed them, for the ranges of activations in int8.

    They are spread over the whole split, which may be in the order of its classes.
    """
    count = min(CALIBRATION_IMAGES, len(training))
    places = np.linspace(0, len(training) - 1, count).astype(np.int64)
    return [normalise(chunk.images) for chunk in training.read([Request(places)])]


def _int8_file(exported: Exported, measured: Measurement, ratio: float) -> Int8File:
    return Int8File(
        accuracy=exported.accuracy,
        seconds=measured.minimum / ratio,
        limits=limits_in_terms_of_table(measured, ratio),
        verdict=measured.verdict,
        file=exported.path.name,
        size=exported.size,
    )
