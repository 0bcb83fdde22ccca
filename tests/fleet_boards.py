"""Boards of a fleet in this process: each does its share when the host waits. For tests."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from boardfit.devices.base import Device
from boardfit.profiler.fleet_dispatch import News
from boardfit.profiler.fleet_share import answer_share

Answer = Callable[[str, Device], object]  # from a share's text


@dataclass
class BoardsHere:
    """Boards by name. `answers` replaces what a board answers, `lost` says after how many answers a
    board is lost, and `silent` which boards never answer."""

    devices: Mapping[str, Device]
    answers: Mapping[str, Answer] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    silent: Set[str] = frozenset()

    def __post_init__(self) -> None:
        self._asked: dict[str, str] = {}
        self.answered: dict[str, int] = dict.fromkeys(self.devices, 0)
        self.abandoned: list[str] = []

    def offered(self) -> Set[str]:
        """All that were not lost."""
        return {n for n in self.devices if self.answered[n] < self.lost.get(n, 10**9)}

    def start(self, board: str, text: str) -> None:
        """Remember what is asked."""
        assert board not in self._asked, f"{board} is busy"
        self._asked[board] = text

    def wait(self, seconds: float) -> Sequence[News]:
        """Do one share that was asked for."""
        for board in sorted(self._asked.keys() - self.silent):
            text = self._asked.pop(board)
            if board not in self.offered():
                return [News(board, lost=f"the worker of {board} was killed")]
            answer = self.answers.get(board, answer_share)(text, self.devices[board])
            self.answered[board] += 1
            return [News(board, 0.5), News(board, answer=answer)]
        time.sleep(min(seconds, 0.01))
        return []

    def abandon(self, board: str) -> None:
        """Forget what was asked."""
        self.abandoned.append(board)
        self._asked.pop(board, None)
