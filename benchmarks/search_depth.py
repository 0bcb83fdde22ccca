"""Depth estimation: a found network against the uniformly narrowed one of equal latency.

Rendered rooms, `fastdepth-64` with images of 32x32, half of the full network's latency. For
each seed a super-network is trained, searched by multi-layer coordinate descent on a holdout, and
both networks are trained alone and judged on test images that no search saw. Latency is that of the
simulated board, so that every seed searches under the same prices on any machine; both networks are
also timed in LiteRT, in turns, and the ratio of their smallest times is printed.

Sizes are chosen for minutes; nothing was tuned on these seeds.
"""

import sys
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-untyped]
from bars import bar
from cells import Cells, Key, Value

from boardfit.profiler.emit_tflite import emit, emit_layer
from boardfit.profiler.layers import Layer
from boardfit.profiler.simulated import SECONDS_PER_INVOKE, simulated_seconds
from boardfit.search.baseline import uniform_baseline
from boardfit.search.data import Dataset, open_dataset
from boardfit.search.evaluation import Evaluator
from boardfit.search.examples import first
from boardfit.search.metrics import CompiledMetric
from boardfit.search.network_module import NetworkModule
from boardfit.search.scoring import evaluate
from boardfit.search.settings import FINAL_RECIPE, SUPERNET_RECIPE
from boardfit.search.space import Architecture, SearchSpace
from boardfit.search.spaces import open_space
from boardfit.search.strategies import holdout_score, make_sampler, optimize
from boardfit.search.supernet import SuperNetwork
from boardfit.search.training import train_network, train_supernet
from boardfit.search.trial import best_trial

SEEDS = range(3)
NETWORKS = ("found", "uniform")


@dataclass(frozen=True)
class Work:
    """How much is done for each seed."""

    input_size: int = 32
    images: int = 4000
    target: float = 0.5
    evaluations: int = 60
    holdout: int = 250
    batch_size: int = 16
    supernet_steps: int = 600
    final_steps: int = 800


def price(layer: Layer) -> float:
    """Seconds of an operator on the simulated board."""
    return simulated_seconds(emit_layer(layer)) - SECONDS_PER_INVOKE


def prepare(work: Work, seed: int) -> tuple[SearchSpace, CompiledMetric, Dataset]:
    """Space, latency on the simulated board, and scenes of a seed."""
    space = open_space("fastdepth-64", input_size=work.input_size)
    metric = CompiledMetric(space, price, constant=SECONDS_PER_INVOKE)
    spec = f"scenes:{work.images}"
    return space, metric, open_dataset(spec, input_shape=space.input_shape, classes=1, seed=seed)


def find(work: Work, seed: int) -> Value:
    """Train a super-network and search in it."""
    space, metric, dataset = prepare(work, seed)
    supernet = SuperNetwork(space, torch.Generator().manual_seed(seed))
    rng = np.random.default_rng(seed)
    recipe = replace(SUPERNET_RECIPE, steps=work.supernet_steps, batch_size=work.batch_size)
    sampler = make_sampler(space, "ordered-dropout", rng)
    train_supernet(supernet, sampler, dataset, recipe, rng, seed=seed)
    score = holdout_score(supernet, first(dataset.holdout, work.holdout), dataset.task)
    target = work.target * float(metric([space.full])[0])
    evaluator = Evaluator(space, score, metric)
    for _ in optimize(
        space,
        evaluator,
        metric,
        [target],
        np.random.default_rng(seed + 1),
        "coordinate-descent",
        work.evaluations,
    ):
        pass
    best = best_trial(evaluator.trials, target)
    uniform = uniform_baseline(space, metric, target)
    trial = evaluator([uniform], "uniform")[0]
    return {
        "found": list(best.architecture),
        "uniform": list(uniform),
        "holdout": {"found": best.accuracy, "uniform": trial.accuracy},
        "seconds": {"found": best.metric, "uniform": trial.metric, "target": target},
    }


def train(work: Work, seed: int, architecture: Architecture) -> Value:
    """Train one network on its own, and judge it on the test images."""
    space, _, dataset = prepare(work, seed)
    module = NetworkModule(space.network(architecture), torch.Generator().manual_seed(seed + 2))
    recipe = replace(FINAL_RECIPE, steps=work.final_steps, batch_size=work.batch_size)
    train_network(module, dataset, recipe, seed=seed + 2)
    result = evaluate(module, dataset.test, dataset.task)
    return {"delta1": result.accuracy, "l1": result.loss, **result.figures}


def time_both(space: SearchSpace, networks: dict[str, Architecture]) -> dict[str, float]:
    """The smallest of many times of each network in LiteRT, taken in turns, in seconds."""
    interpreters = {}
    for name, architecture in networks.items():
        interpreter = Interpreter(model_content=emit(space.network(architecture)), num_threads=1)
        interpreter.allocate_tensors()
        shape = interpreter.get_input_details()[0]
        interpreter.set_tensor(shape["index"], np.zeros(shape["shape"], np.float32))
        interpreters[name] = interpreter
    smallest = dict.fromkeys(networks, float("inf"))
    for _ in range(2000):
        for name, interpreter in interpreters.items():
            begin = time.perf_counter()
            interpreter.invoke()
            smallest[name] = min(smallest[name], time.perf_counter() - begin)
    return smallest


def cell(work: Work, seed: int, part: str) -> Key:
    return {"part": part, "seed": seed, **vars(work)}


def compute(store: Cells, work: Work, seed: int) -> None:
    """What is missing of a seed."""
    store.compute(cell(work, seed, "search"), partial(find, work, seed))
    searched = store.find(cell(work, seed, "search"))
    if searched is None:
        return  # another process is at it
    for name in NETWORKS:
        architecture = tuple(searched[name])
        store.compute(cell(work, seed, name), partial(train, work, seed, architecture))


def main() -> int:
    torch.set_num_threads(1)
    store, work = Cells("depth"), Work()
    seeds = [int(text) for text in sys.argv[1:]] or list(SEEDS)
    for seed in seeds:
        compute(store, work, seed)
    space = open_space("fastdepth-64", input_size=work.input_size)
    print(
        "seed  network  predicted us  in LiteRT us  holdout delta1  test delta1  RMSE m     MMACs"
    )
    gains: dict[str, list[float]] = {"delta1": [], "rmse": []}
    for seed in SEEDS:
        searched = store.find(cell(work, seed, "search"))
        results = {name: store.find(cell(work, seed, name)) for name in NETWORKS}
        if searched is None or any(result is None for result in results.values()):
            print(f"{seed:4d}  is not computed yet")
            continue
        timed = time_both(space, {name: tuple(searched[name]) for name in NETWORKS})
        for name, result in results.items():
            assert result is not None
            macs = space.network(tuple(searched[name])).macs
            print(
                f"{seed:4d}  {name:7s}  {searched['seconds'][name] * 1e6:12.1f}  "
                f"{timed[name] * 1e6:12.1f}  {searched['holdout'][name]:14.1%}  "
                f"{result['delta1']:11.1%}  {result['rmse']:6.3f}  {macs / 1e6:8.3f}"
            )
        found, uniform = results["found"], results["uniform"]
        assert found is not None
        assert uniform is not None
        for figure, values in gains.items():
            values.append(found[figure] - uniform[figure])
        print(f"      found / uniform in LiteRT: {timed['found'] / timed['uniform']:.3f}")
    if not gains["delta1"]:
        return 1
    for figure, values in gains.items():
        print(
            f"{figure}: found minus uniform {np.mean(values):+.4f} on average of {len(values)} "
            f"seeds ({', '.join(f'{value:+.4f}' for value in values)})"
        )
    better = sum(gain > 0 for gain in gains["delta1"])
    return int(
        not bar("seeds with more delta1 than uniform", better, len(SEEDS), least=True, form="d")
    )


if __name__ == "__main__":
    sys.exit(main())
