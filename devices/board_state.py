"""What a board says about its own state at a moment: throttle flags, temperatures, battery, clocks.

One script reads all of it on the board in one go (`say_state.sh`); what it says becomes flat
numbers, from which follows whether the board was slowed, and by what. `board_watch.py` has it said
again and again while something is measured.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from .base import Transport
from .board_files import is_plausible, number
from .errors import CommandFailed, MeasurementError
from .jetson import parse_tegrastats
from .throttling import (
    FLAGS,
    STATUS,
    Throttled,
    hottest,
    parse_battery,
    parse_thermal_service,
    parse_throttled,
    zones_of,
)

SCRIPT = Path(__file__).with_name("say_state.sh")
MOST_LINES = 5000  # of one answer; a phone's thermal service has a hundred
_MOST_FACTS = 200  # of one answer; a phone with forty sensors has sixty
_TIMEOUT = 30.0  # seconds for one answer; `dumpsys` of a busy phone takes some
_BETWEEN_LOOKS = 2.0  # seconds; a board cools by less than a degree in them
_LIMITED = 0.9  # of what the system allowed at first, from which on the clock counts as limited
_FILES = (
    "/sys/class/thermal/thermal_zone[0-9]*/type",
    "/sys/class/thermal/thermal_zone[0-9]*/temp",
    "/sys/devices/system/cpu/cpufreq/policy[0-9]*/scaling_max_freq",
    "/sys/devices/system/cpu/cpufreq/policy[0-9]*/cpuinfo_max_freq",
    "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/package_throttle_count",
)
_COUNT = "throttled.count"  # how often a PC's processor was, since it was started
_LIMIT = "clock.limit"
_FLAG = "throttled."
_SINCE_START = "throttled.since_start."
_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "under_voltage": "under-voltage",
        "frequency_capped": "frequency capped",
        "throttled": "throttled",
        "soft_temperature_limit": "soft temperature limit",
    }
)


@dataclass(frozen=True)
class BoardState:
    """What a board said: `uptime` in seconds (None: it tells none), and `facts` by name.

    `temperature.NAME` and `temperature` (the chip's hottest) in °C, `throttled.NAME` (0 or 1) and
    `throttled.since_start.NAME` of a Raspberry Pi, `throttled.count` of a PC, `thermal.status` of
    Android (0 to 6), `battery.level` (0 to 1), `battery.charging` and `battery.temperature`,
    `gpu.load`, `gpu.frequency` and `power.NAME` (W) of a Jetson, and `clock.limit`: how much of its
    highest clock the system allows the core that is limited most. What it does not say is missing.
    """

    uptime: float | None
    facts: Mapping[str, float]

    def slowed_by(
        self, before: BoardState | None = None, first: BoardState | None = None
    ) -> tuple[str, ...]:
        """What slows the board at this moment, or slowed it since the state `before`, in words.

        Flags that were set already `before` and do not hold now prove nothing new. The clock counts
        as limited where the system allows less of it than it did at `first`.
        """
        found = [
            words
            for name, words in _WORDS.items()
            if self.facts.get(_FLAG + name) or self._rose(_SINCE_START + name, before)
        ]
        if status := int(self.facts.get("thermal.status", 0)):
            found.append(f"thermal status {STATUS[min(status, len(STATUS) - 1)]}")
        if self._rose(_COUNT, before):
            found.append(_WORDS["throttled"])
        limit = self.facts.get(_LIMIT, math.inf)
        if first is not None and limit < _LIMITED * first.facts.get(_LIMIT, 0.0):
            found.append("clock limited")
        return tuple(found)

    def _rose(self, name: str, before: BoardState | None) -> bool:
        earlier = math.inf if before is None else before.facts.get(name, math.inf)
        return self.facts.get(name, 0.0) > earlier


NOTHING_SAID = BoardState(None, {})


def command(*, count: int = 1, pause: int = 1, root: str = "") -> list[str]:
    """The command that has a board say its state so often; `root` is in front of its files."""
    files = (f"{root}{path}" for path in ("/proc/uptime", *_FILES))
    return ["sh", "-c", SCRIPT.read_text(), "sh", str(pause), str(count), *files]


def read_state(transport: Transport, *, root: str = "") -> BoardState:
    """What a board says just now, in one round trip; nothing where it has no shell.

    Raises `DeviceLost` and `DeviceTimeout`.
    """
    try:
        done = transport.run(command(root=root), timeout=_TIMEOUT)
    except CommandFailed:
        return NOTHING_SAID
    lines = done.stdout.decode(errors="replace").splitlines()
    return parse_state(lines[:MOST_LINES], root=root)


def parse_state(lines: Iterable[str], *, root: str = "") -> BoardState:
    """One answer of the script; lines of another form are passed over."""
    uptime: float | None = None
    files: dict[str, str] = {}
    words: dict[str, list[str]] = {}
    tool: list[str] = []
    for line in lines:
        what, _, rest = line.partition(" ")
        if line.startswith("|"):
            tool.append(line[1:])
        elif what == "state":
            uptime = number(rest)
        elif what == "file":
            path, _, value = rest.partition("\t")
            files[path.removeprefix(root)] = value.strip()
        elif what == "tool":
            tool = words.setdefault(rest, [])
    facts = _facts(files, {name: "\n".join(said) for name, said in words.items()})
    return BoardState(uptime, dict(itertools.islice(facts.items(), _MOST_FACTS)))


def _facts(files: Mapping[str, str], words: Mapping[str, str]) -> dict[str, float]:
    found = {**_limit(files), **_count(files)}
    found.update(_flags(parse_throttled(words.get("get_throttled"))))
    found.update(_battery(words.get("battery")))
    found.update(parse_tegrastats(words.get("tegrastats")))
    if "thermalservice" in words:  # its sensors say which is what; a phone's zones do not
        found.update(_android(words["thermalservice"]))
    else:
        zones = zones_of(files).items()
        found.update({f"temperature.{name}": celsius for name, celsius in zones})
    celsius = found.get("temperature", hottest(found))
    return found if celsius is None else {"temperature": celsius, **found}


def _android(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    if service := parse_thermal_service(text):
        found.update({f"temperature.{one.name}": one.celsius for one in service.sensors})
        if service.status is not None:
            found["thermal.status"] = float(service.status)
        warm = [one.celsius for one in service.sensors if one.kind in {"cpu", "gpu", "npu", "skin"}]
        if warm:
            found["temperature"] = max(warm)
    return found


def _battery(text: str | None) -> dict[str, float]:
    found: dict[str, float] = {}
    if battery := parse_battery(text):
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
        **{_FLAG + name: float(name in throttled.now) for name in FLAGS},
        **{_SINCE_START + name: float(name in throttled.since_start) for name in FLAGS},
    }


def _limit(files: Mapping[str, str]) -> dict[str, float]:
    """What the system allows of the highest clock: below 1 where it is throttled, or told so."""
    shares = []
    for path, text in files.items():
        folder, _, name = path.rpartition("/")
        highest, allowed = number(files.get(f"{folder}/cpuinfo_max_freq")), number(text)
        if name == "scaling_max_freq" and highest and allowed and 0 < allowed <= highest:
            shares.append(allowed / highest)
    return {_LIMIT: min(shares)} if shares else {}


def _count(files: Mapping[str, str]) -> dict[str, float]:
    """How often a PC's processors were throttled since their start."""
    counts = [
        count
        for path, text in files.items()
        if path.endswith("/package_throttle_count") and (count := number(text)) is not None
    ]
    return {_COUNT: max(counts)} if counts else {}


def wait_until_cool(
    transport: Transport,
    below: float,
    *,
    at_most: float,
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
    begin, first = clock(), None
    while True:
        celsius = read_state(transport, root=root).facts.get("temperature")
        if celsius is None:
            raise MeasurementError(
                "the board shows no temperature that could be waited for; remove `start_below` "
                "from its `limits` in boards.toml, or let this user read /sys/class/thermal"
            )
        waited = clock() - begin
        first = celsius if first is None else first
        if celsius < below:
            return waited
        if waited >= at_most:
            raise MeasurementError(
                f"the board has {celsius:.1f} °C after {waited:.0f} s of waiting (it began at "
                f"{first:.1f} °C, and less than {below:g} °C was asked for); end other work on it, "
                "cool it better, or allow a higher temperature or a longer wait"
            )
        sleep(min(_BETWEEN_LOOKS, max(0.0, at_most - waited)))
