"""The whole search, top to bottom: super-network, descent, final training, proof on the board.

    result = search(space, table, device, dataset, SearchSettings(target="50%"), Path("runs/pi5"))

Everything is in the run folder, and the same call goes on after any interruption: training from
its checkpoint, the descent by replay of its history, the measurement from its samples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
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
from .evaluation import Evaluator, Map, Race, Score
from .examples import first
from .export import check_int8
from .finalists import prove_finalists, train_finalist
from .goals import Goal, search_goals
from .history import History
from .metrics import latency, reachable
from .network_module import NetworkModule
from .on_board import Confirmed, confirm, first_correction, measure_for, measure_on
from .result import SearchResult, read_result, write_result
from .run_folder import Parts, begin_run
from .run_identity import run_identity
from .settings import SearchSettings
from .space import SearchSpace
from .strategies import holdout_score, make_sampler, optimize
from .supernet import SuperNetwork
from .training import train_supernet
from .trial import Trial, best_trial

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
    map: Map = map,
    report: Report = silent,
) -> SearchResult:
    """Find the best network of `space` for one board within a latency, train it, and prove it.

    A finished run is read back. `map` scores several networks at a time (see `score_workers`).
    Raises `ConstraintNotMet` where no network meets the target (it says the smallest latency),
    `TableNotValid` for a table that fails its bar, `RunFolderError` where the folder was begun
    with other settings, `InUse` where another process works in it. With several processes in
    `compute` this is the first one's part, and `follow` that of the others.
    """
    return search_targets(
        space, table, device, dataset, settings, folder,
        allow_invalid_table=allow_invalid_table, compute=compute, map=map, report=report,
    )[0]  # fmt: skip


def search_targets(
    space: SearchSpace,
    table: LookupTable,
    device: Device,
    dataset: Dataset,
    settings: SearchSettings,
    folder: Path,
    *,
    allow_invalid_table: bool = False,
    compute: Compute | None = None,
    map: Map = map,
    report: Report = silent,
) -> list[SearchResult]:
    """The same for each of `settings.targets`, in their order: one super-network and one descent
    answer all. Where there are several, each has a folder of its own in the run folder, by its
    name ("3ms")."""
    compute = compute or Compute()
    if not allow_invalid_table:
        table.check()
    int8 = settings.int8 or table.dtype == "int8"
    if int8:  # now, and not after hours of training
        check_int8(table.runtime)
    targets = search_goals(space, table, settings)
    # Fails early, before anything is trained.
    reachable(space, targets[0].metric, min(goal.seconds for goal in targets), seconds_text)
    identity = run_identity(space, table, dataset, settings)
    several = len(targets) > 1
    places = [folder / goal.name if several else folder for goal in targets]
    with exclusive(folder / ".lock"):
        begin_run(folder, identity)
        results = [read_result(place) for place in places]
        if None not in results:
            return [result for result in results if result is not None]
        check_conditions(table, device, report)  # now, and not after hours of training
        parts = Parts(folder)
        with parts("super-network"):
            supernet = trained_supernet(space, dataset, settings, folder, identity, compute, report)
        with parts("search"):
            trials, confirmed = _descend(
                space, supernet, dataset, targets, settings, folder, identity, map, table, device,
                report,
            )  # fmt: skip
        for number, (goal, place) in enumerate(zip(targets, places, strict=True)):
            results[number] = results[number] or _prove(
                space, table, device, dataset, goal, trials, confirmed.get(goal.name), settings,
                place, parts, supernet, compute, report,
            )  # fmt: skip
        return [result for result in results if result is not None]


def _prove(
    space: SearchSpace,
    table: LookupTable,
    device: Device,
    dataset: Dataset,
    goal: Goal,
    trials: list[Trial],
    confirmed: Confirmed | None,
    settings: SearchSettings,
    folder: Path,
    before: Parts,
    supernet: SuperNetwork,
    compute: Compute,
    report: Report,
) -> SearchResult:
    """Train the network that the descent found for a target, and the baseline; measure both."""
    predicted = latency(space, table)
    found = confirmed or best_trial(trials, goal.seconds)
    architectures = {
        "found": found.architecture,
        "uniform": uniform_baseline(space, goal.metric, goal.seconds),
    }
    folder.mkdir(parents=True, exist_ok=True)
    parts = Parts(folder)
    modules: dict[str, NetworkModule] = {}
    for name, architecture in architectures.items():
        with parts(f"train the {name} network"):
            modules[name] = train_finalist(
                name, space, architecture, dataset, settings, folder, supernet, compute, report
            )
    with occupied(device, f"measure {folder.name}", tell=telling(report)), parts("measure"):
        finalists = prove_finalists(
            space, architectures, modules, table, device, dataset, folder, report,
            int8=settings.int8 or table.dtype == "int8",
        )  # fmt: skip
    # Where limits or a margin count, what the search went by is not the latency.
    seconds = predicted([trial.architecture for trial in trials]).tolist()
    result = SearchResult(
        space=space.name,
        data=dataset.name,
        device=device.name,
        table=table.path.name,
        conditions=table.conditions,
        settings=json.loads(json.dumps(asdict(replace(settings, target=goal.name)))),
        target=goal.seconds,
        full_seconds=float(predicted([space.full])[0]),
        coordinates=tuple((c.name, c.kind, c.values[-1]) for c in space.coordinates),
        trials=tuple(replace(t, metric=s) for t, s in zip(trials, seconds, strict=True)),
        finalists=finalists,
        parts={**before.seconds, **parts.seconds},
        candidates=confirmed.candidates if confirmed else (),
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
            make_sampler(
                space,
                settings.training,
                rng,
                law=settings.law,
                full_fraction=settings.full_fraction,
                groups=settings.groups,
            ),
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
    goals: Sequence[Goal],
    settings: SearchSettings,
    folder: Path,
    identity: dict[str, Any],
    map: Map,
    table: LookupTable,
    device: Device,
    report: Report,
) -> tuple[list[Trial], dict[str, Confirmed]]:
    """The trials in order, and of each goal what was chosen by measuring, if that is asked for."""
    holdout = first(dataset.holdout, settings.holdout_images)
    count = len(holdout)
    training = dataset.train if settings.batch_statistics == "re-estimated" else None

    def score(images: int) -> Score:
        return holdout_score(supernet, first(holdout, images), dataset.task, training)

    race = None
    if settings.race_images is not None and settings.race_images < count:
        race = Race(score(settings.race_images), settings.race_images)
    metric, seconds = goals[0].metric, [goal.seconds for goal in goals]
    trials: list[Trial] = []
    with History(folder, {"settings": json.dumps(identity, sort_keys=True)}) as history:
        evaluator = Evaluator(space, score(count), metric, history, race=race, map=map)
        rng = np.random.default_rng(settings.seed + 1)
        for trial in optimize(
            space, evaluator, metric, seconds, rng, settings.optimizer, settings.evaluations,
            guide=settings.guide,
        ):  # fmt: skip
            trials.append(trial)
            done, total = evaluator.evaluations, settings.evaluations
            detail = f"{seconds_text(trial.metric)} at {trial.accuracy:.1%}"
            report(Progress("search", min(done, total), total, detail))
        if not settings.measure_candidates:
            return trials, {}
        searches = {
            goal.name: confirm(
                space, metric, trials, goal.seconds, evaluator, first_correction(space, table),
                np.random.default_rng([settings.seed, number]),
                at_most=settings.measure_candidates,
            )
            for number, goal in enumerate(goals)
        }  # fmt: skip
        with occupied(device, f"measure candidates of {folder.name}", tell=telling(report)):
            chosen = measure_for(searches, measure_on(space, table, device, folder, report))
    return [*trials, *(t for found in chosen.values() for t in found.trials)], chosen
