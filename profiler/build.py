"""Build a lookup table: plan, measure, calibrate, validate, and say how right it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..devices.base import Device
from ..devices.errors import TableFileError
from .calibration import Calibration, Validation, fit
from .campaign import MEMORY_CAP, Source, run_campaign
from .description import describe_layer, describe_network, network_key, read_layer, read_network
from .layers import BYTES_PER_ELEMENT, Layer, Network
from .measurement import Measurement
from .model_format import AUTO, format_of_runtime
from .progress import Report, silent
from .schedule import Schedule
from .store import Entry, Store
from .table import LookupTable, describe_result, representative, run_values, split_entries

FURTHER_RUNS = 3
_OVERHEAD_BYTES = 300_000  # of an interpreter, beyond weights and activations


@dataclass(frozen=True)
class TablePlan:
    """What a table needs: every layer to be priced, networks to calibrate with and others to
    judge by, and what it is for (`provenance`: JSON values).

    Raises ValueError where a network has a layer that is not to be priced.
    """

    layers: tuple[Layer, ...]
    calibration: tuple[Network, ...]
    validation: tuple[Network, ...]
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        priced = {layer.signature for layer in self.layers}
        for network in (*self.calibration, *self.validation):
            for layer in network.layers:
                if layer.signature not in priced:
                    raise ValueError(f"a network needs {layer.signature!r}, which is not planned")

    def entries(self) -> list[Entry]:
        """One entry for each signature and each network, in a fixed order."""
        layers = {layer.signature: layer for layer in self.layers}
        entries = [
            Entry(signature, "operator", describe_layer(layer))
            for signature, layer in layers.items()
        ]
        networks: dict[str, Entry] = {}
        for role, group in (("calibration", self.calibration), ("validation", self.validation)):
            for network in group:
                key = network_key(network)
                networks.setdefault(key, Entry(key, role, describe_network(network)))
        return entries + list(networks.values())


def build_table(
    path: Path,
    device: Device,
    plan: TablePlan,
    schedule: Schedule | None = None,
    *,
    threads: int = 1,
    runtime: str = AUTO,
    memory_cap: int = MEMORY_CAP,
    report: Report = silent,
) -> LookupTable:
    """Build the table, or go on with the one that was begun at `path`; return it finished.

    Where held-out networks are not predicted well enough after the schedule's runs, up to
    `FURTHER_RUNS` more are measured, and as many again each time that the table is built again
    (`LookupTable.check` says whether it is good enough). A table that is good enough is returned
    as it is. Raises `TableFileError` where the file was begun with another plan,
    `ConditionsChanged` where the board is not in the state it was in, and what the board, the
    worker or the disk raise; visits that were committed are never lost.
    """
    schedule = schedule or Schedule()
    entries = plan.entries()
    document = {
        "kind": "table",
        "provenance": dict(plan.provenance),
        "schedule": asdict(schedule),
        "entries": len(entries),
        "device": device.name,
        "threads": threads,
    }
    if runtime != AUTO:
        document["runtime"] = runtime
    with begin_or_continue(path, entries, document) as store:
        if (runs := _runs_to_go(path, store, schedule)) is not None:
            for count in runs:
                run_campaign(
                    store,
                    device,
                    sources(entries, runtime),
                    replace(schedule, runs=count),
                    threads=threads,
                    runtime=runtime,
                    memory_cap=memory_cap,
                    stage="measure operators" if count == runs[0] else f"measure, run {count}",
                    report=report,
                )
                calibration, validation = judge(store, runs=count)
                if validation is None or validation.passes:
                    break
            store.write_document("result", describe_result(calibration, validation, runs=count))
    return LookupTable.open(path)


def _runs_to_go(path: Path, store: Store, schedule: Schedule) -> range | None:
    """The numbers of runs after which the table is judged; None where it is good already."""
    first = range(schedule.runs, schedule.runs + FURTHER_RUNS + 1)
    if store.document("result") is None:
        return first
    try:
        table = LookupTable.open(path)
    except TableFileError:  # the result is damaged, the samples are not: judge them again
        return first
    if table.validation is None or table.validation.passes:
        return None
    return range(table.runs + 1, table.runs + FURTHER_RUNS + 1)


def begin_or_continue(
    path: Path | None, entries: Sequence[Entry], document: Mapping[str, Any]
) -> Store:
    """Open the file at `path` for writing, or make it (in memory for None), with the entries.

    Raises `TableFileError` where it was begun with other entries or another `document`.
    """
    # Through JSON, so that a document that was read back equals one that was just made.
    document = json.loads(json.dumps(document))
    if path is None or not path.exists():
        store = Store.create(path)
    else:
        store = Store.open(path, write=True)
    try:
        found = store.document("plan")
        if found is None:  # just made, or killed between making the file and filling it
            store.begin(entries, document)
        elif found != document or [(e.key, e.role) for e in store.entries().values()] != [
            (e.key, e.role) for e in entries
        ]:
            changed = [
                name
                for name in {*(found or {}), *document}
                if (found or {}).get(name) != document.get(name)
            ]
            raise TableFileError(
                f"{path} was begun with another plan ({', '.join(sorted(changed)) or 'entries'} "
                "differ); give another path, or remove it to begin anew"
            )
    except BaseException:
        store.close()
        raise
    return store


def sources(entries: Iterable[Entry], runtime: str = AUTO) -> dict[str, Source]:
    """Where the model of each entry comes from, in the format that the runtime takes."""
    kind = format_of_runtime(runtime)
    found: dict[str, Source] = {}
    for entry in entries:
        if entry.role == "operator":
            layer = read_layer(entry.content)
            memory = 2 * layer.bytes_moved
            found[entry.key] = Source(partial(kind.emit_layer, layer), memory + _OVERHEAD_BYTES)
        else:
            network = read_network(entry.content)
            memory = 3 * network.parameters * BYTES_PER_ELEMENT + 2 * network.peak_memory
            found[entry.key] = Source(partial(kind.emit, network), memory + _OVERHEAD_BYTES)
    return found


def judge(store: Store, *, runs: int) -> tuple[Calibration, Validation | None]:
    """Fit the calibration and predict the held-out networks, from the first `runs` runs."""
    operators, networks = split_entries(store.entries(), run_values(store, runs=runs))
    alone = {signature: operator.seconds for signature, operator in operators.items()}
    chosen = [(n, values) for role, n, values in networks.values() if role == "calibration"]
    calibration = fit(
        [network.layers for network, _ in chosen],
        np.array([representative(values) for _, values in chosen]),
        alone,
    )
    held_out = [(n, values) for role, n, values in networks.values() if role == "validation"]
    if not held_out:
        return calibration, None
    predicted = [
        calibration.constant
        + sum(calibration.price(layer, alone[layer.signature]) for layer in network.layers)
        for network, _ in held_out
    ]
    measured = np.array([representative(values) for _, values in held_out])
    by_run = np.array([values for _, values in held_out])
    return calibration, Validation(np.array(predicted), measured, by_run)


def measurement(store: Store, key: str, planned_runs: int) -> Measurement:
    """All samples of one entry. Raises ValueError where there are none."""
    rows = store.samples(key)
    timed = [row for row in rows if not row[5]]
    return Measurement(
        key,
        np.array([row[9] for row in timed], float),
        np.array([row[2] for row in timed], np.int64),
        np.array([row[3] for row in timed], np.int64),
        np.array([row[9] for row in rows if row[5]], float),
        planned_runs,
    )
