"""The list of an adb server: boards that can be used, and what the others wait for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from .errors import DeviceError, DeviceLost, DeviceUnauthorised, InputError

PORT = 5037

Readiness = Literal["ready", "unauthorised", "offline", "busy", "quarantined", "unknown"]

_ALLOW = (
    "unlock it and allow this computer in the dialog that it shows; where none comes, unplug it, "
    "revoke USB debugging authorisations in its developer options, and plug it in again"
)
_RULES = (
    "this user may not open it: install Android's udev rules (Debian: apt-get install "
    "android-sdk-platform-tools-common), add yourself to the group plugdev, log in again, and run "
    "`adb kill-server`"
)
_RESTART = (
    "unplug it and plug it in again (over the network: `adb disconnect` and `adb connect`), and "
    "restart it if that does not help"
)
# What kind of hindrance a state is, and what to do about it.
_STATES: Mapping[str, tuple[Readiness, str]] = MappingProxyType(
    {
        "device": ("ready", ""),
        "unauthorized": ("unauthorised", _ALLOW),
        "authorizing": ("unauthorised", _ALLOW),
        "no permissions": ("unauthorised", _RULES),
        "offline": ("offline", _RESTART),
        "disconnect": ("offline", _RESTART),
        "connecting": ("offline", "wait a moment, and run the same command again"),
        "detached": ("busy", "another program holds it; run `adb attach`"),
        **{
            state: ("busy", f"it is in {state} mode; start Android (`adb reboot`)")
            for state in ("bootloader", "recovery", "sideload", "rescue", "host")
        },
    }
)


@dataclass(frozen=True)
class Listed:
    """A board in the server's list: `state` in the server's own words, `model` where it says."""

    serial: str
    state: str
    model: str | None = None

    @property
    def ready(self) -> bool:
        """Whether it can be used."""
        return self.readiness == "ready"

    @property
    def readiness(self) -> Readiness:
        """Whether it can be used, and if not, what kind of hindrance there is."""
        return self._meaning[0]

    @property
    def next_step(self) -> str:
        """What to do so that it can be used; empty where it can."""
        return self._meaning[1]

    @property
    def board(self) -> str:
        """The same text for both names of one emulator: a server that looks for emulators and is
        told to connect to one lists it as emulator-5554 and as 127.0.0.1:5555."""
        found = re.fullmatch(r"(?:127\.0\.0\.1|localhost|\[::1\]):(\d{4})", self.serial, re.ASCII)
        if found and 5555 <= int(found[1]) <= 5585 and int(found[1]) % 2:
            return f"emulator-{int(found[1]) - 1}"
        return self.serial

    def refused(self) -> DeviceError:
        """The error of one that cannot be used, with the next step."""
        kind = DeviceUnauthorised if self.readiness == "unauthorised" else DeviceLost
        state = self.state.partition(" (")[0]
        return kind(
            f"{self.serial} is attached, and the adb server calls it {state}: {self.next_step}"
        )

    @property
    def _meaning(self) -> tuple[Readiness, str]:
        known = next((state for state in _STATES if self.state.startswith(state)), None)
        if known is None:
            step = f"the adb server says {self.state!r}; see what it shows, and restart it"
            return "unknown", step
        return _STATES[known]


def parse_list(text: str) -> tuple[Listed, ...]:
    """The boards in the answer to `host:devices-l`; lines of another form are passed over."""
    found = []
    for line in text.splitlines():
        # A state may be of several words; what follows it is `name:value`.
        match = re.fullmatch(r"(\S+)\s+(\S.*?)((?:\s+[a-z_]+:\S*)*)\s*", line)
        if match:
            more = dict(word.split(":", 1) for word in match[3].split())
            model = more.get("model", "").replace("_", " ")
            found.append(Listed(match[1], match[2][:200], model or None))
    return tuple(found)


def one_of_each(boards: Iterable[Listed]) -> tuple[Listed, ...]:
    """Each board once, by the name under which it can be used; of two such by its address, which
    the user gave."""
    found: dict[str, Listed] = {}
    for listed in boards:
        other = found.get(listed.board)
        if other is None or _preference(listed) > _preference(other):
            found[listed.board] = listed
    return tuple(found.values())


def _preference(listed: Listed) -> tuple[bool, bool]:
    return listed.ready, listed.serial != listed.board


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
    host = environment.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1"
    if named := environment.get("ANDROID_ADB_SERVER_PORT"):
        if not re.fullmatch(r"\d{1,5}", named, flags=re.ASCII) or not 0 < int(named) < 65536:
            raise InputError(f"ANDROID_ADB_SERVER_PORT is {named!r}; give a port, or unset it")
        return host, int(named)
    return host, PORT
