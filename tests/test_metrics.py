"""Metrics of many architectures agree with the networks they stand for, and refuse the rest."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.devices.errors import ConstraintNotMet, MeasurementError, SpaceError
from boardfit.profiler.crowding import CACHES, Crowding
from boardfit.profiler.layers import Layer
from boardfit.search import metrics
from boardfit.search.space import Architecture, SearchSpace
from boardfit.search.spaces import open_space

from .toy_space import (
    Block,
    Classifier,
    Convolution,
    Toll,
    direct,
    everything,
    tiny_space,
    toy_space,
)

TOY = toy_space()
REAL = open_space("mobilenetv3-32")


def architectures(space: SearchSpace) -> st.SearchStrategy[Architecture]:
    return st.tuples(*(st.sampled_from(c.values) for c in space.coordinates))


CROWDED = Toll(crowding=Crowding(2e-15, tuple(1e-13 * n for n in range(len(CACHES)))))
LATENCY = {space.name: metrics.latency(space, CROWDED) for space in (TOY, REAL)}
COUNTS = {
    space.name: (metrics.macs(space), metrics.parameters(space), metrics.peak_memory(space))
    for space in (TOY, REAL)
}


@pytest.mark.parametrize("space", [TOY, REAL], ids=lambda space: space.name)
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_compiled_metrics_equal_the_networks_own_figures(
    space: SearchSpace, data: st.DataObject
) -> None:
    some = data.draw(st.lists(architectures(space), min_size=1, max_size=4))
    metric = LATENCY[space.name]
    np.testing.assert_allclose(metric(some), direct(metric, CROWDED, some), rtol=1e-9)
    macs, parameters, memory = COUNTS[space.name]
    networks = [space.network(a) for a in some]
    assert macs(some).tolist() == [network.macs for network in networks]
    assert parameters(some).tolist() == [network.parameters for network in networks]
    assert memory(some).tolist() == [network.peak_memory for network in networks]


def test_tuples_and_arrays_give_the_same_float64() -> None:
    rng = np.random.default_rng(0)
    some = [TOY.random(rng) for _ in range(50)]
    metric = metrics.macs(TOY)
    rows = metrics.as_rows(TOY, some)
    assert metric(rows).dtype == np.float64
    assert metric(rows).tolist() == metric(some).tolist()
    assert metrics.as_architectures(rows) == some


def test_no_architectures_give_no_values() -> None:
    assert metrics.macs(TOY)([]).shape == (0,)


def test_equal_canonical_forms_have_one_price() -> None:
    removed = [a for a in everything(_one_block()) if a[2] == 0]
    assert len(set(metrics.macs(_one_block())(removed))) == len({a[0] for a in removed})


def _one_block() -> SearchSpace:
    return SearchSpace(
        "block",
        (4, 4, 3),
        2,
        (Convolution("stem", (8, 16)), Block("a", 16, 16), Classifier("head", 2)),
    )


def test_each_different_layer_is_priced_once() -> None:
    seen: list[Layer] = []

    def price(layer: Layer) -> float:
        seen.append(layer)
        return 1.0

    metric = metrics.CompiledMetric(TOY, price)
    some = [TOY.random(np.random.default_rng(seed)) for seed in range(30)]
    metric(some)
    assert len(seen) == len(set(seen))
    before = len(seen)
    metric(some)
    assert len(seen) == before


@pytest.mark.parametrize("wrong", [-1, 7, 10_000])
@pytest.mark.parametrize("column", [0, 1, 2, -1])  # 2 may be 0, the others not
def test_a_value_outside_of_the_space_is_refused(wrong: int, column: int) -> None:
    rows = metrics.as_rows(TOY, [TOY.full, TOY.full])
    rows[1, column] = wrong
    with pytest.raises(SpaceError, match=f"= {wrong} is not allowed"):
        metrics.macs(TOY)(rows)


def test_architectures_of_another_length_are_refused() -> None:
    with pytest.raises(SpaceError, match="22 values"):
        metrics.macs(TOY)([(1, 2, 3)])
    with pytest.raises(SpaceError, match="not architectures of toy"):
        metrics.macs(TOY)([TOY.full, TOY.full[:-1]])


@pytest.mark.parametrize("price", [math.nan, math.inf])
def test_a_price_that_is_no_number_is_refused(price: float) -> None:
    with pytest.raises(MeasurementError, match="stage stem"):
        metrics.CompiledMetric(TOY, lambda layer: price)([TOY.full])


def test_what_pricing_raises_reaches_the_caller_and_does_no_harm() -> None:
    broken = True

    def price(layer: Layer) -> float:
        if broken and layer.op == "fully_connected":
            raise MeasurementError("no price")
        return 1.0

    metric = metrics.CompiledMetric(tiny_space(), price)
    with pytest.raises(MeasurementError, match="no price"):
        metric([(1, 1, 1, 1)])
    broken = False
    assert metric([(1, 1, 1, 1)]).tolist() == [4.0]


def test_a_stage_with_too_many_choices_is_refused() -> None:
    huge = Convolution("huge", tuple(range(1, 2001)), tuple(range(1, 4004, 2)))
    with pytest.raises(SpaceError, match="stage huge"):
        metrics.macs(SearchSpace("x", (4, 4, 3), 2, (huge, Classifier("head", 2))))


def test_a_filled_table_prices_many_architectures_a_second() -> None:
    rng = np.random.default_rng(0)
    rows = metrics.as_rows(TOY, [TOY.random(rng) for _ in range(500)] * 100)
    metric = metrics.macs(TOY)
    metric(rows)
    begin = time.perf_counter()
    metric(rows)
    assert len(rows) / (time.perf_counter() - begin) > 50_000  # 1,000,000 on an idle machine


def test_reachable_returns_a_network_within_the_target() -> None:
    metric = metrics.macs(TOY)
    least = metric([TOY.smallest])[0]
    assert reachable_value(metric, least) == least
    with pytest.raises(ConstraintNotMet, match=f"smallest value found is {least:.6g}"):
        metrics.reachable(TOY, metric, least * 0.999)


def reachable_value(metric: metrics.StageTables, target: float) -> float:
    return float(metric([metrics.reachable(metric.space, metric, target)])[0])


def test_reachable_finds_networks_below_the_smallest_one_where_latency_is_not_monotone() -> None:
    space = tiny_space()

    def price(layer: Layer) -> float:  # an odd number of channels is slow on this board
        return float(layer.output[-1] % 2 * 10 + layer.output[-1])

    metric = metrics.CompiledMetric(space, price)
    best = min(metric([a])[0] for a in everything(space))
    assert metric([space.smallest])[0] > best
    assert reachable_value(metric, best) == best
