"""What a Jetson's own tools say: nvpmodel, jetson_clocks and tegrastats. Pure functions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .board_files import is_plausible, number

POWER_MODES_FILE = "/etc/nvpmodel.conf"
_NUMBER = r"-?\d{1,9}(?:\.\d{1,6})?"
_MODEL = re.compile(r"<\s*POWER_MODEL\s+ID=(\d{1,4})\s+NAME=([^\s<>]{1,80})\s*>")
# Parts of the GPU that a mode switches off (Xavier, Orin; Thor): they are fixed once the GPU was
# used, and then need a reboot to change.
_GATING = re.compile(r"\s*(TPC_POWER_GATING|GPU_POWER_GATING)\s+(\S{1,40})\s+(\S{1,40})\s*")
_TEMPERATURE = re.compile(rf"(?<!\S)([A-Za-z][\w.]{{0,31}})@({_NUMBER})C(?![A-Za-z])")
# `VDD_IN 5000mW/4900mW` (JetPack 5 and 6), `.../9000mW` behind it (7), `POM_5V_IN 4250/4250` (4).
_RAIL = re.compile(
    rf"(?<!\S)((?:VDD|POM|VIN|VDDQ|CPU|GPU|SOC|CV|SYS)\w{{0,31}}) ({_NUMBER})(?:mW)?/({_NUMBER})"
    r"(?:mW)?(?=\s|/|$)"
)
# `0%`, `0%@318`, `@[305,305]`, and `0%@[305,305]`, by JetPack's version; MHz.
_GPU = re.compile(r"(?<!\S)GR3D_FREQ (?:(\d{1,3})%)?(?:@(?:\[([\d, ]{1,80})\]|(\d{1,5})))?(?=\s|$)")
_MEMORY = re.compile(r"(?<!\S)EMC_FREQ (?:(\d{1,3})%)?(?:@(\d{1,5}))?(?=\s|$)")


@dataclass(frozen=True)
class PowerMode:
    """One mode of nvpmodel. `gating` is what it switches off in the GPU, by name."""

    number: int
    name: str
    gating: Mapping[str, str] = field(default_factory=dict)


def parse_power_mode(text: str | None) -> int | None:
    """The number of the mode that is set, from `nvpmodel -q` with or without `--verbose`.

    The number stands alone in the line below the mode's name; warnings stand before and errors
    about files that only root may read behind it. `None` where the text has no such two lines.
    """
    lines = (text or "").splitlines()
    for above, line in itertools.pairwise(lines):
        if "NV Power Mode:" in above and re.fullmatch(r"\s*\d{1,4}\s*", line, re.ASCII):
            return int(line)
    return None


def parse_power_modes(text: str | None) -> tuple[PowerMode, ...]:
    """The modes that /etc/nvpmodel.conf defines, in their order."""
    modes: list[PowerMode] = []
    for line in (text or "").splitlines():
        if found := _MODEL.match(line.strip()):
            modes.append(PowerMode(int(found[1]), found[2], {}))
        elif modes and (gated := _GATING.fullmatch(line)):
            gating = {**modes[-1].gating, f"{gated[1]} {gated[2]}": gated[3]}
            modes[-1] = PowerMode(modes[-1].number, modes[-1].name, gating)
    return tuple(modes)


def needs_reboot(answer: str) -> bool:
    """Whether nvpmodel said that it can change to a mode by a reboot only."""
    return re.search(r"reboot required|want to reboot", answer, re.IGNORECASE) is not None


def clocks_are_held(show: str) -> bool | None:
    """Whether `jetson_clocks --show` tells clocks that cannot move; `None` where it tells none."""
    ranges = re.findall(
        r"^\s*(?:cpu\d{1,3}:.{0,80}?|GPU )MinFreq=(\d{1,15}) MaxFreq=(\d{1,15})\b",
        show,
        re.MULTILINE | re.ASCII,
    )
    return all(int(low) == int(high) for low, high in ranges) if ranges else None


def parse_tegrastats(line: str | None) -> dict[str, float]:
    """One line of tegrastats as flat numbers; what is not in it is left out.

    `gpu.load` and `memory.load` from 0 to 1, `gpu.frequency` (the fastest part's) and
    `memory.frequency` in Hz, `temperature.NAME` in °C, `power.NAME` in W.
    """
    line = line or ""
    found: dict[str, float] = {}
    if gpu := _GPU.search(line):
        _put(found, "gpu.load", gpu[1], 0.01)
        parts = [value for part in (gpu[2] or "").split(",") if (value := number(part)) is not None]
        if parts:
            found["gpu.frequency"] = max(parts) * 1e6
        else:
            _put(found, "gpu.frequency", gpu[3], 1e6)
    if memory := _MEMORY.search(line):
        _put(found, "memory.load", memory[1], 0.01)
        _put(found, "memory.frequency", memory[2], 1e6)
    for name, celsius in _TEMPERATURE.findall(line):
        if is_plausible(float(celsius)):
            found[f"temperature.{name}"] = float(celsius)
    for name, now, _ in _RAIL.findall(line):
        _put(found, f"power.{name}", now, 1e-3)
    return found


def _put(found: dict[str, float], name: str, text: str | None, scale: float) -> None:
    value = number(text)
    if value is not None:
        found[name] = value * scale
