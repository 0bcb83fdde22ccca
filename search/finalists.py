"""The last part of a search: networks trained on their own, exported, and measured on the board."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..devices.base import Device
from ..profiler.layers import Network
from ..profiler.progress import Report
from ..profiler.table import LookupTable
from ..profiler.tie import TiedMeasurement, measure_tied
from .compute import Compute
from .data import Dataset
from .examples import Examples
from .export import Exported, export
from .network_module import NetworkModule, to_network
from .result import Finalist
from .scoring import predict
from .settings import SearchSettings
from .space import Architecture, SearchSpace
from .strategies import reestimation_batches
from .supernet import SuperNetwork, reestimate
from .training import train_network


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
    """Train one network from scratch; finalists start from the same seed.

    Where the recipe asks for distillation the super-network's full network is the teacher. Its
    checkpoint is in `folder`, if that is given. The module comes back on the CPU.
    """
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
    test: Examples,
    folder: Path,
    report: Report,
) -> dict[str, Finalist]:
    """Write each trained network to a file, judge the file on the board, and measure them all
    interleaved with anchors of the table."""
    exported = {
        name: export(
            module, folder / name, device, test, threads=table.threads, runtime=table.runtime
        )
        for name, module in modules.items()
    }
    tied = measure_tied(
        table,
        device,
        {name: to_network(module) for name, module in modules.items()},
        path=folder / "measured.boardfit",
        report=report,
    )
    return {
        name: _finalist(
            space.network(architecture),
            architecture,
            exported[name],
            tied[name],
            _right(modules[name], test),
        )
        for name, architecture in architectures.items()
    }


def _right(module: NetworkModule, test: Examples) -> str:
    module.eval()
    answers = predict(module, test).argmax(1)
    return "".join("1" if right else "0" for right in (answers == test.targets).tolist())


def _finalist(
    network: Network,
    architecture: Architecture,
    exported: Exported,
    tied: TiedMeasurement,
    right: str,
) -> Finalist:
    return Finalist(
        architecture=architecture,
        predicted=tied.predicted,
        seconds=tied.seconds,
        anchor_ratio=tied.anchor_ratio,
        measured=tied.measurement.median,
        verdict=tied.measurement.verdict,
        accuracy=right.count("1") / len(right),
        exported_accuracy=exported.accuracy,
        difference=exported.difference,
        right=right,
        macs=network.macs,
        parameters=network.parameters,
        peak_memory=network.peak_memory,
        file=exported.path.name,
        size=exported.size,
    )
