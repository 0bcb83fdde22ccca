"""What building a table will take, before it is begun: how many operators, and how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..devices.base import Device
from .build import sources
from .campaign import run_campaign
from .description import read_network
from .families import by_family
from .layers import Layer, Network
from .plan import TablePlan
from .progress import Report, silent
from .schedule import Schedule
from .store import Store
from .table_values import representative, run_values

_INVOCATION = 2e-6  # seconds of an operator beyond its arithmetic
_LOADING = 2e-3  # seconds; a model is written, sent, and built once a run


@dataclass(frozen=True)
class Forecast:
    """What a plan will measure: of `priced` operators in `families`, the `ends` in any case and
    up to `measured` in all, `networks` whole; `seconds` is about how long that takes on the board,
    `kinds` the operators to price by kind."""

    priced: int
    families: int
    ends: int
    measured: int
    networks: int
    seconds: float
    kinds: Mapping[str, int]


def forecast(
    device: Device,
    plan: TablePlan,
    schedule: Schedule,
    *,
    threads: int = 1,
    runtime: str = "auto",
    report: Report = silent,
) -> Forecast:
    """Ask the board how fast it is with three of the plan's networks, and reckon.

    Keeps nothing. Raises what the board and the worker raise.
    """
    networks = [*plan.calibration, *plan.validation]
    speed, between = _speed(device, networks, schedule, threads, runtime, report)
    layers = {layer.signature: layer for layer in plan.layers}
    measured = plan.sizes[-1]
    inference = sum(_INVOCATION + speed * layer.macs for layer in layers.values()) / len(layers)
    larger = [*plan.blocks, *networks]
    whole = sum(between + _visit(speed * network.macs, schedule) for network in larger)
    visits = schedule.minimum_rounds + 1
    seconds = schedule.runs * (
        schedule.warmup_seconds
        + _LOADING * (measured + len(larger))
        + visits * (measured * (between + _visit(inference, schedule)) + whole)
    )
    return Forecast(
        len(layers),
        len(by_family(layers.values())),
        len(plan.first),
        measured + len(plan.blocks),
        len(networks),
        seconds,
        dict(Counter(layer.op for layer in layers.values()).most_common()),
    )


def _visit(inference: float, schedule: Schedule) -> float:
    """Seconds of a visit to something whose inference takes so many."""
    sample = max(schedule.sample_seconds, inference)
    return schedule.warmup * inference + schedule.samples * sample


def _speed(
    device: Device,
    networks: list[Network],
    schedule: Schedule,
    threads: int,
    runtime: str,
    report: Report,
) -> tuple[float, float]:
    """Seconds for each MAC on the smallest, the middle and the largest network, and seconds of a
    visit outside of inferences (many where it is a process of its own)."""
    if not networks:
        return 1e-9, 0.0
    ordered = sorted(networks, key=lambda network: network.macs)
    chosen = [ordered[0], ordered[len(ordered) // 2], ordered[-1]]
    few = TablePlan(_layers(chosen), tuple(chosen), (), {})
    entries = [entry for entry in few.entries() if entry.role == "calibration"]
    short = replace(schedule, runs=1, minimum_rounds=2, maximum_rounds=2, warmup_seconds=0.1)
    with Store.create(None) as store:
        store.begin(entries, {"kind": "forecast"})
        run_campaign(
            store, device, sources(entries, runtime), short, threads=threads, runtime=runtime,
            dtype=few.dtype, stage="ask the board how fast it is", report=report,
        )  # fmt: skip
        values = run_values(store, runs=1)
        speeds = [
            representative(values[number]) / read_network(entry.content).macs
            for number, entry in store.entries().items()
        ]
        evidence = store.evidence()
        visits = len(store.visits(probes=True).seconds) + sum("reference" in r for r in evidence)
        outside = sum(row["wall"] - row["inside"] for row in evidence if "wall" in row)
    return float(np.median(speeds)), max(0.0, outside / visits)


def _layers(networks: list[Network]) -> tuple[Layer, ...]:
    return tuple(layer for network in networks for layer in network.layers)
