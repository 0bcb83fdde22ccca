"""NetAdapt V1's way to score: each proposal is trained for a while before it is judged.

Yang et al., "NetAdapt: Platform-Aware Neural Network Adaptation for Mobile Applications" (ECCV
2018). There is no super-network: the weights of the network that the descent goes on from are cut
down for each proposal, which is trained for a few steps and then scored; those of the best are
carried along. It is what NetAdaptV2 is compared with, and costs accordingly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .data import Dataset
from .examples import Images
from .network_module import NetworkModule
from .recipe import Recipe
from .scoring import evaluate_on_batch_statistics
from .space import Architecture, SearchSpace
from .supernet import cut_out
from .training import train_network
from .trial import Evaluate, Trial


@dataclass
class ShortTraining:
    """Weights that follow a descent. `weights` are those of `architecture`, at first a trained
    full network's; `recipe` is the training of each proposal, `seed` that of its batches.

    Give `score` to an `Evaluator`, and what `following` makes of that to the descent. A descent
    that is replayed from a history trains what it goes on from once more, and comes to the same
    weights.
    """

    space: SearchSpace
    weights: NetworkModule
    architecture: Architecture
    dataset: Dataset
    holdout: Images
    recipe: Recipe
    seed: int
    passes: int = 0  # forward-backward passes so far, of one batch each
    _round: int = 0
    _tuned: dict[Architecture, NetworkModule] = field(default_factory=dict)

    def score(self, architecture: Architecture) -> tuple[float, float]:
        """Accuracy and loss on the holdout after the short training."""
        module = self._tuned[architecture] = self._train(architecture)
        # A copy: to be judged changes the running statistics, which shall not depend on that.
        judged = cut_out(module, module.network)
        result = evaluate_on_batch_statistics(judged, self.holdout, self.dataset.task)
        return result.accuracy, result.loss

    def following(self, evaluate: Evaluate) -> Evaluate:
        """The same `evaluate`, after which a network with the origin "iterate" hands on its
        weights."""

        def follow(architectures: Sequence[Architecture], origin: str = "sample") -> list[Trial]:
            trials = evaluate(architectures, origin)
            if origin == "iterate":
                self._go_on_from(trials[-1].architecture)
            return trials

        return follow

    def _go_on_from(self, architecture: Architecture) -> None:
        if architecture != self.architecture:
            self.weights = self._tuned.get(architecture) or self._train(architecture)
            self.architecture = architecture
            self._round += 1
        self._tuned.clear()

    def _train(self, architecture: Architecture) -> NetworkModule:
        module = cut_out(self.weights, self.space.network(architecture))
        if architecture != self.architecture and self.recipe.steps:
            train_network(module, self.dataset, self.recipe, seed=self.seed + self._round)
            self.passes += self.recipe.steps
        return module


def short_recipe(recipe: Recipe, steps: int) -> Recipe:
    """The recipe of a proposal's training: a part of the final one's at a tenth of its rate, since
    it begins with trained weights."""
    return replace(recipe, steps=steps, learning_rate=recipe.learning_rate / 10)
