"""Whether a board was slowed while it measured: throttle flags, temperatures, battery, clocks.

Read on the board around samples as flat numbers that are stored beside them. The functions that
understand the texts (`parse_...`) are pure.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from .base import Transport
from .board_files import first_lines, is_plausible, number
from .errors import CommandFailed, MeasurementError
from .jetson import parse_tegrastats

Kind = Literal["raspberry_pi", "android", "jetson", "linux"]
_ZONE = "/sys/class/thermal/thermal_zone[0-9]*"
_TIMEOUT = 20.0  # seconds for one command; `dumpsys` of a busy phone takes some
# It prints lines for ever, and ends at the first that nobody reads.
_ONE_LINE = "tegrastats --interval 100 2>/dev/null | head -n 1"
_BETWEEN_LOOKS = 2.0  # seconds; a board cools by less than a degree in them

# raspberrypi.com/documentation/computers/os.html#get_throttled: bits 0 to 3, and 16 to 19 for the
# same things since the board was started.
_FLAGS = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
_STICKY = 16
# android/hardware/thermal/2.0/types.hal
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
        frozenset(name for place, name in enumerate(_FLAGS) if bits >> place & 1),
        frozenset(name for place, name in enumerate(_FLAGS) if bits >> _STICKY + place & 1),
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


def thermal_zones(transport: Transport, *, root: str = "") -> dict[str, float]:
    """Temperatures of /sys in °C by the zones' names; empty where none can be read."""
    zone = f"{root}{_ZONE}"
    return zones_of(first_lines(transport, f"{zone}/type", f"{zone}/temp"))


def kind_of(transport: Transport, *, root: str = "") -> Kind:
    """Whose tools the board has. Raises `DeviceLost` and `DeviceTimeout`."""
    if _output(transport, "getprop", "ro.build.version.sdk").strip().isdigit():
        return "android"
    if parse_throttled(_output(transport, "vcgencmd", "get_throttled")) is not None:
        return "raspberry_pi"
    files = (f"{root}/etc/nv_tegra_release", f"{root}/etc/nvpmodel.conf")
    return "jetson" if first_lines(transport, *files) else "linux"


def evidence(transport: Transport, kind: Kind, *, root: str = "") -> dict[str, float]:
    """What a board says about its state just now, as flat numbers; what it does not say is missing.

    `temperature.NAME` and `temperature` (the chip's hottest) in °C, `throttled.NAME` (0 or 1) and
    `throttled.since_start.NAME`, `thermal.status` (0 to 6), `battery.level` (0 to 1),
    `battery.charging`, `gpu.load`, `gpu.frequency`, `power.NAME` in W, and `clock.limit`: how much
    of its highest clock the system allows the core that is limited most. Raises `DeviceLost` and
    `DeviceTimeout`.
    """
    zone, policy = f"{root}{_ZONE}", f"{root}/sys/devices/system/cpu/cpufreq/policy[0-9]*"
    files = first_lines(
        transport,
        *(f"{zone}/type", f"{zone}/temp"),
        *(f"{policy}/scaling_max_freq", f"{policy}/cpuinfo_max_freq"),
    )
    found = _limit(files)
    if kind == "android":
        found.update(_android(transport))
    else:
        found.update({f"temperature.{name}": value for name, value in zones_of(files).items()})
    if kind == "raspberry_pi":
        found.update(_flags(parse_throttled(_output(transport, "vcgencmd", "get_throttled"))))
    if kind == "jetson":
        found.update(parse_tegrastats(_output(transport, "sh", "-c", _ONE_LINE)))
    if (hottest := _hottest(found)) is not None:
        found["temperature"] = hottest
    return found


def wait_until_cool(
    transport: Transport,
    below: float,
    *,
    at_most: float,
    kind: Kind | None = None,
    root: str = "",
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Wait until the chip's hottest sensor shows less than `below` °C; the seconds that it took.

    Raises `MeasurementError` where it is not so after `at_most` seconds, or no temperature can be
    read; `DeviceLost` and `DeviceTimeout`.
    """
    if not (is_plausible(below) and math.isfinite(at_most) and at_most >= 0):
        raise ValueError(f"no board is cooled to {below} °C within {at_most} s")
    kind = kind or kind_of(transport, root=root)
    begin, first = clock(), None
    while True:
        found = evidence(transport, kind, root=root)
        if "temperature" not in found:
            raise MeasurementError(
                "the board shows no temperature that could be waited for; remove `start_below` "
                "from its `limits` in boards.toml, or let this user read /sys/class/thermal"
            )
        hottest, waited = found["temperature"], clock() - begin
        first = hottest if first is None else first
        if hottest < below:
            return waited
        if waited >= at_most:
            raise MeasurementError(
                f"the board has {hottest:.1f} °C after {waited:.0f} s of waiting (it began at "
                f"{first:.1f} °C, and less than {below:g} °C was asked for); end other work on it, "
                "cool it better, or allow a higher temperature or a longer wait"
            )
        sleep(min(_BETWEEN_LOOKS, max(0.0, at_most - waited)))


def _android(transport: Transport) -> dict[str, float]:
    found: dict[str, float] = {}
    if service := parse_thermal_service(_output(transport, "dumpsys", "thermalservice")):
        found.update({f"temperature.{one.name}": one.celsius for one in service.sensors})
        if service.status is not None:
            found["thermal.status"] = float(service.status)
        warm = [one.celsius for one in service.sensors if one.kind in {"cpu", "gpu", "npu", "skin"}]
        if warm:
            found["temperature"] = max(warm)
    if battery := parse_battery(_output(transport, "dumpsys", "battery")):
        found["battery.charging"] = float(battery.charger is not None)
        if battery.level is not None:
            found["battery.level"] = battery.level
        if battery.celsius is not None:
            found["battery.temperature"] = battery.celsius
    return found


def _flags(throttled: Throttled | None) -> dict[str, float]:
    if throttled is None:
        return {}
    return {
        **{f"throttled.{name}": float(name in throttled.now) for name in _FLAGS},
        **{
            f"throttled.since_start.{name}": float(name in throttled.since_start) for name in _FLAGS
        },
    }


def _limit(files: Mapping[str, str]) -> dict[str, float]:
    """What the system allows of the highest clock: below 1 where it is throttled, or told so."""
    shares = []
    for path, text in files.items():
        folder, _, name = path.rpartition("/")
        highest, allowed = number(files.get(f"{folder}/cpuinfo_max_freq")), number(text)
        if name == "scaling_max_freq" and highest and allowed and 0 < allowed <= highest:
            shares.append(allowed / highest)
    return {"clock.limit": min(shares)} if shares else {}


def _hottest(found: Mapping[str, float]) -> float | None:
    if "temperature" in found:  # Android tells which sensors are the chip's
        return found["temperature"]
    chip = [
        value
        for name, value in found.items()
        if name.startswith("temperature.") and not _NOT_THE_CHIP.search(name)
    ]
    return max(chip, default=None)


def _output(transport: Transport, *argv: str) -> str:
    """What a command wrote; nothing where it is not there or failed."""
    try:
        done = transport.run(list(argv), timeout=_TIMEOUT)
    except CommandFailed:
        return ""
    return done.stdout.decode(errors="replace") if done.code == 0 else ""
