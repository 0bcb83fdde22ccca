"""Recipes: what a text makes of them, the learning rate, and optimisers against the textbook."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.errors import InputError
from boardfit.search.augmentation import Augmentation
from boardfit.search.recipe import DEFAULT, RECIPES, Recipe, make_optimizer, parse_recipe
from boardfit.search.weight_average import WeightAverage


@given(steps=st.integers(1, 500), warmup=st.floats(0, 1))
def test_the_learning_rate_rises_then_falls_to_nothing(steps: int, warmup: float) -> None:
    recipe = Recipe(steps=steps, warmup=warmup)
    rates = [recipe.rate(step) for step in range(steps)]
    peak = int(np.argmax(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < max(rates) <= recipe.learning_rate * (1 + 1e-12)


def test_fields_replace_those_of_the_base_or_of_a_named_recipe() -> None:
    base = replace(DEFAULT, steps=7)
    assert parse_recipe("steps=9, learning_rate=0.5", base) == replace(
        base, steps=9, learning_rate=0.5
    )
    assert parse_recipe("sgd", base) == RECIPES["sgd"]
    named = parse_recipe("mobilenetv3,batch_size=64,mixup=0.2,precision=bfloat16", base)
    expected = RECIPES["mobilenetv3"]
    assert named == replace(
        expected,
        batch_size=64,
        precision="bfloat16",
        augmentation=replace(expected.augmentation, mixup=0.2),
    )
    assert parse_recipe("flip=true").augmentation == Augmentation(flip=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fast", "'fast' is no recipe; write NAME,FIELD=VALUE,... with a name first"),
        ("steps=3,sgd", "'sgd' is no recipe"),
        ("", "'' is no recipe"),
        ("rate=3", "no field 'rate'; known: steps, batch_size"),
        ("augmentation=3", "no field 'augmentation'"),
        ("steps=1.5", "steps=1.5: that is not a whole number"),
        ("steps=", "that is not a whole number"),
        ("learning_rate=fast", "that is not a number"),
        ("flip=yes", "write true or false"),
        ("optimizer=adam", "optimizer is 'adam'; known: adamw, sgd, rmsprop"),
        ("precision=fp16", "precision is 'fp16'; known: float32, bfloat16"),
        ("steps=0", "steps is 0"),
        ("batch_size=0", "batch_size is 0"),
        ("learning_rate=0", "learning_rate is 0.0"),
        ("learning_rate=nan", "learning_rate is nan"),
        ("weight_decay=-1", "weight_decay is -1.0"),
        ("clip_norm=-1", "clip_norm is -1.0"),
        ("warmup=1.5", "warmup is 1.5"),
        ("distillation=2", "distillation is 2.0"),
        ("momentum=1", "momentum is 1.0"),
        ("label_smoothing=1", "label_smoothing is 1.0"),
        ("average=1", "average is 1.0"),
        ("batch_size=10,accumulation=3", "a batch of 10 has no 3 equal parts"),
        ("crop=0", "crop is 0.0"),
    ],
)
def test_other_texts_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_recipe(text)


def test_every_named_recipe_can_be_asked_for() -> None:
    for name, recipe in RECIPES.items():
        assert parse_recipe(name) == recipe


class Pair(torch.nn.Module):
    """A kernel and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.tensor([[2.0]]))
        self.vector = torch.nn.Parameter(torch.tensor([3.0]))


@pytest.mark.parametrize("name", ["adamw", "sgd", "rmsprop"])
def test_only_kernels_decay(name: str) -> None:
    module = Pair()
    recipe = parse_recipe(f"optimizer={name},learning_rate=0.1,weight_decay=0.5")
    optimizer = make_optimizer(module, recipe)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert float(module.kernel.detach()) < 2.0
    assert float(module.vector.detach()) == 3.0


def test_rmsprop_is_tensorflows() -> None:
    """By the formula, step by step: mean squares from 1, epsilon within the root."""
    module = Pair()
    recipe = Recipe(optimizer="rmsprop", learning_rate=0.1, momentum=0.8, weight_decay=0.01)
    optimizer = make_optimizer(module, recipe)
    weight, square, velocity = 2.0, 1.0, 0.0
    for rate, gradient in ((0.1, 0.5), (0.2, -3.0), (0.05, 1e-3)):
        optimizer.param_groups[0]["lr"] = rate
        module.kernel.grad = torch.tensor([[gradient]])
        decayed = gradient + 0.01 * weight
        square = 0.9 * square + 0.1 * decayed**2
        velocity = 0.8 * velocity + rate * decayed / (square + 1e-3) ** 0.5
        weight -= velocity
        optimizer.step()
        assert float(module.kernel.detach()) == pytest.approx(weight, rel=1e-5)
    assert float(module.vector.detach()) == 3.0  # it never had a gradient


def test_rmsprop_goes_on_from_its_state() -> None:
    one = Pair()
    recipe = Recipe(optimizer="rmsprop", learning_rate=0.1)
    first = make_optimizer(one, recipe)

    def step(module: Pair, optimizer: torch.optim.Optimizer, gradient: float) -> None:
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()

    step(one, first, 0.3)
    other = copy.deepcopy(one)
    second = make_optimizer(other, recipe)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for module, optimizer in ((one, first), (other, second)):
        step(module, optimizer, -0.7)
    assert torch.equal(one.kernel, other.kernel)


def test_averaged_weights_follow_slowly_and_forget_the_beginning() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    values = [1.0, 5.0, 2.0, 4.0]
    with torch.no_grad():
        module.weight.fill_(100.0)
        average, expected = WeightAverage(module, 0.25), 100.0
        for step, value in enumerate(values):
            module.weight.fill_(value)
            average.update(step)
            decay = min(0.25, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * value
    average.apply()
    assert float(module.weight.detach()) == pytest.approx(expected, rel=1e-5)


def test_batch_statistics_are_averaged_and_counters_copied() -> None:
    norm = torch.nn.BatchNorm2d(2)
    average = WeightAverage(norm, 0.5)
    norm(torch.full((2, 2, 1, 1), 8.0))
    moved = norm.running_mean.clone() if norm.running_mean is not None else torch.empty(0)
    average.update(100)
    average.apply()
    torch.testing.assert_close(norm.running_mean, moved / 2)
    assert int(norm.num_batches_tracked or 0) == 1
