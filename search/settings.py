"""What is searched for, in the user's words: target, rules, recipes, and how much work."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..devices.errors import InputError
from .constraints import split_limit
from .recipe import Recipe, parse_recipe
from .widths import Law, check_dropout, check_law

TrainingRule = Literal["ordered-dropout", "single-path", "sandwich"]
BatchStatistics = Literal["holdout", "re-estimated"]
OptimizerName = Literal["coordinate-descent", "single-layer", "evolution", "nsga", "random"]

SUPERNET_RECIPE = Recipe(learning_rate=0.015)
FINAL_RECIPE = Recipe()


@dataclass(frozen=True)
class SearchSettings:
    """What is searched for, and how much work goes into it.

    `target` is a latency (`"3ms"`, `"450us"`, `"0.003s"`) or a share of the full network's
    (`"50%"`); one descent meets `more_targets` as well. `limits` are met besides (`"macs=20M"`,
    see `constraints`), and with `margin` it is the upper end of the predicted latency's interval
    that meets the target.

    `evaluations` bounds the networks that are scored on `holdout_images`. With `race_images` a
    batch is scored on so many of them first, and on all of them only the best (see
    `evaluation.Race`). `guide` screens candidates by what was scored so far. With `int8` the
    trained networks are also written and measured as static int8 files; an int8 table asks for
    that by itself. Up to `measure_candidates` networks for each target are measured on the board
    during the search, before one is chosen, and further networks are scored after each session
    (see `on_board`).

    `law` is that of the widths in training (None: the training rule's own, see `widths`);
    `full_fraction` and `groups` belong to ordered dropout.
    """

    target: str = "50%"
    more_targets: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    margin: bool = False
    seed: int = 0
    training: TrainingRule = "ordered-dropout"
    law: Law | None = None
    full_fraction: float = 0.0
    groups: int | None = None
    optimizer: OptimizerName = "coordinate-descent"
    guide: bool = True
    evaluations: int = 120
    holdout_images: int = 1000
    race_images: int | None = None
    batch_statistics: BatchStatistics = "holdout"
    supernet: Recipe = SUPERNET_RECIPE
    final: Recipe = FINAL_RECIPE
    int8: bool = False
    measure_candidates: int = 0

    def __post_init__(self) -> None:
        for target in self.targets:
            parse_target(target)
        for limit in self.limits:
            split_limit(limit)
        if self.limits and self.more_targets:
            raise InputError(
                "one descent meets several latencies or several limits, not both; search for one "
                "latency at a time"
            )
        if self.measure_candidates < 0 or (self.measure_candidates and self.limits):
            raise InputError(
                "a count of candidates is at least 0; they are measured for a latency alone, so "
                "give either candidates or limits"
            )
        if self.training not in get_args(TrainingRule):
            raise InputError(f"no training is called {self.training!r}; known: "
                             f"{', '.join(get_args(TrainingRule))}")  # fmt: skip
        if self.law is not None:
            check_law(self.law)
        if self.training == "ordered-dropout":
            check_dropout(self.full_fraction, self.groups)
        elif self.full_fraction or self.groups is not None:
            raise InputError(f"full_fraction and groups belong to ordered dropout; {self.training} "
                             "has neither")  # fmt: skip
        if self.optimizer not in get_args(OptimizerName):
            raise InputError(f"no optimizer is called {self.optimizer!r}; known: "
                             f"{', '.join(get_args(OptimizerName))}")  # fmt: skip
        if self.batch_statistics not in get_args(BatchStatistics):
            raise InputError(f"no batch statistics are called {self.batch_statistics!r}; known: "
                             f"{', '.join(get_args(BatchStatistics))}")  # fmt: skip
        if self.evaluations < 2 or self.holdout_images < 2 or self.seed < 0:
            raise InputError("evaluations and holdout images are at least 2, the seed at least 0")
        if self.evaluations < 2 * len(self.targets):
            raise InputError(
                f"{self.evaluations} evaluations are too few for {len(self.targets)} latencies"
            )
        if self.race_images is not None and not 1 < self.race_images < self.holdout_images:
            raise InputError(
                f"a race on {self.race_images} of {self.holdout_images} images is none; give at "
                "least 2 and fewer than the holdout has"
            )

    @property
    def targets(self) -> tuple[str, ...]:
        """All latencies that are searched for, each once."""
        return tuple(dict.fromkeys((self.target, *self.more_targets)))


def recipes(
    supernet_steps: int | None = None,
    final_steps: int | None = None,
    *,
    supernet: str = "",
    final: str = "",
) -> tuple[Recipe, Recipe]:
    """The recipes for the super-network and for the finalists, changed by texts (see `recipe`) and
    with other numbers of steps. Raises `InputError`."""
    chosen = [
        (supernet, SUPERNET_RECIPE, supernet_steps),
        (final, FINAL_RECIPE, final_steps),
    ]
    found = [
        replace(recipe, steps=steps or recipe.steps)
        for text, base, steps in chosen
        for recipe in [parse_recipe(text, base) if text else base]
    ]
    return found[0], found[1]


def parse_target(text: str) -> tuple[float, bool]:
    """A latency in seconds, or a share of the full network's: value, and whether it is a share.

    Raises `InputError` where the text is neither.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|ms|us|%)\s*", text)
    scale = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "%": 1e-2}
    if match is None or float(match[1]) <= 0:
        raise InputError(
            f"{text!r} is not a latency: write for example 3ms, 450us, or 50% of the full network's"
        )
    return float(match[1]) * scale[match[2]], match[2] == "%"
