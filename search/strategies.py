"""The parts of a search by their names: draws in training, scores of sub-networks, optimisers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .coordinate_descent import DEFAULT, SINGLE_LAYER, coordinate_descent
from .evaluation import Evaluate, Trial
from .evolution import EvolutionSettings, evolution
from .examples import Examples, Images, first, normalise
from .metrics import Metric
from .random_search import RandomSettings, random_search
from .scoring import evaluate, evaluate_on_batch_statistics
from .settings import OptimizerName, TrainingRule
from .space import Architecture, SearchSpace
from .supernet import SuperNetwork, reestimate
from .task import Task
from .widths import OrderedDropout, Sampler, Sandwich, SinglePath

REESTIMATION_BATCHES = 4
GUIDE = 12  # candidates for each that is scored; the default descent has the same guide


def make_sampler(space: SearchSpace, rule: TrainingRule, rng: np.random.Generator) -> Sampler:
    """The draws of a super-network's training, by the rule's name."""
    samplers: dict[TrainingRule, Callable[[], Sampler]] = {
        "ordered-dropout": lambda: OrderedDropout(space, rng),
        "single-path": lambda: SinglePath(space, rng),
        "sandwich": lambda: Sandwich(space, rng),
    }
    return samplers[rule]()


def optimize(
    space: SearchSpace,
    evaluate: Evaluate,
    metric: Metric,
    target: float,
    rng: np.random.Generator,
    name: OptimizerName,
    evaluations: int,
) -> Iterator[Trial]:
    """Run an optimiser by its name, with so many evaluations at most."""
    if name == "evolution":
        grown = EvolutionSettings(evaluations=evaluations, oversample=GUIDE)
        return evolution(space, evaluate, metric, target, rng, grown)
    if name == "random":
        drawn = RandomSettings(evaluations=evaluations, oversample=GUIDE)
        return random_search(space, evaluate, metric, target, rng, drawn)
    preset = DEFAULT if name == "coordinate-descent" else SINGLE_LAYER
    descent = replace(preset, evaluations=evaluations)
    return coordinate_descent(space, evaluate, metric, target, rng, descent)


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
