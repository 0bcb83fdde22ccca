"""How long each operator of a model takes inside of the whole, and which a delegate left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..devices.errors import PlacementError
from .model_format import BENCHMARK_MODEL
from .read_tflite import ModelInfo
from .worker_onnx import CPU
from .worker_onnx import NAME as ONNX

RESOLUTION = 1e-6  # seconds; the runtimes' profilers count whole microseconds, and round down
DELEGATE = "the delegate"
_LONGEST = 1e6  # seconds; no inference takes that long
_NAMED = 8  # operators that a message lists


@dataclass(frozen=True)
class OperatorTime:
    """One operator of a model, timed inside of the whole: `seconds` of each run.

    `name` is what the runtime ran for it, `kind` and `index` are the model's own; where these
    cannot be told, they are "" and -1. `delegate` ran it, or None where none took it.
    """

    name: str
    kind: str
    index: int
    delegate: str | None
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        texts = (self.name, self.kind, "" if self.delegate is None else self.delegate)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("an operator's name, kind and delegate are texts")
        if not isinstance(self.index, int) or isinstance(self.index, bool) or self.index < -1:
            raise ValueError(f"{self.index!r} is not the index of an operator")
        _check_seconds(self.seconds, 0.0)

    @property
    def label(self) -> str:
        """What to call it: its kind, or what the runtime ran where that cannot be told."""
        return self.kind or self.name

    @cached_property
    def median(self) -> float:
        """The median over the runs, in seconds."""
        return float(np.median(self.seconds))

    @cached_property
    def quartiles(self) -> tuple[float, float]:
        """The times, in seconds, that a quarter and three quarters of the runs stay under."""
        low, high = np.quantile(self.seconds, [0.25, 0.75])
        return float(low), float(high)


@dataclass(frozen=True)
class OperatorProfile:
    """The operators of a model in its order, and whole runs in seconds: those that were `profiled`,
    and `plain` ones, which alternated with them.

    What profiling costs falls between the operators rather than into them, so that their times are
    compared with the plain runs.
    """

    operators: tuple[OperatorTime, ...]
    profiled: tuple[float, ...]
    plain: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.operators:
            raise ValueError("a model has operators")
        _check_seconds(self.profiled, RESOLUTION / 1e3)  # no inference takes no time
        _check_seconds(self.plain, RESOLUTION / 1e3)
        lengths = {len(operator.seconds) for operator in self.operators}
        if lengths != {len(self.plain)} or len(self.profiled) != len(self.plain):
            raise ValueError("each operator has one time for each run")
        known = [operator.index for operator in self.operators if operator.index >= 0]
        if len(set(known)) != len(known):
            raise ValueError("an operator of the model occurs twice")

    @property
    def runs(self) -> int:
        """How many times the whole was run and each operator timed."""
        return len(self.plain)

    @cached_property
    def total(self) -> float:
        """Seconds of the whole invocation without the profiler (median)."""
        return float(np.median(self.plain))

    @cached_property
    def overhead(self) -> float:
        """Seconds that profiling adds to an invocation: the median difference of neighbours."""
        return float(np.median(np.subtract(self.profiled, self.plain)))

    @cached_property
    def in_operators(self) -> float:
        """Seconds inside of the operators: the sum of their medians."""
        return sum(operator.median for operator in self.operators)

    @property
    def residual(self) -> float:
        """Seconds of the whole invocation that no operator accounts for.

        Negative where the operators were slowed by the profiler. Up to `RESOLUTION` for each
        operator is what the profiler rounds away.
        """
        return self.total - self.in_operators

    @property
    def exceeds(self) -> bool:
        """Whether the operators add up to more than the whole: the profiler makes them longer, and
        short ones most, so that shares are rough."""
        return self.residual < 0

    @property
    def by_time(self) -> tuple[OperatorTime, ...]:
        """The operators, the longest first."""
        return tuple(sorted(self.operators, key=lambda operator: -operator.median))

    @property
    def outside(self) -> tuple[OperatorTime, ...]:
        """The operators that no delegate took, nor a provider."""
        return tuple(operator for operator in self.operators if operator.delegate is None)

    def share(self, *operators: OperatorTime) -> float:
        """The share of some operators in the time of all, between 0 and 1."""
        chosen = sum(operator.median for operator in operators)
        return chosen / self.in_operators if self.in_operators else 0.0

    def output_shapes(self, model: ModelInfo) -> tuple[tuple[int, ...] | None, ...]:
        """The shape that each operator puts out; None where it cannot be told.

        A runtime that numbers the operators of its own, optimised graph gives other kinds than
        the file has: nothing can be told then.
        """
        known = [operator for operator in self.operators if operator.index >= 0]
        names = [operator.name for operator in model.operators]
        fits = all(o.index < len(names) and names[o.index] == o.kind for o in known)

        def shape(index: int) -> tuple[int, ...] | None:
            outputs = model.operators[index].outputs if fits and index >= 0 else ()
            return outputs[0] if outputs else None

        return tuple(shape(operator.index) for operator in self.operators)

    def content(self) -> dict[str, Any]:
        """As JSON values, the way that a worker answers and a file keeps it."""
        return asdict(self)


def read_operators(content: Mapping[str, Any]) -> OperatorProfile:
    """The inverse of `OperatorProfile.content`. Raises ValueError for anything else."""
    try:
        operators = tuple(
            OperatorTime(
                row["name"], row["kind"], row["index"], row["delegate"], tuple(row["seconds"])
            )
            for row in content["operators"]
        )
        return OperatorProfile(operators, tuple(content["profiled"]), tuple(content["plain"]))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"these are no times of operators ({error!r})") from error


@dataclass(frozen=True)
class Placement:
    """Index and kind of the operators that no delegate took; None where nobody knows."""

    outside: tuple[tuple[int, str], ...] | None

    @property
    def words(self) -> str:
        """The operators, as a list to read."""
        found = self.outside or ()
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        return ", ".join(f"{kind} ({index})" for index, kind in found[:_NAMED]) + more

    def check(self, model: str, operators: int, device: str, runtime: str = "") -> None:
        """Raise `PlacementError` where operators of `model` run outside of the delegate, or of the
        execution provider that `runtime` prefers."""
        if self.outside:
            runner = runner_of(runtime)
            named = (
                "the runtime's delegate (XNNPACK is the default)" if runner == DELEGATE else runner
            )
            raise PlacementError(
                f"on {device} {named} does not take "
                f"{len(self.outside)} of the {operators} operators of {model}: {self.words}. They "
                f"run in other kernels, and the model's latency is not {runner}'s; change the "
                "model, or give --allow-fallback to measure it as it is"
            )


UNKNOWN = Placement(None)


def runner_of(runtime: str) -> str:
    """What should run every operator in a runtime, as it calls itself or was asked for: "the
    delegate", one by its name, or in ONNX Runtime the execution provider that is preferred."""
    name, _, providers = runtime.partition(":")
    if name == BENCHMARK_MODEL and providers:
        return f"{DELEGATE} {providers}"
    if name != ONNX:
        return DELEGATE
    return providers.partition(",")[0].strip() or CPU


def read_placement(outside: object) -> Placement:
    """A placement from JSON: pairs of index and kind, or None. Raises ValueError."""
    if outside is None:
        return Placement(None)
    if not isinstance(outside, list):
        raise ValueError("operators outside of the delegate are a list, or not known")
    found: list[tuple[int, str]] = []
    for pair in outside:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"{pair!r:.40} is not an operator with its index")
        index, kind = pair
        if not isinstance(index, int) or isinstance(index, bool) or not isinstance(kind, str):
            raise ValueError(f"{pair!r:.40} is not an operator with its index")
        if index < 0 or (found and index <= found[-1][0]):
            raise ValueError("operators outside of the delegate stand in the model's order")
        found.append((index, kind))
    return Placement(tuple(found))


def _check_seconds(values: Sequence[object], least: float) -> None:
    if not values:
        raise ValueError("without a run there are no times")
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"{value!r:.30} is not a time")
        if not least <= value < _LONGEST:  # also not NaN
            raise ValueError(f"{value!r:.30} is not a time in seconds")
