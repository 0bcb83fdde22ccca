"""A build that is disturbed in any way, and continued, ends with what an undisturbed one has."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boardfit.devices.errors import BoardfitError, DeviceError, MeasurementError
from boardfit.devices.fake import Faults
from boardfit.profiler.build import build_table
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable

from .small_board import QUICK, board, large_plan, samples, small_plan

RESTLESS = replace(QUICK, precision=1e-4, maximum_rounds=6)
SPENT = replace(RESTLESS, budget_seconds=0.02)  # ends in the midst of the second run


def undisturbed(folder: Path, plan: TablePlan, schedule: Schedule) -> Path:
    build_table(folder / "undisturbed", board(), plan, schedule)
    return folder / "undisturbed"


def expect_equal(path: Path, other: Path) -> None:
    """The same keys, the same number of samples of each, and the same values."""
    found, expected = samples(path), samples(other)
    assert Counter(row[0] for row in found) == Counter(row[0] for row in expected)
    assert found == expected
    one, two = LookupTable.open(path), LookupTable.open(other)
    assert one.calibration == two.calibration
    assert one.validation is not None
    assert two.validation is not None
    assert one.validation.predicted.tolist() == two.validation.predicted.tolist()


def expect_growth(before: Sequence[tuple[Any, ...]], after: Sequence[tuple[Any, ...]]) -> None:
    """What was committed stays as it was, and nothing is there twice."""
    keys = [(row[0], *row[2:5]) for row in after]
    assert len(set(keys)) == len(keys)
    assert set(before) <= set(after)


# The link and the worker fail


@pytest.mark.parametrize("schedule", [QUICK, RESTLESS, SPENT], ids=["quick", "restless", "spent"])
@pytest.mark.parametrize("seed", range(4))
def test_faults_at_random_lines_cost_no_sample_and_double_none(
    tmp_path: Path, seed: int, schedule: Schedule
) -> None:
    expected = undisturbed(tmp_path, small_plan(), schedule)
    rng = random.Random(seed)
    lines = rng.sample(range(1, 700), 12)
    faults = Faults(
        lose=frozenset(lines[:4]),
        hang=frozenset(lines[4:6]),
        garbage=frozenset(lines[6:9]),
        truncate=frozenset(lines[9:]),
        seed=seed,
    )
    device = board(faults=faults)
    path = tmp_path / "disturbed"
    met = 0
    before: list[tuple[Any, ...]] = []
    while True:
        try:
            build_table(path, device, small_plan(), schedule)
            break
        except (DeviceError, MeasurementError) as error:
            met += 1
            words = str(error)
        assert "again" in words or "ended while it loaded" in words
        after = samples(path)
        expect_growth(before, after)
        before = after
    assert met >= 3
    expect_equal(path, expected)


def test_a_build_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The second attempt measures only what is missing."""
    path = tmp_path / "t"
    device = board(faults=Faults(garbage=frozenset({300})))
    with pytest.raises(BoardfitError):
        build_table(path, device, small_plan(), QUICK)
    with Store.open(path) as store:
        before = len(store.samples())
        sessions = len(store.sessions())
    build_table(path, device, small_plan(), QUICK)
    with Store.open(path) as store:
        rows = store.samples()
        later = sum(row[6] > sessions for row in rows)
    assert before > 0
    assert later == len(rows) - before


# The host is killed

CHILD = """
import sys
from pathlib import Path
from boardfit.profiler.build import build_table
sys.path.insert(0, sys.argv[1])
from small_board import QUICK, board, large_plan
print("ready", flush=True)
build_table(Path(sys.argv[2]), board(), large_plan(), QUICK)
"""


class Child:
    """A process that builds the large table."""

    def __init__(self, path: Path) -> None:
        argv = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(path)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        self.began = time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Whether it finished by then; it is killed otherwise."""
        with self._process:
            try:
                assert self._process.wait(seconds) == 0
            except subprocess.TimeoutExpired:
                self._process.kill()
                assert self._process.wait() in {0, -signal.SIGKILL}
            return self._process.returncode == 0


def wait_for_samples(path: Path, count: int) -> None:
    """Return once a table that is being built has more samples than `count`, or soon anyway."""
    for _ in range(200):
        time.sleep(0.01)
        with contextlib.suppress(BoardfitError):
            if path.exists() and len(samples(path)) > count:
                return


def test_a_build_that_is_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    expected = tmp_path / "undisturbed"
    child = Child(expected)
    assert child.wait(200)
    whole = time.monotonic() - child.began
    rng = random.Random(0)
    kills = tables = amidst = 0
    size = len(samples(expected))
    before: list[tuple[Any, ...]] = []
    path = tmp_path / "killed-0"
    while True:
        # Short enough that a table is killed many times, long enough that it comes to an end; and
        # every other time when something has just been committed.
        child = Child(path)
        if kills % 2:
            wait_for_samples(path, len(before))
        else:
            time.sleep(rng.uniform(0, 0.5 * whole))
        finished = child.wait(0.0 if kills < 20 else 200)
        if path.exists():
            after = samples(path)
            expect_growth(before, after)
            before = after
            amidst += 0 < len(after) < size
        if finished:
            expect_equal(path, expected)
            litter = {p.name for p in tmp_path.glob(f"{path.name}*")} - {path.name}
            # SQLite's side files stay where a table was read while it was closed, as here.
            side = {f"{path.name}-wal", f"{path.name}-shm"}
            assert litter - side == {f"{path.name}.lock"}
            tables += 1
            if kills >= 20:
                break
            path, before = tmp_path / f"killed-{tables}", []
        else:
            kills += 1
    assert len(large_plan().layers) >= 200
    assert kills == 20
    assert amidst >= 1  # the moments were not all before the first sample
