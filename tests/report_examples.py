"""Things to report: a table and a profile measured on the simulated board, and a made-up search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from boardfit.devices.board_entry import BoardEntry
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import fake_device
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.measurement import Interval
from boardfit.profiler.one_run import reference_network
from boardfit.profiler.profile_model import profile_model
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.simulated import NO_THROTTLING, Throttling
from boardfit.profiler.table import Estimate
from boardfit.search.mobilenetv3 import Plan, Row, mobilenetv3
from boardfit.search.result import Finalist, SearchResult
from boardfit.search.space import Architecture
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table
from boardfit.search.trial import Trial

QUICK = Schedule(runs=2, minimum_rounds=2, maximum_rounds=3, warmup_visits=3, warmup_seconds=0.01)
TINY = Plan(16, (Row(5, 24, 16, False, "relu", 1), Row(5, 32, 24, True, "hard_swish", 2)), 24, None)
SPACE = open_space("mobilenetv3-32")
CONDITIONS: Mapping[str, Any] = {
    "board": "Raspberry Pi 5", "soc": None, "runtime": "ai-edge-litert",
    "runtime_version": "2.3.0", "threads": 1,
}  # fmt: skip


def make_table(path: Path, *, validation: int = 20, noise: float = 0.01) -> None:
    """A small lookup table of the simulated board; `noise` is the board's."""
    space = mobilenetv3(
        "tiny", TINY, classes=4, input_size=16, width_factor=1.0, kernels=(3, 5)
    )  # fmt: skip
    plan = plan_table(space, calibration=6, validation=validation)
    build_table(path, fake_device(BoardEntry("fake", "fake"), noise=noise), plan, QUICK)


def make_profile(
    path: Path,
    *,
    name: str = "reference.tflite",
    rounds: int = 8,
    sustained: float | None = None,
    throttling: Throttling = NO_THROTTLING,
) -> None:
    """The profile of a small model on the simulated board."""
    model = path.with_name(name)
    model.write_bytes(emit(reference_network()))
    schedule = replace(QUICK, runs=3, minimum_rounds=rounds, maximum_rounds=rounds)
    device = fake_device(BoardEntry("fake", "fake"), throttling=throttling)
    profile_model(model, device, schedule, sustained=sustained, out=path, operators=True)


def make_finalist(
    architecture: Architecture, *, seconds: float, right: int, images: int = 1000
) -> Finalist:
    """A trained network that is right on the first `right` images."""
    network = SPACE.network(architecture)
    accuracy = right / images
    return Finalist(
        architecture=architecture,
        predicted=Estimate(seconds * 1.01, seconds * 0.97, seconds * 1.05),
        seconds=seconds,
        anchor_ratio=1.02,
        measured=Interval(seconds * 1.02, seconds * 1.01, seconds * 1.04),
        verdict="steady",
        accuracy=accuracy,
        exported_accuracy=accuracy,
        difference=2e-6,
        accuracies=(1.0,) * right + (0.0,) * (images - right),
        macs=network.macs,
        parameters=network.parameters,
        peak_memory=network.peak_memory,
        file="found.tflite",
        size=4 * network.parameters,
    )


def make_search(seed: int = 0, **changes: Any) -> SearchResult:
    """A search over `mobilenetv3-32` with random trials: 2 ms for the full network, target 1 ms,
    block 4 removed in what was found."""
    rng = np.random.default_rng(seed)

    def latency(architecture: Architecture) -> float:
        return 2e-3 * SPACE.network(architecture).macs / SPACE.network(SPACE.full).macs

    trials: list[Trial] = []
    for number in range(40):
        architecture = SPACE.full if number == 0 else SPACE.random(rng)
        seconds = latency(architecture)
        accuracy = float(np.clip(0.9 - 0.2e-3 / seconds + rng.normal(0, 0.02), 0.0, 1.0))
        trials.append(Trial(number, architecture, accuracy, 1 - accuracy, seconds, "sample"))
    # An optimiser names the networks that it goes on from a second time.
    descent = sorted(trials, key=lambda trial: -trial.metric)[::8]
    trials += [replace(trial, origin="iterate") for trial in descent]
    names = [coordinate.name for coordinate in SPACE.coordinates]
    chosen = list(SPACE.narrowed(0.7))
    chosen[names.index("block4.filters")] = 0
    found = SPACE.canonical(tuple(chosen))
    content = {
        "space": SPACE.name,
        "data": "spoken digits",
        "device": "pi5",
        "table": "pi5.boardfit",
        "conditions": CONDITIONS,
        "settings": {"target": "50%", "seed": 0, "supernet": {"steps": 1500}},
        "target": 1e-3,
        "full_seconds": 2e-3,
        "coordinates": tuple((c.name, c.kind, c.values[-1]) for c in SPACE.coordinates),
        "trials": tuple(trials),
        "finalists": {
            "found": make_finalist(found, seconds=0.96e-3, right=860),
            "uniform": make_finalist(SPACE.narrowed(0.6), seconds=0.98e-3, right=800),
        },
        "parts": {"super-network": 400.0, "search": 60.0, "measure": 20.0},
    }
    return SearchResult(**{**content, **changes})
