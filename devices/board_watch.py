"""A board that says its state again and again while something is measured there.

    with watched(transport) as watch:
        ...
        for seen in watch.seen(): ...   # what has arrived since; nobody waits for it

A script on the board reads once a second (a phone's services every three seconds), between its
looks it sleeps. Its answers come over a channel of their own and say at which uptime they were
taken, so that the link's delay does not matter, and measuring never waits for them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from .base import Channel, Transport
from .board_state import MOST_LINES, BoardState, command, parse_state, read_state
from .errors import CommandFailed, DeviceError, DeviceTimeout

_MOST_ANSWERS = 100_000  # a day
_AT_ONCE = 10 * MOST_LINES  # lines that are taken at a time, however many a board sends


@dataclass(frozen=True)
class Seen:
    """A board's state, and what slowed it then or since the state before, in words."""

    state: BoardState
    slowed_by: tuple[str, ...]


class BoardWatch:
    """The states that arrive from a board. One that tells nothing is not watched any longer."""

    def __init__(self, transport: Transport, channel: Channel | None, root: str) -> None:
        self._transport = transport
        self._channel = channel
        self._root = root
        self._lines: list[str] = []  # of an answer that has not ended
        self._first: BoardState | None = None
        self._last: BoardState | None = None

    @property
    def tells(self) -> bool:
        """Whether the board has told anything so far."""
        return self._first is not None

    def seen(self) -> list[Seen]:
        """The states that have arrived since the last call, in their order. Nothing is waited for.

        Where the script was lost nothing comes any more; whoever measures meets the lost link.
        """
        found: list[Seen] = []
        try:
            for _ in range(_AT_ONCE):
                if self._channel is None:
                    break
                line = self._channel.receive(timeout=0.0).decode(errors="replace").rstrip("\r")
                if line == "end":
                    found += self._add(parse_state(self._lines, root=self._root))
                    self._lines.clear()
                    continue
                self._lines.append(line)
                if len(self._lines) > MOST_LINES:
                    self.close()
        except DeviceTimeout:  # of no second: nothing more has arrived
            pass
        except DeviceError:
            self.close()
        return found

    def look(self) -> list[Seen]:
        """The states that have arrived, and that of this moment, for which the board is asked.

        Raises what asking raises. A board that tells nothing is not asked.
        """
        found = self.seen()
        if self.tells:
            found += self._add(read_state(self._transport, root=self._root))
        return found

    def close(self) -> None:
        """End the script on the board. Closing twice does nothing."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            channel.close()

    def _add(self, state: BoardState) -> list[Seen]:
        if not state.facts or state.uptime is None:
            if not self.tells:
                self.close()
            return []
        slowed = state.slowed_by(self._last, self._first)
        self._first = self._first or state
        # What a tool did not say this time is compared with what it said last.
        earlier = {} if self._last is None else self._last.facts
        self._last = BoardState(state.uptime, {**earlier, **state.facts})
        return [Seen(state, slowed)]


@contextlib.contextmanager
def watched(transport: Transport, *, pause: int = 1, root: str = "") -> Iterator[BoardWatch]:
    """Have a board say its state every `pause` seconds or so, until the block is left.

    A board without a shell tells nothing. Raises `DeviceLost` and `DeviceTimeout`.
    """
    try:
        channel = transport.open(command(count=_MOST_ANSWERS, pause=pause, root=root))
    except CommandFailed:
        channel = None
    watch = BoardWatch(transport, channel, root)
    try:
        yield watch
    finally:
        watch.close()
