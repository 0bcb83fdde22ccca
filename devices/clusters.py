"""Which cores a board has, slow and fast, and the ones that a worker is pinned to.

Phones and many boards have clusters of different cores; what is measured on one says nothing about
another. The kernel tells each core's capacity (the fastest core has 1024) or at least its highest
frequency.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .base import Transport
from .board_files import first_lines, number
from .conditions import parse_cpu_list
from .errors import InputError, MeasurementError

# Cores of one kind differ a little (a PC's favoured cores, two pairs of big ones that are clocked
# apart); kinds differ by more: 1.4 against 1.8 GHz in an RK3399, which is among the closest.
_SAME_KIND = 1.1
_CORE = re.compile(r"/cpu(\d{1,4})/(cpu_capacity|online|cpufreq/cpuinfo_max_freq|topology/\w+)$")


@dataclass(frozen=True)
class Cluster:
    """Cores of one kind.

    `name` is `all` where a board has one kind only, otherwise `little`, `middle` (`middle2`, ...)
    and `big`; `cluster0`, ... where nothing says which is faster. `capacity` is relative to 1024
    for the fastest core, `max_frequency` in Hz; `None` where the kernel does not tell.
    """

    name: str
    cores: tuple[int, ...]
    capacity: float | None = None
    max_frequency: float | None = None


def discover_clusters(transport: Transport, *, root: str = "") -> tuple[Cluster, ...]:
    """The board's clusters, the slowest first; empty where it does not show its cores.

    `root` is put in front of /sys. Raises `DeviceLost` and `DeviceTimeout`.
    """
    base = f"{root}/sys/devices/system/cpu"
    files = (
        *("cpu_capacity", "online", "cpufreq/cpuinfo_max_freq"),
        *("topology/cluster_id", "topology/physical_package_id"),
    )
    return clusters_of(first_lines(transport, *(f"{base}/cpu[0-9]*/{name}" for name in files)))


def clusters_of(files: Mapping[str, str]) -> tuple[Cluster, ...]:
    """Group cores into clusters, from the files below `cpuN` in /sys by their path."""
    cores: dict[int, dict[str, float | None]] = {}
    for path, text in files.items():
        if found := _CORE.search(path):
            cores.setdefault(int(found[1]), {})[found[2]] = number(text)
    known = {core: facts for core, facts in cores.items() if facts.get("online") != 0}
    for speed in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        speeds = {core: facts.get(speed) for core, facts in known.items()}
        sound = {core: value for core, value in speeds.items() if value and value > 0}
        if sound and len(sound) == len(known):
            return _named(_by_speed(sound), known)
    return _unnamed(known)


def _by_speed(speeds: Mapping[int, float]) -> list[list[int]]:
    groups: list[list[int]] = []
    for core in sorted(speeds, key=lambda core: (speeds[core], core)):
        if groups and speeds[core] <= _SAME_KIND * speeds[groups[-1][0]]:
            groups[-1].append(core)
        else:
            groups.append([core])
    return groups


def _named(
    groups: Sequence[Sequence[int]], facts: Mapping[int, Mapping[str, float | None]]
) -> tuple[Cluster, ...]:
    middle = ["middle", *(f"middle{number}" for number in range(2, len(groups)))]
    names = ["all"] if len(groups) == 1 else ["little", *middle[: len(groups) - 2], "big"]
    return tuple(_cluster(name, cores, facts) for name, cores in zip(names, groups, strict=True))


def _unnamed(facts: Mapping[int, Mapping[str, float | None]]) -> tuple[Cluster, ...]:
    """Clusters of which only the borders are known, from the topology."""
    groups: dict[tuple[float | None, float | None], list[int]] = {}
    for core in sorted(facts):
        package = facts[core].get("topology/physical_package_id")
        cluster = facts[core].get("topology/cluster_id")
        groups.setdefault((package, cluster), []).append(core)
    if len(groups) < 2:
        return tuple(_cluster("all", cores, facts) for cores in groups.values())
    return tuple(
        _cluster(f"cluster{index}", cores, facts) for index, cores in enumerate(groups.values())
    )


def _cluster(
    name: str, cores: Iterable[int], facts: Mapping[int, Mapping[str, float | None]]
) -> Cluster:
    chosen = tuple(sorted(cores))
    capacities = [value for core in chosen if (value := facts[core].get("cpu_capacity"))]
    frequencies = [
        value for core in chosen if (value := facts[core].get("cpufreq/cpuinfo_max_freq"))
    ]
    return Cluster(
        name,
        chosen,
        max(capacities, default=None),
        max(frequencies) * 1e3 if frequencies else None,  # the kernel counts in kHz
    )


def choose_cores(clusters: Sequence[Cluster], wanted: str | Sequence[int]) -> tuple[int, ...]:
    """The cores that a cluster's name or a list of cores (`4-7`, `4,6`, `[4, 6]`) stands for.

    Raises `InputError` naming what the board has: a taskset of a phone fails for a mask with one
    core that does not exist.
    """
    there = {core for cluster in clusters for core in cluster.cores}
    has = ", ".join(f"{cluster.name} ({cores_text(cluster.cores)})" for cluster in clusters)
    remedy = f"the board has {has}" if has else "the board does not show its cores"
    if isinstance(wanted, str):
        for cluster in clusters:
            if cluster.name == wanted:
                return cluster.cores
        cores = parse_cpu_list(wanted)
        if not cores:
            raise InputError(f"{wanted!r:.80} names no cores: {remedy}; give a name or a list")
    else:
        cores = tuple(sorted(set(wanted)))
        if not cores:
            raise InputError(f"an empty list names no cores: {remedy}; give at least one core")
    if missing := [core for core in cores if core not in there]:
        raise InputError(f"cores {cores_text(missing)} cannot be used: {remedy}; choose of these")
    return cores


def pinned(cores: Sequence[int], argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` on these cores alone.

    As a mask in hexadecimal, which is all that the `taskset` of Android's toybox understands.
    """
    if not cores or min(cores) < 0:
        raise ValueError("a process runs on one core at least, and they are counted from 0")
    return ["taskset", f"{sum(1 << core for core in set(cores)):x}", *argv]


def verify_cores(
    transport: Transport, process: int, cores: Sequence[int], *, root: str = ""
) -> None:
    """Make sure that a process may run on these cores alone.

    Raises `MeasurementError` where the system allows it others, or has moved it: Android's
    background group keeps processes off the big cores, whatever taskset was told.
    """
    path = f"{root}/proc/{process}/status"
    found = parse_allowed(
        transport.run(["cat", path], timeout=10.0).stdout.decode(errors="replace")
    )
    if found == tuple(sorted(set(cores))):
        return
    where = f"cores {cores_text(found)}" if found else "cores that the system does not tell"
    raise MeasurementError(
        f"process {process} was pinned to cores {cores_text(sorted(set(cores)))} and may run on "
        f"{where}; choose other cores, or end what restricts it there (a cpuset, a container)"
    )


def parse_allowed(text: str | None) -> tuple[int, ...]:
    """The cores in the line Cpus_allowed_list of /proc/PID/status; empty where there is none."""
    found = re.search(r"^Cpus_allowed_list:[ \t]*(\S{1,4000})[ \t]*$", text or "", re.MULTILINE)
    return parse_cpu_list(found[1]) if found else ()


def cores_text(cores: Sequence[int]) -> str:
    """Cores as the kernel writes them: 0-3,6."""
    parts: list[str] = []
    for core in cores:
        first, _, last = parts[-1].partition("-") if parts else ("", "", "")
        if parts and int(last or first) == core - 1:
            parts[-1] = f"{first}-{core}"
        else:
            parts.append(str(core))
    return ",".join(parts)
