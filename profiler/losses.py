"""How often a board may be lost before work on it is given up."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ..devices.base import Device
from ..devices.errors import DeviceLost, DeviceTimeout, WorkerLost

RESTARTS = 3  # workers or links that may be lost in a piece of work before it is given up
Result = TypeVar("Result")
LOST = (DeviceLost, DeviceTimeout, WorkerLost)


class Losses:
    """The workers and links that a piece of work has lost."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._fruitless = 0  # in a row

    def add(
        self, error: DeviceLost | DeviceTimeout | WorkerLost, device: Device, *, fruitless: bool
    ) -> None:
        """Count one more. Raises it, with how often that was, where there were too many."""
        self._times.append(time.monotonic())
        self._fruitless = self._fruitless + 1 if fruitless else 0
        if len(self._times) <= RESTARTS and self._fruitless < 2:
            return
        words = (
            f"{error}. {device.name} was lost {len(self._times)} times within "
            f"{self._times[-1] - self._times[0]:.0f} s and is given up: look at its power, its "
            "link and its memory; what was measured is kept, and the same command goes on"
        )
        if isinstance(error, WorkerLost):
            raise WorkerLost(words, out_of_memory=error.out_of_memory) from error
        if isinstance(error, DeviceLost):
            raise DeviceLost(words, killed=error.killed) from error
        raise DeviceTimeout(words) from error


def repeated(work: Callable[[], Result], device: Device, tell: Callable[[str], None]) -> Result:
    """Do what may be begun anew, once more each time that the board is lost meanwhile.

    Raises the last loss where there were too many of them.
    """
    losses = Losses()
    while True:
        try:
            return work()
        except LOST as error:
            losses.add(error, device, fruitless=True)
            tell(f"{device.name} was lost and is asked again: {error}")
