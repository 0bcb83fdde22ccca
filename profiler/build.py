"""Build a lookup table: plan, measure, calibrate, validate, and say how right it is."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..devices.base import Device
from ..devices.errors import InputError, TableFileError
from ..devices.occupy import occupied
from .campaign import MEMORY_CAP, Summary, require_conditions, run_campaign
from .description import read_layer, read_network
from .fragments import ROLE
from .growth import next_operators
from .judge import Judged, judge
from .layers import Layer, Network
from .losses import repeated
from .measurement import Measurement
from .model_format import AUTO, TFLITE, format_of_runtime
from .one_run import Models, Source
from .open_session import open_session
from .plan import OPERATORS, TablePlan, operator_entry
from .progress import Report, silent, telling
from .schedule import Schedule
from .selection import Selection, Usage, ends
from .store import Entry, Store
from .table import LookupTable
from .table_placement import outside_kinds
from .table_result import Outside, describe_result

FURTHER_RUNS = 3
_OVERHEAD_BYTES = 300_000  # of a network's interpreter, beyond weights and activations


class Crew(Protocol):
    """Who measures a table: one board, or several that share the work."""

    def measure(self, schedule: Schedule, stage: str) -> Summary:
        """Measure every entry of the store in all runs of the schedule, as far as that is not
        done; `stage` names the work in reports."""

    def outside(self) -> Outside | None:
        """What runs outside of the delegate (see `outside_kinds`)."""


@dataclass(frozen=True)
class _OneBoard:
    store: Store
    device: Device
    threads: int
    runtime: str
    memory_cap: int
    dtype: str
    report: Report
    models: Models = field(default_factory=lambda: Models({}))

    def measure(self, schedule: Schedule, stage: str) -> Summary:
        self.models.add(sources(self.store.entries().values(), self.runtime))
        return run_campaign(
            self.store,
            self.device,
            self.models,
            schedule,
            threads=self.threads,
            runtime=self.runtime,
            memory_cap=self.memory_cap,
            dtype=self.dtype,
            stage=stage,
            report=self.report,
        )

    def outside(self) -> Outside | None:
        entries = self.store.entries().values()
        emitted = sources(entries, self.runtime)
        ask = partial(
            outside_kinds,
            self.device,
            entries,
            emitted,
            threads=self.threads,
            runtime=self.runtime,
        )
        return repeated(ask, self.device, telling(self.report, "look at the operators"))


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

    The first run also finds out what to measure: operators are added until the plan's number is
    reached, or more of them change nothing (see `growth.py`). Where held-out networks are not
    predicted well enough after the schedule's runs, up to `FURTHER_RUNS` more are measured, and as
    many again each time that the table is built again (`LookupTable.check` says whether it is good
    enough). A table that is good enough is returned as it is. Raises `TableFileError` where the
    file was begun with another plan, `ConditionsChanged` where the board is not in the state it
    was in, and what the board, the worker or the disk raise; visits that were committed are never
    lost.
    """

    @contextlib.contextmanager
    def alone(store: Store) -> Iterator[Crew]:
        with occupied(device, f"build {path.name}", tell=telling(report)):
            yield _OneBoard(store, device, threads, runtime, memory_cap, plan.dtype, report)

    return build_with(path, plan, schedule, alone, device.name, threads=threads, runtime=runtime)


def build_with(
    path: Path,
    plan: TablePlan,
    schedule: Schedule | None,
    crew: Callable[[Store], contextlib.AbstractContextManager[Crew]],
    device: str,
    *,
    threads: int,
    runtime: str,
) -> LookupTable:
    """Build a table as `build_table` does, with whoever measures; `device` is their name.

    `crew` is entered only where something is left to be measured.
    """
    schedule = schedule or Schedule()
    if plan.dtype != "float32" and format_of_runtime(runtime) != TFLITE:
        raise InputError(f"{runtime} is given float32 models only; build the table without --dtype")
    entries = plan.entries()
    document = {
        "kind": "table",
        "provenance": dict(plan.provenance),
        "schedule": asdict(schedule),
        "entries": len(entries),
        "operators": plan.operators,
        "device": device,
        "threads": threads,
        **({"donor": plan.donor.describe()} if plan.donor else {}),
    }
    if runtime != AUTO:
        document["runtime"] = runtime
    with begin_or_continue(path, entries, document) as store:
        if (runs := _runs_to_go(path, store, schedule)) is not None:
            with crew(store) as measurers:
                for size in plan.sizes[:-1]:
                    measurers.measure(replace(schedule, runs=1), "choose operators")
                    if more := next_operators(store, plan, size):
                        store.add(more)
                for count in runs:
                    stage = "measure operators" if count == runs[0] else f"measure, run {count}"
                    summary = measurers.measure(replace(schedule, runs=count), stage)
                    judged = judge(store, runs=count)
                    if judged.validation is None or judged.validation.passes:
                        break
                _finish(store, measurers, judged, summary, count)
    return LookupTable.open(path)


def extend_table(
    path: Path,
    device: Device,
    layers: Iterable[Layer],
    *,
    operators: int = OPERATORS,
    memory_cap: int = MEMORY_CAP,
    report: Report = silent,
) -> LookupTable:
    """Measure on demand: give the finished table at `path` prices for `layers`, too.

    What it has no price for (at most `operators` of it, chosen as for a new table) is added and
    measured in all of its runs, and then everything once more in one further run, which ties the
    new operators to the old ones. A table that lacks nothing is returned as it is. Raises what
    `build_table` raises, `TableFileError` where the table is not finished, and `InputError` where
    it holds blocks of layers; the same call goes on after an interruption.
    """
    table = LookupTable.open(path)
    missing = table.missing(layers)
    if not missing:
        return table
    if table.fragments:
        raise InputError(
            f"{path} holds blocks of layers that were measured together, and single operators "
            "cannot be added to them; build a table with `boardfit profile --space NAME`"
        )
    check_conditions(table, device, report)
    first = missing if len(missing) <= operators else ends(missing)
    count = table.runs + 1
    with (
        Store.open(path, write=True) as store,
        occupied(device, f"extend {path.name}", tell=telling(report)),
    ):
        schedule = Schedule(**(store.document("plan") or {})["schedule"])

        crew = _OneBoard(
            store, device, table.threads, table.runtime, memory_cap, table.dtype, report
        )

        def measure(runs: int) -> Summary:
            return crew.measure(replace(schedule, runs=runs), "measure what is missing")

        # What an interrupted call has added lies behind the entries that the result knows.
        added = {entry.key for entry in list(store.entries().values())[table.entries :]}
        store.add([operator_entry(layer) for layer in first if layer.signature not in added])
        if len(first) < len(missing) and added <= {layer.signature for layer in first}:
            measure(1)
            times = judge(store, runs=1).times
            more = Selection(missing, Usage(), times).best(operators - len(first))
            store.add([operator_entry(layer) for layer in more])
        summary = measure(count)
        judged = judge(store, runs=count)
        _finish(store, crew, judged, summary, count)
    return LookupTable.open(path)


def check_conditions(table: LookupTable, device: Device, report: Report = silent) -> None:
    """Raise `ConditionsChanged` where the board is not in the state the table was measured in."""
    with (
        occupied(device, f"look at the board for {table.path.name}", tell=telling(report)),
        open_session(device, threads=table.threads, runtime=table.runtime) as session,
    ):
        require_conditions(table.conditions, device, session, table.dtype)


def _finish(store: Store, crew: Crew, judged: Judged, summary: Summary, runs: int) -> None:
    """Write the result of the first `runs` runs, after all else: what is interrupted before has
    none and goes on."""
    outside = crew.outside()
    result = describe_result(
        judged, runs=runs, outside=outside, campaign=summary.words, record=summary.record
    )
    store.write_document("result", result)


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
        elif found != document or _keys(store.entries().values())[: len(entries)] != _keys(entries):
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


def _keys(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """What identifies entries; those that were chosen while measuring come behind the first."""
    return [(entry.key, entry.role) for entry in entries]


def sources(entries: Iterable[Entry], runtime: str = AUTO) -> dict[str, Source]:
    """Where the model of each entry comes from, in the format that the runtime takes."""
    kind = format_of_runtime(runtime)
    found: dict[str, Source] = {}
    for entry in entries:
        if entry.role == "operator":
            layer = read_layer(entry.content)
            memory = kind.session_bytes + layer_memory(layer)
            found[entry.key] = Source(partial(kind.emit_layer, layer), memory)
        else:
            whole = entry.content["network"] if entry.role == ROLE else entry.content
            network = read_network(whole)
            found[entry.key] = Source(partial(kind.emit, network), model_memory(network))
    return found


def model_memory(network: Network) -> int:
    """Bytes that a worker takes for a whole network, rather too many."""
    return 3 * network.parameter_bytes + 2 * network.peak_memory + _OVERHEAD_BYTES


def layer_memory(layer: Layer) -> int:
    """Bytes that a worker takes for a layer's weights and activations, rather too many.

    Weights are there as sent and as packed by the runtime with its padding. Fitted to the resident
    memory of LiteRT with XNNPACK (1,600 operators: 90 kB + 2.72 times the weights + 0.52 times
    the activations on average).
    """
    weights = layer.parameter_bytes
    return int(2.75 * weights) + (layer.bytes_moved - weights)


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
