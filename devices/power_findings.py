"""Findings about power and rights: under-voltage, throttle flags, power modes, root, phones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .board_entry import BoardEntry
from .findings import Finding
from .jetson import PowerMode, clocks_are_held
from .throttling import STATUS, Battery, ThermalService, Throttled

LOW_BATTERY = 0.3  # phones save power below a fifth, some earlier
_FLAGS = {
    "frequency_capped": "the clock is capped",
    "throttled": "it is throttled",
    "soft_temperature_limit": "the soft temperature limit is reached",
}


def throttled_findings(flags: Throttled | None) -> list[Finding]:
    """Voltage and throttling of a Raspberry Pi, now and since its start."""
    if flags is None:
        return []
    return [_voltage(flags), _throttling(flags)]


def _voltage(flags: Throttled) -> Finding:
    remedy = (
        "use the board's own power supply and a short, thick cable, and take off what draws "
        "power from USB; the flag stays until the board is restarted"
    )
    if "under_voltage" in flags.now:
        return Finding("power", "problem", "the voltage is too low, and slows the board", remedy)
    if "under_voltage" in flags.since_start:
        words = "the voltage was too low at least once since the board was started"
        return Finding("power", "warning", words, remedy)
    return Finding("power", "ok", "the voltage has been high enough since the board was started")


def _throttling(flags: Throttled) -> Finding:
    remedy = "let it cool down and give it a fan; the flags stay until the board is restarted"
    if now := [words for name, words in _FLAGS.items() if name in flags.now]:
        return Finding("throttling", "problem", f"{' and '.join(now)} now", remedy)
    if before := [name for name in _FLAGS if name in flags.since_start]:
        names = ", ".join(name.replace("_", " ") for name in before)
        return Finding("throttling", "warning", f"since the board was started: {names}", remedy)
    return Finding("throttling", "ok", "not once since the board was started")


def thermal_finding(service: ThermalService | None) -> Finding | None:
    """What Android's thermal service does about the heat; `None` where it does not say."""
    if service is None or service.status is None:
        return None
    if service.status == 0:
        return Finding("throttling", "ok", "Android does not throttle now")
    name = STATUS[min(service.status, len(STATUS) - 1)]
    return Finding(
        "throttling",
        "warning" if service.status < 3 else "problem",
        f"Android throttles now ({name})",
        "take it out of its case, unplug a fast charger, and let it cool down",
    )


def battery_findings(battery: Battery | None) -> list[Finding]:
    """Level and charger of a phone."""
    if battery is None:
        return [Finding("battery", "note", "the battery's level cannot be read")]
    findings = []
    level = "unknown" if battery.level is None else f"{battery.level:.0%}"
    charger = f"charging over {battery.charger}" if battery.charger else "no charger"
    words = f"{level}, {charger}"
    if battery.level is not None and battery.level < LOW_BATTERY:
        findings.append(
            Finding(
                "battery",
                "problem",
                f"{words}: phones save power, and slow down, when it is low",
                f"charge it to {LOW_BATTERY:.0%} at least",
            )
        )
    elif battery.charger:
        findings.append(
            Finding(
                "battery",
                "note",
                f"{words}, which warms the phone",
                "a charged battery and a slow port (USB) warm it least",
            )
        )
    else:
        findings.append(Finding("battery", "ok", words))
    return findings


def screen_finding(power: str | None) -> Finding | None:
    """Whether a phone's screen is on, from `dumpsys power`; `None` where it does not say."""
    found = re.search(r"^\s*mWakefulness=(\w{1,20})\s*$", power or "", re.MULTILINE)
    if found is None:
        return None
    if found[1] == "Awake":
        return Finding(
            "screen",
            "note",
            "it is on: it warms the phone, and what is on it takes time",
            "press the power button, and set the brightness low",
        )
    return Finding("screen", "ok", "it is off")


def power_mode_finding(mode: int | None, modes: Sequence[PowerMode], entry: BoardEntry) -> Finding:
    """The power mode of a Jetson, against the one that boards.toml sets."""
    wanted = entry.settings.nvpmodel
    if mode is None:
        words, remedy = "nvpmodel does not tell the power mode", "run `nvpmodel -q` there"
        return Finding("power mode", "warning", words, remedy)
    names = {one.number: one.name for one in modes}
    words = f"{mode} ({names[mode]})" if mode in names else str(mode)
    if wanted is not None and modes and wanted not in names:
        return Finding(
            "power mode",
            "problem",
            f"boards.toml wants mode {wanted}, and the board has "
            + ", ".join(f"{number} ({name})" for number, name in names.items()),
            "choose one of these",
        )
    if wanted is not None and wanted != mode:
        words += f"; {wanted} is set while something is measured"
    return Finding("power mode", "ok", words)


def clocks_finding(text: str | None, entry: BoardEntry) -> Finding | None:
    """Whether `jetson_clocks` holds the clocks, from its `--show`; `None` where it does not say."""
    held = clocks_are_held(text or "")
    if held is None:
        return None
    if held:
        return Finding("clocks", "ok", "jetson_clocks holds them")
    if entry.settings.jetson_clocks:
        return Finding("clocks", "ok", "jetson_clocks holds them while something is measured")
    return Finding(
        "clocks",
        "warning",
        "they change while something is measured",
        "write settings = { jetson_clocks = true } in boards.toml: it is set for a measurement "
        "and put back",
    )


def rights_finding(
    user: str, root: bool, needed: Sequence[str], refused: Sequence[str], wants: bool
) -> Finding:
    """Whether settings of the board can be changed.

    `needed` are the commands that this takes through `sudo -n`, as sudoers names them, and
    `refused` those of them that it does not allow; `wants` says whether boards.toml asks for a
    setting that needs them.
    """
    if root:
        return Finding("rights", "ok", "root: settings can be changed for a measurement")
    if not needed:
        return Finding("rights", "ok", f"{user}; the board has no setting that takes more")
    if not refused:
        return Finding("rights", "ok", f"{user}, with sudo for what changes settings")
    return Finding(
        "rights",
        "problem" if wants else "note",
        f"{user} has no sudo without a password, so that settings of the board cannot be changed",
        "run `sudo visudo -f /etc/sudoers.d/boardfit` there, and write\n"
        + sudoers_line(user, needed),
    )


def sudoers_line(user: str, commands: Sequence[str]) -> str:
    """The line of /etc/sudoers.d that allows a user these commands without a password."""
    return f"{user} ALL=(root) NOPASSWD: {', '.join(commands)}"


_MACHINES = {3: "x86", 40: "armv7", 62: "x86_64", 183: "aarch64", 243: "riscv64"}  # ELF e_machine
_ABIS = {"arm64-v8a": "aarch64", "armeabi-v7a": "armv7", "x86_64": "x86_64", "x86": "x86"}


def elf_machine(path: Path) -> str | None:
    """What processor a program is for, from its ELF header; `None` where it is no such program.

    Raises OSError where it cannot be read.
    """
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or header[:4] != b"\x7fELF" or header[5] not in {1, 2}:
        return None
    code = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    return _MACHINES.get(code, f"ELF machine {code}")


def tool_finding(entry: BoardEntry, abis: str | None) -> Finding:
    """Whether there is a benchmark_model for this phone.

    `abis` is Android's ro.product.cpu.abilist: what it can run, the best first.
    """
    what = "benchmark_model"
    names = [_ABIS.get(abi.strip(), abi.strip()) for abi in (abis or "").split(",") if abi.strip()]
    source = (
        "download TensorFlow Lite's benchmark_model for this processor, or build it, and write "
        'benchmark_model = "/path/to/it" in boards.toml'
    )
    if entry.benchmark_model is None:
        where = f" for {names[0]}" if names else ""
        words = f"boards.toml names none{where}, and phones have no Python"
        return Finding(what, "problem", words, source)
    path = entry.benchmark_model
    try:
        machine = elf_machine(path.expanduser())
    except OSError as error:
        words = f"{path} cannot be read on this host: {error.strerror}"
        return Finding(what, "problem", words, source)
    if machine is None:
        return Finding(what, "problem", f"{path} is no program for Linux or Android", source)
    if names and machine not in names:
        words = f"{path} is for {machine}, and the phone runs {', '.join(names)}"
        return Finding(what, "problem", words, source)
    return Finding(what, "ok", f"{path} ({machine})")
