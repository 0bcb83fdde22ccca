"""The fit finds what is there, keeps to the sum where nothing is known, and is judged by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.profiler.calibration import (
    COLD_BYTES,
    STREAMED_BYTES,
    Calibration,
    Validation,
    cold_bytes,
    fit,
    kind,
)
from boardfit.profiler.crowding import CACHES, Crowding, crowding_row, footprint
from boardfit.profiler.layers import Layer

POINTWISE = [
    Layer("conv_2d", ((8, 8, c),), (8, 8, f)) for c in (8, 16, 32) for f in (8, 16, 24, 32)
]
SPATIAL = [Layer("conv_2d", ((8, 8, 8),), (8, 8, f), kernel=3) for f in (4, 8, 12, 16)]
DEPTHWISE = [Layer("depthwise_conv_2d", ((8, 8, c),), (8, 8, c), kernel=3) for c in (8, 16, 32)]
HEAVY = [Layer("fully_connected", ((c,),), (128,)) for c in (128, 512, 1024)]
LAYERS = [*POINTWISE, *SPATIAL, *DEPTHWISE, *HEAVY]
TRUE = Calibration(
    constant=3e-6,
    per_operator=-0.8e-6,
    per_cold_byte=2e-11,
    factors={
        "conv_2d": 1.2,
        "conv_2d spatial": 0.8,
        "depthwise_conv_2d 3x3": 1.1,
        "fully_connected": 0.9,
    },
)


def times_alone(rng: np.random.Generator) -> dict[str, float]:
    return {layer.signature: float(rng.uniform(20e-6, 200e-6)) for layer in LAYERS}


def random_networks(rng: np.random.Generator, count: int) -> list[list[Layer]]:
    return [
        [LAYERS[i] for i in rng.integers(len(LAYERS), size=rng.integers(5, 40))]
        for _ in range(count)
    ]


def predicted(
    calibration: Calibration, networks: list[list[Layer]], alone: dict[str, float]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array(
        [
            calibration.constant
            + sum(calibration.price(layer, alone[layer.signature]) for layer in layers)
            for layers in networks
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_finds_the_factors_and_predicts_other_networks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alone = times_alone(rng)
    networks = random_networks(rng, 60)
    noise = 1 + 0.005 * rng.normal(size=len(networks))
    found = fit(networks[:40], predicted(TRUE, networks, alone)[:40] * noise[:40], alone)
    assert found.factors == pytest.approx(dict(TRUE.factors), rel=0.1)
    expected = predicted(TRUE, networks[40:], alone)
    np.testing.assert_allclose(predicted(found, networks[40:], alone), expected, rtol=0.02)


def test_one_network_measured_in_a_bad_moment_does_not_bend_the_fit() -> None:
    rng = np.random.default_rng(1)
    alone = times_alone(rng)
    networks = random_networks(rng, 60)
    seconds = predicted(TRUE, networks, alone)
    disturbed = seconds[:30].copy()
    disturbed[4] *= 1.5
    found = fit(networks[:30], disturbed, alone)
    errors = predicted(found, networks[30:], alone) / seconds[30:] - 1
    assert np.abs(errors).mean() < 0.01


def test_what_is_left_of_networks_is_told() -> None:
    rng = np.random.default_rng(2)
    alone = times_alone(rng)
    networks = random_networks(rng, 60)
    seconds = predicted(TRUE, networks, alone)
    for noise in (0.01, 0.04):
        found = fit(networks, seconds * (1 + noise * rng.normal(size=60)), alone)
        assert found.residual == pytest.approx(noise, rel=0.4)


@pytest.mark.parametrize(
    "true",
    [Crowding(8e-18), Crowding(0.0, tuple(2e-11 * (n == 2) for n in range(len(CACHES))))],
    ids=["product", "beyond"],
)
def test_what_layers_lose_to_each_other_is_found(true: Crowding) -> None:
    """Networks that move much are slower than the sum; the fit sees it and predicts others."""
    rng = np.random.default_rng(3)
    large = Layer("conv_2d", ((64, 64, 128),), (64, 64, 128))
    alone = {**times_alone(rng), large.signature: 1e-3}
    networks = [[*few, *[large] * rng.integers(8)] for few in random_networks(rng, 80)]
    lost = np.array([true(*footprint(network)) for network in networks])
    assert lost.max() > 0.05 * predicted(TRUE, networks, alone).mean()
    seconds = predicted(TRUE, networks, alone) + lost
    found = fit(networks[:40], seconds[:40], alone)
    again = predicted(found, networks[40:], alone)
    again += np.array([found.crowding(*footprint(network)) for network in networks[40:]])
    np.testing.assert_allclose(again, seconds[40:], rtol=0.03)


PRICES = st.floats(-1e-10, 1e-10)


@given(st.builds(Crowding, PRICES, st.tuples(*[PRICES] * len(CACHES))), st.data())
def test_crowding_is_linear_in_its_parameters(crowding: Crowding, data: st.DataObject) -> None:
    footprints = data.draw(st.lists(st.tuples(*[st.floats(0, 1e9)] * 2), min_size=1, max_size=5))
    parameters = [crowding.per_product, *crowding.per_byte_beyond]
    expected = [float(np.dot(parameters, crowding_row(*f))) for f in footprints]
    one_by_one = [crowding(*f) for f in footprints]
    np.testing.assert_allclose(one_by_one, expected, rtol=1e-9, atol=1e-9)
    many = crowding.of_many(*np.array(footprints).T)
    np.testing.assert_allclose(many, one_by_one, rtol=1e-12)


def test_a_network_that_stays_within_the_smallest_cache_loses_its_product_alone() -> None:
    crowding = Crowding(1e-18, (1.0,) * len(CACHES))
    assert crowding(1e5, CACHES[0]) == pytest.approx(1e-18 * 1e5 * CACHES[0])
    assert crowding(0.0, CACHES[0] + 1.0) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="12 sizes"):
        Crowding(0.0, (1.0,))


def test_a_few_networks_already_help() -> None:
    rng = np.random.default_rng(0)
    alone = times_alone(rng)
    networks = random_networks(rng, 40)
    seconds = predicted(TRUE, networks, alone)
    sums = predicted(Calibration(), networks, alone)
    few = predicted(fit(networks[:5], seconds[:5], alone), networks, alone)
    assert np.abs(few / seconds - 1)[5:].mean() < 0.5 * np.abs(sums / seconds - 1)[5:].mean()


def test_without_networks_the_price_is_the_time_alone() -> None:
    found = fit([], np.array([]), {})
    assert found == Calibration()
    assert found.price(LAYERS[0], 12e-6) == 12e-6


def test_a_kind_that_no_network_has_keeps_to_its_time() -> None:
    alone = {layer.signature: 100e-6 for layer in LAYERS}
    found = fit([POINTWISE], np.array([2 * 100e-6 * len(POINTWISE)]), alone)
    assert found.factors["conv_2d"] > 1.3
    assert found.price(SPATIAL[0], 100e-6) == pytest.approx(100e-6 + found.per_operator)


@given(
    st.sampled_from(LAYERS),
    st.floats(0, 1e-3),
    st.floats(-1e-3, 1e-3),
    st.floats(-1e-9, 1e-9),
    st.floats(-2, 2),
)
def test_no_price_is_negative(
    layer: Layer, alone: float, per_operator: float, per_cold_byte: float, factor: float
) -> None:
    calibration = Calibration(0.0, per_operator, per_cold_byte, {kind(layer): factor})
    assert calibration.price(layer, alone) >= 0


def test_a_price_is_worked_out_as_documented() -> None:
    # 512 * 128 + 128 = 65,664 parameters, 262,656 bytes, 229,888 of them beyond 32 KiB.
    heavy = HEAVY[1]
    assert cold_bytes(heavy) == 262_656 - COLD_BYTES == 229_888
    assert cold_bytes(POINTWISE[0]) == 0
    streamed = Layer("fully_connected", ((4096,),), (4096,))
    assert cold_bytes(streamed) == STREAMED_BYTES - COLD_BYTES  # the rest is cold alone, too
    calibration = Calibration(7.0, 2e-6, 1e-10, {"fully_connected": 1.5})
    assert calibration.price(heavy, 10e-6) == pytest.approx(15e-6 + 2e-6 + 22.9888e-6)


@pytest.mark.parametrize(
    ("layer", "group"),
    [
        (Layer("conv_2d", ((8, 8, 4),), (8, 8, 4)), "conv_2d"),
        (Layer("conv_2d", ((8, 8, 4),), (8, 8, 4), kernel=3), "conv_2d spatial"),
        (Layer("conv_2d", ((1, 1, 4),), (1, 1, 4)), "conv_2d 1x1"),
        (Layer("hard_swish", ((1, 1, 4),), (1, 1, 4)), "hard_swish 1x1"),
        (Layer("depthwise_conv_2d", ((8, 1, 4),), (8, 1, 4), kernel=3), "depthwise_conv_2d 3x3"),
        (Layer("fully_connected", ((4,),), (4,)), "fully_connected"),
    ],
)
def test_kinds_that_share_a_factor(layer: Layer, group: str) -> None:
    assert kind(layer) == group


# Validation, by hand


def validation() -> Validation:
    return Validation(
        predicted=np.array([1.1, 1.8, 3.0, 4.8]),
        measured=np.array([1.0, 2.0, 3.0, 4.0]),
        runs=np.array([[1.0, 1.1], [2.0, 2.0], [3.0, 2.7], [4.0, 4.0]]),
        deviation=np.full(4, 0.02),
    )


def test_the_figures_of_a_validation() -> None:
    found = validation()
    np.testing.assert_allclose(found.errors, [0.1, -0.1, 0.0, 0.2])
    assert found.mape == pytest.approx(0.1)
    assert found.worst == pytest.approx(0.2)
    assert found.share_within(0.15) == 0.75
    assert found.share_within(0.05) == 0.25
    # Sorted: 0, 0.1, 0.1, 0.2; the quantile lies 0.85 of the way from the third to the fourth.
    assert found.margin == pytest.approx(0.185)
    # The second run over the first: 10 %, 0, 10 % less, 0.
    assert found.noise_floor == pytest.approx(0.05)


def test_the_noise_floor_takes_every_pair_of_runs() -> None:
    runs = np.array([[1.0, 1.1, 1.2]])
    found = Validation(np.ones(1), np.ones(1), runs, np.ones(1))
    assert found.noise_floor == pytest.approx((0.1 + 0.2 + (1.2 / 1.1 - 1)) / 3)
    assert math.isnan(Validation(np.ones(1), np.ones(1), np.ones((1, 1)), np.ones(1)).noise_floor)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], 1.0),
        ([9.0, 8.0, 7.0, 6.0], -1.0),
        # Places 1, 3, 2, 4 for 1, 2, 3, 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15) = 0.8.
        ([1.0, 3.0, 2.0, 4.0], 0.8),
        # Places 1.5, 1.5, 3, 4: 4.5 / sqrt(4.5 * 5).
        ([1.0, 1.0, 3.0, 4.0], 4.5 / math.sqrt(22.5)),
    ],
)
def test_the_rank_correlation(predicted: list[float], expected: float) -> None:
    measured = np.array([1.0, 2.0, 3.0, 4.0])
    found = Validation(np.array(predicted), measured, measured[:, None], np.ones(len(measured)))
    assert found.spearman == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, 3])
def test_equal_predictions_have_no_ranks(count: int) -> None:
    measured = np.arange(1.0, count + 1)
    assert math.isnan(
        Validation(np.ones(count), measured, measured[:, None], np.ones(count)).spearman
    )


@pytest.mark.parametrize(
    ("predicted", "measured", "runs", "words"),
    [
        (np.ones(0), np.ones(0), np.ones((0, 2)), "needs networks"),
        (np.ones(2), np.ones(3), np.ones((3, 2)), "needs networks"),
        (np.ones(2), np.ones(2), np.ones((1, 2)), "needs networks"),
        (np.ones(2), np.ones(2), np.ones(2), "needs networks"),
        (np.ones(1), np.zeros(1), np.ones((1, 1)), "took? no time|take no time"),
        (np.ones(1), np.ones(1), -np.ones((1, 1)), "take no time"),
        (np.ones(1), np.array([np.nan]), np.ones((1, 1)), "take no time"),
    ],
)
def test_a_validation_that_cannot_be_is_refused(
    predicted: np.ndarray[tuple[int], np.dtype[np.float64]],
    measured: np.ndarray[tuple[int], np.dtype[np.float64]],
    runs: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    words: str,
) -> None:
    with pytest.raises(ValueError, match=words):
        Validation(predicted, measured, runs, np.ones(len(predicted)))
