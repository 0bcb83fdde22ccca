"""What is measured is chosen: the ends of all families, then what networks depend on most."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from boardfit.devices.errors import ConditionsChanged, WorkerError
from boardfit.devices.fake import Faults
from boardfit.profiler.build import begin_or_continue, build_table, extend_table, sources
from boardfit.profiler.campaign import run_campaign
from boardfit.profiler.families import by_family, channels
from boardfit.profiler.forecast import forecast
from boardfit.profiler.growth import next_operators
from boardfit.profiler.layers import Layer
from boardfit.profiler.merge_tables import merge_tables
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.plan import BATCHES, TablePlan, operator_entry
from boardfit.profiler.pricing import Alone, OperatorTimes
from boardfit.profiler.selection import Selection, Usage, ends
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table
from tests.small_board import QUICK, board, large_plan, samples, small_plan


def conv(inputs: int, filters: int) -> Layer:
    return Layer("conv_2d", ((10, 10, inputs),), (10, 10, filters))


GRID = [conv(a, b) for a in range(8, 72, 8) for b in range(8, 72, 8)]


def test_the_ends_enclose_every_operator_of_a_space() -> None:
    plan = plan_table(open_space("mobilenetv3-32"))
    chosen = by_family(ends(plan.layers))
    for group, members in by_family(plan.layers).items():
        counts = [channels(layer) for layer in chosen[group]]
        for axis in range(group.dimensions):
            wanted = {channels(layer)[axis] for layer in members}
            found = {place[axis] for place in counts}
            assert (min(found), max(found)) == (min(wanted), max(wanted))


def known(layers: list[Layer]) -> OperatorTimes:
    return OperatorTimes((x, Alone(1e-6 + x.macs / 1e10, 0.005)) for x in layers)


def test_what_networks_use_is_measured_first() -> None:
    often = conv(40, 48)
    builder = NetworkBuilder((10, 10, 40))
    builder.conv_2d(0, 48)
    usage = Usage.of([builder.build()])
    chosen = Selection(GRID, usage, known(ends(GRID))).best(3)
    assert chosen[0] == often


def test_nothing_is_chosen_twice_nor_what_is_measured() -> None:
    first = ends(GRID)
    chosen = Selection(GRID, Usage(), known(first)).best(len(GRID))
    signatures = [layer.signature for layer in (*first, *chosen)]
    assert len(set(signatures)) == len(signatures) == len(GRID)


def test_a_table_measures_as_many_operators_as_it_was_told(tmp_path: Path) -> None:
    plan = plan_table(open_space("mobilenetv3-32"), calibration=5, validation=5, operators=300)
    table = build_table(tmp_path / "t", board(), plan, QUICK)
    assert len(plan.layers) > 1000
    assert len(plan.first) < len(table.operators) <= 300
    for layer in plan.layers:
        assert table.price(layer) > 0
    estimate = table.latency(plan.validation[0])
    assert 0 < estimate.interpolated <= len(plan.validation[0].layers)
    assert table.validation is not None
    assert table.validation.mape < 0.05


def test_a_small_space_is_measured_whole() -> None:
    plan = plan_table(open_space("mobilenetv3-32"), operators=10_000)
    assert len(plan.first) == len({layer.signature for layer in plan.layers})
    assert len(plan.sizes) == 1


def test_batches_end_where_more_changes_nothing(tmp_path: Path) -> None:
    """The large plan's networks need none of its two hundred interpolated operators."""
    whole = large_plan()
    plan = TablePlan(whole.layers, whole.calibration, whole.validation, {}, operators=100)
    table = build_table(tmp_path / "t", board(), plan, QUICK)
    assert len(plan.sizes) == BATCHES + 1
    assert len(table.operators) == plan.sizes[1]


def test_a_batch_that_came_out_small_does_not_end_the_choice(tmp_path: Path) -> None:
    plan = plan_table(open_space("mobilenetv3-32"), calibration=5, validation=5, operators=280)
    with begin_or_continue(tmp_path / "t", plan.entries(), {"kind": "table"}) as store:
        once = replace(QUICK, runs=1)
        run_campaign(store, board(noise=0.2), sources(plan.entries()), once)
        first, second, third = plan.sizes[:3]
        store.add(next_operators(store, plan, first)[:-3])
        run_campaign(store, board(noise=0.2), sources(store.entries().values()), once)
        assert next_operators(store, plan, first) == []  # it was asked for already
        assert len(next_operators(store, plan, second)) == third - (second - 3)


def test_an_interrupted_choice_goes_on_the_same_way(tmp_path: Path) -> None:
    plan = plan_table(open_space("mobilenetv3-32"), calibration=5, validation=5, operators=280)
    build_table(tmp_path / "whole", board(), plan, QUICK)

    class Enough(Exception):
        pass

    for stop in (2, 4, 3):
        calls = 0

        def report(step: object, stop: int = stop) -> None:
            nonlocal calls
            calls += 1
            if calls > stop:
                raise Enough

        with pytest.raises(Enough):
            build_table(tmp_path / "parts", board(), plan, QUICK, report=report)
    build_table(tmp_path / "parts", board(), plan, QUICK)
    assert samples(tmp_path / "parts") == samples(tmp_path / "whole")
    with Store.open(tmp_path / "parts") as store:
        assert store.document("result") is not None


# Measuring on demand


def wider(filters: int) -> list[Layer]:
    """Operators that the small plan's networks do not have."""
    builder = NetworkBuilder((16, 16, 8))
    builder.depthwise_conv_2d(builder.conv_2d(0, filters, activation="relu"), kernel=5)
    return [node.layer for node in builder.nodes]


def test_what_is_missing_is_measured_on_demand(tmp_path: Path) -> None:
    before = build_table(tmp_path / "t", board(), small_plan(), QUICK)
    layers = wider(64)
    assert [layer.signature for layer in before.missing(layers)] == [x.signature for x in layers]
    after = extend_table(tmp_path / "t", board(), layers)
    assert after.missing(layers) == []
    assert after.runs == before.runs + 1
    assert after.price(layers[0]) > before.price(small_plan().layers[0])
    assert after.validation is not None
    assert after.validation.worst < 0.05


def test_a_table_that_lacks_nothing_is_not_measured_again(tmp_path: Path) -> None:
    build_table(tmp_path / "t", board(), small_plan(), QUICK)
    seen = samples(tmp_path / "t")
    extend_table(tmp_path / "t", board(), small_plan().layers)
    assert samples(tmp_path / "t") == seen


def test_of_much_that_is_missing_a_part_is_measured(tmp_path: Path) -> None:
    build_table(tmp_path / "t", board(), small_plan(), QUICK)
    layers = [layer for filters in range(40, 400, 8) for layer in wider(filters)]
    table = extend_table(tmp_path / "t", board(), layers, operators=20)
    assert table.missing(layers) == []
    assert len(table.operators) == len({x.signature for x in small_plan().layers}) + 20


def test_an_interrupted_extension_leaves_a_table_and_goes_on(tmp_path: Path) -> None:
    before = build_table(tmp_path / "t", board(), small_plan(), QUICK)
    layers = wider(64)
    with pytest.raises(WorkerError):
        extend_table(tmp_path / "t", board(faults=Faults(hang=frozenset(range(40, 4000)))), layers)
    between = LookupTable.open(tmp_path / "t")
    assert (between.operators.keys(), between.runs) == (before.operators.keys(), before.runs)
    after = extend_table(tmp_path / "t", board(), layers)
    assert after.missing(layers) == []


def test_after_an_interruption_another_space_may_be_asked_for(tmp_path: Path) -> None:
    build_table(tmp_path / "t", board(), small_plan(), QUICK)
    lost = board(faults=Faults(hang=frozenset(range(40, 4000))))
    with pytest.raises(WorkerError):
        extend_table(tmp_path / "t", lost, wider(64))
    after = extend_table(tmp_path / "t", board(), wider(72))
    assert after.missing([*wider(64), *wider(72)]) == []


def test_a_merged_table_is_extended_as_any_other(tmp_path: Path) -> None:
    table = build_table(tmp_path / "t", board(), small_plan(), QUICK)
    merged = merge_tables(tmp_path / "m", [table.path])
    after = extend_table(merged.path, board(), wider(64))
    assert after.missing(wider(64)) == []
    assert (after.threads, after.runtime) == (merged.threads, merged.runtime) == (1, "auto")


def test_another_board_adds_nothing_to_a_table(tmp_path: Path) -> None:
    table = build_table(tmp_path / "t", board(), small_plan(), QUICK)
    before = table.path.read_bytes()
    with pytest.raises(ConditionsChanged, match=r"board: was .*, is 'another'"):
        extend_table(table.path, board(model="another"), wider(64))
    assert table.path.read_bytes() == before


def test_what_an_interrupted_extension_added_is_not_merged(tmp_path: Path) -> None:
    table = build_table(tmp_path / "t", board(), small_plan(), QUICK)
    with Store.open(table.path, write=True) as store:
        store.add([operator_entry(layer) for layer in wider(64)])
    merged = merge_tables(tmp_path / "m", [table.path])
    assert merged.operators.keys() == table.operators.keys()


def test_a_forecast_counts_what_will_be_measured() -> None:
    plan = plan_table(open_space("mobilenetv3-32"), calibration=4, validation=4, operators=300)
    found = forecast(board(), plan, QUICK)
    assert found.measured == 300
    assert found.ends == len(plan.first) < 300 < found.priced == len(plan.layers)
    assert found.networks == 8
    assert found.kinds["conv_2d"] > found.kinds["mean"]
    assert 0.1 < found.seconds < 600
    longer = forecast(board(), plan, replace(QUICK, runs=4))
    assert longer.seconds == pytest.approx(2 * found.seconds, rel=0.05)
