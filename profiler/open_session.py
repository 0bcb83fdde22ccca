"""Whatever runs models on a board behind one face: our worker, or tools where it cannot run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, Self

from ..devices.base import Device
from ..devices.errors import InputError
from .layers import FloatArray
from .model_format import AUTO, BENCHMARK_MODEL, TRTEXEC
from .operators import OperatorProfile, Placement
from .run_benchmark_model import BenchmarkModelSession
from .run_litert import WorkerSession
from .run_trtexec import TrtexecSession
from .visits import Model, Streams


class Session(Streams, Protocol):
    """What runs models on a board; a context manager that ends it. See `WorkerSession`.

    `reference_interval` is how many visits may lie between two to the reference model, so that
    little time does. A visit tells at most `most_samples` apart; it may hold fewer than were asked
    for, with other `repeats`.
    """

    reference_interval: int
    most_samples: int

    @property
    def hello(self) -> Mapping[str, Any]:
        """What runs there: runtime, version, threads, core."""

    @property
    def loaded(self) -> AbstractSet[str]:
        """The keys of the models that can be visited."""

    @property
    def clock_resolution(self) -> float:
        """The smallest step of the clock that times, in seconds; 0 where it is not known."""

    def load(self, models: Iterable[Model]) -> Iterator[str]:
        """Load the models that are not loaded yet; yield the key of each as it is ready."""

    def load_one(self, model: Model) -> None:
        """Load one model."""

    def unload(self) -> None:
        """Free all models."""

    def predict(self, key: str, images: FloatArray, *, batch: int = 64) -> FloatArray:
        """Run a loaded model on images one by one; return its outputs."""

    def placements(self, keys: Sequence[str]) -> list[Placement]:
        """Which operators of loaded models run outside of the delegate, where that is known."""

    def operators(self, key: str, runs: int, seconds: float = 0.0) -> OperatorProfile:
        """The time of each operator of a loaded model in that many runs of the whole."""

    def conditions(self) -> dict[str, float]:
        """The board's state just now."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *reason: object) -> None: ...


def open_session(device: Device, *, threads: int = 1, runtime: str = AUTO) -> Session:
    """Start what runs models in `runtime` on a board.

    That is our worker, `benchmark_model` (also where a board has no Python and any runtime will
    do) or `trtexec`. Raises `InputError` where the board has nothing for it, and what starting
    raises.
    """
    name = runtime.partition(":")[0]
    if name == TRTEXEC:
        return TrtexecSession(device, threads=threads)
    if name == BENCHMARK_MODEL:
        return BenchmarkModelSession(device, threads=threads, runtime=runtime)
    if device.python is not None:
        return WorkerSession(device, threads=threads, runtime=runtime)
    if runtime != AUTO:
        raise InputError(
            f"{device.name} has no Python, which {runtime} needs: give --runtime {BENCHMARK_MODEL}"
        )
    if device.benchmark_model is None:
        raise InputError(
            f"{device.name} has no Python for our worker: give --benchmark-model PATH (TFLite's "
            "tool, built for the board), or `benchmark_model` in boards.toml"
        )
    return BenchmarkModelSession(device, threads=threads)


def tells_outputs(device: Device, runtime: str = AUTO) -> bool:
    """Whether a session on a board gives a model's outputs; tools only tell times."""
    tool = runtime.partition(":")[0] in (BENCHMARK_MODEL, TRTEXEC)
    return not tool and device.python is not None
