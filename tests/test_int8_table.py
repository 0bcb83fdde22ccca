"""Tables in int8: built and used like those in float, and compared with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boardfit.devices.errors import ConditionsChanged, InputError, MissingEntry, TableFileError
from boardfit.profiler.build import build_table
from boardfit.profiler.compare_dtypes import DtypePair, compare_dtypes
from boardfit.profiler.description import describe_layer, describe_network, read_layer, read_network
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.layers import Dtype, Layer, Weights
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.read_tflite import inspect
from boardfit.profiler.simulated import simulated_seconds
from boardfit.profiler.table import LookupTable
from boardfit.profiler.tie import measure_tied
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

from .small_board import QUICK, board, small_network, small_plan

SWISH = Layer("hard_swish", ((16, 16, 64),), (16, 16, 64))


def plan(dtype: Dtype) -> TablePlan:
    found = small_plan()
    return replace(
        found,
        layers=tuple(layer.as_dtype(dtype) for layer in (*found.layers, SWISH)),
        calibration=tuple(network.as_dtype(dtype) for network in found.calibration),
        validation=tuple(network.as_dtype(dtype) for network in found.validation),
        provenance={**found.provenance, "dtype": dtype},
    )


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[Dtype, LookupTable]:
    folder = tmp_path_factory.mktemp("tables")
    dtypes: tuple[Dtype, Dtype] = ("float32", "int8")
    return {d: build_table(folder / d, board(), plan(d), QUICK) for d in dtypes}


def test_an_int8_table_prices_the_int8_form_of_a_float_network(
    tables: dict[Dtype, LookupTable],
) -> None:
    table, network = tables["int8"], small_network(16)
    assert (table.dtype, table.conditions["dtype"]) == ("int8", "int8")
    assert table.latency(network) == table.latency(network.as_dtype("int8"))
    for layer in network.layers:
        assert table.price(layer) == table.price(layer.as_dtype("int8"))
    simulated = simulated_seconds(emit(network.as_dtype("int8")))
    assert table.latency(network).seconds == pytest.approx(simulated, rel=0.1)
    table.check()


def test_a_float_table_does_not_price_int8(tables: dict[Dtype, LookupTable]) -> None:
    with pytest.raises(MissingEntry, match="int8"):
        tables["float32"].price(SWISH.as_dtype("int8"))


def test_trained_networks_are_measured_in_the_dtype_of_the_table(
    tables: dict[Dtype, LookupTable],
) -> None:
    network = small_network(16)
    rng = np.random.default_rng(0)
    weights = {
        number: Weights(*(rng.normal(size=s).astype(np.float32) for s in layer.weight_shapes))
        for number, layer in enumerate(network.layers)
        if layer.weight_shapes
    }
    networks = {"trained": network.with_weights(weights)}
    found = measure_tied(tables["int8"], board(), networks, schedule=QUICK)
    assert abs(found["trained"].error) < 0.1


def test_what_is_slower_in_int8_is_named(tables: dict[Dtype, LookupTable]) -> None:
    found = compare_dtypes(tables["float32"], tables["int8"])
    assert found.operators[0].name == SWISH.signature
    assert found.slower[0].ratio > 1.5
    assert [group.kind for group in found.kinds if group.ratio > 1] == ["hard_swish"]
    assert len(found.networks) == len(tables["int8"].networks)
    assert found.network_ratio is not None
    assert found.network_ratio < 1


def test_a_difference_within_the_spread_of_runs_is_none() -> None:
    pair = DtypePair("x", "x", np.array([1.0, 1.2]), np.array([1.1, 1.3]))
    assert pair.ratio == pytest.approx(1.1)
    assert pair.verdict == "equal"
    assert replace(pair, int8_runs=np.array([1.21, 1.3])).verdict == "slower"
    assert replace(pair, int8_runs=np.array([0.8, 0.9])).verdict == "faster"


def test_only_a_float_and_an_int8_table_of_one_board_are_compared(
    tables: dict[Dtype, LookupTable], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="give a float table first"):
        compare_dtypes(tables["int8"], tables["float32"])
    other = build_table(tmp_path / "other", board(model="another"), plan("int8"), QUICK)
    with pytest.raises(ConditionsChanged, match="board"):
        compare_dtypes(tables["float32"], other)


def test_the_plan_of_a_space_has_one_dtype() -> None:
    space = open_space("mobilenetv3-32")
    one, two = plan_table(space), plan_table(space, dtype="int8")
    assert (two.dtype, two.provenance["dtype"]) == ("int8", "int8")
    assert two.layers == tuple(layer.as_dtype("int8") for layer in one.layers)
    assert all(network.dtype == "int8" for network in (*two.calibration, *two.validation))
    assert all(two.usage[layer] == one.usage[layer.as_dtype("float32")] for layer in two.layers)
    with pytest.raises(ValueError, match="one dtype"):
        replace(small_plan(), layers=(*small_plan().layers, SWISH.as_dtype("int8")))


def test_a_description_without_dtype_is_float() -> None:
    network = small_network(8).as_dtype("int8")
    assert read_network(describe_network(network)) == network
    assert read_layer(describe_layer(SWISH.as_dtype("int8"))).dtype == "int8"
    assert "dtype" not in describe_layer(SWISH)
    assert read_layer(describe_layer(SWISH)) == SWISH
    with pytest.raises(TableFileError, match="float64"):
        read_layer({**describe_layer(SWISH), "dtype": "float64"})


def test_int8_takes_a_byte_an_element_and_four_a_bias() -> None:
    layer = Layer("conv_2d", ((4, 4, 2),), (4, 4, 3), kernel=3, dtype="int8")
    assert layer.parameter_bytes == 3 * 9 * 2 + 4 * 3
    assert layer.bytes_moved == 16 * 2 + 16 * 3 + layer.parameter_bytes
    network = small_network(8)
    assert 4 * network.as_dtype("int8").peak_memory == network.peak_memory
    info = inspect(emit(network.as_dtype("int8")))
    assert (info.dtype, info.inputs[0].dtype, info.operators[0].dtype) == ("int8",) * 3


def test_dtypes_are_not_mixed_and_trained_weights_not_quantised() -> None:
    builder = NetworkBuilder((4,))
    builder.fully_connected(0, 2)
    network = builder.build()
    weights = {0: Weights(np.zeros((2, 4), np.float32), np.zeros(2, np.float32))}
    with pytest.raises(ValueError, match="not quantised here"):
        network.with_weights(weights).as_dtype("int8")
    nodes = small_network(8).nodes
    mixed = replace(nodes[0], layer=nodes[0].layer.as_dtype("int8"))
    with pytest.raises(ValueError, match="one dtype"):
        replace(small_network(8), nodes=(mixed, *nodes[1:]))
    unknown: Any = "int4"
    with pytest.raises(ValueError, match="unknown dtype"):
        replace(SWISH, dtype=unknown)
