"""Small networks, plans and simulated boards that tests of tables and profiles share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from boardfit.devices.base import Device
from boardfit.devices.board_entry import BoardEntry
from boardfit.devices.fake import Faults
from boardfit.profiler.connect import fake_device
from boardfit.profiler.layers import Layer, Network
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.simulated import NO_THROTTLING, Throttling
from boardfit.profiler.store import Store

QUICK = Schedule(
    runs=2,
    minimum_rounds=3,
    maximum_rounds=4,
    samples=2,
    warmup_seconds=0.001,
    sample_seconds=10e-6,
)
NO_FAULTS = Faults()


def small_network(filters: int, kernel: int = 1, stride: int = 1) -> Network:
    builder = NetworkBuilder((16, 16, 8))
    x = builder.conv_2d(0, filters, kernel=kernel, activation="relu")
    x = builder.depthwise_conv_2d(x, kernel=3, stride=stride)
    x = builder.conv_2d(x, 8)
    builder.fully_connected(builder.mean(x, keep_dimensions=False), 10)
    return builder.build()


def small_plan(calibration: int = 6, space: str = "small") -> TablePlan:
    """21 layers, and 12 networks of which the first calibrate and the others judge."""
    networks = [
        small_network(filters, kernel, stride)
        for filters in (8, 16, 32)
        for kernel in (1, 3)
        for stride in (1, 2)
    ]
    networks = networks[::2] + networks[1::2]
    layers = tuple(layer for network in networks for layer in network.layers)
    return TablePlan(
        layers, tuple(networks[:calibration]), tuple(networks[calibration:]), {"space": space}
    )


def large_plan() -> TablePlan:
    """Two hundred layers, and the networks of the small plan."""
    small = small_plan()
    widths = range(8, 168, 8)
    layers = tuple(
        Layer("conv_2d", ((4, 4, width),), (4, 4, filters))
        for width in widths
        for filters in (8, 16, 24, 32, 40, 48, 56, 64, 72)
    )
    return replace(small, layers=(*small.layers, *layers))


def board(
    *,
    seed: int = 0,
    faults: Faults = NO_FAULTS,
    noise: float = 0.01,
    throttling: Throttling = NO_THROTTLING,
    **description: Any,
) -> Device:
    """A simulated board; keywords replace what it says about itself."""
    entry = BoardEntry("fake", "fake", seed=seed)
    device = fake_device(entry, faults=faults, noise=noise, throttling=throttling)
    return replace(device, description=replace(device.description, **description))


def samples(path: Path) -> list[tuple[Any, ...]]:
    """Every sample of a file, without the session and the time at which it was taken."""
    with Store.open(path) as store:
        return [(*row[:6], *row[8:]) for row in store.samples()]
