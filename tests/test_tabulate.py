"""A table's plan holds every operator that a network of the space can need."""

from typing import Any

import numpy as np
import pytest

from boardfit.profiler.description import network_key
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table, signatures

VARIANTS: list[dict[str, Any]] = [
    {},
    {"bypass": "pad"},
    {"residual": "drop"},
    {"stride_bypass": "none"},
    {"bypass_cap": 16},
    {"width_factor": 0.5, "granule": 4},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_random_network_can_be_priced(options: dict[str, Any]) -> None:
    space = open_space("mobilenetv3-32", **options)
    found = signatures(space, np.random.default_rng(0))
    rng = np.random.default_rng(1)  # other networks than those that the plan looked at
    for _ in range(300):
        for layer in space.network(space.random(rng)).layers:
            assert layer.signature in found


def test_the_ends_of_the_space_can_be_priced() -> None:
    space = open_space("mobilenetv3-32")
    found = signatures(space, np.random.default_rng(0), [space.full, space.smallest])
    for scale in np.linspace(0, 1, 50):
        for layer in space.network(space.narrowed(float(scale))).layers:
            assert layer.signature in found
    assert all(layer.signature in found for layer in space.network(space.smallest).layers)


def test_calibration_and_validation_share_no_network() -> None:
    plan = plan_table(open_space("mobilenetv3-32"), calibration=10, validation=20, seed=3)
    keys = [network_key(network) for network in (*plan.calibration, *plan.validation)]
    assert len(plan.calibration) == 10
    assert len(set(keys)) == len(keys) == 30


def test_the_same_seed_gives_the_same_plan() -> None:
    space = open_space("mobilenetv3-32", width_factor=0.25)
    one, two = plan_table(space, seed=5), plan_table(space, seed=5)
    assert one == two
    assert plan_table(space, seed=6).validation != one.validation
