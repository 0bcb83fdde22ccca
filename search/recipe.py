"""How to train: recipes of the field by their names, and fields of them that a user replaces.

    parse_recipe("mobilenetv3,steps=30000,mixup=0.2", base)

A text is a list with commas: the name of a recipe, if any, and then `FIELD=VALUE` for fields of
`Recipe` and of its `Augmentation`. Without a name the fields are those of `base`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

import torch
from torch import nn

from ..devices.errors import InputError
from .augmentation import Augmentation
from .rmsprop import RMSprop

WeightOptimizer = Literal["adamw", "sgd", "rmsprop"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    `optimizer`: `adamw` (Loshchilov and Hutter 2019), `sgd` (with Nesterov's `momentum`), or
    `rmsprop` as TensorFlow has it (see `RMSprop`, with `momentum`). The learning rate rises for
    `warmup` (a fraction of the steps), then falls to zero along a cosine. `weight_decay` acts on
    kernels only. Gradients are clipped to the norm `clip_norm` (0: never).

    A step's batch may be run in `accumulation` parts, whose gradients are added up and which batch
    normalisation sees apart: a larger batch than fits. With `precision` bfloat16 convolutions and
    matrices are multiplied in it (autocast); weights and sums stay float32.

    `label_smoothing` is spread over all classes; `average` is the decay of an exponential moving
    average of weights and batch statistics, which is then the result (0: none). `augmentation`
    is what happens to images beyond what the data set itself asks for.

    For the final training only: `distillation` is the share of the loss that is the distance to the
    super-network's full network; with `inherit` weights begin as the super-network's, cut to size,
    and not at random.

    A super-network trains its full network alone for `full_first` (a fraction of the steps):
    until the largest has learnt something, random sub-networks only disturb one another.

    Raises `InputError` for values that make no sense.
    """

    steps: int = 1500
    batch_size: int = 64
    optimizer: WeightOptimizer = "adamw"
    learning_rate: float = 0.04
    momentum: float = 0.9
    weight_decay: float = 1e-2
    warmup: float = 0.1
    full_first: float = 0.25
    clip_norm: float = 5.0
    accumulation: int = 1
    precision: Precision = "float32"
    label_smoothing: float = 0.0
    average: float = 0.0
    distillation: float = 0.0
    inherit: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name, known in (("optimizer", WeightOptimizer), ("precision", Precision)):
            if getattr(self, name) not in get_args(known):
                raise InputError(
                    f"{name} is {getattr(self, name)!r}; known: {', '.join(get_args(known))}"
                )
        for name in ("steps", "batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it has to be 1 or more")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate is {self.learning_rate}; it has to be above 0")
        for name in ("weight_decay", "clip_norm"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}; it has to be 0 or more")
        for name in ("warmup", "full_first", "distillation"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; it has to lie in [0, 1]")
        for name in ("momentum", "label_smoothing", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it has to lie in [0, 1)")
        if self.batch_size % self.accumulation:
            raise InputError(
                f"a batch of {self.batch_size} has no {self.accumulation} equal parts; choose "
                "another accumulation or batch_size"
            )

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        after = max(1, self.steps - warm)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / after))


DEFAULT = Recipe()

# What MobileNetV3 (Howard et al. 2019) and its kin are trained with, as far as we recall it:
# RMSProp with momentum 0.9, the rate of 0.016 for 256 images that MnasNet's and EfficientNet's
# recipes have in common, weight decay 1e-5, label smoothing 0.1, averaged weights.
MOBILENETV3 = Recipe(
    batch_size=256,
    optimizer="rmsprop",
    learning_rate=0.016,
    weight_decay=1e-5,
    warmup=0.02,
    label_smoothing=0.1,
    average=0.9999,
    augmentation=Augmentation(crop=0.08, colour=0.4),
)

# The rate of 0.1 for 256 images is Goyal et al.'s (2017).
SGD = Recipe(
    batch_size=256,
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=4e-5,
    warmup=0.05,
    label_smoothing=0.1,
    augmentation=Augmentation(crop=0.08, colour=0.4),
)

# AdamW with the mixture of augmentations of today's ImageNet recipes.
AUGMENTED = replace(
    DEFAULT,
    label_smoothing=0.1,
    average=0.999,
    augmentation=Augmentation(colour=0.2, cutout=0.25, mixup=0.2, cutmix=1.0),
)

RECIPES: dict[str, Recipe] = {
    "default": DEFAULT,
    "mobilenetv3": MOBILENETV3,
    "sgd": SGD,
    "augmented": AUGMENTED,
}


def parse_recipe(text: str, base: Recipe = DEFAULT) -> Recipe:
    """The recipe of a text (see the module). Raises `InputError` where it says no recipe."""
    recipe = base
    names = [f.name for f in fields(Recipe) if f.name != "augmentation"]
    of_images = [f.name for f in fields(Augmentation)]
    own: dict[str, Any] = {}
    images: dict[str, Any] = {}
    for number, word in enumerate(text.split(",")):
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals:
            if number or name not in RECIPES:
                raise InputError(
                    f"{word.strip()!r} is no recipe; write NAME,FIELD=VALUE,... with a name first, "
                    f"if any: {', '.join(RECIPES)}"
                )
            recipe = RECIPES[name]
        elif name in names:
            own[name] = _value(getattr(DEFAULT, name), name, value)
        elif name in of_images:
            images[name] = _value(getattr(Augmentation(), name), name, value)
        else:
            raise InputError(
                f"recipes have no field {name!r}; known: {', '.join([*names, *of_images])}"
            )
    return replace(recipe, **own, augmentation=replace(recipe.augmentation, **images))


def _value(like: object, name: str, text: str) -> object:
    """The text as a value of the field's own type."""
    if isinstance(like, bool):
        if text in {"true", "false"}:
            return text == "true"
        raise InputError(f"{name}={text}: write true or false")
    if isinstance(like, str):
        return text
    try:
        return int(text) if isinstance(like, int) else float(text)
    except ValueError:
        kind = "a whole number" if isinstance(like, int) else "a number"
        raise InputError(f"{name}={text}: that is not {kind}") from None


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser for a module's weights; only kernels decay."""
    kernels = [p for p in module.parameters() if p.dim() > 1]
    others = [p for p in module.parameters() if p.dim() <= 1]
    groups = [
        {"params": kernels, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0
        )
    return RMSprop(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
