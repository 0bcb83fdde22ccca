"""The last part of a search: networks trained on their own, exported, and measured on the board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from ..devices.base import Device
from ..profiler.layers import Network
from ..profiler.progress import Report
from ..profiler.table import LookupTable
from ..profiler.tie import TiedMeasurement, measure_tied
from .data import Dataset, Images
from .export import Exported, export
from .network_module import NetworkModule, to_network
from .result import Finalist
from .scoring import predict
from .settings import SearchSettings
from .space import Architecture, SearchSpace
from .training import train_network


def train_finalist(
    name: str,
    space: SearchSpace,
    architecture: Architecture,
    dataset: Dataset,
    settings: SearchSettings,
    folder: Path,
    report: Report,
) -> NetworkModule:
    """Train one network from scratch; finalists start from the same seed."""
    generator = torch.Generator().manual_seed(settings.seed + 2)
    module = NetworkModule(space.network(architecture), generator)
    train_network(
        module,
        dataset,
        settings.final,
        seed=settings.seed + 2,
        stage=f"train the {name} network",
        checkpoint=folder / f"{name}.pt",
        identity={"architecture": list(architecture), "recipe": asdict(settings.final)},
        report=report,
    )
    return module


def prove_finalists(
    space: SearchSpace,
    architectures: Mapping[str, Architecture],
    modules: Mapping[str, NetworkModule],
    table: LookupTable,
    device: Device,
    test: Images,
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


def _right(module: NetworkModule, test: Images) -> str:
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
