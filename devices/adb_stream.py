"""What both ways to a board over ADB offer: streams of bytes to services on it.

`Link` is the way (an adb server, or a connection of our own), `Stream` one service that was opened
over it. Whoever waits moves the bytes; nobody else does.
"""

from __future__ import annotations

import time
from typing import Protocol

from .errors import DeviceLost, DeviceTimeout

Bytes = bytes | bytearray | memoryview

CHUNK = 256 * 1024  # bytes that are read at a time
LONGEST_SERVICE = 0xFFFF  # bytes of a service's name, commands included: four hexadecimal digits
HELD = 1024 * 1024  # bytes that may wait to be taken; beyond them the board waits
STALLED_AFTER = 60.0  # seconds in which not one byte moves


class Stream(Protocol):
    """A service on the board. `received` holds what came and was not taken yet."""

    received: bytearray

    @property
    def ended(self) -> bool:
        """Whether the other side ended it: nothing more comes, nothing more can be sent."""

    def pump(self, wait: float, outgoing: Bytes = b"", *, read: bool = True) -> int:
        """Wait until bytes can be moved, move them, and return how many of `outgoing` went.

        Without `read` nothing is received. Raises `DeviceLost` where the link broke.
        """

    def close(self) -> None:
        """End the service, and with it what it runs. Closing twice does nothing."""


class Link(Protocol):
    """A way to one board.

    `way` names it in words; `features` are what the board's adbd can do (`shell_v2`, `stat_v2`);
    a service's name may have `longest_service` bytes. `lost` says why the link cannot be used.
    """

    way: str
    features: frozenset[str]
    longest_service: int
    lost: str | None

    def open(self, service: bytes, *, timeout: float) -> Stream:
        """Open a service. Raises `DeviceLost`, `DeviceTimeout`, `DeviceError` where refused."""

    def lose(self, reason: str) -> DeviceLost:
        """Give the link up for good; the error that says so."""

    def close(self) -> None:
        """End all streams and the link. Closing twice does nothing."""


def send(stream: Stream, data: Bytes) -> bool:
    """Send all of `data`; False where the other side spoke or ended the stream meanwhile.

    Raises `DeviceTimeout` where nothing moves for long.
    """
    rest = memoryview(data)
    while rest:
        written = stream.pump(STALLED_AFTER, rest, read=len(stream.received) <= HELD)
        rest = rest[written:]
        if stream.received or stream.ended:
            return False
        if not written:
            raise DeviceTimeout(_stalled("took nothing"))
    return True


def take(stream: Stream, count: int) -> bytes:
    """The next `count` bytes. Raises `DeviceTimeout` where nothing comes for long, `DeviceLost`."""
    deadline = time.monotonic() + STALLED_AFTER
    had = len(stream.received)
    while len(stream.received) < count:
        if stream.ended:
            raise DeviceLost(
                "the board ended a transfer half way; its adbd was restarted, or the board: "
                "run the same command again"
            )
        if time.monotonic() >= deadline:
            raise DeviceTimeout(_stalled("sent nothing"))
        stream.pump(max(0.0, deadline - time.monotonic()))
        if len(stream.received) > had:
            had, deadline = len(stream.received), time.monotonic() + STALLED_AFTER
    data = bytes(stream.received[:count])
    del stream.received[:count]
    return data


def _stalled(what: str) -> str:
    return (
        f"the board {what} for {STALLED_AFTER:g} s; look at its cable or its network, restart it "
        "if that does not help, and run the same command again"
    )
