"""What a measured entry costs, beside one `litert-benchmark` process for each model.

Operators of `mobilenetv3-large` at 160 px. The peer ships with ai-edge-litert; it measures a few
of the same operators in as many sessions, interleaved with ours in time, pinned to the same core.
Its number of inferences is raised until its sessions agree as well as ours do. Also printed: the
share of the whole time inside of inferences, how long the visits to an entry are spread, and that
batches under a memory cap cost no accuracy.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from bars import bar
from numpy.typing import NDArray

from boardfit.devices.base import Device
from boardfit.profiler.build import begin_or_continue, sources
from boardfit.profiler.campaign import MEMORY_CAP, Summary, run_campaign
from boardfit.profiler.connect import connect
from boardfit.profiler.description import describe_layer
from boardfit.profiler.emit_tflite import emit_layer
from boardfit.profiler.layers import Layer
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.store import Entry, Store
from boardfit.profiler.table_values import run_values
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

SPACE = "mobilenetv3-large"
OURS, BATCHED = 2000, 2000  # entries
# The peer prints milliseconds with two digits, so that its precision shows only with long
# operators: its entries a second are those of the random ones, its precision that of the long.
RANDOM, LONG = 30, 30
LONG_MACS = 5_000_000
SESSIONS = 3
INFERENCES = (10, 100, 1000)
AIM = 50  # times as fast as the peer at equal precision; an aim, not a bar
INSIDE = 0.80  # of the default schedule's time that is in inferences at least
COST = 2.0  # times as far as one batch from itself that batches may be
SCHEDULES = {
    "default": Schedule(),
    # Still more precise than the peer, and so the one to compare with.
    "brief": Schedule(minimum_rounds=4, maximum_rounds=4, samples=2),
}
Values = NDArray[np.float64]


def main() -> int:
    plan = plan_table(open_space(SPACE, input_size=160), calibration=5, validation=5)
    order = np.random.default_rng(1).permutation(len(plan.layers))
    layers = [plan.layers[i] for i in order]
    device = connect("local")
    with tempfile.TemporaryDirectory() as folder:
        compare(device, layers[:OURS], Path(folder))
        return int(not compare_batches(device, layers[:BATCHED], Path(folder)))


def compare(device: Device, layers: Sequence[Layer], folder: Path) -> None:
    """Entries a second of both, and how well their sessions agree."""
    long = [number for number, layer in enumerate(layers) if layer.macs >= LONG_MACS][:LONG]
    chosen = [*range(RANDOM), *long]
    peer = Peer(device, [layers[number] for number in chosen], folder)
    ours = {name: Ours(name, layers, schedule, folder) for name, schedule in SCHEDULES.items()}
    for session in range(SESSIONS):
        # One session at a time, so that both meet the same states of the machine.
        for mine in ours.values():
            mine.session(device, session)
        for count in INFERENCES:
            peer.session(count)
    for mine in ours.values():
        mine.show(long)
    brief = ours["brief"]
    goal = spread(brief.values[long])
    equal: dict[str, int] = {}
    for count in INFERENCES:
        print(f"peer, {count} inferences: {peer.rate(count):.2f} entries/s", end="")
        for name in ("min_ms", "median_ms", "avg_ms"):
            found = spread(peer.values(count, name)[RANDOM:])
            print(f", {name} between sessions {found:.2%}", end="")
            if found <= goal:
                equal.setdefault(name, count)
        print(" (of the long operators)")
    name, count = min(equal.items(), key=lambda item: item[1]) if equal else ("", INFERENCES[-1])
    words = f"at equal precision ({name})" if equal else "still less precise"
    print(
        f"ratio of the brief schedule to the peer with {count} inferences, {words}: "
        f"{brief.rate / peer.rate(count):.1f} (aim {AIM}); to the peer with {INFERENCES[0]}, its "
        f"smallest setting here: {brief.rate / peer.rate(INFERENCES[0]):.1f}"
    )


class Ours:
    """A campaign of ours, run by run, and what it took."""

    def __init__(
        self, name: str, layers: Sequence[Layer], schedule: Schedule, folder: Path
    ) -> None:
        self._name = name
        self._layers = layers
        self._schedule = schedule
        self._path = folder / name
        self._seconds = self._inside = 0.0

    def session(self, device: Device, number: int) -> None:
        """One fresh worker process visits everything."""
        with store_of(self._layers, self._path) as store:
            begin = time.monotonic()
            runs = replace(self._schedule, runs=number + 1)
            summary = campaign(store, device, self._layers, runs)
            self._seconds += time.monotonic() - begin
            self._inside += summary.inside_seconds

    @property
    def values(self) -> Values:
        """The smallest sample of each entry in each session, in seconds."""
        with store_of(self._layers, self._path) as store:
            return np.array(list(run_values(store, runs=SESSIONS).values()))

    @property
    def rate(self) -> float:
        """Entries a second."""
        return len(self._layers) / self._seconds

    @property
    def share_inside(self) -> float:
        """The share of the whole time, starting workers and building models too, in inferences."""
        return self._inside / self._seconds

    def show(self, long: Sequence[int]) -> None:
        """Print what it took and how well its sessions agree."""
        with store_of(self._layers, self._path) as store:
            spans = np.concatenate([spans_of(store, run) for run in range(SESSIONS)])
        print(
            f"ours, {self._name} schedule: {len(self._layers)} operators of {SPACE}, {SESSIONS} "
            f"sessions of at least {self._schedule.minimum_rounds} rounds: {self._seconds:.1f} s, "
            f"{self.rate:.1f} entries/s; {self.share_inside:.0%} of the whole time "
            f"inside of inferences; an entry's visits of a session are spread over "
            f"{np.median(spans):.1f} s (median); between sessions {spread(self.values):.2%}, of "
            f"{len(long)} long operators {spread(self.values[long]):.2%}"
        )


class Peer:
    """`litert-benchmark`, one process a model, on the core that our worker uses."""

    def __init__(self, device: Device, layers: Sequence[Layer], folder: Path) -> None:
        self._program = Path(sys.executable).with_name("litert-benchmark")
        self._core = device.core
        self._result = folder / "peer.json"
        self._models = []
        for number, layer in enumerate(layers):
            path = folder / f"{number}.tflite"
            path.write_bytes(emit_layer(layer))  # not counted, in the peer's favour
            self._models.append(path)
        self._seconds: dict[int, list[float]] = {count: [] for count in INFERENCES}
        self._found: dict[int, list[list[dict[str, float]]]] = {count: [] for count in INFERENCES}

    def session(self, count: int) -> None:
        """Measure each model once with so many inferences."""
        pin = [] if self._core is None else ["taskset", "-c", str(self._core)]
        found = []
        for model in self._models:
            argv = [*pin, str(self._program), "--model", str(model), "--num_runs", str(count)]
            argv += ["--warmup_runs", "1", "--num_threads", "1"]
            begin = time.monotonic()
            subprocess.run(
                [*argv, "--result_json", str(self._result)], check=True, capture_output=True
            )
            self._seconds[count].append(time.monotonic() - begin)
            found.append(json.loads(self._result.read_text())["latency"])
        self._found[count].append(found)

    def values(self, count: int, name: str) -> Values:
        """One statistic in milliseconds `[models, sessions]`."""
        return np.array([[row[name] for row in rows] for rows in self._found[count]]).T

    def rate(self, count: int) -> float:
        """Entries a second, of the random ones, with as many sessions as ours."""
        by_session = np.array(self._seconds[count]).reshape(SESSIONS, -1)[:, :RANDOM]
        return RANDOM / float(by_session.sum())


def spread(values: Values) -> float:
    """The mean relative difference between two sessions `[models, sessions]`."""
    pairs = [(i, j) for i in range(values.shape[1]) for j in range(i)]
    return float(np.mean([np.abs(values[:, i] / values[:, j] - 1) for i, j in pairs]))


def compare_batches(device: Device, layers: Sequence[Layer], folder: Path) -> bool:
    """The same entries in one batch, again in one batch, and in batches of a fifth; whether the
    batches cost no accuracy, and the time is spent inside of inferences.

    Each is a campaign as a table's: sessions follow each other, what was written is written once.
    """
    entries = entries_of(layers)
    whole = sum(source.memory for source in sources(entries).values())
    cap = whole // 5
    found: list[Values] = []
    shares: list[float] = []
    means: list[float] = []  # relative differences against the first: of the control, the batches
    for name, limit in (("one batch", whole), ("one batch again", whole), ("five batches", cap)):
        with store_of(layers, folder / name) as store:
            summary = campaign(store, device, layers, Schedule(), cap=limit)
            values = np.array(list(run_values(store, runs=SESSIONS).values()))
            spans = np.concatenate([spans_of(store, run) for run in range(SESSIONS)])
        found.append(values.min(axis=1))
        shares.append(summary.share_inside)
        print(
            f"{name}: {len(layers)} entries in {summary.wall_seconds:.0f} s, cap "
            f"{limit / 1e6:.0f} MB, the worker took {summary.resident_bytes / 1e6:.0f} MB at most; "
            f"{summary.share_inside:.0%} inside; visits spread over {np.median(spans):.1f} s"
        )
        if len(found) > 1:
            apart = np.abs(found[-1] / found[0] - 1)
            means.append(float(apart.mean()))
            print(
                f"  against the first: mean {apart.mean():.2%}, 95 % within "
                f"{np.quantile(apart, 0.95):.2%}"
            )
    control, batches = means
    name = "batches against one batch, mean difference"
    met = bar(name, batches, COST * control, least=False, form=".3%")
    return bar("share inside of inferences, the smallest", min(shares), INSIDE, least=True) and met


def campaign(
    store: Store,
    device: Device,
    layers: Sequence[Layer],
    schedule: Schedule,
    cap: int = MEMORY_CAP,
) -> Summary:
    return run_campaign(store, device, sources(entries_of(layers)), schedule, memory_cap=cap)


def entries_of(layers: Sequence[Layer]) -> list[Entry]:
    return [Entry(layer.signature, "operator", describe_layer(layer)) for layer in layers]


def store_of(layers: Sequence[Layer], path: Path) -> Store:
    return begin_or_continue(path, entries_of(layers), {"kind": "benchmark"})


def spans_of(store: Store, run: int) -> Values:
    """Seconds between the first and the last visit of a run to each entry, probes included."""
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    for entry, _, _, at, _ in store.visit_times(run):
        first[entry] = min(at, first.get(entry, at))
        last[entry] = max(at, last.get(entry, at))
    return np.array([last[entry] - first[entry] for entry in first])


if __name__ == "__main__":
    sys.exit(main())
