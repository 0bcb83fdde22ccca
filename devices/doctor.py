"""Is a board fit to be measured? What there is to be said about it, each with its next step.

Everything is read through the board's transport, so that it does not matter how it is reached, and
no setting is changed. What is understood from it is in `findings.py`, `power_findings.py` and
`runtime_findings.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .base import Device, Transport
from .board_entry import BoardEntry
from .board_files import first_lines
from .board_state import read_state
from .clusters import discover_clusters
from .errors import BoardfitError, CommandFailed, DeviceLost, DeviceTimeout
from .findings import (
    Finding,
    chip_finding,
    cluster_finding,
    disk_finding,
    governor_findings,
    half_copies,
    link_finding,
    litter_findings,
    load_finding,
    old_workers,
    parse_disk_space,
    temperature_finding,
    throttle_count_finding,
    workspace_finding,
)
from .jetson import POWER_MODES_FILE, parse_power_mode, parse_power_modes
from .power_findings import (
    battery_findings,
    clocks_finding,
    power_mode_finding,
    rights_finding,
    screen_finding,
    thermal_finding,
    throttled_findings,
    tool_finding,
)
from .runtime_choice import PROBE, BoardPython, parse_probe
from .runtime_findings import python_findings
from .throttling import (
    Kind,
    kind_of,
    parse_battery,
    parse_thermal_service,
    parse_throttled,
)

ROUND_TRIPS = 5
_TIMEOUT = 20.0  # seconds for one command
_IMPORT_TIMEOUT = 120.0  # seconds; a board with a slow card takes long to import a runtime
_POLICIES = "/sys/devices/system/cpu/cpufreq/policy[0-9]*"
# The free space of the first folder on the way up that exists, since the workspace may be missing.
_DISK = """
place=$1
until [ -e "$place" ]; do place=${place%/*}; [ -n "$place" ] || place=/; done
LC_ALL=C df -Pk -- "$place" 2>/dev/null || df -Pk "$place"
"""
_WORKSPACE = """
place=$1
if [ -d "$place" ]; then
  if [ -w "$place" ] && [ -x "$place" ]; then echo writable; else echo read-only; fi
  exit
fi
if [ -e "$place" ]; then echo not a folder; exit; fi
until [ -e "$place" ]; do place=${place%/*}; [ -n "$place" ] || place=/; done
if [ -d "$place" ] && [ -w "$place" ]; then echo can be made; else echo read-only; fi
"""
_NAMES = """
cd -- "$1" 2>/dev/null || exit 0
for name in worker-* .boardfit-* worker-*/.boardfit-* runtime/wheels/.boardfit-*; do
  if [ -e "$name" ]; then printf '%s\\n' "$name"; fi
done
"""


@dataclass(frozen=True)
class _Look:
    """A board under examination."""

    device: Device
    entry: BoardEntry
    kind: Kind

    @property
    def transport(self) -> Transport:
        return self.device.transport

    def text(self, *argv: str, timeout: float = _TIMEOUT) -> str | None:
        """What a command wrote; `None` where there is no such command or it failed."""
        try:
            done = self.transport.run(list(argv), timeout=timeout)
        except CommandFailed:
            return None
        return done.stdout.decode(errors="replace") if done.code == 0 else None

    def shell(self, script: str, *arguments: str) -> str | None:
        """What a script of ours wrote; the arguments are data in it."""
        return self.text("sh", "-c", script, "sh", *arguments)

    def succeeds(self, *argv: str) -> bool:
        return self.text(*argv) is not None


def examine(
    device: Device,
    entry: BoardEntry,
    *,
    keep_workers: frozenset[str] = frozenset(),
    clock: Callable[[], float] = time.perf_counter,
) -> list[Finding]:
    """Look at everything that matters for measuring on a board that was reached.

    `keep_workers` are the folders of workers that this version uses. A link that breaks meanwhile
    is the last finding.
    """
    findings: list[Finding] = []
    try:
        for finding in _findings(device, entry, keep_workers, clock):
            findings.append(finding)
    except (DeviceLost, DeviceTimeout) as error:
        findings.append(unreachable(error))
    return findings


def unreachable(error: BoardfitError) -> Finding:
    """A board that was not reached, or no longer: the error's own words say what to do."""
    return Finding("link", "problem", str(error))


def repair(device: Device, findings: Sequence[Finding], keep_workers: frozenset[str]) -> list[str]:
    """Do what is harmless about the findings; sentences that say what was done.

    A folder is made, and left-overs of ours in it are removed; no setting is touched. Raises
    `CommandFailed` where the board refuses.
    """
    done = []
    wanted = {finding.repair for finding in findings}
    workspace = str(device.workspace)
    if "make the workspace" in wanted:
        device.transport.run(["mkdir", "-p", "--", workspace], timeout=_TIMEOUT).check()
        done.append(f"made {workspace}")
    names = _litter(device)
    gone = []
    if "remove old workers" in wanted:
        gone += [name for name in old_workers(names) if name not in keep_workers]
    if "remove what was half copied" in wanted:
        gone += half_copies(names)
    for name in gone:
        path = str(device.workspace / name)
        device.transport.run(["rm", "-r", "-f", "--", path], timeout=_TIMEOUT).check()
        done.append(f"removed {path}")
    return done


def _findings(
    device: Device, entry: BoardEntry, keep_workers: frozenset[str], clock: Callable[[], float]
) -> Iterator[Finding]:
    yield link_finding([_round_trip(device.transport, clock) for _ in range(ROUND_TRIPS)])
    look = _Look(device, entry, kind_of(device.transport))
    if found := chip_finding(entry, device.description.soc, device.description.model):
        yield found
    yield from _rights(look)
    yield from _storage(look, keep_workers)
    yield from _programs(look)
    yield from _speed(look)
    yield from _power(look)


def _round_trip(transport: Transport, clock: Callable[[], float]) -> float:
    begin = clock()
    transport.run(["true"], timeout=_TIMEOUT).check()
    return clock() - begin


def _rights(look: _Look) -> Iterator[Finding]:
    user = (look.text("id", "-un") or "").strip() or "this user"
    if (look.text("id", "-u") or "").strip() == "0":
        yield rights_finding(user, True, [], [], False)
        return
    if look.kind == "android":
        yield Finding(
            "rights", "note", f"{user}: clocks need `adb root`, fixed performance does not"
        )
        return
    commands = _privileged(look)
    refused = [words for words in commands if not look.succeeds("sudo", "-n", "-l", *words)]
    settings = look.entry.settings
    wants = bool(settings.governor or settings.jetson_clocks or settings.nvpmodel is not None)
    needed = [_rule(look, words) for words in commands]
    yield rights_finding(user, False, needed, [" ".join(words) for words in refused], wants)


def _privileged(look: _Look) -> list[list[str]]:
    """The commands with which settings are changed, as root."""
    governors = first_lines(look.transport, f"{_POLICIES}/scaling_governor")
    commands = [["tee", path] for path in governors if not look.succeeds("test", "-w", path)]
    if look.kind == "jetson":
        actions: tuple[list[str], ...] = (
            [],
            ["--show"],
            ["--store", "clocks"],
            ["--restore", "clocks"],
        )
        commands += [["jetson_clocks", *action] for action in actions]
        now = parse_power_mode(look.text("nvpmodel", "-q"))
        modes = {mode for mode in (now, look.entry.settings.nvpmodel) if mode is not None}
        commands += [["nvpmodel", "-m", str(mode)] for mode in sorted(modes)]
    return commands


def _rule(look: _Look, words: Sequence[str]) -> str:
    """A command as sudoers names it: with its whole path; `""` allows no arguments."""
    where = (look.shell('command -v "$1"', words[0]) or "").strip()
    rest = " ".join(words[1:]) if words[1:] else '""'
    return f"{where if where.startswith('/') else words[0]} {rest}"


def _storage(look: _Look, keep_workers: frozenset[str]) -> Iterator[Finding]:
    if look.device.kind == "fake":  # its disk is our memory
        return
    workspace = str(look.device.workspace)
    yield disk_finding(parse_disk_space(look.shell(_DISK, workspace)))
    yield workspace_finding(workspace, (look.shell(_WORKSPACE, workspace) or "").strip())
    yield from litter_findings(_litter(look.device), keep_workers)


def _litter(device: Device) -> list[str]:
    """Names in the workspace that are ours to remove, perhaps."""
    try:
        done = device.transport.run(
            ["sh", "-c", _NAMES, "sh", str(device.workspace)], timeout=_TIMEOUT
        )
    except CommandFailed:
        return []
    return done.stdout.decode(errors="replace").splitlines()


def _programs(look: _Look) -> Iterator[Finding]:
    if look.device.kind == "fake":
        yield Finding("python", "ok", "the worker is simulated")
        return
    if look.kind == "android" or not look.device.python:
        yield tool_finding(look.entry, look.text("getprop", "ro.product.cpu.abilist"))
        return
    python, words = read_python(look.transport, look.device.python)
    yield from python_findings(python, words, look.entry.name)


def read_python(transport: Transport, interpreter: str) -> tuple[BoardPython | None, str]:
    """What a board's interpreter says about itself, or why it does not, in words."""
    try:
        done = transport.run([interpreter, "-c", PROBE], timeout=_IMPORT_TIMEOUT)
    except CommandFailed as error:
        return None, str(error)
    python = parse_probe(done.stdout.decode(errors="replace"))
    if python is None:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-300:]
        return None, f"{interpreter} is no Python that works: {said or f'code {done.code}'}"
    return python, ""


def _speed(look: _Look) -> Iterator[Finding]:
    transport, entry = look.transport, look.entry
    clusters = discover_clusters(transport)
    yield cluster_finding(clusters, entry, look.device.core)
    if look.kind == "jetson":
        modes = parse_power_modes(look.text("cat", POWER_MODES_FILE))
        yield power_mode_finding(parse_power_mode(look.text("nvpmodel", "-q")), modes, entry)
        held = clocks_finding(look.text("jetson_clocks", "--show"), entry)
        if held is not None:
            yield held
    names = ("scaling_governor", "scaling_max_freq", "cpuinfo_max_freq")
    files = first_lines(transport, *(f"{_POLICIES}/{name}" for name in names))
    yield from governor_findings(files, _holds_the_clock(look))
    if found := load_finding(look.text("cat", "/proc/loadavg"), look.device.description.cores):
        yield found


def _holds_the_clock(look: _Look) -> str | None:
    """What boards.toml has set while something is measured, so that the clock stays as it is."""
    settings = look.entry.settings
    if settings.governor is not None:
        return settings.governor
    if settings.jetson_clocks and look.kind == "jetson":
        return "jetson_clocks"
    return "fixed performance" if settings.fixed_performance and look.kind == "android" else None


def _power(look: _Look) -> Iterator[Finding]:
    celsius = read_state(look.transport).facts.get("temperature")
    yield temperature_finding(celsius, look.entry.limits.start_below)
    if look.kind == "raspberry_pi":
        yield from throttled_findings(parse_throttled(look.text("vcgencmd", "get_throttled")))
    elif look.kind == "android":
        thermal = thermal_finding(parse_thermal_service(look.text("dumpsys", "thermalservice")))
        if thermal is not None:
            yield thermal
        yield from battery_findings(parse_battery(look.text("dumpsys", "battery")))
        if screen := screen_finding(look.text("dumpsys", "power")):
            yield screen
    else:
        counts = first_lines(
            look.transport,
            "/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/package_throttle_count",
        )
        if found := throttle_count_finding(counts):
            yield found
