"""Campaigns: batches within the memory cap, entries that are added, workers that are lost."""

from __future__ import annotations

import json
import os
import signal
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.devices.base import Device
from boardfit.devices.errors import DeviceLost, WorkerLost
from boardfit.devices.fake import FakeTransport, Faults, SimulatedClock
from boardfit.profiler.build import begin_or_continue, sources
from boardfit.profiler.campaign import MEMORY_CAP, Summary, run_campaign
from boardfit.profiler.connect import connect
from boardfit.profiler.description import describe_layer
from boardfit.profiler.layers import Layer
from boardfit.profiler.losses import RESTARTS
from boardfit.profiler.progress import Progress
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.simulated import SimulatedRuntime
from boardfit.profiler.store import Entry, Store
from boardfit.profiler.worker import Worker, read_request

from .small_board import QUICK, board

RESTLESS = replace(QUICK, precision=1e-4, maximum_rounds=6)
Row = tuple[Any, ...]


def entries(count: int, first: int = 0) -> list[Entry]:
    layers = [
        Layer("conv_2d", ((4, 4, 8),), (4, 4, 8 + number)) for number in range(first, first + count)
    ]
    return [Entry(layer.signature, "operator", describe_layer(layer)) for layer in layers]


def begun(found: Sequence[Entry]) -> Store:
    return begin_or_continue(None, found, {"kind": "test"})


def measure(store: Store, device: Device, schedule: Schedule = QUICK, **options: Any) -> Summary:
    return run_campaign(store, device, sources(store.entries().values()), schedule, **options)


def values(store: Store) -> list[Row]:
    """Every sample without session and time."""
    return [(*row[:6], *row[8:]) for row in store.samples()]


# Batches


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 5), st.integers(1, 600_000))
def test_batches_change_no_value_and_visit_each_entry_once_a_round(count: int, cap: int) -> None:
    with begun(entries(count)) as one, begun(entries(count)) as many:
        measure(one, board(), RESTLESS)
        measure(many, board(), RESTLESS, memory_cap=cap)
        rounds = Counter((row[0], row[2], row[3]) for row in values(many))
        samples = RESTLESS.warmup + RESTLESS.samples
        assert set(rounds.values()) == {samples}
        for run in range(RESTLESS.runs):
            for entry in many.entries().values():
                visited = sorted(r for key, n, r in rounds if (key, n) == (entry.key, run))
                assert visited == list(range(-1, len(visited) - 1))
                assert len(visited) > RESTLESS.minimum_rounds
        # Whether a round met a slow state is known by the reference model, which others join.
        shared = set(values(one)) & set(values(many))
        assert len(shared) >= 2 * count * samples * (RESTLESS.minimum_rounds + 1)


def test_a_batch_is_visited_in_all_its_rounds_before_the_next_one() -> None:
    with begun(entries(9)) as store:
        measure(store, board(), memory_cap=3 * 110_000)
        for run in range(QUICK.runs):
            times: dict[int, list[float]] = {}
            for entry, _, _, at, _ in store.visit_times(run):
                times.setdefault(entry, []).append(at)
            batches = sorted((min(found), max(found)) for found in times.values())
            for group, following in zip(batches[:-3:3], batches[3::3], strict=True):
                assert group[1] < following[0]


# Entries are added between calls


def add(store: Store, found: Sequence[Entry]) -> None:
    store._connection.executemany(
        "INSERT INTO entries (key, role, content) VALUES (?, ?, ?)",
        [(e.key, e.role, json.dumps(e.content)) for e in found],
    )


def test_entries_that_are_added_are_measured_and_the_others_are_not_again() -> None:
    with begun(entries(5)) as store:
        measure(store, board(), replace(QUICK, runs=1))
        before = set(values(store))
        add(store, entries(4, first=5))
        measure(store, board(), replace(QUICK, runs=1))
        after = set(values(store))
        assert before < after
        assert {row[0] for row in after - before} == {e.key for e in entries(4, first=5)}
        measure(store, board(), QUICK)
        assert {row[2] for row in set(values(store)) - after} == {1}
        finished = values(store)
        summary = measure(store, board(), QUICK)
        assert values(store) == finished
        assert summary.inside_seconds == 0


# Lost workers


@pytest.mark.parametrize("line", [3, 8, 40, 100, 120])
@pytest.mark.parametrize("fault", ["lose", "hang"])
def test_a_lost_worker_is_replaced_and_costs_no_value(fault: str, line: int) -> None:
    with begun(entries(6)) as whole, begun(entries(6)) as store:
        measure(whole, board())
        told: list[Progress] = []
        lines = frozenset({line})
        device = board(faults=Faults(lose=lines) if fault == "lose" else Faults(hang=lines))
        summary = measure(store, device, report=told.append)
        assert values(store) == values(whole)
        assert len(summary.restarts) == 1
        assert "1 worker was lost and replaced" in summary.words
        assert [row["lost"] for row in store.evidence() if "lost" in row] == [*summary.restarts]
        assert any("another one goes on" in progress.detail for progress in told)


def test_a_board_that_loses_every_worker_is_given_up() -> None:
    """A few attempts that get on are allowed, two that see nothing are not."""
    lines = frozenset(range(30, 2000, 30))
    with begun(entries(6)) as store, pytest.raises((DeviceLost, WorkerLost)):
        measure(store, board(faults=Faults(lose=lines)))
    with begun(entries(6)) as store:
        with pytest.raises(WorkerLost, match="ended while it loaded"):
            measure(store, board(faults=Faults(lose=frozenset({2, 4}))))
        assert not store.samples()
        assert len(store.sessions()) == 2 < RESTARTS


def test_a_board_that_is_given_up_has_kept_what_its_last_worker_saw() -> None:
    with begun(entries(20)) as store:
        with pytest.raises((DeviceLost, WorkerLost), match="is given up"):
            measure(store, board(faults=Faults(lose=frozenset(range(60, 2000, 60)))))
        sessions = len(store.sessions())
        assert sessions == RESTARTS + 1
        assert {row[6] for row in store.samples()} == set(range(1, sessions + 1))


class LittleMemory:
    """The simulated worker on a board that holds few models."""

    def __init__(self, room: int) -> None:
        self._runtime = SimulatedRuntime(SimulatedClock(), seed=0, noise=0.01)
        self._room = room
        self._alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self.name, self.version = self._runtime.name, self._runtime.version
        self._worker = Worker(self, self._runtime.clock.now, 1, 0)

    def load(self, data: bytes, threads: int) -> Any:
        if len(self._alive) >= self._room:
            raise MemoryError
        model = self._runtime.load(data, threads)
        self._alive.add(model)
        return model

    def start(self) -> Iterator[bytes]:
        yield json.dumps(self._worker.hello()).encode()

    def handle(self, line: bytes) -> Iterator[bytes]:
        request = read_request(line)
        self._runtime.round = request.get("round", 0)
        for answer in self._worker.answers(request):
            yield json.dumps(answer).encode()


def little(room: int) -> Device:
    programs = {"python3": lambda: LittleMemory(room)}
    return replace(board(), transport=FakeTransport(programs=programs))


def test_a_worker_without_room_for_the_reference_model_says_nothing_about_ours() -> None:
    """Otherwise the cap would become zero, and each entry a batch of its own."""
    rooms = iter([0])
    programs = {"python3": lambda: LittleMemory(next(rooms, 100))}
    device = replace(board(), transport=FakeTransport(programs=programs))
    with begun(entries(6)) as store:
        summary = measure(store, device)
    assert len(summary.restarts) == 1
    assert summary.memory_cap == MEMORY_CAP


def test_where_memory_runs_out_less_is_loaded_at_once() -> None:
    with begun(entries(12)) as store:
        summary = measure(store, little(5))
        assert {row[0] for row in store.samples()} == {e.key for e in entries(12)}
        assert summary.restarts
        assert all("from here on at most" in why for why in summary.restarts)
        assert summary.memory_cap < 5 * 110_000
    with begun(entries(12)) as store, pytest.raises(WorkerLost, match=r"memory of fake is full"):
        measure(store, little(1))  # not even one beside the reference model


def test_a_real_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    schedule = Schedule(
        runs=1, minimum_rounds=3, maximum_rounds=3, warmup_seconds=0.01, warmup_visits=1
    )
    device = connect("local")
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if "loading models" in progress.detail and not killed:
            task = Path(f"/proc/self/task/{os.getpid()}/children")
            for pid in map(int, task.read_text().split()):
                # Not the script that looks at the board meanwhile.
                if b"worker.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    killed.append(pid)
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    path = tmp_path / "t"
    found = entries(8)
    with begin_or_continue(path, found, {"kind": "test"}) as store:
        summary = measure(store, device, schedule, report=kill)
        assert len(killed) == 1
        assert len(summary.restarts) == 1
        assert "SIGKILL" in summary.restarts[0]
        assert "from here on at most" in summary.restarts[0]  # memory may have run out
        assert len(store.visits().seconds) == 3 * len(found)
        assert summary.resident_bytes > 10_000_000
        assert 0 < summary.share_inside < 1
    device.transport.close()
