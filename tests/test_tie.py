"""Networks measured on a board that has become slower, in the terms of a table built before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boardfit.devices.base import Device
from boardfit.devices.errors import (
    ConditionsChanged,
    MeasurementError,
    MissingEntry,
    TableFileError,
    WorkerError,
)
from boardfit.devices.fake import FakeTransport, Faults, SimulatedClock
from boardfit.profiler.build import build_table
from boardfit.profiler.layers import Weights
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.simulated import SimulatedRuntime
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.profiler.tie import measure_tied
from boardfit.profiler.worker import Worker, read_request

from .small_board import QUICK, board, samples, small_network, small_plan

FOUND = {"found": small_network(16, 3, 2), "larger": small_network(32, 3)}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LookupTable:
    return build_table(tmp_path_factory.mktemp("t") / "t.boardfit", board(), small_plan(), QUICK)


class Slowed:
    """The simulated worker on a board on which everything takes longer."""

    def __init__(self, factor: float) -> None:
        self._runtime = SimulatedRuntime(SimulatedClock(), seed=5, noise=0.01)
        clock = self._runtime.clock
        self._worker = Worker(self._runtime, lambda: factor * clock.now(), 1, 0)

    def start(self) -> Iterator[bytes]:
        yield json.dumps(self._worker.hello()).encode()

    def handle(self, line: bytes) -> Iterator[bytes]:
        request = read_request(line)
        self._runtime.round = request.get("round", 0)
        for answer in self._worker.answers(request):
            yield json.dumps(answer).encode()


def slowed(factor: float) -> Device:
    return replace(board(), transport=FakeTransport(programs={"python3": lambda: Slowed(factor)}))


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_the_ratio_of_anchors_takes_the_boards_speed_out(table: LookupTable, factor: float) -> None:
    tied = measure_tied(table, slowed(factor), FOUND, schedule=QUICK)
    assert list(tied) == list(FOUND)
    for name, found in tied.items():
        assert found.anchor_ratio == pytest.approx(factor, rel=0.03)
        assert found.predicted == table.latency(FOUND[name])
        assert found.error == pytest.approx(found.predicted.seconds / found.seconds - 1)
        assert abs(found.error) < 0.06
        assert float(np.min(found.measurement.seconds)) / found.seconds == pytest.approx(
            factor, rel=0.03
        )
        assert found.measurement.planned_runs == QUICK.runs


def test_noise_that_slows_every_inference_is_found_as_well(table: LookupTable) -> None:
    tied = measure_tied(table, board(seed=9, noise=1.0), FOUND, schedule=QUICK)
    assert 1.02 < tied["found"].anchor_ratio < 1.25
    assert abs(tied["found"].error) < 0.1


def test_weights_are_measured_as_they_are(table: LookupTable) -> None:
    """The model that is timed is the one that is delivered, so its digest decides the noise."""
    network = FOUND["found"]
    kernel, bias = (np.zeros(shape, np.float32) for shape in network.layers[0].weight_shapes)
    trained = network.with_weights({0: Weights(kernel, bias)})
    one, other = (
        measure_tied(table, board(), {"x": candidate}, schedule=QUICK)["x"]
        for candidate in (network, trained)
    )
    assert one.predicted == other.predicted
    assert one.measurement.seconds.tolist() != other.measurement.seconds.tolist()


@pytest.mark.parametrize(("wanted", "used"), [(1, 1), (3, 3), (99, 6)])
def test_anchors_are_spread_over_the_calibration_networks(
    table: LookupTable, tmp_path: Path, wanted: int, used: int
) -> None:
    measure_tied(table, board(), FOUND, schedule=QUICK, anchors=wanted, path=tmp_path / "t")
    with Store.open(tmp_path / "t") as store:
        entries = list(store.entries().values())
    anchors = [entry.key for entry in entries if entry.role == "anchor"]
    assert len(set(anchors)) == len(anchors) == used
    calibration = {
        key: float(runs.min())
        for key, (role, _, runs) in table.networks.items()
        if role == "calibration"
    }
    assert set(anchors) <= set(calibration)
    if used > 1:  # from the fastest to the slowest
        assert min(calibration, key=calibration.__getitem__) == anchors[0]
        assert max(calibration, key=calibration.__getitem__) == anchors[-1]


def test_what_was_interrupted_goes_on(table: LookupTable, tmp_path: Path) -> None:
    expected = measure_tied(table, board(), FOUND, schedule=QUICK, path=tmp_path / "whole")
    device = board(faults=Faults(garbage=frozenset({30, 70, 110})))
    for _ in range(3):
        with pytest.raises(WorkerError):
            measure_tied(table, device, FOUND, schedule=QUICK, path=tmp_path / "t")
    found = measure_tied(table, device, FOUND, schedule=QUICK, path=tmp_path / "t")
    assert samples(tmp_path / "t") == samples(tmp_path / "whole")
    for name in FOUND:
        assert found[name].seconds == expected[name].seconds
        assert found[name].anchor_ratio == expected[name].anchor_ratio


def test_a_finished_one_is_returned_without_the_board(table: LookupTable, tmp_path: Path) -> None:
    first = measure_tied(table, board(), FOUND, schedule=QUICK, path=tmp_path / "t")
    gone = board()
    gone.transport.close()
    again = measure_tied(table, gone, FOUND, schedule=QUICK, path=tmp_path / "t")
    assert {name: found.seconds for name, found in again.items()} == {
        name: found.seconds for name, found in first.items()
    }


def test_another_state_of_the_board_is_refused_before_measuring(
    table: LookupTable, tmp_path: Path
) -> None:
    words = r"fake is not as it was: governor: was 'performance', is 'ondemand'\. Restore it"
    with pytest.raises(ConditionsChanged, match=words):
        measure_tied(table, board(governor="ondemand"), FOUND, schedule=QUICK, path=tmp_path / "t")
    assert samples(tmp_path / "t") == []
    measure_tied(table, board(), FOUND, schedule=QUICK, path=tmp_path / "t")


def test_other_networks_do_not_go_into_the_same_file(table: LookupTable, tmp_path: Path) -> None:
    measure_tied(table, board(), FOUND, schedule=QUICK, path=tmp_path / "t")
    other = {"found": small_network(8)}
    with pytest.raises(TableFileError, match="begun with another plan"):
        measure_tied(table, board(), other, schedule=QUICK, path=tmp_path / "t")
    with pytest.raises(TableFileError, match="begun with another plan"):
        measure_tied(table, board(), FOUND, schedule=QUICK, path=table.path)


def test_a_network_that_the_table_cannot_price_is_refused_first(table: LookupTable) -> None:
    builder = NetworkBuilder((16, 16, 8))
    builder.conv_2d(0, 9)
    gone = board()
    gone.transport.close()
    with pytest.raises(MissingEntry, match="has no price"):
        measure_tied(table, gone, {"x": builder.build()}, schedule=QUICK)


def test_a_table_without_calibration_networks_has_no_anchors(tmp_path: Path) -> None:
    lone = build_table(tmp_path / "t", board(), replace(small_plan(), calibration=()), QUICK)
    with pytest.raises(MeasurementError, match="has no calibration networks to tie"):
        measure_tied(lone, board(), FOUND, schedule=QUICK)


def test_no_anchor_ties_nothing(table: LookupTable) -> None:
    with pytest.raises(ValueError, match="at least one anchor"):
        measure_tied(table, board(), FOUND, anchors=0)
