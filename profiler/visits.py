"""What a session on a board is asked for, and what it answers: models, visits, rounds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .compact import Piece
from .schedule import LONGEST_INFERENCE, SHORTEST_INFERENCE

_LARGEST = 1e18  # of any number that a worker may say: bytes, hertz, seconds


@dataclass(frozen=True)
class Model:
    """A model under the name that its samples are recorded by; `emit` gives its bytes,
    which are only needed while it is sent, or not at all where its `pieces` are known."""

    key: str
    emit: Callable[[], bytes]
    pieces: Sequence[Piece] | None = None


@dataclass(frozen=True)
class VisitRequest:
    """Visits to loaded models in the given order, pairs of key and repeats (inferences a sample);
    `number` names the round."""

    number: int
    visits: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Visit:
    """What one visit to a model gave: warm-up inferences apart, each sample in seconds per
    inference; `at` is the board's monotonic clock."""

    key: str
    at: float
    warmup: tuple[float, ...]
    seconds: tuple[float, ...]
    repeats: int


@dataclass(frozen=True)
class Round:
    """The end of a round: seconds it took on the board, seconds inside of inferences, and the
    board's state then (see `WorkerSession.conditions`)."""

    wall: float
    inside: float
    conditions: Mapping[str, float]


class Streams(Protocol):
    """What answers a stream of requests, and so those for visits alone."""

    @abstractmethod
    def stream(
        self,
        requests: Iterable[Model | VisitRequest | None],
        *,
        warmup: int = 1,
        samples: int = 2,
    ) -> Iterator[str | Visit | Round]:
        """Load and visit as is asked, without the board waiting for the next request."""

    def measure(
        self,
        visits: Sequence[tuple[str, int]],
        *,
        number: int = 0,
        warmup: int = 1,
        samples: int = 2,
    ) -> Iterator[Visit | Round]:
        """Visit loaded models in the given order; yield each `Visit`, then one `Round`.

        `visits` are pairs of key and repeats (inferences a sample); `number` names the round.
        """
        requests = [VisitRequest(number, visits)]
        for answer in self.stream(requests, warmup=warmup, samples=samples):
            assert not isinstance(answer, str)
            yield answer


def read_visit(
    answer: Mapping[str, Any], key: str, repeats: int, warmup: int, samples: int
) -> Visit:
    """A visit to `key` as a worker tells it. Raises ValueError where it is another one, not
    complete, or cannot be."""
    try:
        (at,) = finite_numbers([answer["at"]])
        taken, seconds = finite_numbers(answer["warmup"]), finite_numbers(answer["seconds"])
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"a visit is expected ({error!r:.100})") from error
    complete = (len(taken), len(seconds)) == (warmup, samples)
    # No inference takes no time: a zero would be a clock that stands still.
    possible = (
        min(seconds, default=0.0) >= SHORTEST_INFERENCE
        and min(taken, default=0.0) >= 0
        and max((*seconds, *taken), default=0.0) <= LONGEST_INFERENCE
    )
    if answer.get("visit") != key or not complete or not possible:
        raise ValueError("the visit is another one, or not complete, or cannot be")
    return Visit(key, at, taken, seconds, repeats)


def finite_numbers(values: Iterable[object]) -> tuple[float, ...]:
    """Finite numbers from JSON. Raises ValueError or TypeError where one is something else."""
    found = []
    for value in values:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{value!r} is not a number")
        if not abs(value) <= _LARGEST:  # also not NaN
            raise ValueError(f"{value!r} is not a finite number")
        found.append(float(value))
    return tuple(found)
