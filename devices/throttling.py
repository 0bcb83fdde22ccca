"""What boards' own tools say of throttling, temperatures and the battery.

The functions that understand the texts (`parse_...`) are pure; `board_state.py` has all of it said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from .base import Transport
from .board_files import first_lines, is_plausible, number
from .errors import CommandFailed

Kind = Literal["raspberry_pi", "android", "jetson", "linux"]
_TIMEOUT = 20.0  # seconds for one command; `dumpsys` of a busy phone takes some

# raspberrypi.com/documentation/computers/os.html#get_throttled: bits 0 to 3, and 16 to 19 for the
# same things since the board was started.
FLAGS = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
_STICKY = 16
# android/hardware/thermal/2.0/types.hal, as are the names of Android's `status`
STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
_SENSORS: Mapping[int, str] = MappingProxyType(
    {0: "cpu", 1: "gpu", 2: "battery", 3: "skin", 4: "usb_port", 5: "power_amplifier", 9: "npu"}
)
# Sensors that do not tell how warm the chip is: Jetson's PMIC says 100 °C (or 50) for ever.
_NOT_THE_CHIP = re.compile(r"pmic|batt|charger|usb|\bpa\b|modem|wifi", re.IGNORECASE)


@dataclass(frozen=True)
class Throttled:
    """What a Raspberry Pi says: what holds `now`, and what happened `since_start` of the board.

    The latter stays until the board is restarted: set before a measurement it proves nothing new.
    """

    now: frozenset[str]
    since_start: frozenset[str]

    def news_since(self, before: Throttled) -> frozenset[str]:
        """What holds now, and what began and ended between `before` and this reading."""
        return self.now | (self.since_start - before.since_start)


@dataclass(frozen=True)
class Sensor:
    """One temperature of Android's thermal service, in °C; `status` is 0 without throttling."""

    name: str
    kind: str
    celsius: float
    status: int


@dataclass(frozen=True)
class ThermalService:
    """Android's thermal service: `status` (0 none to 6 shutdown), and what the HAL measures now."""

    status: int | None
    sensors: tuple[Sensor, ...]


@dataclass(frozen=True)
class Battery:
    """`level` from 0 to 1; `charger` is `ac`, `usb`, `wireless`, `dock`, or None; °C."""

    level: float | None
    charger: str | None
    celsius: float | None


def parse_throttled(text: str | None) -> Throttled | None:
    """`throttled=0x50005`, as `vcgencmd get_throttled` prints it."""
    found = re.search(r"\bthrottled=0x([0-9a-fA-F]{1,8})\b", text or "")
    if found is None:
        return None
    bits = int(found[1], 16)
    return Throttled(
        frozenset(name for place, name in enumerate(FLAGS) if bits >> place & 1),
        frozenset(name for place, name in enumerate(FLAGS) if bits >> _STICKY + place & 1),
    )


def parse_thermal_service(text: str | None) -> ThermalService | None:
    """The answer of `dumpsys thermalservice`, which the cached temperatures in it do not enter.

    They are as old as the last event: 48.5 °C were cached where the skin had 34.4 °C.
    """
    lines = (text or "").splitlines()
    status, inside, sensors = None, False, []
    for line in lines:
        if line[:1].strip():  # headings are not indented
            inside = line.startswith("Current temperatures from HAL:")
        if found := re.match(r"Thermal Status: (\d{1,2})\s*$", line, re.ASCII):
            status = int(found[1])
        elif inside and (sensor := _sensor(line)):
            sensors.append(sensor)
    return ThermalService(status, tuple(sensors)) if status is not None or sensors else None


def _sensor(line: str) -> Sensor | None:
    found = re.match(
        r"\s*Temperature\{mValue=(-?\d{1,4}(?:\.\d{1,9})?), mType=(-?\d{1,3}), "
        r"mName=([^,{}]{1,60}), mStatus=(\d{1,2})\}",
        line,
        re.ASCII,
    )
    if found is None or not is_plausible(float(found[1])):
        return None
    kind = _SENSORS.get(int(found[2]), "other")
    return Sensor(found[3].strip(), kind, float(found[1]), int(found[4]))


def parse_battery(text: str | None) -> Battery | None:
    """The answer of `dumpsys battery`; `None` where there is no battery in it."""
    facts: dict[str, str] = {}
    for line in (text or "").splitlines():
        # Indented by two; behind them some phones print a log that repeats the names.
        found = re.fullmatch(r"  ([A-Za-z][A-Za-z ]{0,40}): (\S{1,40})\s*", line)
        if found:
            facts.setdefault(found[1].lower(), found[2])
    if facts.get("present") == "false" or "level" not in facts:
        return None
    level, scale = number(facts["level"]), number(facts.get("scale", "100"))
    share = level / scale if level is not None and scale else None
    tenths = number(facts.get("temperature"))
    chargers = [name for name in ("ac", "usb", "wireless", "dock") if _powered(facts, name)]
    return Battery(
        level=share if share is not None and 0 <= share <= 1 else None,
        charger=chargers[0] if chargers else None,
        celsius=tenths / 10 if tenths is not None and is_plausible(tenths / 10) else None,
    )


def _powered(facts: Mapping[str, str], charger: str) -> bool:
    return facts.get(f"{charger} powered") == "true"


def zones_of(files: Mapping[str, str]) -> dict[str, float]:
    """Temperatures in °C by the thermal zones' names, from `thermal_zoneN/type` and `.../temp`.

    Zones of one name are told apart by their number. The kernel counts in thousandths of a degree,
    old ones of some phones in tenths or whole ones.
    """
    found: dict[str, float] = {}
    for path, text in files.items():
        folder, _, file = path.rpartition("/")
        value = number(text)
        if file != "temp" or value is None:
            continue
        celsius = value / 1000 if abs(value) >= 1000 else value
        zone = folder.rpartition("/")[2]
        name = re.sub(r"[^\w-]+", "_", files.get(f"{folder}/type", zone))[:40]
        if is_plausible(celsius):
            found[f"{name}.{zone.removeprefix('thermal_zone')}" if name in found else name] = (
                celsius
            )
    return found


def hottest(found: Mapping[str, float]) -> float | None:
    """The hottest of the `temperature.NAME` that belong to the chip, in °C."""
    chip = [
        value
        for name, value in found.items()
        if name.startswith("temperature.") and not _NOT_THE_CHIP.search(name)
    ]
    return max(chip, default=None)


def kind_of(transport: Transport, *, root: str = "") -> Kind:
    """Whose tools the board has. Raises `DeviceLost` and `DeviceTimeout`."""
    if _output(transport, "getprop", "ro.build.version.sdk").strip().isdigit():
        return "android"
    if parse_throttled(_output(transport, "vcgencmd", "get_throttled")) is not None:
        return "raspberry_pi"
    files = (f"{root}/etc/nv_tegra_release", f"{root}/etc/nvpmodel.conf")
    return "jetson" if first_lines(transport, *files) else "linux"


def _output(transport: Transport, *argv: str) -> str:
    """What a command wrote; nothing where it is not there or failed."""
    try:
        done = transport.run(list(argv), timeout=_TIMEOUT)
    except CommandFailed:
        return ""
    return done.stdout.decode(errors="replace") if done.code == 0 else ""
