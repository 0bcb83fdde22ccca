"""What a board says about itself, what boardfit controls there, and what changed since.

Everything is read with `cat`, `uname`, `sysctl` and `getprop`; no setting of a board is changed.
The functions that understand the texts (`parse_...`) are pure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from .base import Description, Transport
from .errors import CommandFailed
from .settings_record import NOTHING, Wanted

_TIMEOUT = 10.0  # seconds for one small command


def describe(transport: Transport) -> Description:
    """Ask a board what it is; what it does not tell is `None`.

    Raises `DeviceLost` and `DeviceTimeout`: silence of the whole board is no answer.
    """
    system = _ask(transport, ["uname", "-s"])
    kernel = _ask(transport, ["uname", "-r"])
    machine = _ask(transport, ["uname", "-m"])
    if system == "Darwin":
        cores = _ask(transport, ["sysctl", "-n", "hw.ncpu"])
        memory = _ask(transport, ["sysctl", "-n", "hw.memsize"])
        return Description(
            model=_ask(transport, ["sysctl", "-n", "machdep.cpu.brand_string"]),
            soc=None,
            cores=_positive(cores),
            memory_bytes=_positive(memory),
            system=system,
            kernel=kernel,
            machine=machine,
            governor=None,
        )
    cpuinfo = _cat(transport, "/proc/cpuinfo")
    online = parse_cpu_list(_cat(transport, "/sys/devices/system/cpu/online"))
    governors = _cat(
        transport,
        *(f"/sys/devices/system/cpu/cpu{n}/cpufreq/scaling_governor" for n in online),
    )
    release = parse_os_release(_cat(transport, "/etc/os-release"))
    # Android has no such file, and says more of itself than its device tree, which it hides.
    android = {} if release else parse_properties(_ask(transport, ["getprop"]))
    return Description(
        model=android.get("ro.product.model")
        or parse_model(cpuinfo, _cat(transport, "/proc/device-tree/model")),
        soc=android.get("ro.soc.model")
        or android.get("ro.board.platform")
        or parse_soc(cpuinfo, _cat(transport, "/proc/device-tree/compatible")),
        cores=len(online) or parse_processors(cpuinfo),
        memory_bytes=parse_memory(_cat(transport, "/proc/meminfo")),
        system=release or android_system(android) or system,
        kernel=kernel,
        machine=machine,
        governor=parse_governors(governors),
        boot=boot_identifier(transport),
    )


def under(description: Description, wanted: Wanted) -> Description:
    """A board as it is measured: under the governor that is wanted, whichever it has otherwise."""
    return replace(description, governor=wanted.governor or description.governor)


def boot_identifier(transport: Transport) -> str | None:
    """What the kernel drew when the board started, so that a restart can be seen; None where it
    does not tell. Raises `DeviceLost` and `DeviceTimeout`."""
    return _cat(transport, "/proc/sys/kernel/random/boot_id")


def controls(description: Description, core: int | None, wanted: Wanted = NOTHING) -> list[str]:
    """Sentences for a report: what boardfit does and does not control on this board.

    `wanted` is what it sets there while it measures.
    """
    sentences = []
    if description.system == "Darwin":
        sentences.append("The worker is left to the scheduler: macOS cannot pin it to a core.")
    elif core is None:
        sentences.append(
            "The worker is left to the scheduler, which may move it between cores; name a `core` "
            "in boards.toml to pin it."
        )
    else:
        sentences.append(f"The worker is pinned to core {core}.")
    if wanted.governor is not None:
        sentences.append(f"The frequency governor is set to {wanted.governor}.")
    elif description.governor is None:
        sentences.append(
            "The frequency governor cannot be read, so the clock may change unnoticed while "
            "something is measured."
        )
    elif description.governor == "performance":
        sentences.append("The frequency governor is performance; it is read and not changed.")
    else:
        sentences.append(
            f"The frequency governor is {description.governor}; it is read and not changed. The "
            "clock may vary while something is measured; performance would hold it."
        )
    if wanted.nvpmodel is not None:
        sentences.append(f"The power mode is set to {wanted.nvpmodel} with nvpmodel.")
    if wanted.jetson_clocks:
        sentences.append("The clocks are held with jetson_clocks.")
    if wanted.fixed_performance:
        sentences.append("Android's fixed-performance mode is switched on.")
    if wanted.cool_below is None:
        sentences.append("Temperature and other programs on the board are not controlled.")
    else:
        sentences.append(
            f"Measuring begins below {wanted.cool_below:g} °C; the temperature is left to itself "
            "then, and other programs on the board are not controlled."
        )
    if wanted.changes:
        sentences.append(
            "What is set is put back afterwards, by the board itself where this computer is gone."
        )
    else:
        sentences.append("No setting of the board is changed, so nothing has to be restored.")
    return sentences


def mismatch(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Which conditions differ, in words, e.g. `governor: was 'performance', is 'ondemand'`.

    Nested conditions are named with dots. A tuple equals the list that JSON makes of it. Empty
    where values taken under both may be put together.
    """
    differences = []
    for name in dict.fromkeys([*before, *now]):
        if name not in now:
            differences.append(f"{name}: was {before[name]!r}, is not recorded now")
            continue
        if name not in before:
            differences.append(f"{name}: was not recorded, is {now[name]!r}")
            continue
        old, new = before[name], now[name]
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            differences += [f"{name}.{words}" for words in mismatch(old, new)]
        elif _plain(old) != _plain(new):
            differences.append(f"{name}: was {old!r}, is {new!r}")
    return differences


def parse_model(cpuinfo: str | None, device_tree: str | None) -> str | None:
    """The board's name, otherwise its processor's.

    `device_tree` is the text of /proc/device-tree/model, which ends with a NUL.
    """
    board = (device_tree or "").replace("\0", "").strip()
    return board or _field(cpuinfo, "Model") or _field(cpuinfo, "model name")


def parse_soc(cpuinfo: str | None, compatible: str | None) -> str | None:
    """The chip's name, e.g. `bcm2711` or `tegra234`; `None` on a PC, whose model names it.

    `compatible` is the text of /proc/device-tree/compatible: `maker,name` entries that end with a
    NUL, from the board's to the chip's. Families (`tegra23x`) stand last and are passed over.
    """
    names = [entry.rpartition(",")[2] for entry in (compatible or "").split("\0") if entry]
    for name in reversed(names):
        if not re.search(r"\dx+$", name):
            return name
    hardware = _field(cpuinfo, "Hardware")
    # Since Linux 4.9 every Raspberry Pi calls itself a BCM2835 here, whatever its chip is
    # (github.com/raspberrypi/linux, issue 3022): no answer is better than that one.
    return None if hardware == "BCM2835" else hardware


def parse_processors(cpuinfo: str | None) -> int | None:
    """How many cores /proc/cpuinfo lists."""
    return len(re.findall(r"^processor\s*:", cpuinfo or "", flags=re.MULTILINE)) or None


def parse_memory(meminfo: str | None) -> int | None:
    """Bytes of memory that the kernel has (/proc/meminfo counts in KiB and calls them kB)."""
    found = re.search(r"^MemTotal:\s*(\d{1,15}) kB$", meminfo or "", flags=re.MULTILINE | re.ASCII)
    return int(found[1]) * 1024 if found else None


def parse_os_release(text: str | None) -> str | None:
    """The system's name as /etc/os-release gives it to people, e.g. `Debian GNU/Linux 12`."""
    for line in (text or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            try:  # the values are quoted as for a shell
                words = shlex.split(line.removeprefix("PRETTY_NAME="))
            except ValueError:
                return None
            return " ".join(words).strip() or None
    return None


def parse_properties(text: str | None) -> dict[str, str]:
    """What Android's `getprop` lists, one `[name]: [value]` a line; empty values are left out."""
    lines = re.findall(r"^\[([^\]\n]+)\]: \[(.+)\]\r?$", text or "", flags=re.MULTILINE)
    return {name: value.strip() for name, value in lines if value.strip()}


def android_system(properties: Mapping[str, str]) -> str | None:
    """The system's name from Android's properties, e.g. `Android 14 (UQ1A.240205.002)`."""
    release = properties.get("ro.build.version.release")
    if release is None:
        return None
    build = properties.get("ro.build.id")
    return f"Android {release} ({build})" if build else f"Android {release}"


def parse_cpu_list(text: str | None) -> tuple[int, ...]:
    """The numbers in the kernel's notation for sets of cores: `0-3,6` is 0, 1, 2, 3, 6.

    Empty where the text is missing or is not such a list.
    """
    numbers: set[int] = set()
    for part in (text or "").strip().split(","):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part, flags=re.ASCII)
        if found is None:
            return ()
        numbers.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return tuple(sorted(numbers))


def parse_governors(text: str | None) -> str | None:
    """One name where all cores have the same governor, otherwise the names joined with `+`."""
    return "+".join(dict.fromkeys((text or "").split())) or None


def _ask(transport: Transport, argv: Sequence[str]) -> str | None:
    """What a command writes; `None` where it wrote nothing or is not there."""
    try:
        done = transport.run(argv, timeout=_TIMEOUT)
    except CommandFailed:
        return None
    return done.stdout.decode(errors="replace").strip() or None


def _cat(transport: Transport, *paths: str) -> str | None:
    """What files hold, one after the other; those that cannot be read are left out."""
    return _ask(transport, ["cat", *paths]) if paths else None


def _field(cpuinfo: str | None, name: str) -> str | None:
    found = re.search(rf"^{name}[ \t]*:[ \t]*(\S.*?)[ \t]*$", cpuinfo or "", flags=re.MULTILINE)
    return found[1] if found else None


def _positive(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"0*[1-9]\d{0,17}", text, flags=re.ASCII) else None


def _plain(value: object) -> object:
    """A value as it comes back from JSON."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
