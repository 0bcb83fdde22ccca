"""Boards without an adb server: over TCP, or over USB.

The transports of adb-shell reach the board; what they raise becomes our errors here. Its TCP
transport sends what the system takes at once and forgets the rest, and waits for other packets
before it sends a small one: a subclass does neither.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence
from typing import Any, Protocol

from adb_shell.exceptions import TcpTimeoutException
from adb_shell.transport.tcp_transport import TcpTransport

from .adb_protocol import Connection, Key
from .adb_transport import AdbTransport
from .errors import (
    DeviceBusy,
    DeviceError,
    DeviceLost,
    DeviceNotFound,
    DeviceUnauthorised,
    DeviceUnreachable,
)

PORT = 5555
_IDLE = 0.25  # seconds after which a USB read looks whether it should go on
_SHORTEST = 0.001  # seconds; libusb counts milliseconds, and 0 of them are for ever
_CLASS, _SUBCLASS, _PROTOCOL = 0xFF, 0x42, 0x01  # of ADB's USB interface


class PatientTcpTransport(TcpTransport):  # type: ignore[misc]
    """adb-shell's, which sends all of what it is given, and at once."""

    def connect(self, transport_timeout_s: float) -> None:
        """Connect. Raises OSError."""
        super().connect(transport_timeout_s)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A board that is switched off says nothing; its silence is noticed within half a minute.
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):  # macOS lacks some
                self._connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        """Receive up to `numbytes`; none at the end. Raises `TcpTimeoutException`, OSError."""
        deadline = None if transport_timeout_s is None else time.monotonic() + transport_timeout_s
        while True:
            self._wait(select.POLLIN, deadline)
            with contextlib.suppress(BlockingIOError):
                data: bytes = self._connection.recv(numbytes)
                return data

    def bulk_write(self, data: bytes, transport_timeout_s: float) -> int:
        """Send all of `data`, however little is taken at a time; how many bytes that were.

        Raises `TcpTimeoutException` where nothing is taken for so many seconds, OSError.
        """
        rest = memoryview(data)
        while rest:
            self._wait(select.POLLOUT, time.monotonic() + transport_timeout_s)
            with contextlib.suppress(BlockingIOError):
                rest = rest[self._connection.send(rest) :]
        return len(data)

    def shut(self) -> None:
        """End the connection, so that whoever waits for it wakes up; `close` is still to come."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _wait(self, events: int, deadline: float | None) -> None:
        # Not `select`, which knows no descriptors beyond 1023.
        poll = select.poll()
        poll.register(self._connection, events)
        wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not poll.poll(wait):
            raise TcpTimeoutException(f"nothing moved to or from {self._host}:{self._port}")


class TcpWire:
    """Frames over TCP (see `adb_protocol.Wire`). Raises `DeviceUnreachable`, `DeviceNotFound`."""

    def __init__(self, host: str, port: int, *, timeout: float) -> None:
        self.way = f"{host}:{port} directly"
        self._transport = PatientTcpTransport(host, port)
        try:
            self._transport.connect(timeout)
        except socket.gaierror as error:
            raise DeviceNotFound(
                f"there is no host {host!r} ({error.strerror}); check the board's serial"
            ) from error
        except OSError as error:
            raise DeviceUnreachable(
                f"{host}:{port} does not answer ({error.strerror or 'it took too long'}); check "
                "the address, that the board is on and in the same network, and that its adbd "
                "listens (plug it in and run `adb tcpip 5555`)"
            ) from error

    def read(self, count: int, timeout: float | None) -> bytes:
        """Between 1 and `count` bytes; raises `TimeoutError`, and `DeviceLost` at the end."""
        try:
            data = self._transport.bulk_read(count, timeout)
        except TcpTimeoutException:
            raise TimeoutError from None
        except (OSError, ValueError) as error:
            raise _broke(self.way) from error
        if not data:
            raise _broke(self.way)
        return data

    def write(self, header: bytes, payload: bytes, timeout: float) -> None:
        """All of a frame. Raises `DeviceLost`, also where it is not taken in time."""
        try:
            self._transport.bulk_write(header + payload, timeout)
        except (OSError, ValueError, TcpTimeoutException) as error:
            raise _broke(self.way) from error

    def shut(self) -> None:
        """Make whoever reads or writes stop."""
        self._transport.shut()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


class BulkTransport(Protocol):
    """What `UsbWire` needs of adb-shell's `UsbTransport`."""

    def bulk_read(self, numbytes: int, transport_timeout_s: float) -> bytes: ...

    def bulk_write(self, data: bytes, transport_timeout_s: float) -> int: ...

    def close(self) -> None: ...


class UsbWire:
    """Frames over USB (see `adb_protocol.Wire`).

    Header and payload are transfers of their own, as adbd expects them, and a payload that fills
    its last packet is followed by an empty one, without which adbd would wait for more.
    """

    def __init__(self, transport: BulkTransport, serial: str, packet: int) -> None:
        self.way = f"{serial} directly over USB"
        self._transport = transport
        self._packet = packet  # bytes
        self._shut = False

    def read(self, count: int, timeout: float | None) -> bytes:
        """Between 1 and `count` bytes; raises `TimeoutError`, and `DeviceLost` at the end."""
        from adb_shell.exceptions import UsbReadFailedError
        from usb1 import USBErrorTimeout

        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._shut:
            wait = _IDLE if deadline is None else min(_IDLE, deadline - time.monotonic())
            if wait <= 0:
                raise TimeoutError
            try:
                if data := self._transport.bulk_read(count, max(_SHORTEST, wait)):
                    return data
            except UsbReadFailedError as error:
                if not isinstance(error.usb_error, USBErrorTimeout):
                    raise _broke(self.way) from error
                # What came before the time was over is not lost.
                if data := bytes(getattr(error.usb_error, "received", b"")):
                    return data
        raise _broke(self.way)

    def write(self, header: bytes, payload: bytes, timeout: float) -> None:
        """All of a frame. Raises `DeviceLost`, also where it is not taken in time."""
        from adb_shell.exceptions import UsbWriteFailedError

        transfers = [header, payload] if payload else [header]
        if payload and len(payload) % self._packet == 0:
            transfers.append(b"")
        try:
            for transfer in transfers:
                if self._transport.bulk_write(transfer, timeout) != len(transfer):
                    raise _broke(self.way)
        except UsbWriteFailedError as error:
            raise _broke(self.way) from error

    def shut(self) -> None:
        """Make whoever reads stop, within a moment."""
        self._shut = True

    def close(self) -> None:
        """Give the interface back."""
        self._transport.close()


def usb_boards() -> dict[str, Any]:
    """adb-shell's transports of the boards that are attached by USB, by serial number.

    One whose number may not be read has the name of its port. Raises `DeviceError` where USB
    cannot be used.
    """
    usb = _usb()
    found: dict[str, Any] = {}
    try:
        for transport in usb.find_all_adb_devices():
            try:
                serial = str(transport.serial_number)
            except Exception:  # libusb's errors; which they are is told when it is opened
                serial = "usb:" + "-".join(map(str, transport.port_path))
            found[serial] = transport
    except OSError as error:
        raise DeviceError(f"USB cannot be used here: {error}; reach the board over TCP") from error
    return found


def open_usb(serial: str, transport: Any) -> UsbWire:
    """Open the interface of one of `usb_boards`. Raises `DeviceBusy`, `DeviceUnauthorised`,
    `DeviceLost`."""
    import usb1

    sizes = [endpoint.getMaxPacketSize() for endpoint in transport._setting.iterEndpoints()]
    try:
        transport.connect()
    except usb1.USBErrorBusy as error:
        transport.close()
        raise DeviceBusy(
            f"the USB interface of {serial} is held by another program, most likely an adb server: "
            "run `adb start-server`, so that boardfit goes through it, or `adb kill-server`; see "
            "that ADB_SERVER_SOCKET and ANDROID_ADB_SERVER_PORT name the one that runs"
        ) from error
    except usb1.USBErrorAccess as error:
        transport.close()
        raise DeviceUnauthorised(
            f"this user may not open the USB interface of {serial}: install Android's udev rules "
            "(Debian: `android-sdk-platform-tools-common`), add yourself to the group plugdev, "
            "and log in again"
        ) from error
    except usb1.USBError as error:
        transport.close()
        raise DeviceLost(
            f"the USB interface of {serial} cannot be opened ({error}); plug it in again"
        ) from error
    return UsbWire(transport, serial, max(sizes, default=512))


def _usb() -> Any:
    try:
        from adb_shell.transport.usb_transport import UsbTransport
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"boards on USB need libusb ({error}): run `pip install 'boardfit[usb]'`, or start an "
            "adb server (`adb start-server`)"
        ) from error
    return UsbTransport


class AdbDirectTransport(AdbTransport):
    """A board over a connection of our own."""

    def __init__(
        self,
        wire: TcpWire | UsbWire,
        keys: Sequence[Key],
        *,
        timeout: float = 10.0,
        patience: float = 30.0,
    ) -> None:
        super().__init__(Connection(wire, keys, timeout=timeout, patience=patience))


def _broke(way: str) -> DeviceLost:
    return DeviceLost(
        f"the link to the board ({way}) broke; look at its cable or its network, and run the same "
        "command again"
    )
