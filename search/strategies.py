"""The parts of a search by their names: draws in training, scores of sub-networks, optimisers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .coordinate_descent import coordinate_descent
from .descent_settings import DEFAULT, SINGLE_LAYER, scaled
from .evolution import EvolutionSettings, evolution
from .examples import Examples, Images, first, normalise
from .metrics import Metric
from .random_search import RandomSettings, random_search
from .scoring import evaluate, evaluate_on_batch_statistics
from .settings import OptimizerName, TrainingRule
from .space import Architecture, SearchSpace
from .supernet import SuperNetwork, reestimate
from .task import Task
from .trial import Evaluate, Trial
from .widths import Law, OrderedDropout, Sampler, Sandwich, SinglePath

REESTIMATION_BATCHES = 4
GUIDE = 12  # candidates for each that is scored; the default descent has the same guide


def make_sampler(
    space: SearchSpace,
    rule: TrainingRule,
    rng: np.random.Generator,
    *,
    law: Law | None = None,
    full_fraction: float = 0.0,
    groups: int | None = None,
) -> Sampler:
    """The draws of a super-network's training, by the rule's name; without a law the rule's own."""
    if rule == "ordered-dropout":
        return OrderedDropout(space, rng, law or OrderedDropout.law, full_fraction, groups)
    if rule == "single-path":
        return SinglePath(space, rng, law or SinglePath.law)
    return Sandwich(space, rng, law or Sandwich.law)


def optimize(
    space: SearchSpace,
    evaluate: Evaluate,
    metric: Metric,
    targets: Sequence[float],
    rng: np.random.Generator,
    name: OptimizerName,
    evaluations: int,
    *,
    guide: bool = True,
) -> Iterator[Trial]:
    """Run an optimiser by its name, with so many evaluations at most.

    A descent meets several targets on its way; the others are run once for each, with an equal
    part of the evaluations.
    """
    oversample = GUIDE if guide else 1
    if name in ("coordinate-descent", "single-layer"):
        preset = DEFAULT if name == "coordinate-descent" else SINGLE_LAYER
        if name == "single-layer":
            share = min(targets) / float(metric([space.full])[0])
            coordinates = len(space.coordinates)
            preset = scaled(preset, evaluations, min(share, 1.0), coordinates)
        descent = replace(preset, evaluations=evaluations, oversample=oversample)
        yield from coordinate_descent(space, evaluate, metric, targets, rng, descent)
        return
    for number, target in enumerate(targets):
        part = evaluations * (number + 1) // len(targets) - evaluations * number // len(targets)
        if name == "evolution":
            grown = EvolutionSettings(evaluations=part, oversample=oversample)
            yield from evolution(space, evaluate, metric, target, rng, grown)
        elif name == "nsga":
            from .nondominated_sorting import NsgaSettings, nsga  # Optuna takes a second

            sorted_out = NsgaSettings(evaluations=part, oversample=oversample)
            yield from nsga(space, evaluate, metric, target, rng, sorted_out)
        else:
            drawn = RandomSettings(evaluations=part, oversample=oversample)
            yield from random_search(space, evaluate, metric, target, rng, drawn)


def reestimation_batches(supernet: SuperNetwork, training: Examples) -> list[Tensor]:
    """The first training images, normalised, by which batch statistics are re-estimated."""
    images = first(training, 250 * REESTIMATION_BATCHES).images
    device = next(supernet.parameters()).device
    return [normalise(group.to(device)) for group in torch.split(images, 250)]


def holdout_score(
    supernet: SuperNetwork, holdout: Images, task: Task, training: Examples | None = None
) -> Callable[[Architecture], tuple[float, float]]:
    """Accuracy and loss of a sub-network cut out of the super-network, on the search holdout.

    Batch normalisation uses the holdout's own statistics, or those re-estimated on the first
    `REESTIMATION_BATCHES` batches of `training` images.
    """
    batches = [] if training is None else reestimation_batches(supernet, training)

    def score(architecture: Architecture) -> tuple[float, float]:
        module = supernet.slice(architecture)
        if batches:
            reestimate(module, batches)
            result = evaluate(module, holdout, task)
        else:
            result = evaluate_on_batch_statistics(module, holdout, task)
        return result.accuracy, result.loss

    return score
