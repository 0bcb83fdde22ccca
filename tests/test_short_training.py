"""NetAdapt V1's scores: weights are cut down, trained for a while, and carried along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from boardfit.search.coordinate_descent import coordinate_descent
from boardfit.search.data import Dataset, open_dataset
from boardfit.search.descent_settings import SINGLE_LAYER, scaled
from boardfit.search.evaluation import Evaluator
from boardfit.search.examples import first
from boardfit.search.history import History
from boardfit.search.metrics import macs
from boardfit.search.mobilenetv3 import Plan, Row, mobilenetv3
from boardfit.search.network_module import NetworkModule
from boardfit.search.recipe import Recipe
from boardfit.search.scoring import evaluate_on_batch_statistics
from boardfit.search.short_training import ShortTraining, short_recipe
from boardfit.search.supernet import cut_out
from boardfit.search.training import train_network
from boardfit.search.trial import Trial, best_trial

PLAN = Plan(8, (Row(3, 16, 16, False, "relu", 2), Row(3, 32, 16, False, "relu", 1)), 16, None)
SPACE = mobilenetv3("v1", PLAN, classes=12, input_size=16, width_factor=1.0, kernels=(3,))
MACS = macs(SPACE)
SETTINGS = scaled(SINGLE_LAYER, 15, 0.5, len(SPACE.coordinates))
TARGET = 0.5 * float(MACS([SPACE.full])[0])


@pytest.fixture(scope="module")
def data() -> Dataset:
    return open_dataset("shapes:100", input_shape=SPACE.input_shape, seed=0)


def begin(data: Dataset, steps: int = 2) -> ShortTraining:
    full = NetworkModule(SPACE.network(SPACE.full), torch.Generator().manual_seed(0))
    holdout = first(data.holdout, 40)
    recipe = short_recipe(Recipe(batch_size=16), steps)
    return ShortTraining(SPACE, full, SPACE.full, data, holdout, recipe, seed=0)


def descend(training: ShortTraining, history: History | None = None) -> list[Trial]:
    evaluator = Evaluator(SPACE, training.score, MACS, history)
    evaluate = training.following(evaluator)
    rng = np.random.default_rng(0)
    return list(coordinate_descent(SPACE, evaluate, MACS, TARGET, rng, SETTINGS))


def test_the_weights_of_the_last_iterate_are_carried_along(data: Dataset) -> None:
    training = begin(data)
    trials = descend(training)
    last = [trial for trial in trials if trial.origin == "iterate"][-1]
    assert last.metric <= TARGET
    assert training.architecture == last.architecture
    # They are those that the last score was made with, so they give it again.
    found = evaluate_on_batch_statistics(training.weights, training.holdout, data.task)
    assert found.loss == pytest.approx(last.loss)
    assert training.passes == 2 * (len({t.architecture for t in trials}) - 1)


def test_each_proposal_begins_with_the_weights_of_the_network_before(data: Dataset) -> None:
    training = begin(data)
    narrow = SPACE.narrowed(0.5)
    child = cut_out(training.weights, SPACE.network(narrow))
    name = child.names[1]
    before = child.layer(name).weight.detach().clone()
    wide = training.weights.layer(name).weight
    assert torch.equal(before, wide[: before.shape[0], : before.shape[1]])
    training.score(narrow)
    assert torch.equal(training.weights.layer(name).weight, wide)  # trained a copy
    training.following(Evaluator(SPACE, training.score, MACS))([narrow], "iterate")
    assert training.architecture == narrow
    assert not torch.equal(training.weights.layer(name).weight, before)


def test_each_round_trains_the_same_way_on_other_batches(data: Dataset) -> None:
    training = begin(data)
    first_step, second = SPACE.narrowed(0.8), SPACE.narrowed(0.4)
    assert first_step != second
    follow = training.following(Evaluator(SPACE, training.score, MACS))
    follow([second])  # with the weights of the full network, which shall not be used later
    follow([first_step], "iterate")
    expected = cut_out(training.weights, SPACE.network(second))
    train_network(expected, data, training.recipe, seed=1)
    same_batches = cut_out(training.weights, SPACE.network(second))
    train_network(same_batches, data, training.recipe, seed=0)
    follow([second], "iterate")
    found = training.weights.layer(expected.names[0]).weight
    assert torch.equal(found, expected.layer(expected.names[0]).weight)
    assert not torch.equal(found, same_batches.layer(expected.names[0]).weight)


def test_the_full_network_is_scored_as_it_is(data: Dataset) -> None:
    training = begin(data)
    expected = evaluate_on_batch_statistics(training.weights, training.holdout, data.task)
    assert training.score(SPACE.full) == (expected.accuracy, expected.loss)
    assert training.passes == 0


def test_a_descent_that_was_killed_comes_to_the_same_weights(data: Dataset, tmp_path: Path) -> None:
    with History(tmp_path / "whole", {}) as history:
        whole = begin(data)
        expected = descend(whole, history)
    lines = (tmp_path / "whole" / "history.jsonl").read_bytes().splitlines(keepends=True)
    for number, keep in enumerate((2, len(lines) * 2 // 3, len(lines))):
        path = tmp_path / str(number)
        path.mkdir()
        (path / "history.jsonl").write_bytes(b"".join(lines[:keep]))
        with History(path, {}) as history:
            resumed = begin(data)
            assert descend(resumed, history) == expected
        theirs = whole.weights.state_dict()
        assert all(torch.equal(v, theirs[k]) for k, v in resumed.weights.state_dict().items())
        if keep == len(lines):
            assert resumed.passes < whole.passes
    assert best_trial(expected, TARGET).metric <= TARGET


def test_the_short_recipe_is_gentler() -> None:
    recipe = Recipe()
    assert short_recipe(recipe, 7) == replace(
        recipe, steps=7, learning_rate=recipe.learning_rate / 10
    )
