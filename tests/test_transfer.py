"""A sister board's table from a donor's and few measurements of its own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from boardfit.devices.errors import InputError
from boardfit.profiler.build import build_table
from boardfit.profiler.families import channels
from boardfit.profiler.layers import Layer
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.plan import FEWEST_OPERATORS, plan_transfer
from boardfit.profiler.pricing import Alone
from boardfit.profiler.selection import Usage
from boardfit.profiler.table import LookupTable
from boardfit.profiler.transfer import Donor, choose_measurements, read_donor, transferred
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table
from tests.small_board import QUICK, board

CONVOLUTIONS = [
    Layer("conv_2d", ((s, s, a),), (s, s, b))
    for s in (4, 16)
    for a in (8, 64)
    for b in (8, 32, 128)
]
DEPTHWISE = [
    Layer("depthwise_conv_2d", ((16, 16, c),), (16, 16, c), k) for c in (8, 32, 128) for k in (3, 5)
]


def donor(layers: list[Layer]) -> Donor:
    return Donor({x.signature: (x, Alone(1e-6 + x.macs / 1e10, 0.005)) for x in layers})


def here(there: Donor, layers: list[Layer], factor: dict[str, float]) -> list[tuple[Layer, Alone]]:
    return [
        (x, Alone(factor[x.op] * there.operators[x.signature][1].seconds, 0.005)) for x in layers
    ]


def test_ratios_are_those_of_the_likes() -> None:
    there = donor([*CONVOLUTIONS, *DEPTHWISE])
    factor = {"conv_2d": 2.0, "depthwise_conv_2d": 3.0}
    seen = here(there, [*CONVOLUTIONS[::2], *DEPTHWISE[::2]], factor)
    found = transferred(there, seen)
    assert len(found) == len(CONVOLUTIONS) // 2 + len(DEPTHWISE) // 2
    for layer, alone in found:
        expected = factor[layer.op] * there.operators[layer.signature][1].seconds
        assert alone.seconds == pytest.approx(expected, rel=0.06)
        assert alone.interpolated
        assert alone.deviation > 0.005


def test_a_kind_without_measurements_is_less_certain() -> None:
    there = donor([*CONVOLUTIONS, *DEPTHWISE])
    seen = here(there, CONVOLUTIONS[::2], {"conv_2d": 2.0})
    deviation = {True: [], False: []}  # type: dict[bool, list[float]]
    for layer, alone in transferred(there, seen):
        deviation[layer.op == "conv_2d"].append(alone.deviation)
    assert max(deviation[True]) < min(deviation[False])


def test_without_measurements_nothing_is_lent() -> None:
    assert transferred(donor(CONVOLUTIONS), []) == []


def test_the_choice_begins_with_what_networks_depend_on_and_repeats_nothing() -> None:
    there = donor([*CONVOLUTIONS, *DEPTHWISE])
    chosen = choose_measurements(there, Usage(), 10)
    assert len({layer.signature for layer in chosen}) == 10
    assert {layer.op for layer in chosen} == {"conv_2d", "depthwise_conv_2d"}
    assert chosen[0].macs > np.median([layer.macs for layer in CONVOLUTIONS])


def test_of_a_donor_of_thousands_the_weightiest_are_candidates() -> None:
    widths = range(8, 392, 8)
    many = [Layer("conv_2d", ((4, 4, a),), (4, 4, b)) for a in widths for b in widths]
    assert len(many) > 2_000
    builder = NetworkBuilder(many[-1].inputs[0])
    builder.conv_2d(0, many[-1].output[-1])
    usage = Usage.of([builder.build()])
    (first,) = choose_measurements(donor(many), usage, 1)
    assert min(channels(first)) > 256  # alike, and not one of the small ones


def test_a_donor_survives_its_description() -> None:
    there = donor(CONVOLUTIONS)
    assert read_donor(there.describe()) == there
    assert read_donor(None) is None


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_damaged_donor_is_refused(seconds: float) -> None:
    content = donor(CONVOLUTIONS).describe()
    content[3]["seconds"] = seconds
    with pytest.raises(ValueError, match="takes"):
        read_donor(content)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> LookupTable:
    plan = plan_table(open_space("mobilenetv3-32"), calibration=8, validation=10, operators=300)
    return build_table(tmp_path_factory.mktemp("donor") / "t", board(), plan, QUICK)


def test_a_sister_board_is_priced_from_few_measurements(built: LookupTable, tmp_path: Path) -> None:
    plan = plan_transfer(built, measurements=60)
    table = build_table(tmp_path / "t", board(seed=7), plan, QUICK)
    assert len(table.operators) == 52
    assert sum(role == "calibration" for role, _, _ in table.networks.values()) == 8
    assert table.validation is not None
    assert table.validation.mape < 0.05
    for layer in (operator.layer for operator in built.operators.values()):
        assert table.alone(layer).seconds == pytest.approx(built.alone(layer).seconds, rel=0.25)
    again = LookupTable.open(tmp_path / "t")
    network = plan.validation[0]
    assert again.latency(network) == table.latency(network)
    assert again.latency(network).interpolated > 0


def test_too_few_measurements_are_refused(built: LookupTable) -> None:
    with pytest.raises(InputError, match=rf"20 measurements .* need {8 + FEWEST_OPERATORS}"):
        plan_transfer(built, measurements=20)
