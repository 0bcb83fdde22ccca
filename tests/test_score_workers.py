"""Scores from several processes: the same as from one, also where a worker dies."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch

from boardfit.devices.errors import InputError
from boardfit.search.data import open_dataset
from boardfit.search.evaluation import Evaluator
from boardfit.search.examples import first
from boardfit.search.history import History
from boardfit.search.metrics import macs
from boardfit.search.score_workers import ScoreWorkers, join_workers, local_workers
from boardfit.search.spaces import open_space
from boardfit.search.strategies import holdout_score
from boardfit.search.supernet import SuperNetwork

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not have the tests
SPACE = open_space("mobilenetv3-32", width_factor=0.25)
RNG = np.random.default_rng(0)
SOME = list(dict.fromkeys(SPACE.random(RNG) for _ in range(6)))


@pytest.fixture(scope="module")
def workers() -> Iterator[ScoreWorkers]:
    with local_workers(2) as found:
        yield found


def test_a_history_does_not_depend_on_where_networks_were_scored(
    workers: ScoreWorkers, tmp_path: Path
) -> None:
    data = open_dataset("shapes:50", input_shape=SPACE.input_shape, seed=0)
    supernet = SuperNetwork(SPACE, torch.Generator().manual_seed(0))
    score = holdout_score(supernet, first(data.holdout, 50), data.task)
    files = []
    for name, apply in (("here", map), ("workers", workers.map)):
        with History(tmp_path / name, {}) as history:
            Evaluator(SPACE, score, macs(SPACE), history, map=apply)(SOME)
        files.append((tmp_path / name / "history.jsonl").read_bytes())
    assert files[0] == files[1]
    assert files[0].count(b"\n") == 1 + len(SOME)


def test_what_a_dead_worker_was_to_score_is_scored_by_another(
    workers: ScoreWorkers, tmp_path: Path
) -> None:
    marker = tmp_path / "killed"

    def score(architecture: tuple[int, ...]) -> tuple[float, float]:
        if architecture == SOME[2] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(architecture[0]), 1.0

    assert list(workers.map(score, SOME)) == [(float(a[0]), 1.0) for a in SOME]
    assert marker.exists()


def test_an_error_of_a_score_is_raised_here(workers: ScoreWorkers) -> None:
    def score(architecture: tuple[int, ...]) -> tuple[float, float]:
        raise InputError("no such network")

    with pytest.raises(InputError, match="no such network"):
        list(workers.map(score, SOME[:1]))
    assert list(workers.map(score, [])) == []


def test_a_cluster_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="give 1 or more"), local_workers(0):
        pass
    with pytest.raises(InputError, match="is not this host"), join_workers("tcp://10.0.0.1:8786"):
        pass
