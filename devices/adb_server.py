"""Boards through a running adb server: most people who use a phone have one, and it holds the USB.

Requests are four hexadecimal digits of length and a text; answers begin with OKAY or FAIL
(OVERVIEW.TXT and SERVICES.TXT of Android's adb). Each service has a connection of its own.
"""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .adb_stream import CHUNK, LONGEST_SERVICE, Bytes
from .adb_transport import AdbTransport
from .errors import (
    DeviceError,
    DeviceLost,
    DeviceTimeout,
    DeviceUnauthorised,
    InputError,
)

PORT = 5037
_ANSWER = 10.0  # seconds for one question to the server
_CONNECTING = 30.0  # seconds in which it reaches a board over the network, or gives up
_STATES: Mapping[str, str] = MappingProxyType(
    {
        "unauthorized": "unlock it and allow this computer in the dialog that it shows; where none "
        "comes, unplug it, revoke USB debugging authorisations in its developer options, and plug "
        "it in again",
        "authorizing": "wait a moment, and allow this computer in the dialog that it shows",
        "offline": "unplug it and plug it in again (over the network: `adb disconnect` and `adb "
        "connect`), and restart it if that does not help",
        "connecting": "wait a moment and run the same command again",
        "no permissions": "this user may not open it: install Android's udev rules (Debian: "
        "`android-sdk-platform-tools-common`), add yourself to the group plugdev, and log in again",
        "recovery": "it runs its recovery system: let it start Android",
        "sideload": "it waits for an update: let it start Android",
        "bootloader": "it is in its boot loader: let it start Android (`fastboot reboot`)",
    }
)


@dataclass(frozen=True)
class Listed:
    """A board in the server's list; `state` is `device` where it can be used."""

    serial: str
    state: str
    model: str | None = None

    @property
    def ready(self) -> bool:
        """Whether it can be used."""
        return self.state == "device"

    @property
    def board(self) -> str:
        """The same text for both names of one emulator: a server that looks for emulators and is
        told to connect to one lists it as emulator-5554 and as 127.0.0.1:5555."""
        found = re.fullmatch(r"(?:127\.0\.0\.1|localhost):(\d{4})", self.serial, flags=re.ASCII)
        if found and 5555 <= int(found[1]) <= 5585 and int(found[1]) % 2:
            return f"emulator-{int(found[1]) - 1}"
        return self.serial

    def refused(self) -> DeviceError:
        """The error of one that cannot be used, with the next step."""
        kind = next((state for state in _STATES if self.state.startswith(state)), self.state)
        error = DeviceUnauthorised if kind in _UNAUTHORISED else DeviceLost
        step = _STATES.get(kind, "see what it shows on its screen, and restart it")
        return error(f"{self.serial} is attached, and the adb server calls it {kind}: {step}")


_UNAUTHORISED = frozenset({"unauthorized", "authorizing", "no permissions"})


def parse_list(text: str) -> tuple[Listed, ...]:
    """The boards in the answer to `host:devices-l`; lines of another form are passed over."""
    found = []
    for line in text.splitlines():
        # A state may be of several words; what follows it is `name:value`.
        match = re.fullmatch(r"(\S+)\s+(\S.*?)((?:\s+[a-z_]+:\S*)*)\s*", line)
        if match:
            more = dict(word.split(":", 1) for word in match[3].split())
            found.append(Listed(match[1], match[2], more.get("model")))
    return tuple(found)


def one_of_each(boards: Iterable[Listed]) -> tuple[Listed, ...]:
    """Each board once, by the name under which it can be used."""
    found: dict[str, Listed] = {}
    for listed in boards:
        if listed.board not in found or (listed.ready and not found[listed.board].ready):
            found[listed.board] = listed
    return tuple(found.values())


def server_address(environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Where adb looks for its server: $ADB_SERVER_SOCKET, $ANDROID_ADB_SERVER_PORT, or 5037.

    Raises `InputError` where these cannot be understood.
    """
    if named := environment.get("ADB_SERVER_SOCKET"):
        found = re.fullmatch(r"tcp:(?:(.+):)?(\d{1,5})", named, flags=re.ASCII)
        if found is None or not 0 < int(found[2]) < 65536:
            raise InputError(
                f"ADB_SERVER_SOCKET is {named!r}, of which boardfit knows tcp:PORT and "
                "tcp:HOST:PORT; change it, or unset it"
            )
        return (found[1] or "127.0.0.1").strip("[]"), int(found[2])
    if named := environment.get("ANDROID_ADB_SERVER_PORT"):
        if not re.fullmatch(r"\d{1,5}", named, flags=re.ASCII) or not 0 < int(named) < 65536:
            raise InputError(f"ANDROID_ADB_SERVER_PORT is {named!r}; give a port, or unset it")
        return environment.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1", int(named)
    return environment.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1", PORT


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

    def boards(self) -> tuple[Listed, ...]:
        """What is attached, under every name that the server has for it."""
        return parse_list(self.ask("host:devices-l"))

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
            error = DeviceUnauthorised if state in _UNAUTHORISED else DeviceLost
            return error(f"the adb server calls the board {state}: {_STATES[state]}")
    if "not found" in words or words.strip() in {"closed", "no devices/emulators found"}:
        return DeviceLost(
            f"the adb server says: {words.strip()}; the board was unplugged or restarted: wait "
            "until `adb devices` lists it, and run the same command again"
        )
    return DeviceError(f"the adb server refuses: {words.strip()}; `adb devices` shows its state")


def _left(deadline: float) -> float:
    """Seconds until the deadline, as sockets want them: 0 would mean not to wait at all."""
    return max(0.001, deadline - time.monotonic())
