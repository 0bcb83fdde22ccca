"""What an adb server on this machine sees: phones that are ready, and what the others wait for."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .errors import DeviceError, DeviceTimeout, DeviceUnreachable

PORT = 5037
_LONGEST = 1024 * 1024  # bytes of an answer
_MORE_ABOUT = re.compile(r"\s(product|model|device|transport_id|usb):(\S{1,200})")

Readiness = Literal["ready", "unauthorised", "offline", "busy", "quarantined", "unknown"]


@dataclass(frozen=True)
class AdbDevice:
    """One phone of a server's list: `state` in the server's own words, `model` where it says."""

    serial: str
    state: str
    model: str | None = None

    @property
    def readiness(self) -> Readiness:
        """Whether it can be used, and if not, what kind of hindrance there is."""
        return _READINESS.get(self.state.split(" (")[0], ("unknown", ""))[0]

    @property
    def next_step(self) -> str:
        """What to do so that it can be used; empty where it can."""
        return _READINESS.get(
            self.state.split(" (")[0], ("unknown", f"the adb server says {self.state!r}")
        )[1]


_RULES = (
    "this user may not open the USB device: install Android's udev rules (Debian: apt-get install "
    "android-sdk-platform-tools-common), plug it in again, and run `adb kill-server`"
)
_ALLOW = "unlock the phone and allow USB debugging from this computer"
_RESTART = "unplug it and plug it in again; `adb reconnect` helps over a network"
_READINESS: dict[str, tuple[Readiness, str]] = {
    "device": ("ready", ""),
    "unauthorized": ("unauthorised", _ALLOW),
    "authorizing": ("unauthorised", _ALLOW),
    "no permissions": ("unauthorised", _RULES),
    "offline": ("offline", _RESTART),
    "connecting": ("offline", "it is being connected; look again"),
    "disconnect": ("offline", _RESTART),
    "detached": ("busy", "another program holds it; run `adb attach`"),
    **{
        state: ("busy", f"it is in {state} mode; start Android (`adb reboot`)")
        for state in ("bootloader", "recovery", "sideload", "rescue", "host")
    },
}


def server_address() -> tuple[str, int]:
    """Where the user's adb server listens."""
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", "")
    usable = port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535
    return "127.0.0.1", int(port) if usable else PORT


def adb_devices(address: tuple[str, int], *, timeout: float) -> list[AdbDevice]:
    """Ask a server for its list. It is not started.

    Raises `DeviceUnreachable` where there is none, `DeviceTimeout`, and `DeviceError` where what
    answers is no adb server.
    """
    where = f"{address[0]}:{address[1]}"
    try:
        with socket.create_connection(address, timeout=timeout) as link:
            link.settimeout(timeout)
            request = b"host:devices-l"
            link.sendall(b"%04x" % len(request) + request)
            status = _exactly(link, 4)
            length = _exactly(link, 4)
            if status not in {b"OKAY", b"FAIL"} or not re.fullmatch(rb"[0-9a-fA-F]{4}", length):
                raise DeviceError(f"what listens on {where} is no adb server; end it")
            text = _exactly(link, int(length, 16)).decode(errors="replace")
    except TimeoutError as error:
        raise DeviceTimeout(
            f"the adb server on {where} does not answer; run `adb kill-server`"
        ) from error
    except OSError as error:
        raise DeviceUnreachable(
            f"no adb server runs on {where}; `adb start-server` starts one"
        ) from error
    if status == b"FAIL":
        raise DeviceError(f"the adb server on {where} refused: {text[:200]}")
    return without_doubles(parse_devices(text))


def _exactly(link: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise DeviceError("the adb server broke off; run `adb kill-server`")
        data += part
    return data


def parse_devices(text: str) -> list[AdbDevice]:
    """The lines of `host:devices-l`: serial, state (perhaps several words), and facts."""
    found = []
    for line in text.splitlines():
        serial, _, rest = line.strip().partition(" ")
        if not serial or not rest.strip():
            continue
        facts = dict(_MORE_ABOUT.findall(" " + rest))
        # The state may have several words (`no permissions (...); see [...]`) before the facts.
        state = re.split(r"\s(?:product|model|device|transport_id|usb):|;", " " + rest)[0].strip()
        model = facts.get("model")
        found.append(AdbDevice(serial, state[:200], model.replace("_", " ") if model else None))
    return found


def without_doubles(devices: Sequence[AdbDevice]) -> list[AdbDevice]:
    """The list without the second name of a device on this machine.

    The server looks at ports 5555 to 5585 by itself and calls what it finds `emulator-5554`; who
    connected to it by address has it twice.
    """
    by_serial = {device.serial: device for device in devices}
    dropped = set()
    for device in devices:
        found = re.fullmatch(r"(?:127\.0\.0\.1|localhost|\[::1\]):(\d{4})", device.serial, re.ASCII)
        other = by_serial.get(f"emulator-{int(found[1]) - 1}") if found else None
        if other is not None:
            # The one that works stays, of two that do the one that the user named.
            worse = device if other.readiness == "ready" != device.readiness else other
            dropped.add(worse.serial)
    return [device for device in devices if device.serial not in dropped]
