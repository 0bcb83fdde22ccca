"""Measure networks today in the terms of a table built earlier.

A board is a little faster or slower in each session. A few of the networks that the table was
calibrated with (anchors) are measured interleaved with the new ones; the ratio of their times now
and then ties the sessions together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..devices.base import Device
from ..devices.errors import MeasurementError
from .build import begin_or_continue, measurement, sources
from .campaign import run_campaign
from .description import describe_network, network_key
from .layers import Network
from .measurement import Measurement
from .model_format import format_of_runtime
from .one_run import Source
from .progress import Report, silent
from .schedule import Schedule
from .store import Entry
from .table import Estimate, LookupTable
from .table_values import representative

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

    @property
    def limits(self) -> tuple[float, float] | None:
        """Between which limits another session's value falls, in the table's terms."""
        return limits_in_terms_of_table(self.measurement, self.anchor_ratio)


def limits_in_terms_of_table(measured: Measurement, ratio: float) -> tuple[float, float] | None:
    """Between which limits another session's value falls (95 %), divided by the board's slowness
    that day; None where nobody knows."""
    interval = measured.another_session
    return None if interval is None else (interval.low / ratio, interval.high / ratio)


def measure_tied(
    table: LookupTable,
    device: Device,
    networks: Mapping[str, Network],
    *,
    anchors: int = 5,
    schedule: Schedule | None = None,
    path: Path | None = None,
    stage: str = "measure the networks",
    report: Report = silent,
) -> dict[str, TiedMeasurement]:
    """Measure networks, with their weights where they have some, interleaved with anchors.

    With an int8 table, their int8 forms with random weights are measured.

    `path` keeps the samples, so that an interrupted measurement goes on. Raises
    `ConditionsChanged` where the board is not in the state in which the table was measured,
    `MeasurementError` where the table has no anchors, `MissingEntry` where it lacks a price.
    """
    networks = {name: table.form_of(network) for name, network in networks.items()}
    predicted = {name: table.latency(network) for name, network in networks.items()}
    models = {name: network_model(table, name, network) for name, network in networks.items()}
    anchor_ratio, found = measure_with_anchors(
        table,
        device,
        list(models.values()),
        anchors=anchors,
        schedule=schedule,
        path=path,
        stage=stage,
        report=report,
    )
    return {
        name: TiedMeasurement(
            predicted[name],
            found[entry.key].minimum / anchor_ratio,
            anchor_ratio,
            found[entry.key],
        )
        for name, (entry, _) in models.items()
    }


def network_model(table: LookupTable, name: str, network: Network) -> tuple[Entry, Source]:
    """A network to be measured in the table's runtime, with its weights where it has some."""
    entry = Entry(f"{name} {network_key(network)}", "network", describe_network(network))
    source = sources([entry], table.runtime)[entry.key]
    emit = format_of_runtime(table.runtime).emit
    return entry, replace(source, emit=partial(emit, network))


def file_model(name: str, data: bytes, memory: int) -> tuple[Entry, Source]:
    """A model file to be measured; `memory` is what it takes once loaded, in bytes."""
    key = f"{name} {hashlib.sha256(data).hexdigest()[:16]}"
    return Entry(key, "file", {"bytes": len(data)}), Source(lambda: data, memory)


def measure_with_anchors(
    table: LookupTable,
    device: Device,
    models: Sequence[tuple[Entry, Source]],
    *,
    anchors: int = 5,
    schedule: Schedule | None = None,
    path: Path | None = None,
    document: Mapping[str, Any] | None = None,
    stage: str = "measure",
    report: Report = silent,
) -> tuple[float, dict[str, Measurement]]:
    """Measure anything interleaved with anchors of a table.

    Returns the board's speed now relative to when the table was built (above 1: slower), and the
    samples as they were taken, by entry's key, those of the anchors first. `path` keeps them;
    `document` says in the file what they are for. Raises as `measure_tied` does.
    """
    if anchors < 1:
        raise ValueError("at least one anchor ties a measurement to a table")
    schedule = schedule or TIE_SCHEDULE
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
    chosen = spread(ordered, anchors)
    entries = [Entry(key, "anchor", describe_network(known[key][0])) for key in chosen]
    runtime = table.runtime
    found = sources(entries, runtime) | {entry.key: source for entry, source in models}
    entries += [entry for entry, _ in models]
    plan = {
        "kind": "tie",
        "schedule": asdict(schedule),
        "table": table.path.name,
        **(document or {}),
    }
    with begin_or_continue(path, entries, plan) as store:
        run_campaign(
            store,
            device,
            found,
            schedule,
            threads=table.threads,
            runtime=runtime,
            dtype=table.dtype,
            required=table.conditions,
            stage=stage,
            report=report,
        )
        measured = {entry.key: measurement(store, entry.key, schedule.runs) for entry in entries}
    # Sessions that are slow for the anchors are slow for the others.
    companions = tuple(measured[key].run_minima for key in chosen)
    measured |= {
        entry.key: replace(measured[entry.key], companions=companions) for entry, _ in models
    }
    ratio = float(np.median([measured[key].minimum / known[key][1] for key in chosen]))
    return ratio, measured


def spread(ordered: Sequence[str], count: int) -> list[str]:
    """At most `count` of them, from the first to the last at equal distances."""
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[i] for i in places]
