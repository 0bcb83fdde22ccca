"""Measure networks today in the terms of a table built earlier.

A board is a little faster or slower in each session. A few of the networks that the table was
calibrated with (anchors) are measured interleaved with the new ones; the ratio of their times now
and then ties the sessions together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..devices.base import Device
from ..devices.errors import MeasurementError
from .build import begin_or_continue, measurement, sources
from .campaign import Source, require_conditions, run_campaign
from .description import describe_network, network_key
from .layers import Network
from .measurement import Measurement
from .model_format import AUTO, format_of_runtime
from .progress import Report, silent
from .run_litert import WorkerSession
from .schedule import Schedule
from .store import Entry
from .table import Estimate, LookupTable, representative, run_values

TIE_SCHEDULE = Schedule(runs=3, minimum_rounds=20, maximum_rounds=30, samples=3)


@dataclass(frozen=True)
class TiedMeasurement:
    """A network's predicted latency, and the measured one in the table's terms (`seconds`).

    `anchor_ratio` is the board's speed now relative to when the table was built (above 1:
    slower); `measurement` holds the samples as they were taken. Units: seconds.
    """

    predicted: Estimate
    seconds: float
    anchor_ratio: float
    measurement: Measurement

    @property
    def error(self) -> float:
        """Predicted relative to measured, minus one."""
        return self.predicted.seconds / self.seconds - 1


def check_conditions(table: LookupTable, device: Device) -> None:
    """Raise `ConditionsChanged` where the board is not in the state the table was measured in."""
    with WorkerSession(device, threads=threads_of(table), runtime=runtime_of(table)) as session:
        require_conditions(table.conditions, device, session)


def threads_of(table: LookupTable) -> int:
    """The runtime's threads that a table was measured with."""
    return int(table.conditions.get("threads") or 1)


def runtime_of(table: LookupTable) -> str:
    """The runtime that a table was measured with, as it is asked for."""
    return str(table.conditions.get("runtime") or AUTO)


def measure_tied(
    table: LookupTable,
    device: Device,
    networks: Mapping[str, Network],
    *,
    anchors: int = 5,
    schedule: Schedule | None = None,
    path: Path | None = None,
    report: Report = silent,
) -> dict[str, TiedMeasurement]:
    """Measure networks, with their weights where they have some, interleaved with anchors.

    `path` keeps the samples, so that an interrupted measurement goes on. Raises
    `ConditionsChanged` where the board is not in the state in which the table was measured,
    `MeasurementError` where the table has no anchors, `MissingEntry` where it lacks a price.
    """
    if anchors < 1:
        raise ValueError("at least one anchor ties a measurement to a table")
    schedule = schedule or TIE_SCHEDULE
    predicted = {name: table.latency(network) for name, network in networks.items()}
    known = {
        key: (network, representative(runs))
        for key, (role, network, runs) in table.networks.items()
        if role == "calibration"
    }
    # Spread over the sizes: the ratio should hold for small networks and for large ones.
    ordered = sorted(known, key=lambda key: known[key][1])
    if not ordered:
        raise MeasurementError(
            f"{table.path} has no calibration networks to tie a measurement to; build it again"
        )
    places = np.linspace(0, len(ordered) - 1, min(anchors, len(ordered))).round().astype(int)
    chosen = [ordered[i] for i in places]
    entries = [Entry(key, "anchor", describe_network(known[key][0])) for key in chosen]
    runtime = runtime_of(table)
    emit = format_of_runtime(runtime).emit
    models: dict[str, Source] = sources(entries, runtime)
    for name, network in networks.items():
        entry = Entry(f"{name} {network_key(network)}", "network", describe_network(network))
        entries.append(entry)
        models[entry.key] = replace(
            sources([entry], runtime)[entry.key], emit=partial(emit, network)
        )
    document = {"kind": "tie", "schedule": asdict(schedule), "table": table.path.name}
    with begin_or_continue(path, entries, document) as store:
        run_campaign(
            store,
            device,
            models,
            schedule,
            threads=threads_of(table),
            runtime=runtime,
            required=table.conditions,
            stage="measure the networks",
            report=report,
        )
        values = {
            store.entries()[number].key: representative(runs)
            for number, runs in run_values(store, runs=schedule.runs).items()
        }
        ratio = float(np.median([values[key] / known[key][1] for key in chosen]))
        return {
            name: TiedMeasurement(
                predicted[name],
                values[entry.key] / ratio,
                ratio,
                measurement(store, entry.key, schedule.runs),
            )
            for name, entry in zip(networks, entries[len(chosen) :], strict=True)
        }
