"""The whole search, top to bottom: super-network, descent, final training, proof on the board.

    result = search(space, table, device, dataset, SearchSettings(target="50%"), Path("runs/pi5"))

Everything is in the run folder, and the same call goes on after any interruption: training from
its checkpoint, the descent by replay of its history, the measurement from its samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..devices.base import Device
from ..devices.files import exclusive
from ..devices.occupy import occupied
from ..profiler.build import check_conditions
from ..profiler.measurement import seconds_text
from ..profiler.progress import Progress, Report, silent, telling
from ..profiler.table import LookupTable
from .baseline import uniform_baseline
from .compute import Compute
from .data import Dataset
from .evaluation import Evaluator, History, Trial, best_trial
from .examples import first
from .export import check_int8
from .finalists import prove_finalists, train_finalist
from .metrics import Metric, latency, reachable
from .network_module import NetworkModule
from .result import SearchResult, read_result, write_result
from .run_folder import Parts, begin_run
from .run_identity import run_identity
from .settings import SearchSettings, parse_target
from .space import Architecture, SearchSpace
from .strategies import holdout_score, make_sampler, optimize
from .supernet import SuperNetwork
from .training import train_supernet

SUPERNET = "super-network"  # what is trained, in messages between processes


def search(
    space: SearchSpace,
    table: LookupTable,
    device: Device,
    dataset: Dataset,
    settings: SearchSettings,
    folder: Path,
    *,
    allow_invalid_table: bool = False,
    compute: Compute | None = None,
    report: Report = silent,
) -> SearchResult:
    """Find the best network of `space` for one board within a latency, train it, and prove it.

    A finished run is read back. Raises `ConstraintNotMet` where no network meets the target (it
    says the smallest latency), `TableNotValid` for a table that fails its bar, `RunFolderError`
    where the folder was begun with other settings, `InUse` where another process works in it. With
    several processes in `compute` this is the first one's part, and `follow` that of the others.
    """
    compute = compute or Compute()
    if not allow_invalid_table:
        table.check()
    int8 = settings.int8 or table.dtype == "int8"
    if int8:  # now, and not after hours of training
        check_int8(table.runtime)
    metric = latency(space, table)
    full_seconds = float(metric([space.full])[0])
    value, is_share = parse_target(settings.target)
    target = value * full_seconds if is_share else value
    reachable(space, metric, target, seconds_text)  # fails early, before anything is trained
    identity = run_identity(space, table, dataset, settings)
    with exclusive(folder / ".lock"):
        begin_run(folder, identity)
        if (result := read_result(folder)) is not None:
            return result
        check_conditions(table, device, report)  # now, and not after hours of training
        parts = Parts(folder)
        with parts("super-network"):
            supernet = trained_supernet(space, dataset, settings, folder, identity, compute, report)
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
                modules[name] = train_finalist(
                    name, space, architecture, dataset, settings, folder, supernet, compute, report
                )
        with occupied(device, f"measure {folder.name}", tell=telling(report)), parts("measure"):
            finalists = prove_finalists(
                space, architectures, modules, table, device, dataset, folder, report,
                int8=int8,
            )  # fmt: skip
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
            finalists=finalists,
            parts=parts.seconds,
        )
        write_result(result, folder)
        return result


def trained_supernet(
    space: SearchSpace,
    dataset: Dataset,
    settings: SearchSettings,
    folder: Path | None,
    identity: Mapping[str, Any],
    compute: Compute,
    report: Report,
) -> SuperNetwork:
    """The super-network, trained or read from its checkpoint in `folder`, if that is given."""
    supernet = SuperNetwork(space, torch.Generator().manual_seed(settings.seed))
    rng = np.random.default_rng(settings.seed)
    with compute.ranks.training({"train": SUPERNET, "identity": identity}):
        train_supernet(
            supernet,
            make_sampler(space, settings.training, rng),
            dataset,
            settings.supernet,
            rng,
            seed=settings.seed,
            checkpoint=folder / "supernet.pt" if folder else None,
            identity=identity,
            compute=compute,
            report=report,
        )
    return supernet


def follow(
    space: SearchSpace, dataset: Dataset, settings: SearchSettings, compute: Compute
) -> None:
    """Train along with the first process, which runs `search`, until that has finished."""
    supernet = None
    while message := compute.ranks.told():
        if message["train"] == SUPERNET:
            supernet = trained_supernet(
                space, dataset, settings, None, message["identity"], compute, silent
            )
            continue
        assert supernet is not None  # it comes first in every search
        architecture = tuple(message["architecture"])
        train_finalist(
            message["train"], space, architecture, dataset, settings, None, supernet, compute,
            silent,
        )  # fmt: skip


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
    holdout = first(dataset.holdout, settings.holdout_images)
    training = dataset.train if settings.batch_statistics == "re-estimated" else None
    score = holdout_score(supernet, holdout, dataset.task, training)
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
