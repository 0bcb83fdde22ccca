"""A connection to adbd: it lets us in, and then carries any number of streams at once.

A thread reads frames and hands each to its stream; it never writes, so that neither side waits
for the other. Whoever reads from a stream acknowledges what it took, and until then the board may
not send more: a stream holds one payload at most beyond what its owner takes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from .adb_frames import (
    HEADER_SIZE,
    LARGEST,
    WITH_CHECKSUMS,
    WITHOUT_CHECKSUMS,
    Frame,
    Header,
    foreign,
)
from .adb_stream import LONGEST_SERVICE, STALLED_AFTER, Bytes
from .errors import DeviceError, DeviceLost, DeviceTimeout, DeviceUnauthorised

_BANNER = b"host::features=shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir"
_TOKEN, _SIGNATURE, _PUBLIC_KEY = 1, 2, 3
_OF_STREAMS = frozenset({b"OKAY", b"WRTE", b"CLSE"})
_CROSSING = 4  # frames; one of each kind may be under way when we close a stream
_TOKEN_SIZE = 20  # bytes; adbd's tokens take the place of a SHA-1 hash
_LAST_TRANSFER = 2.0  # seconds for what may still be under way when a connection is closed


class Wire(Protocol):
    """What carries frames: a socket, or the two ends of a USB interface."""

    way: str

    def read(self, count: int, timeout: float | None) -> bytes:
        """Between 1 and `count` bytes; raises `TimeoutError`, and `DeviceLost` at the end."""

    def write(self, header: bytes, payload: bytes, timeout: float) -> None:
        """All of a frame. Raises `DeviceLost`, also where it is not taken in time."""

    def shut(self) -> None:
        """Make whoever reads or writes stop, from another thread."""

    def close(self) -> None:
        """Give back what it holds, once nobody uses it."""


class Key(Protocol):
    """A key that a board may know."""

    @property
    def public(self) -> bytes:
        """The line that a board keeps of it."""

    def sign(self, token: bytes) -> bytes:
        """The signature of a token."""


class Connection:
    """A connection to a board's adbd (an `adb_stream.Link`).

    `keys` are tried one after the other; where the board knows none, it is offered the first one,
    and given `patience` seconds in which somebody may allow it. Raises `DeviceUnauthorised`,
    `DeviceLost`, `DeviceTimeout`.
    """

    def __init__(
        self, wire: Wire, keys: Sequence[Key], *, timeout: float = 10.0, patience: float = 30.0
    ) -> None:
        self.way = wire.way
        self.lost: str | None = None
        self._wire = wire
        self._writing = threading.Lock()
        self._changed = threading.Condition()  # guards what the reader and the streams share
        self._streams: dict[int, ConnectionStream] = {}
        self._next = 1
        self._crossing = 0  # frames that may still come for streams that we closed
        self._unsettled: set[int] = set()  # streams that we closed before they began
        self._unwanted: list[Frame] = []  # that end those which began afterwards
        self._checksums = True
        self._closed = False
        try:
            welcome = self._enter(keys, timeout, patience)
            self._checksums = welcome.first < WITHOUT_CHECKSUMS
            self._largest = min(welcome.second, LARGEST)
            if welcome.first < WITH_CHECKSUMS or not self._largest:
                raise foreign(f"version {welcome.first:#x} and room for {welcome.second} bytes")
        except BaseException:
            wire.close()
            raise
        self.longest_service = min(self._largest - 1, LONGEST_SERVICE)  # a NUL ends it
        self.features = features(welcome.payload)
        self._reader = threading.Thread(target=self._read, name=f"adb {self.way}", daemon=True)
        self._reader.start()

    def open(self, service: bytes, *, timeout: float) -> ConnectionStream:
        """Open a service. Raises `DeviceLost`, `DeviceTimeout`, `DeviceError` where refused."""
        with self._changed:
            self.check()
            stream = ConnectionStream(self, self._next, self._largest)
            self._streams[self._next] = stream
            self._next = self._next % 0xFFFFFFFF + 1
        try:
            self.send(Frame(b"OPEN", stream.number, 0, service + b"\0"))
            with self._changed:
                self._changed.wait_for(lambda: stream.settled or self.lost, timeout)
                self.check()
            if not stream.settled:
                raise DeviceTimeout(
                    f"the board has not begun {service[:60]!r} within {timeout:g} s; it may be "
                    "busy: run the same command again, and restart it if that does not help"
                )
            if stream.ended:
                raise DeviceError(f"the board refuses the service {service[:60]!r}")
        except BaseException:
            stream.close()
            raise
        return stream

    def lose(self, reason: str) -> DeviceLost:
        """Give the link up for good; the error that says so."""
        with self._changed:
            self.lost = self.lost or reason
            self._changed.notify_all()
        self._wire.shut()
        return DeviceLost(self.lost)

    def close(self) -> None:
        """End all streams and the connection. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        for stream in list(self._streams.values()):
            stream.close()
        self.lose(f"the way to the board ({self.way}) was closed; connect again")
        self._reader.join()
        with self._writing:
            self._wire.close()

    def check(self) -> None:
        """Raise `DeviceLost` where the link is lost."""
        if self.lost is not None:
            raise DeviceLost(self.lost)

    def send(self, frame: Frame) -> None:
        """Send a frame as a whole. Raises `DeviceLost`."""
        header, payload = frame.encode(checksum=self._checksums)
        timeout = _LAST_TRANSFER if self._closed else STALLED_AFTER
        with self._writing:
            self.check()
            with self._changed:
                before, self._unwanted = self._unwanted, []
            try:
                for unwanted in before:
                    self._wire.write(*unwanted.encode(checksum=self._checksums), timeout)
                self._wire.write(header, payload, timeout)
            except DeviceLost as error:  # half a frame may have gone: nothing can follow it
                raise self.lose(str(error)) from error

    def forget(self, stream: ConnectionStream) -> None:
        """Pass over what still comes for a stream."""
        with self._changed:
            if self._streams.pop(stream.number, None) is not None:
                self._crossing += _CROSSING
                if not stream.settled:
                    self._unsettled.add(stream.number)

    @property
    def changed(self) -> threading.Condition:
        """Held while what streams share with the reader is looked at; waited for a change."""
        return self._changed

    def _enter(self, keys: Sequence[Key], timeout: float, patience: float) -> Frame:
        """Greet, and prove who we are where asked; the board's greeting."""
        deadline = time.monotonic() + timeout
        self.send(Frame(b"CNXN", WITHOUT_CHECKSUMS, LARGEST, _BANNER + b"\0"))
        untried = list(keys)
        offered = False
        while True:
            try:
                frame = self._frame(deadline, checksum=False)
            except TimeoutError:
                raise _not_let_in(self.way, patience) if offered else _silent(self.way) from None
            if frame.command == b"CNXN":
                return frame
            if frame.command == b"STLS":
                raise DeviceUnauthorised(
                    f"the board ({self.way}) wants to be paired over TLS, which the adb server can "
                    "and boardfit alone cannot: run `adb pair` and `adb connect`, or plug it in "
                    "and run `adb tcpip 5555`"
                )
            if frame.command in _OF_STREAMS:
                continue  # left in a USB interface by whoever used it before
            if frame.command != b"AUTH" or frame.first != _TOKEN:
                raise foreign(f"{frame.command.decode()} {frame.first} in place of a greeting")
            if len(frame.payload) != _TOKEN_SIZE:
                raise foreign(f"a token of {len(frame.payload)} bytes")
            if untried:
                signature = untried.pop(0).sign(frame.payload)
                self.send(Frame(b"AUTH", _SIGNATURE, 0, signature))
            elif keys and not offered:
                offered = True
                deadline = time.monotonic() + patience
                self.send(Frame(b"AUTH", _PUBLIC_KEY, 0, keys[0].public.rstrip(b"\n") + b"\0"))
            elif not keys:
                raise _not_let_in(self.way, 0.0)

    def _frame(self, deadline: float | None, *, checksum: bool) -> Frame:
        header = Header.decode(self._exactly(HEADER_SIZE, deadline))
        payload = self._exactly(header.size, deadline) if header.size else b""
        return header.frame(payload, checksum=checksum)

    def _exactly(self, count: int, deadline: float | None) -> bytes:
        first = self._wire.read(count, _left(deadline))
        if len(first) == count:
            return first
        data = bytearray(first)
        while len(data) < count:
            data += self._wire.read(count - len(data), _left(deadline))
        return bytes(data)

    def _read(self) -> None:
        """What the thread does: hand on frames until the link is lost."""
        try:
            while self.lost is None:
                frame = self._frame(None, checksum=self._checksums)
                with self._changed:
                    self._hand_on(frame)
                    self._changed.notify_all()
        except DeviceLost as error:
            self.lose(str(error))

    def _hand_on(self, frame: Frame) -> None:
        if frame.command not in _OF_STREAMS:
            raise foreign(f"{frame.command.decode()}, which it has no reason to")
        if not 0 < frame.second < self._next:
            raise foreign(f"{frame.command.decode()} for a stream {frame.second} that never was")
        stream = self._streams.get(frame.second)
        if stream is not None:
            stream.hand_over(frame)
            return
        self._crossing -= 1  # it crossed our closing of the stream
        if self._crossing < 0:
            raise foreign(f"more {frame.command.decode()} for streams that are closed")
        if frame.command == b"OKAY" and frame.second in self._unsettled:
            self._unsettled.discard(frame.second)
            self._unwanted.append(Frame(b"CLSE", frame.second, frame.first))


class ConnectionStream:
    """A service over a connection (see `adb_stream.Stream`)."""

    def __init__(self, connection: Connection, number: int, largest: int) -> None:
        self.number = number
        self.received = bytearray()
        self._connection = connection
        self._largest = largest
        self._theirs = 0  # the board's number of it; 0 before it began
        self._may_send = False
        self._came: bytes | None = None
        self._ended = False
        self._closed = False

    @property
    def settled(self) -> bool:
        """Whether the board has begun or refused the service."""
        return self._theirs > 0 or self._ended

    @property
    def ended(self) -> bool:
        """Whether nothing more comes, and nothing more can be sent."""
        return self._ended and self._came is None

    def pump(self, wait: float, outgoing: Bytes = b"", *, read: bool = True) -> int:
        """Wait until bytes can be moved, move them, and return how many of `outgoing` went."""
        connection = self._connection
        with connection.changed:
            connection.changed.wait_for(
                lambda: (
                    (read and self._came is not None)
                    or (outgoing and self._may_send)
                    or self._ended
                    or connection.lost
                ),
                max(0.0, wait),
            )
            came = self._came if read else None
            if came is not None:
                self.received += came
                self._came = None
            elif not self._ended:
                connection.check()
            sends = bool(outgoing) and self._may_send and not self._ended
            if sends:
                self._may_send = False
            acknowledges = came is not None and not self._ended
        if acknowledges:
            connection.send(Frame(b"OKAY", self.number, self._theirs))
        if not sends:
            return 0
        piece = bytes(memoryview(outgoing)[: self._largest])
        connection.send(Frame(b"WRTE", self.number, self._theirs, piece))
        return len(piece)

    def hand_over(self, frame: Frame) -> None:
        """Take a frame that is for this stream. Raises `DeviceLost` where it cannot be."""
        if self._theirs and frame.first != self._theirs and frame.command != b"CLSE":
            raise foreign(f"{frame.command.decode()} from a stream {frame.first} of another's")
        if frame.command == b"CLSE":
            self._ended = True
        elif frame.command == b"OKAY":
            if not frame.first:
                raise foreign("OKAY for a stream without a number")
            self._theirs = frame.first
            self._may_send = True
        elif not self._theirs or self._came is not None:
            raise foreign("WRTE before it was asked for more")
        else:
            self._came = frame.payload

    def close(self) -> None:
        """End the service. Closing twice does nothing."""
        if self._closed:
            return
        self._closed = True
        self._connection.forget(self)
        if self._theirs and not self._ended:
            with contextlib.suppress(DeviceLost):
                self._connection.send(Frame(b"CLSE", self.number, self._theirs))
        self._ended = True
        self._came = None


def features(banner: bytes) -> frozenset[str]:
    """What a board can do, from its greeting `device::name=value;...;features=a,b,c`."""
    words = banner.rstrip(b"\0").decode(errors="replace")
    for part in words.rpartition("::")[2].split(";"):
        name, _, value = part.partition("=")
        if name == "features" and value:
            return frozenset(value.split(","))
    return frozenset()


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _silent(way: str) -> DeviceTimeout:
    return DeviceTimeout(
        f"the board ({way}) does not greet; it may hold another connection, or something else "
        "answers there: check the address, and restart the board if that does not help"
    )


def _not_let_in(way: str, patience: float) -> DeviceUnauthorised:
    return DeviceUnauthorised(
        f"the board ({way}) does not know this computer's key, and nobody allowed it within "
        f"{patience:g} s; unlock it, run the same command again, and allow this computer in the "
        "dialog that it shows"
    )
