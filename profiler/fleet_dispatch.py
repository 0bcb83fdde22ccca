"""Who does what in a fleet: boards are kept busy with shares, and lost ones are found out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Protocol

from ..devices.errors import (
    BoardfitError,
    BoardsDisagree,
    DeviceError,
    DeviceLost,
    DeviceTimeout,
    MeasurementError,
)
from .fleet_share import Share, write_share
from .progress import Progress, Report

SILENCE = 300.0  # seconds without a sign of life; a board tells its progress every second
LOSSES = 3  # of a board that a running scheduler lost and was offered again
TICK = 1.0  # seconds between two looks at what is silent


@dataclass(frozen=True)
class News:
    """What is heard of a board: how much of its share is done, its answer, or that it is lost."""

    board: str
    done: float = 0.0
    answer: object = None
    lost: str | None = None


class Boards(Protocol):
    """The way to the boards of a fleet; each does one share at a time."""

    def offered(self) -> Set[str]:
        """The names of the boards that can be asked just now."""

    def start(self, board: str, text: str) -> None:
        """Send a share to a board that does nothing."""

    def wait(self, seconds: float) -> Sequence[News]:
        """What has come from the boards; waits so long where there is nothing."""

    def abandon(self, board: str) -> None:
        """Want no answer any more to what a board was asked."""


@dataclass
class Busy:
    """What a board was asked, when it was last heard of, and how much of it is done."""

    share: Share
    heard: float  # by the host's clock
    done: float = 0.0


@dataclass
class Dispatch:
    """The boards of a fleet, and what each was asked. Those in `odd` are asked nothing more."""

    boards: Boards
    names: Sequence[str]
    odd: Mapping[str, str]
    silence: float
    patience: float
    report: Report
    busy: dict[str, Busy] = field(default_factory=dict)
    restarts: list[str] = field(default_factory=list)  # in words

    def __post_init__(self) -> None:
        self._failed: dict[str, BoardfitError] = {}  # that are not asked again
        self._last: BoardfitError = DeviceLost("")  # why a board was lost
        self._losses: dict[str, int] = {}
        self._present: set[str] = set()  # that were offered when it was last looked

    @property
    def lost(self) -> dict[str, str]:
        """The boards that are not asked any more, and why."""
        return {name: str(error) for name, error in self._failed.items()}

    def ready(self) -> list[str]:
        """The boards that can be asked, in the order in which they were named."""
        offered = self.boards.offered()
        return [
            name
            for name in self.names
            if name in offered and name not in self.odd and name not in self._failed
        ]

    def work(
        self,
        take: Callable[[str], Share | None],
        accept: Callable[[str, Share, object], None],
        finished: Callable[[], bool],
        tell: Callable[[], None],
        give_back: Callable[[Share], None] = lambda share: None,
    ) -> None:
        """Keep the boards busy with what `take` gives until all is `finished`.

        What `accept` refuses, and what a lost board was asked, is given back.
        """
        try:
            while True:
                for board in self.ready():
                    if board not in self.busy and (share := take(board)) is not None:
                        self.boards.start(board, write_share(share))
                        self.busy[board] = Busy(share, time.monotonic())
                if not self.busy:
                    if finished():
                        return
                    self._wait_for_any()
                    continue
                for news in self.boards.wait(TICK):
                    self._hear(news, accept, give_back)
                self._look_for_silence(give_back)
                self._look_for_vanished(give_back)
                tell()
        finally:
            for board in self.busy:
                self.boards.abandon(board)
            self.busy.clear()

    def _hear(
        self,
        news: News,
        accept: Callable[[str, Share, object], None],
        give_back: Callable[[Share], None],
    ) -> None:
        busy = self.busy.get(news.board)
        if busy is None:
            return
        busy.heard = time.monotonic()
        if news.lost is not None:
            self._lose_link(news.board, news.lost, give_back)
        elif news.answer is None:
            busy.done = min(1.0, max(0.0, news.done))
        else:
            try:
                accept(news.board, busy.share, news.answer)
            except BoardsDisagree:
                raise
            except (DeviceError, MeasurementError) as error:
                self._lose(news.board, error, give_back)
            else:
                del self.busy[news.board]

    def _look_for_silence(self, give_back: Callable[[Share], None]) -> None:
        now = time.monotonic()
        for board in [name for name, busy in self.busy.items() if now - busy.heard > self.silence]:
            self.boards.abandon(board)
            words = f"{board} has given no sign of life for {self.silence:.0f} s"
            self._lose(board, DeviceTimeout(words), give_back)

    def _look_for_vanished(self, give_back: Callable[[Share], None]) -> None:
        """Find boards that were lost while they had nothing to do."""
        offered = set(self.boards.offered())
        for board in self._present - offered - self.busy.keys():
            self._lose_link(board, f"{board} is not offered any more", give_back)
        self._present = set(self.ready())

    def _lose_link(self, board: str, words: str, give_back: Callable[[Share], None]) -> None:
        """A board that cannot be reached is asked again where somebody offers it anew."""
        self._losses[board] = self._losses.get(board, 0) + 1
        again = self._losses[board] <= LOSSES and self.patience > 0
        self._lose(board, DeviceLost(words), give_back, again=again)

    def _lose(
        self,
        board: str,
        error: BoardfitError,
        give_back: Callable[[Share], None],
        *,
        again: bool = False,
    ) -> None:
        """What a board was asked goes to others; it is asked nothing more, unless `again`."""
        self._present.discard(board)
        if board in self.busy:
            give_back(self.busy.pop(board).share)
        self._last = error
        if not again:
            self._failed[board] = error
        words = f"{board} was lost: {str(error).partition(chr(10))[0][:300]}"
        self.restarts.append(words)
        self.report(Progress("boards lost", 0, len(self.names), words))

    def _wait_for_any(self) -> None:
        """Wait until a board can be asked. Raises the last board's error where none is left."""
        end = time.monotonic() + self.patience
        while not self.ready():
            if time.monotonic() > end or len({*self._failed, *self.odd}) == len(self.names):
                reasons = [
                    str(self._failed.get(name, f"{name} is not offered any more"))[:400]
                    for name in self.names
                    if name not in self.odd
                ]
                raise type(self._last)(
                    f"no board of the fleet is left: {'; '.join(reasons)}. What was measured is "
                    "kept: run the same command again to go on"
                )
            self.boards.wait(TICK)
