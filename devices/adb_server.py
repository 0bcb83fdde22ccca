"""Boards through a running adb server: most people who use a phone have one, and it holds the USB.

Requests are four hexadecimal digits of length and a text; answers begin with OKAY or FAIL
(OVERVIEW.TXT and SERVICES.TXT of Android's adb). Each service has a connection of its own.
"""

from __future__ import annotations

import re
import select
import socket
import time

from .adb_devices import Listed, one_of_each, parse_list, server_address
from .adb_stream import CHUNK, LONGEST_SERVICE, Bytes
from .adb_transport import AdbTransport
from .errors import (
    DeviceError,
    DeviceLost,
    DeviceTimeout,
    DeviceUnreachable,
    InputError,
)

_ANSWER = 10.0  # seconds for one question to the server
_CONNECTING = 30.0  # seconds in which it reaches a board over the network, or gives up


class AdbServer:
    """An adb server that runs at an address."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address

    def __str__(self) -> str:
        host, port = self.address
        return f"the adb server at {host}:{port}"

    def answers(self) -> bool:
        """Whether one runs there. Raises `DeviceError` where something else does."""
        try:
            self.ask("host:version")
        except DeviceLost:
            return False
        return True

    def boards(self, *, timeout: float = _ANSWER) -> tuple[Listed, ...]:
        """What is attached, under every name that the server has for it."""
        return parse_list(self.ask("host:devices-l", timeout=timeout))

    def connect(self, serial: str) -> str:
        """Have the server connect to HOST:PORT; what it says about that."""
        return self.ask(f"host:connect:{serial}", timeout=_CONNECTING)

    def features(self, serial: str) -> frozenset[str]:
        """What a board's adbd can do."""
        words = self.ask(f"host-serial:{serial}:features")
        return frozenset(words.strip().split(","))

    def ask(self, request: str, *, timeout: float = _ANSWER) -> str:
        """The answer to a question. Raises `DeviceLost` where no server runs there,
        `DeviceTimeout`, `DeviceError` with the server's words where it refuses."""
        deadline = time.monotonic() + timeout
        with self.dial(deadline) as link:
            self.request(link, request.encode(), deadline)
            return self._text(link, deadline)

    def dial(self, deadline: float) -> socket.socket:
        """A connection to the server, without delay for small packets."""
        try:
            link = socket.create_connection(self.address, _left(deadline))
        except TimeoutError:
            raise self._silent() from None
        except OSError as error:
            raise DeviceLost(
                f"{self} does not answer ({error.strerror or error}); run `adb start-server`, and "
                "the same command again"
            ) from error
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def request(self, link: socket.socket, request: bytes, deadline: float) -> None:
        """Send a request and read that it was accepted. Raises `DeviceError` with the server's
        words where it was not."""
        if len(request) > LONGEST_SERVICE:
            raise InputError(f"{self} takes requests of at most {LONGEST_SERVICE} bytes")
        try:
            link.settimeout(_left(deadline))
            link.sendall(b"%04x" % len(request) + request)
        except TimeoutError:
            raise self._silent() from None
        except OSError as error:
            raise self._broke() from error
        status = self._exactly(link, 4, deadline)
        if status == b"FAIL":
            raise _failure(self._text(link, deadline))
        if status != b"OKAY":
            raise self._foreign(status)

    def _text(self, link: socket.socket, deadline: float) -> str:
        digits = self._exactly(link, 4, deadline)
        if not re.fullmatch(rb"[0-9a-fA-F]{4}", digits):
            raise self._foreign(digits)
        return self._exactly(link, int(digits, 16), deadline).decode(errors="replace")

    def _exactly(self, link: socket.socket, count: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                link.settimeout(_left(deadline))
                piece = link.recv(count - len(data))
            except TimeoutError:
                raise self._silent() from None
            except OSError as error:
                raise self._broke() from error
            if not piece:
                raise self._broke()
            data += piece
        return bytes(data)

    def _silent(self) -> DeviceTimeout:
        return DeviceTimeout(
            f"{self} has not answered in time; run `adb kill-server`, `adb start-server`, and the "
            "same command again"
        )

    def _broke(self) -> DeviceLost:
        return DeviceLost(f"{self} hung up; it may have been restarted: run the same command again")

    def _foreign(self, words: bytes) -> DeviceError:
        return DeviceError(
            f"what answers at {self.address[0]}:{self.address[1]} is no adb server (it said "
            f"{words!r}); set ANDROID_ADB_SERVER_PORT to where one runs"
        )


def attached(address: tuple[str, int] | None = None, *, timeout: float) -> tuple[Listed, ...]:
    """What the server at an address (None: the usual one) sees, each board once. It is not started.

    Raises `DeviceUnreachable` where none runs, `DeviceTimeout`, `DeviceError` where what answers is
    none, and `InputError` where the environment names no address.
    """
    try:
        return one_of_each(AdbServer(address or server_address()).boards(timeout=timeout))
    except DeviceLost as error:
        raise DeviceUnreachable(str(error)) from error


class ServerLink:
    """A board through an adb server (see `adb_stream.Link`)."""

    longest_service = LONGEST_SERVICE

    def __init__(self, server: AdbServer, serial: str) -> None:
        self.way = f"{serial} through {server}"
        self.lost: str | None = None
        self.features = server.features(serial)
        self._server = server
        self._serial = serial
        self._streams: list[SocketStream] = []

    def open(self, service: bytes, *, timeout: float) -> SocketStream:
        """Open a service of the board. Raises `DeviceLost`, `DeviceTimeout`, `DeviceError`."""
        if self.lost is not None:
            raise DeviceLost(self.lost)
        deadline = time.monotonic() + timeout
        try:
            link = self._server.dial(deadline)
            try:
                target = f"host:transport:{self._serial}".encode()
                self._server.request(link, target, deadline)
                self._server.request(link, service, deadline)
            except BaseException:
                link.close()
                raise
        except DeviceLost as error:
            self.lost = self.lost or str(error)
            raise
        stream = SocketStream(link)
        self._streams = [*(other for other in self._streams if not other.closed), stream]
        return stream

    def lose(self, reason: str) -> DeviceLost:
        """Give the link up for good; the error that says so."""
        self.lost = self.lost or reason
        return DeviceLost(self.lost)

    def close(self) -> None:
        """End all streams, and open no more. Closing twice does nothing."""
        self.lose(f"the way to the board ({self.way}) was closed; connect again")
        for stream in self._streams:
            stream.close()
        self._streams = []


class SocketStream:
    """A service of a board over a socket of its own (see `adb_stream.Stream`)."""

    def __init__(self, link: socket.socket) -> None:
        link.setblocking(False)
        self.received = bytearray()
        self._link = link
        self._ended = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._link.fileno() < 0

    @property
    def ended(self) -> bool:
        """Whether nothing more comes, and nothing more can be sent."""
        return self._ended

    def pump(self, wait: float, outgoing: Bytes = b"", *, read: bool = True) -> int:
        """Wait until bytes can be moved, move them, and return how many of `outgoing` went."""
        if self._ended or self.closed:
            self._ended = True
            return 0
        events = (select.POLLIN if read else 0) | (select.POLLOUT if outgoing else 0)
        poll = select.poll()
        poll.register(self._link, events)
        written = 0
        for _, ready in poll.poll(max(0.0, wait) * 1000):
            try:
                if ready & (select.POLLIN | select.POLLHUP | select.POLLERR) and read:
                    data = self._link.recv(CHUNK)
                    self.received += data
                    self._ended = not data
                if ready & select.POLLOUT and not self._ended:
                    written = self._link.send(outgoing)
            except BlockingIOError:
                pass
            except OSError:
                self._ended = True
        return written

    def close(self) -> None:
        """End the service. Closing twice does nothing."""
        self._link.close()


class AdbServerTransport(AdbTransport):
    """A board through a running adb server."""

    def __init__(self, server: AdbServer, serial: str) -> None:
        super().__init__(ServerLink(server, serial))


def _failure(words: str) -> DeviceError:
    """The error that a server's refusal means."""
    for state in ("unauthorized", "authorizing", "offline", "connecting"):
        if f"device {state}" in words or f"device still {state}" in words:
            return Listed("the board", state).refused()
    if "not found" in words or words.strip() in {"closed", "no devices/emulators found"}:
        return DeviceLost(
            f"the adb server says: {words.strip()}; the board was unplugged or restarted: wait "
            "until `adb devices` lists it, and run the same command again"
        )
    return DeviceError(f"the adb server refuses: {words.strip()}; `adb devices` shows its state")


def _left(deadline: float) -> float:
    """Seconds until the deadline, as sockets want them: 0 would mean not to wait at all."""
    return max(0.001, deadline - time.monotonic())
