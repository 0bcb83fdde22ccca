"""When a board has failed so often that it is left alone for a while: pure, times are passed in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Failure:
    """A board that failed: when (seconds of any clock that does not go back), and why."""

    board: str
    at: float
    why: str


@dataclass(frozen=True)
class Quarantine:
    """Which boards are left out: those that failed `most` times within `within` seconds, for
    `rest` seconds from the last of these failures. A new one is made by each change."""

    most: int = 3
    within: float = 600.0
    rest: float = 1800.0
    failures: tuple[Failure, ...] = ()

    def __post_init__(self) -> None:
        if self.most < 1 or not (self.within > 0 and self.rest > 0):
            raise ValueError("a quarantine begins after one failure or more, and lasts some time")

    def failed(self, board: str, at: float, why: str) -> Quarantine:
        """After one more failure; those that count no longer are forgotten."""
        span = self.within + self.rest
        kept = [failure for failure in self.failures if at - failure.at <= span]
        return replace(self, failures=(*kept, Failure(board, at, why)))

    def recovered(self, board: str) -> Quarantine:
        """After work of a board's that ended well: what it did before counts no longer."""
        kept = tuple(failure for failure in self.failures if failure.board != board)
        return replace(self, failures=kept)

    def until(self, board: str, at: float) -> float | None:
        """Until when a board is left out, or None where it may be used at the time `at`."""
        times = sorted(failure.at for failure in self.failures if failure.board == board)
        ends = [
            last + self.rest
            for first, last in zip(times, times[self.most - 1 :], strict=False)
            if last - first <= self.within
        ]
        end = max(ends, default=at)
        return end if end > at else None

    def fit(self, boards: Iterable[str], at: float) -> list[str]:
        """Those of the boards that may be used, in their order."""
        return [board for board in boards if self.until(board, at) is None]

    def words(self, board: str, at: float) -> str:
        """Why a board is left out and for how long, in a sentence; "" where it is not."""
        end = self.until(board, at)
        if end is None:
            return ""
        mine = sorted((f for f in self.failures if f.board == board), key=lambda f: f.at)
        last = mine[-self.most :]
        return (
            f"{board} failed {len(last)} times within {last[-1].at - last[0].at:.0f} s and is left "
            f"out for {end - at:.0f} s; the last time: {last[-1].why}"
        )
