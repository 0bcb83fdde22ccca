"""Operators between measured ones are priced with honest limits, and nothing beyond them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boardfit.devices.errors import MissingEntry
from boardfit.profiler.families import by_family, channels, family, step_class
from boardfit.profiler.interpolation import (
    Interpolator,
    Pairs,
    Places,
    Scales,
    covariance,
    scales_loss,
)
from boardfit.profiler.layers import Layer
from boardfit.profiler.pricing import Alone, OperatorTimes, describe_scales, read_scales

WIDTHS = range(8, 264, 8)


def conv(inputs: int, filters: int, size: int = 10) -> Layer:
    return Layer("conv_2d", ((size, size, inputs),), (size, size, filters))


def staircase(inputs: int, filters: int) -> float:
    """Seconds as a kernel of 16 output channels takes them, with an invocation."""
    return 1e-6 + 100 * inputs * math.ceil(filters / 16) * 16 / 20e9


def noise(count: int, deviation: float = 0.005) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.full(count, deviation)


# Families


@pytest.mark.parametrize(
    ("layer", "name", "counts"),
    [
        (conv(8, 24), "conv_2d 10x10>10x10 k1 s1 none float32", (8, 24)),
        (
            Layer("depthwise_conv_2d", ((8, 8, 16),), (4, 4, 16), 3, 2, "relu"),
            "depthwise_conv_2d 8x8>4x4 k3 s2 relu float32",
            (16,),
        ),
        (
            Layer("concatenation", ((4, 4, 8), (4, 4, 24)), (4, 4, 32)),
            "concatenation 4x4+4x4>4x4 k1 s1 none float32",
            (8, 24),
        ),
        (
            Layer("mul", ((4, 4, 8), (1, 1, 8)), (4, 4, 8)),
            "mul 4x4+1x1>4x4 k1 s1 none float32",
            (8,),
        ),
        (
            Layer("fully_connected", ((64,),), (10,)),
            "fully_connected vector>vector k1 s1 none float32",
            (64, 10),
        ),
    ],
)
def test_a_family_is_all_but_the_channels(layer: Layer, name: str, counts: tuple[int, ...]) -> None:
    assert family(layer).name == name
    assert channels(layer) == counts
    assert family(layer).dimensions == len(counts)


def test_operators_of_other_kernels_are_never_pooled() -> None:
    wide, narrow = (
        Layer("depthwise_conv_2d", ((8, 8, 16),), (8, 8, 16), kernel) for kernel in (3, 7)
    )
    assert len(by_family([wide, narrow, conv(8, 8), conv(8, 8, size=5)])) == 4


def test_steps_repeat_and_aliasing_widths_stand_apart() -> None:
    assert step_class(40) == step_class(8) == step_class(72)
    assert step_class(48) != step_class(40)
    assert step_class(256) == step_class(512) == -1


# Interpolation


def test_the_staircase_is_kept() -> None:
    places = [(32, filters) for filters in WIDTHS]
    values = np.log([staircase(*place) for place in places])
    seen = [*range(0, len(places), 3), len(places) - 1]
    model = Interpolator([places[i] for i in seen], values[seen], noise=noise(len(seen)))
    middle, _ = model.predict(places)
    octaves = np.log2([filters for _, filters in places])
    straight = np.interp(octaves, octaves[seen], values[seen])
    wide = slice(WIDTHS.index(64), None)
    assert np.abs(middle - values)[wide].max() < 0.03
    assert np.abs(middle - values)[wide].mean() < np.abs(straight - values)[wide].mean() / 4


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 10_000))
def test_limits_hold_for_operators_that_were_not_measured(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = [(a, b) for a in WIDTHS for b in WIDTHS]
    truth = np.log([staircase(*place) for place in places])
    ends = [0, len(WIDTHS) - 1, len(places) - len(WIDTHS), len(places) - 1]
    chosen = np.unique(np.r_[ends, rng.choice(len(places), 20, replace=False)])
    seen = truth[chosen] + 0.005 * rng.normal(size=len(chosen))
    model = Interpolator([places[i] for i in chosen], seen, noise=noise(len(chosen)))
    middle, deviation = model.predict(places)
    errors = np.abs(middle - truth)
    assert errors.mean() < 0.09
    assert (errors <= 3 * np.hypot(deviation, 0.005)).mean() > 0.8


def test_certainty_falls_with_the_distance_to_what_was_measured() -> None:
    model = Interpolator([(8,), (64,), (72,), (256,)], np.log([1.0, 3.0, 3.3, 9.0]), noise=noise(4))
    _, deviation = model.predict([(64,), (88,), (136,)])
    assert deviation[0] < deviation[1] < deviation[2]


def test_of_a_family_of_thousands_enough_are_looked_at() -> None:
    """The cost grows with the cube of the members; what all of them cover stays covered."""
    places = [(a, b) for a in range(8, 520, 8) for b in range(8, 520, 8)]
    logs = [math.log(staircase(*place)) for place in places]
    model = Interpolator(places, logs, noise=noise(len(places)))
    assert model.covers(places).all()
    assert not model.covers([(8, 520), (520, 8), (8, 7)]).any()
    middle, _ = model.predict(places)
    assert float(np.abs(middle - logs).mean()) < 0.03
    # The ends are among them, so that nothing between is an extrapolation.
    _, at_ends = model.predict([(8, 8), (8, 512), (512, 8)])
    assert at_ends.max() < 0.005
    again = Interpolator(places, logs, noise=noise(len(places)), scales=model.scales)
    assert (again.predict(places)[0] == middle).all()


def test_the_fit_is_the_same_with_the_scales_it_found() -> None:
    counts, logs = [(8,), (40,), (96,), (256,)], np.log([1.0, 2.5, 4.0, 9.0])
    first = Interpolator(counts, logs, noise=noise(4))
    again = Interpolator(counts, logs, noise=noise(4), scales=first.scales)
    np.testing.assert_array_equal(first.predict([(24,)]), again.predict([(24,)]))


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_scales_are_positive_numbers(wrong: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Scales(wrong, (1.0,), (1.0,), 1.0)


# Prices


def times(*layers: Layer) -> OperatorTimes:
    return OperatorTimes((layer, Alone(staircase(*channels(layer)), 0.005)) for layer in layers)


def test_what_was_measured_is_priced_as_measured() -> None:
    known = times(conv(8, 8), conv(64, 64))
    assert known.alone(conv(8, 8)) == Alone(staircase(8, 8), 0.005)
    assert known.is_measured(conv(8, 8))
    assert not known.is_measured(conv(8, 16))


def test_what_lies_between_is_flagged_and_less_certain() -> None:
    known = times(conv(8, 8), conv(64, 64), conv(8, 64), conv(64, 8), conv(32, 32))
    found = known.alone(conv(40, 48))
    assert found.interpolated
    assert found.deviation > 0.005
    assert found.seconds == pytest.approx(staircase(40, 48), rel=0.15)
    assert not known.is_measured(conv(40, 48))  # asking does not make it so


@pytest.mark.parametrize("layer", [conv(72, 8), conv(8, 72), conv(4, 8)])
def test_nothing_is_extrapolated(layer: Layer) -> None:
    with pytest.raises(MissingEntry, match="outside of what was measured"):
        times(conv(8, 8), conv(64, 64)).alone(layer)


def test_another_family_has_no_price() -> None:
    with pytest.raises(MissingEntry, match="nothing like it"):
        times(conv(8, 8)).alone(conv(8, 8, size=5))


def test_scales_survive_their_description() -> None:
    known = times(conv(8, 8), conv(64, 64))
    assert read_scales(describe_scales(known.scales())) == known.scales()


# How scales are fitted


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=2, max_size=8, unique=True
    ),
    st.lists(st.floats(-2.0, 2.0), min_size=6, max_size=6),
    st.integers(0, 2**32),
)
def test_the_slope_of_the_loss_is_that_of_its_values(
    counts: list[tuple[int, int]], deviations: list[float], seed: int
) -> None:
    places, rng = Places(counts), np.random.default_rng(seed)
    logs, priors = rng.normal(size=len(counts)), np.tile([-1.0, 0.5], (6, 1))
    values = priors[:, 0] + priors[:, 1] * np.array(deviations)
    pairs, spread = Pairs(places, places), noise(len(counts), 0.1)
    _, slope = scales_loss(pairs, logs, spread, priors, values)
    for axis, step in enumerate(1e-5 * np.eye(6)):
        up, down = (scales_loss(pairs, logs, spread, priors, values + s)[0] for s in (step, -step))
        assert slope[axis] == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-4)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6, unique=True))
def test_the_covariance_of_places_with_themselves_is_symmetric_and_positive(
    counts: list[int],
) -> None:
    places = Places([[count] for count in counts])
    scales = Scales(0.1, (2.0,), (0.05,), 1.0)
    matrix = covariance(places, places, scales)
    assert np.allclose(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > -1e-9
    assert np.allclose(matrix, Pairs(places, places).slopes(scales)[0])
    # Of one place: the trend, the smooth part and its step.
    octaves = math.log2(counts[0]) - 5.0
    assert matrix[0, 0] == pytest.approx(16.0 + octaves**2 + 0.1**2 + 0.05**2)
