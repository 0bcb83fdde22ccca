"""Texts of boards' tools, spoilt on purpose: the parsers answer with numbers that are some, or with
nothing, and raise nothing. An inventory that people write is refused by name instead."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from boardfit.devices.board_files import number, parse_first_lines
from boardfit.devices.board_state import parse_state
from boardfit.devices.clusters import clusters_of, parse_allowed
from boardfit.devices.energy import parse_readings, rails_of
from boardfit.devices.inventory import Inventory
from boardfit.devices.inventory_file import entry_text
from boardfit.devices.jetson import (
    clocks_are_held,
    needs_reboot,
    parse_power_mode,
    parse_power_modes,
    parse_tegrastats,
)
from boardfit.devices.settings_record import Before, parse_before
from boardfit.devices.throttling import (
    parse_battery,
    parse_thermal_service,
    parse_throttled,
    zones_of,
)

from . import tool_outputs as outputs
from .shimmed_board import NVPMODEL_CONF

_RECORD = Before(
    "5f0c", "0b1f-2", 2, True, True, {"policy0": "schedutil", "policy4": "performance"}
).text()
_FILES = "".join(
    f"{path}\0{value}\0"
    for path, value in {
        "/sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "/sys/class/thermal/thermal_zone0/temp": "48312",
        "/sys/class/hwmon/hwmon1/name": "ina3221",
        "/sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
        "/sys/class/hwmon/hwmon1/in1_input": "5016",
        "/sys/class/hwmon/hwmon1/curr1_input": "984",
        "/sys/class/hwmon/hwmon1/shunt1_resistor": "5000",
        "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/rail_name_0": "POM_5V_IN",
        "/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input": "2875",
        "/sys/devices/system/cpu/cpu0/cpu_capacity": "160",
        "/sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq": "1803000",
    }.items()
)


def _files(text: str) -> object:
    files = parse_first_lines(text.encode(errors="replace"))
    return zones_of(files), rails_of(files), clusters_of(files), [number(v) for v in files.values()]


# What understands a text, and texts that it understands.
SUBJECTS: Mapping[str, tuple[Callable[[str], object], tuple[str, ...]]] = {
    "get_throttled": (parse_throttled, ("throttled=0x50005\n", "throttled=0x0\n")),
    "thermalservice": (
        parse_thermal_service,
        (outputs.THERMAL_XIAOMI, outputs.THERMAL_SAMSUNG, outputs.THERMAL_NO_HAL),
    ),
    "battery": (parse_battery, (outputs.BATTERY, outputs.BATTERY_WITH_LOG)),
    "tegrastats": (
        parse_tegrastats,
        (
            *(outputs.TEGRASTATS_4, outputs.TEGRASTATS_NANO),
            *(outputs.TEGRASTATS_6, outputs.TEGRASTATS_7),
        ),
    ),
    "nvpmodel": (
        lambda text: (parse_power_mode(text), needs_reboot(text)),
        (
            *(outputs.NVPMODEL_NANO, outputs.NVPMODEL_ORIN),
            *(outputs.NVPMODEL_VERBOSE, outputs.NVPMODEL_REBOOT),
        ),
    ),
    "nvpmodel.conf": (parse_power_modes, (NVPMODEL_CONF,)),
    "jetson_clocks": (clocks_are_held, (outputs.CLOCKS_FREE, outputs.CLOCKS_HELD)),
    "record": (parse_before, (_RECORD,)),
    "files": (_files, (_FILES,)),
    "power": (
        lambda text: parse_readings(text, [1, 2]),
        ("100.25 100.27 2875 5016 984\n100.30 100.32 2880 5008 992\n",),
    ),
    "states": (
        lambda text: parse_state(text.splitlines()).facts,
        (
            "state 4711.25\nfile /sys/class/thermal/thermal_zone0/type\tcpu-thermal\n"
            "file /sys/class/thermal/thermal_zone0/temp\t48312\ntool get_throttled\n"
            "|throttled=0x50005\nend\n",
        ),
    ),
    "affinity": (parse_allowed, ("Name:\tcat\nCpus_allowed:\tf0\nCpus_allowed_list:\t4-7\n",)),
}
_INVENTORY = """
[boards.pi]
transport = "ssh"
host = "pi.lab"
user = "me"
port = 2222
identity_file = "~/.ssh/lab"
soc = "bcm2712"
cores = [2, 3]
tags = ["lab", "arm"]
limits = { start_below = 60.5 }

[boards.pixel]
transport = "adb"
serial = "0A1B2C"
server = false
benchmark_model = "/opt/benchmark_model"
cluster = "big"
settings = { governor = "performance", fixed_performance = true, nvpmodel = 0 }
"""
_PIECES = (
    *("", " ", "\n", "\t", "\0", "\r\n", "\x1b[31m", "\ud800", "\u0663", "\u202e", "x" * 3000),
    *("0", "-1", "nan", "inf", "-inf", "1e400", "1_000", "9" * 400, "0x", "0xffffffffffffffffff"),
    *("{", "}", "[", "]", "@[", "@", "C", "mW", "%", "=", ":", ",", "-", "..", "/../", "$(true)"),
    *("<", "ID=", "NAME=", "NV Power Mode:", "mValue=", "Temperature{", "GR3D_FREQ ", "end"),
)


def mutate_text(text: str, rng: random.Random) -> str:
    """A text with other letters, lines, numbers, or an end that is missing."""
    for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
        at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        what = rng.randrange(8)
        if what == 0:
            text = text[:at] + rng.choice(_PIECES) + text[at:]
        elif what == 1:
            text = text[:at] + rng.choice(_PIECES) + text[at + rng.randrange(12) :]
        elif what == 2:
            text = text[:at] + text[to:]
        elif what == 3:
            text = text[:to]
        elif what == 4:
            lines = text.splitlines(keepends=True) or [""]
            rng.shuffle(lines)
            text = "".join(lines)
        elif what == 5:
            text = text[:to] + text[at : at + 200] * rng.choice([1, 2, 30]) + text[to:]
        elif what == 6:
            digits = [place for place, letter in enumerate(text) if letter.isdigit()] or [0]
            place = rng.choice(digits)
            text = text[:place] + rng.choice(_PIECES) + text[place + 1 :]
        else:
            text = text[:at] + chr(rng.choice([0, 9, 10, 127, 255, 0x2028])) + text[at + 1 :]
    return text[:200_000]


def read_text(subject: str, rng: random.Random) -> str:
    """Have a spoilt text understood; "used" where it was, and "nothing" where it was not."""
    parse, texts = SUBJECTS[subject]
    found = parse(mutate_text(rng.choice(texts), rng))
    assert all(math.isfinite(value) for value in _numbers(found)), found
    understood = any(found) if isinstance(found, tuple) else bool(found)
    return "used" if understood else "nothing"


def read_inventory(rng: random.Random, folder: Path) -> None:
    """Read a spoilt inventory, and write down again what it holds."""
    path = folder / "case"
    path.write_text(mutate_text(_INVENTORY, rng), errors="replace")
    for entry in Inventory.load(path).entries:
        entry_text(entry)


def _numbers(found: Any) -> Iterable[float]:
    """Each number in what a parser found."""
    if isinstance(found, int | float):
        yield found
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from _numbers(value)
    elif isinstance(found, list | tuple | frozenset):
        for value in found:
            yield from _numbers(value)
    elif hasattr(found, "__dataclass_fields__"):
        for name in found.__dataclass_fields__:
            yield from _numbers(getattr(found, name))
