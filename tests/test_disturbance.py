"""A disturbed board, and a table that several programs work with: nothing is silently wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boardfit.devices.base import Device
from boardfit.devices.errors import InUse, TableFileError, WorkerError
from boardfit.devices.fake import FakeTransport, SimulatedClock
from boardfit.profiler.build import build_table, extend_table
from boardfit.profiler.export_table import export_samples
from boardfit.profiler.layers import Layer
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.progress import Progress
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.simulated import SimulatedRuntime, SimulatedWorker
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.profiler.worker import Worker, read_request

from .small_board import QUICK, board, samples, small_plan

THOROUGH = Schedule(
    runs=3,
    minimum_rounds=8,
    maximum_rounds=16,
    samples=2,
    warmup_seconds=0.001,
    sample_seconds=10e-6,
)
LAYERS = tuple(
    Layer("conv_2d", ((4, 4, inputs),), (4, 4, filters))
    for inputs in (8, 24, 64, 160)
    for filters in range(8, 88, 8)
)
OPERATORS = TablePlan(LAYERS, (), (), {})
Slowed = Callable[[float], float]  # seconds of the worker's life -> how much slower it is


class DisturbedRuntime(SimulatedRuntime):
    """The simulated board with other work on its core, and that is stopped at random."""

    def __init__(self, slowed: Slowed, stops: float, seed: int) -> None:
        super().__init__(SimulatedClock(), seed=0, noise=0.01)
        self._slowed = slowed
        self._stops = stops
        self._random = np.random.default_rng(seed)

    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds * self._slowed(self.clock.now()))
        if self._random.random() < self._stops:
            super().pass_time(self._random.uniform(0.01, 0.5))


class DisturbedWorker:
    """The real worker on such a board."""

    def __init__(self, slowed: Slowed, stops: float, seed: int) -> None:
        self._runtime = DisturbedRuntime(slowed, stops, seed)
        self._worker = Worker(self._runtime, self._runtime.clock.now, 1, 0)

    def start(self) -> Iterator[bytes]:
        yield json.dumps(self._worker.hello()).encode()

    def handle(self, line: bytes) -> Iterator[bytes]:
        request = read_request(line)
        self._runtime.round = request.get("round", 0)
        for answer in self._worker.answers(request):
            yield json.dumps(answer).encode()


def disturbed(runs: Sequence[Slowed], *, stops: float = 0.0) -> Device:
    """A board whose workers are slowed like this one after the other; further ones are not."""
    workers = iter(
        [DisturbedWorker(slowed, stops, seed=number) for number, slowed in enumerate(runs)]
    )
    quiet = DisturbedWorker(never, 0.0, seed=0)
    programs = {"python3": lambda: next(workers, quiet)}
    return replace(board(), transport=FakeTransport(programs=programs))


def never(now: float) -> float:
    return 1.0


def always(now: float) -> float:
    return 2.0


def a_third(now: float) -> float:
    """Other work takes half of the core, a third of the time and for longer than a visit."""
    return 2.0 if now % 0.03 < 0.01 else 1.0


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> LookupTable:
    return build_table(tmp_path_factory.mktemp("q") / "t", board(), OPERATORS, THOROUGH)


def silently_wrong(table: LookupTable, quiet: LookupTable) -> list[str]:
    """The operators that are more than 5 % off and whose verdict does not say so."""
    return [
        signature
        for signature, operator in table.operators.items()
        if abs(operator.seconds / quiet.operators[signature].seconds - 1) > 0.05
        and operator.verdict == "steady"
    ]


def test_on_a_quiet_board_fewer_than_one_in_twenty_are_noisy(quiet: LookupTable) -> None:
    assert len(quiet.noisy) < 0.05 * len(quiet.operators)


@pytest.mark.parametrize("stops", [0.0, 1e-3], ids=["other work", "and stopped at random"])
def test_other_work_for_a_third_of_the_time_falsifies_nothing(
    quiet: LookupTable, tmp_path: Path, stops: float
) -> None:
    device = disturbed([a_third] * 3, stops=stops)
    table = build_table(tmp_path / "t", device, OPERATORS, THOROUGH)
    assert silently_wrong(table, quiet) == []
    right = [
        abs(operator.seconds / quiet.operators[signature].seconds - 1) < 0.05
        for signature, operator in table.operators.items()
    ]
    assert sum(right) >= 0.95 * len(right)


def test_where_one_run_alone_was_quiet_its_values_are_right_and_called_noisy(
    quiet: LookupTable, tmp_path: Path
) -> None:
    device = disturbed([always, never, always])
    table = build_table(tmp_path / "t", device, OPERATORS, THOROUGH)
    assert len(table.noisy) == len(table.operators)
    for signature, operator in table.operators.items():
        assert operator.seconds == pytest.approx(quiet.operators[signature].seconds, rel=0.05)


# A table that several programs work with


def in_the_midst(action: Callable[[], None]) -> tuple[Callable[[Progress], None], list[str]]:
    """A report that acts once in each of the stages after loading; the details of these."""
    acted: list[str] = []

    def report(progress: Progress) -> None:
        place = progress.detail.partition(", ")[0]
        if place not in acted:
            action()
            acted.append(place)

    return report, acted


def test_a_second_builder_is_kept_out_and_spoils_nothing(tmp_path: Path) -> None:
    expected = build_table(tmp_path / "alone", board(), small_plan(), QUICK)
    path = tmp_path / "t"

    def build_it_too() -> None:
        with pytest.raises(InUse, match="works on t; wait for it to end"):
            build_table(path, board(), small_plan(), QUICK)

    report, acted = in_the_midst(build_it_too)
    table = build_table(path, board(), small_plan(), QUICK, report=report)
    assert acted == ["loading models", "run 1 of 2", "run 2 of 2"]
    assert samples(path) == samples(expected.path)
    assert table.calibration == expected.calibration
    # Also where it is finished and one only wants to add.
    wider = Layer("conv_2d", ((16, 16, 8),), (16, 16, 64))

    def extend_it_too() -> None:
        with pytest.raises(InUse, match="works on t; wait for it to end"):
            extend_table(path, board(), [wider])

    report, acted = in_the_midst(extend_it_too)
    assert extend_table(path, board(), [wider], report=report).missing([wider]) == []
    assert acted


def test_a_table_can_be_looked_at_while_it_is_built(tmp_path: Path) -> None:
    expected = build_table(tmp_path / "alone", board(), small_plan(), QUICK)
    path = tmp_path / "t"
    seen = [0]

    def look() -> None:
        assert not LookupTable.is_finished(path)
        with pytest.raises(TableFileError, match="is not finished; run the command that builds"):
            LookupTable.open(path)
        with Store.open(path) as store:
            seen.append(len(store.samples()))
        if seen[-1]:
            assert export_samples(path, tmp_path / "s.csv") == seen[-1]

    report, acted = in_the_midst(look)
    build_table(path, board(), small_plan(), QUICK, report=report)
    assert len(acted) == 3
    assert seen == sorted(seen)
    assert seen[-1] > seen[2] > 0
    assert samples(path) == samples(expected.path)


def test_a_finished_table_is_used_while_it_is_extended(tmp_path: Path) -> None:
    before = build_table(tmp_path / "t", board(), small_plan(), QUICK)
    wider = Layer("conv_2d", ((16, 16, 8),), (16, 16, 64))

    def use() -> None:
        now = LookupTable.open(before.path)
        assert now.operators.keys() == before.operators.keys()
        for signature, operator in before.operators.items():
            assert now.operators[signature].runs.tolist() == operator.runs.tolist()
            assert now.operators[signature].verdict == operator.verdict
        assert now.missing([wider]) == [wider]

    report, acted = in_the_midst(use)
    after = extend_table(before.path, board(), [wider], report=report)
    assert len(acted) > 2
    assert after.missing([wider]) == []


# A clock that goes back


class GoesBack(SimulatedWorker):
    """Its clock says ten seconds less from some visit on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def handle(self, line: bytes) -> Iterator[bytes]:
        for text in super().handle(line):
            answer = json.loads(text)
            if "visit" in answer:
                self._left -= 1
                answer["at"] -= 10.0 if self._left < 0 else 0.0
            yield json.dumps(answer).encode()


def test_a_clock_that_goes_back_ends_the_build_which_goes_on_later(tmp_path: Path) -> None:
    expected = build_table(tmp_path / "alone", board(), small_plan(), QUICK)
    transport = FakeTransport(programs={"python3": lambda: GoesBack(150)})
    with pytest.raises(WorkerError, match=r"clock of fake went back by .* run the same command"):
        build_table(tmp_path / "t", replace(board(), transport=transport), small_plan(), QUICK)
    begun = samples(tmp_path / "t")
    assert begun
    build_table(tmp_path / "t", board(), small_plan(), QUICK)
    assert samples(tmp_path / "t") == samples(expected.path)
    assert set(begun) <= set(samples(tmp_path / "t"))
