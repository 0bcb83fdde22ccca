"""Score several networks at a time: on processes of this host, or on the workers of a Dask cluster.

    with local_workers(2) as workers:
        evaluate = Evaluator(space, score, metric, history, map=workers.map)

The score function, which holds the super-network and the holdout, travels to each worker once;
then an architecture goes there and two numbers come back. Scores are kept in the order of the
batch, so that the history does not depend on which worker was faster. A worker that is lost is
replaced by the others. Members of a cluster execute what others send, so that everything listens
on loopback alone, unless both ends prove themselves by certificates (see `profiler.fleet_tls`).
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import dask
from distributed import Client, LocalCluster, WorkerPlugin, get_worker
from distributed.scheduler import KilledWorker

from ..devices.errors import DeviceLost, InputError
from ..profiler.fleet_dask import SETTINGS, open_client, security_of
from ..profiler.fleet_tls import LOOPBACK, TlsFiles, check_address
from .space import Architecture

Score = Callable[[Architecture], tuple[float, float]]

ALLOWED_FAILURES = "distributed.scheduler.allowed-failures"
LONGEST = 600.0  # seconds for the score of one network, after which its worker counts as lost


class _Scorer(WorkerPlugin):
    """Brings a score function to every worker, those included that join or start again later."""

    def __init__(self, name: str, function: Score) -> None:
        self.name = name
        self.function = function


class ScoreWorkers:
    """The workers of a cluster, behind the signature of Python's `map`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sent: dict[int, _Scorer] = {}

    def map(
        self, function: Score, architectures: Sequence[Architecture], /
    ) -> Iterator[tuple[float, float]]:
        """The scores in the order of the architectures, each as soon as it and those before it are
        there. Raises `DeviceLost` where no worker is left or one does not answer."""
        if not architectures:
            return
        if not self._client.scheduler_info()["workers"]:
            raise DeviceLost(
                "the cluster has no worker that could score networks; start `dask worker` on the "
                "hosts that shall, and run the same command again"
            )
        if id(function) not in self._sent:  # which stays its own: the plugin holds the function
            scorer = _Scorer(f"boardfit-score-{uuid.uuid4().hex}", function)
            self._client.register_plugin(scorer)
            self._sent[id(function)] = scorer
        name = self._sent[id(function)].name
        futures = self._client.map(_score, architectures, name=name, pure=False)
        try:
            for future in futures:
                yield self._wait(future)
        finally:
            with contextlib.suppress(Exception):
                self._client.cancel(futures)

    def _wait(self, future: Any) -> tuple[float, float]:
        try:
            found: tuple[float, float] = future.result(timeout=LONGEST)
        except (KilledWorker, TimeoutError, OSError) as error:
            raise DeviceLost(
                f"the workers that were to score a network are gone ({error}); what was scored is "
                "kept: start them, and run the same command again"
            ) from error
        return found


def _score(architecture: Architecture, name: str) -> tuple[float, float]:
    """The task: PyTorch must not take more threads than the worker has."""
    import torch

    torch.set_num_threads(1)
    scorer = cast(_Scorer, get_worker().plugins[name])
    accuracy, loss = scorer.function(tuple(architecture))
    return float(accuracy), float(loss)


@contextlib.contextmanager
def local_workers(count: int) -> Iterator[ScoreWorkers]:
    """So many processes of this host, each with one thread. Raises `InputError` for none."""
    if count < 1:
        raise InputError(f"{count} workers score nothing; give 1 or more")
    with contextlib.ExitStack() as stack:
        # Unlike a board's share, a score may be given to another worker.
        stack.enter_context(dask.config.set({**SETTINGS, ALLOWED_FAILURES: 3}))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="boardfit-"))
        cluster = stack.enter_context(
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                host=LOOPBACK,
                dashboard_address=None,
                memory_limit=0,
                local_directory=folder,
                silence_logs=logging.CRITICAL,
            )
        )
        client = stack.enter_context(open_client(cluster.scheduler_address, security_of(None)))
        yield ScoreWorkers(client)


@contextlib.contextmanager
def join_workers(scheduler: str, *, tls: TlsFiles | None = None) -> Iterator[ScoreWorkers]:
    """The workers of a running scheduler.

    Raises `InputError` for an address that is refused, `DeviceLost` where nobody answers there.
    """
    check_address(scheduler, tls)
    with open_client(scheduler, security_of(tls)) as client:
        yield ScoreWorkers(client)
