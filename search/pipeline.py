"""The whole search, top to bottom: super-network, descent, final training, proof on the board.

    result = search(space, table, device, dataset, SearchSettings(target="50%"), Path("runs/pi5"))

Everything is in the run folder, and the same call goes on after any interruption: training from
its checkpoint, the descent by replay of its history, the measurement from its samples.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from ..devices.base import Device
from ..devices.errors import InputError
from ..devices.files import exclusive
from ..devices.occupy import occupied
from ..profiler.build import check_conditions
from ..profiler.description import network_key
from ..profiler.layers import Network
from ..profiler.measurement import seconds_text
from ..profiler.progress import Progress, Report, silent, telling
from ..profiler.table import LookupTable
from ..profiler.tie import TiedMeasurement, measure_tied
from .coordinate_descent import DEFAULT, SINGLE_LAYER, coordinate_descent
from .data import Dataset, Images, normalise
from .evaluation import Evaluate, Evaluator, History, Trial, best_trial
from .evolution import EvolutionSettings, evolution
from .export import Exported, export
from .metrics import Metric, latency, reachable
from .network_module import NetworkModule, to_network
from .random_search import RandomSettings, random_search
from .result import Finalist, SearchResult, read_result, write_result
from .run_folder import Parts, begin_run
from .space import Architecture, SearchSpace
from .supernet import SuperNetwork, reestimate
from .training import (
    Recipe,
    evaluate,
    evaluate_on_batch_statistics,
    predict,
    train_network,
    train_supernet,
)
from .widths import OrderedDropout, Sampler, Sandwich, SinglePath

TrainingRule = Literal["ordered-dropout", "single-path", "sandwich"]
BatchStatistics = Literal["holdout", "re-estimated"]
OptimizerName = Literal["coordinate-descent", "single-layer", "evolution", "random"]


SUPERNET_RECIPE = Recipe(learning_rate=0.015)
FINAL_RECIPE = Recipe()
REESTIMATION_BATCHES = 4
GUIDE = 12  # candidates for each that is scored; the default descent has the same guide


@dataclass(frozen=True)
class SearchSettings:
    """What is searched for, and how much work goes into it.

    `target` is a latency (`"3ms"`, `"450us"`, `"0.003s"`) or a share of the full network's
    (`"50%"`). `evaluations` bounds the networks that are scored on `holdout_images`.
    """

    target: str = "50%"
    seed: int = 0
    training: TrainingRule = "ordered-dropout"
    optimizer: OptimizerName = "coordinate-descent"
    evaluations: int = 120
    holdout_images: int = 1000
    batch_statistics: BatchStatistics = "holdout"
    supernet: Recipe = SUPERNET_RECIPE
    final: Recipe = FINAL_RECIPE

    def __post_init__(self) -> None:
        parse_target(self.target)
        if self.training not in get_args(TrainingRule):
            raise InputError(f"no training is called {self.training!r}; known: "
                             f"{', '.join(get_args(TrainingRule))}")  # fmt: skip
        if self.optimizer not in get_args(OptimizerName):
            raise InputError(f"no optimizer is called {self.optimizer!r}; known: "
                             f"{', '.join(get_args(OptimizerName))}")  # fmt: skip
        if self.batch_statistics not in get_args(BatchStatistics):
            raise InputError(f"no batch statistics are called {self.batch_statistics!r}; known: "
                             f"{', '.join(get_args(BatchStatistics))}")  # fmt: skip
        if self.evaluations < 2 or self.holdout_images < 2 or self.seed < 0:
            raise InputError("evaluations and holdout images are at least 2, the seed at least 0")


def recipes(
    supernet_steps: int | None = None, final_steps: int | None = None
) -> tuple[Recipe, Recipe]:
    """The recipes for the super-network and for the finalists, with other numbers of steps."""
    return (
        replace(SUPERNET_RECIPE, steps=supernet_steps or SUPERNET_RECIPE.steps),
        replace(FINAL_RECIPE, steps=final_steps or FINAL_RECIPE.steps),
    )


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


def search(
    space: SearchSpace,
    table: LookupTable,
    device: Device,
    dataset: Dataset,
    settings: SearchSettings,
    folder: Path,
    *,
    allow_invalid_table: bool = False,
    report: Report = silent,
) -> SearchResult:
    """Find the best network of `space` for one board within a latency, train it, and prove it.

    A finished run is read back. Raises `ConstraintNotMet` where no network meets the target (it
    says the smallest latency), `TableNotValid` for a table that fails its bar, `RunFolderError`
    where the folder was begun with other settings, `InUse` where another process works in it.
    """
    if not allow_invalid_table:
        table.check()
    metric = latency(space, table)
    full_seconds = float(metric([space.full])[0])
    value, is_share = parse_target(settings.target)
    target = value * full_seconds if is_share else value
    reachable(space, metric, target, seconds_text)  # fails early, before anything is trained
    identity = _identity(space, table, dataset, settings)
    with exclusive(folder / ".lock"):
        begin_run(folder, identity)
        if (result := read_result(folder)) is not None:
            return result
        check_conditions(table, device, report)  # now, and not after hours of training
        parts = Parts(folder)
        with parts("super-network"):
            supernet = _supernet(space, dataset, settings, folder, identity, report)
        with parts("search"):
            trials, found = _descend(
                space, supernet, dataset, metric, target, settings, folder, identity, report
            )
        architectures = {
            "found": found,
            "uniform": uniform_baseline(space, metric, target),
        }
        modules: dict[str, NetworkModule] = {}
        for name, architecture in architectures.items():
            with parts(f"train the {name} network"):
                modules[name] = _final(name, space, architecture, dataset, settings, folder, report)
        with occupied(device, f"measure {folder.name}", tell=telling(report)), parts("measure"):
            exported = {
                name: export(
                    module,
                    folder / name,
                    device,
                    dataset.test,
                    threads=table.threads,
                    runtime=table.runtime,
                )
                for name, module in modules.items()
            }
            tied = measure_tied(
                table,
                device,
                {name: to_network(module) for name, module in modules.items()},
                path=folder / "measured.boardfit",
                report=report,
            )
        result = SearchResult(
            space=space.name,
            data=dataset.name,
            device=device.name,
            table=table.path.name,
            conditions=table.conditions,
            settings=asdict(settings),
            target=target,
            full_seconds=full_seconds,
            coordinates=tuple((c.name, c.kind, c.values[-1]) for c in space.coordinates),
            trials=tuple(trials),
            finalists={
                name: _finalist(
                    space.network(architecture),
                    architecture,
                    exported[name],
                    tied[name],
                    _right(modules[name], dataset.test),
                )
                for name, architecture in architectures.items()
            },
            parts=parts.seconds,
        )
        write_result(result, folder)
        return result


def uniform_baseline(space: SearchSpace, metric: Metric, target: float) -> Architecture:
    """The full network with all widths narrowed alike, as large as the target allows.

    Many widths step at the same scale, so that the steps in latency are coarse: what a step too
    far would widen is widened one by one as long as the target is kept. Narrowing alone cannot
    reach what removing blocks can: where even the narrowest is too slow, it is the narrowest.
    """
    narrowed = [space.narrowed(scale) for scale in np.linspace(0.0, 1.0, 500)]
    seconds = metric(narrowed)
    within = np.flatnonzero(seconds <= target)
    if not len(within):
        return narrowed[int(np.argmin(seconds))]
    place = int(within[np.argmax(seconds[within])])
    best = narrowed[place]
    wider = next((other for other in narrowed[place:] if other != best), best)
    for column, width in enumerate(wider):
        candidate = (*best[:column], width, *best[column + 1 :])
        if metric([candidate])[0] <= target:
            best = candidate
    return best


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


def holdout_score(
    supernet: SuperNetwork, holdout: Images, training: Images | None = None
) -> Callable[[Architecture], tuple[float, float]]:
    """Accuracy and loss of a sub-network cut out of the super-network, on the search holdout.

    Batch normalisation uses the holdout's own statistics, or those re-estimated on the first
    `REESTIMATION_BATCHES` batches of `training` images.
    """
    batches = []
    if training is not None:
        groups = torch.split(training.images[: 250 * REESTIMATION_BATCHES], 250)
        batches = [normalise(group) for group in groups]

    def score(architecture: Architecture) -> tuple[float, float]:
        module = supernet.slice(architecture)
        if batches:
            reestimate(module, batches)
            result = evaluate(module, holdout)
        else:
            result = evaluate_on_batch_statistics(module, holdout)
        return result.accuracy, result.loss

    return score


def _supernet(
    space: SearchSpace,
    dataset: Dataset,
    settings: SearchSettings,
    folder: Path,
    identity: dict[str, Any],
    report: Report,
) -> SuperNetwork:
    supernet = SuperNetwork(space, torch.Generator().manual_seed(settings.seed))
    rng = np.random.default_rng(settings.seed)
    train_supernet(
        supernet,
        make_sampler(space, settings.training, rng),
        dataset,
        settings.supernet,
        rng,
        seed=settings.seed,
        checkpoint=folder / "supernet.pt",
        identity=identity,
        report=report,
    )
    return supernet


def _descend(
    space: SearchSpace,
    supernet: SuperNetwork,
    dataset: Dataset,
    metric: Metric,
    target: float,
    settings: SearchSettings,
    folder: Path,
    identity: dict[str, Any],
    report: Report,
) -> tuple[list[Trial], Architecture]:
    """The trials in order, and the best architecture within the target."""
    count = min(settings.holdout_images, len(dataset.holdout))
    holdout = Images(dataset.holdout.images[:count], dataset.holdout.labels[:count])
    training = dataset.train if settings.batch_statistics == "re-estimated" else None
    score = holdout_score(supernet, holdout, training)
    trials: list[Trial] = []
    with History(folder, {"settings": json.dumps(identity, sort_keys=True)}) as history:
        evaluator = Evaluator(space, score, metric, history)
        rng = np.random.default_rng(settings.seed + 1)
        for trial in optimize(
            space, evaluator, metric, target, rng, settings.optimizer, settings.evaluations
        ):
            trials.append(trial)
            done, total = evaluator.evaluations, settings.evaluations
            detail = f"{seconds_text(trial.metric)} at {trial.accuracy:.1%}"
            report(Progress("search", min(done, total), total, detail))
    return trials, best_trial(trials, target).architecture


def _final(
    name: str,
    space: SearchSpace,
    architecture: Architecture,
    dataset: Dataset,
    settings: SearchSettings,
    folder: Path,
    report: Report,
) -> NetworkModule:
    """Train one network from scratch; finalists start from the same seed."""
    generator = torch.Generator().manual_seed(settings.seed + 2)
    module = NetworkModule(space.network(architecture), generator)
    train_network(
        module,
        dataset,
        settings.final,
        seed=settings.seed + 2,
        stage=f"train the {name} network",
        checkpoint=folder / f"{name}.pt",
        identity={"architecture": list(architecture), "recipe": asdict(settings.final)},
        report=report,
    )
    return module


def _right(module: NetworkModule, test: Images) -> str:
    module.eval()
    answers = predict(module, test).argmax(1)
    return "".join("1" if right else "0" for right in (answers == test.labels).tolist())


def _finalist(
    network: Network,
    architecture: Architecture,
    exported: Exported,
    tied: TiedMeasurement,
    right: str,
) -> Finalist:
    return Finalist(
        architecture=architecture,
        predicted=tied.predicted,
        seconds=tied.seconds,
        anchor_ratio=tied.anchor_ratio,
        measured=tied.measurement.median,
        verdict=tied.measurement.verdict,
        accuracy=right.count("1") / len(right),
        exported_accuracy=exported.accuracy,
        difference=exported.difference,
        right=right,
        macs=network.macs,
        parameters=network.parameters,
        peak_memory=network.peak_memory,
        file=exported.path.name,
        size=exported.size,
    )


def fingerprint(dataset: Dataset) -> str:
    """A digest of all images and labels: two data sets of one name are told apart."""
    digest = hashlib.sha256()
    for part in (dataset.train, dataset.holdout, dataset.test):
        digest.update(part.labels.numpy().tobytes())
        digest.update(part.images.numpy().tobytes())
    return digest.hexdigest()[:16]


def _identity(
    space: SearchSpace, table: LookupTable, dataset: Dataset, settings: SearchSettings
) -> dict[str, Any]:
    """Everything that decides how a run goes; a folder belongs to one such set."""
    return {
        "space": space.name,
        "full_network": network_key(space.network(space.full)),
        "table": table.path.name,
        "calibration": asdict(table.calibration),
        "data": dataset.name,
        "conditions": dict(table.conditions),
        "images": fingerprint(dataset),
        "settings": asdict(settings),
    }
