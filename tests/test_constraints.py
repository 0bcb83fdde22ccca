"""Several limits at once, and the table's interval as a margin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from boardfit.devices.errors import ConstraintNotMet, InputError
from boardfit.search import metrics
from boardfit.search.constraints import Constraint, limit_of, split_limit, tightest
from boardfit.search.coordinate_descent import coordinate_descent
from boardfit.search.descent_settings import DescentSettings
from boardfit.search.evaluation import Evaluator
from boardfit.search.trial import best_trial

from .toy_space import Objective, Toll, toy_space

SPACE = toy_space()
LATENCY = metrics.latency(SPACE, Toll())
MACS = metrics.macs(SPACE)
FULL = [SPACE.full]


@given(
    seed=st.integers(0, 1000),
    shares=st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3),
)
@hypothesis_settings(deadline=None, max_examples=50)
def test_the_target_is_met_where_every_limit_is(seed: int, shares: list[float]) -> None:
    kinds: list[metrics.Metric] = [LATENCY, MACS, metrics.peak_memory(SPACE)]
    limits = [share * float(kind(FULL)[0]) for share, kind in zip(shares, kinds, strict=True)]
    constraints = [
        Constraint(str(i), kind, limit)
        for i, (kind, limit) in enumerate(zip(kinds, limits, strict=True))
    ]
    rng = np.random.default_rng(seed)
    some = [SPACE.random(rng) for _ in range(20)]
    met = tightest(constraints)(some) <= limits[0]
    each = [kind(some) <= limit * (1 + 1e-12) for kind, limit in zip(kinds, limits, strict=True)]
    assert (met <= np.all(each, axis=0)).all()
    strictly = [
        kind(some) <= limit * (1 - 1e-12) for kind, limit in zip(kinds, limits, strict=True)
    ]
    assert (met >= np.all(strictly, axis=0)).all()


def test_where_the_first_limit_is_the_tightest_the_metric_is_its_own() -> None:
    loose = Constraint("macs", MACS, 10 * float(MACS(FULL)[0]))
    metric = tightest([Constraint("latency", LATENCY, float(LATENCY(FULL)[0])), loose])
    assert metric(FULL)[0] == LATENCY(FULL)[0]
    assert tightest([loose]) is MACS


def test_a_descent_keeps_all_limits() -> None:
    target = 0.6 * float(LATENCY(FULL)[0])
    second = limit_of("macs=30%", SPACE)
    metric = tightest([Constraint("latency", LATENCY, target), second])
    evaluate = Evaluator(SPACE, Objective(SPACE, 0), metric)
    rng = np.random.default_rng(0)
    settings = DescentSettings(evaluations=40)
    found = list(coordinate_descent(SPACE, evaluate, metric, target, rng, settings))
    best = best_trial(found, target).architecture
    assert LATENCY([best])[0] <= target
    assert 0.8 * second.limit <= MACS([best])[0] <= second.limit
    alone = limit_of("macs=1", SPACE)
    with pytest.raises(ConstraintNotMet):
        list(
            coordinate_descent(
                SPACE, evaluate, tightest([Constraint("latency", LATENCY, target), alone]),
                target, rng, settings,
            )
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("macs=20M", ("macs", 20.0, "M")),
        (" parameters = .5G ", ("parameters", 0.5, "G")),
        ("memory=200kB", ("memory", 200.0, "k")),
        ("macs=40%", ("macs", 40.0, "%")),
        ("memory=1000", ("memory", 1000.0, "")),
    ],
)
def test_limits_are_read(text: str, expected: tuple[str, float, str]) -> None:
    assert split_limit(text) == expected


def test_limits_have_units() -> None:
    assert limit_of("macs=20M", SPACE).limit == 20e6
    assert limit_of("macs=40%", SPACE).limit == pytest.approx(0.4 * MACS(FULL)[0])
    assert limit_of("parameters=3k", SPACE).limit == 3000
    assert limit_of("memory=3k", SPACE).metric(FULL) == metrics.peak_memory(SPACE)(FULL)


@pytest.mark.parametrize(
    "text", ["", "macs", "macs=", "macs=-3", "macs=0", "power=3", "macs=3ms", "latency=3", "=3M"]
)
def test_other_limits_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a limit"):
        limit_of(text, SPACE)


def test_impossible_constraints_are_refused() -> None:
    for limit in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="above 0"):
            Constraint("macs", MACS, limit)
    with pytest.raises(ValueError, match="no constraint"):
        tightest([])


def test_the_high_end_of_the_interval_lies_above_the_prediction() -> None:
    rng = np.random.default_rng(0)
    some = [SPACE.random(rng) for _ in range(50)]
    toll = Toll()
    ratio = metrics.latency(SPACE, toll, high=True)(some) / LATENCY(some)
    assert (ratio > 1).all()
    expected = [
        1 + float(toll.margin(LATENCY([a]), np.array([toll.variance(SPACE.network(a).layers)]))[0])
        for a in some
    ]
    np.testing.assert_allclose(ratio, expected)
