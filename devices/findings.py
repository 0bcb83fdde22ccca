"""What is to be said about a board before it is measured: findings, each with its next step.

Everything here is a pure function from what was read to what is said of it; `doctor.py` reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from .board_entry import BoardEntry
from .board_files import number
from .clusters import Cluster, cores_text

State = Literal["ok", "note", "warning", "problem"]
Repair = Literal["make the workspace", "remove old workers", "remove what was half copied"]

SLOW_LINK = 0.05  # seconds; a campaign sends ahead, so that only far slower links are felt
VERY_SLOW_LINK = 0.5
LITTLE_SPACE = 500e6  # bytes; a runtime with NumPy takes 150 to 250 MB
NO_SPACE = 50e6  # bytes; models and workers of a campaign
WARM = 70.0  # degrees Celsius; boards lower their clock at 80 to 85
HOT = 80.0
_HALF_COPY = re.compile(r"(?:worker-[0-9a-f]{16}/|runtime/wheels/)?\.boardfit-[0-9a-f]{16}")
BUSY = 0.5  # cores that other programs take, averaged over a minute


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    `ok`: as it should be. `note`: worth knowing. `warning`: figures may suffer. `problem`: nothing
    can be measured, or figures would be wrong. `fix` is the next step in words (empty: none is
    needed; what is to be copied stands in lines of its own), `repair` names what `--fix` does about
    it without harm (`None`: nothing).
    """

    what: str
    state: State
    words: str
    fix: str = ""
    repair: Repair | None = None


@dataclass(frozen=True)
class DiskSpace:
    """Free and whole size in bytes of the file system that a folder lies on, and its place."""

    free: int
    size: int
    mounted_on: str


def link_finding(seconds: Sequence[float]) -> Finding:
    """How long a request takes there and back, from several."""
    typical = median(seconds)
    words = f"a request takes {milliseconds(typical)} (median of {len(seconds)})"
    if typical < SLOW_LINK:
        return Finding("link", "ok", words)
    remedy = "use a cable or a nearer network"
    if typical < VERY_SLOW_LINK:
        return Finding("link", "note", f"{words}: large models take a while to send", remedy)
    return Finding("link", "warning", f"{words}, so that boards wait for the host", remedy)


def milliseconds(seconds: float) -> str:
    """A time for people: two digits."""
    value = seconds * 1e3
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def chip_finding(entry: BoardEntry, soc: str | None, model: str | None) -> Finding | None:
    """Whether the chip is the one that the inventory expects; `None` where it expects none."""
    if entry.soc is None:
        return None
    known = soc or model
    if known is None:
        return Finding("chip", "note", f"the board does not say whether it is a {entry.soc}")
    if entry.soc.lower() in {name.lower() for name in (soc, model) if name}:
        return Finding("chip", "ok", f"{known}, as boards.toml expects")
    return Finding(
        "chip",
        "warning",
        f"it is a {known}, and boards.toml expects a {entry.soc}",
        "check that host or serial lead to the board that is meant, or change `soc`",
    )


def parse_disk_space(text: str | None) -> DiskSpace | None:
    """The last line of `df -Pk FOLDER`, whose name for the file system may hold spaces."""
    lines = (text or "").strip().splitlines()
    found = re.search(
        r"\s(\d{1,15})\s+-?\d{1,15}\s+(-?\d{1,15})\s+-?\d{1,4}%\s+(/.*)$",
        lines[-1] if lines else "",
        re.ASCII,
    )
    if found is None:
        return None
    return DiskSpace(max(0, int(found[2])) * 1024, int(found[1]) * 1024, found[3].strip())


def disk_finding(space: DiskSpace | None) -> Finding:
    """Whether there is room for workers, models and a runtime."""
    if space is None:
        return Finding("disk", "note", "how much space is free cannot be read")
    words = f"{size_text(space.free)} free of {size_text(space.size)} on {space.mounted_on}"
    remedy = "remove files there, or give a `workspace` on a larger disk in boards.toml"
    if space.free < NO_SPACE:
        return Finding("disk", "problem", f"only {words}", remedy)
    if space.free < LITTLE_SPACE:
        return Finding("disk", "warning", f"only {words}: too little for a runtime", remedy)
    return Finding("disk", "ok", words)


def size_text(size: float) -> str:
    """Bytes for people: 1.2 GB, 350 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def workspace_finding(path: str, state: str) -> Finding:
    """Whether boardfit may fill its folder.

    `state` is what was found: `writable`, `can be made` (the first folder above it that exists can
    be written), `read-only`, or `not a folder`.
    """
    if state == "writable":
        return Finding("workspace", "ok", path)
    if state == "can be made":
        return Finding(
            "workspace",
            "note",
            f"{path} does not exist yet",
            "boardfit makes it when it is needed; --fix makes it now",
            "make the workspace",
        )
    if state == "not a folder":
        words, remedy = f"{path} is a file", "remove it there"
    else:
        words, remedy = f"{path} cannot be written", "give it to this user there"
    return Finding("workspace", "problem", words, f"{remedy}, or name another `workspace`")


def litter_findings(names: Sequence[str], keep: frozenset[str]) -> list[Finding]:
    """What earlier versions and interrupted copies left in the workspace; `keep` are in use."""
    findings: list[Finding] = []
    old = [name for name in old_workers(names) if name not in keep]
    if old:
        findings.append(
            Finding(
                "old workers",
                "note",
                f"{_count(len(old), 'worker')} of other versions of boardfit in the workspace",
                "--fix removes them (not while another version measures there)",
                "remove old workers",
            )
        )
    if halves := half_copies(names):
        findings.append(
            Finding(
                "half copies",
                "note",
                f"{_count(len(halves), 'copy', 'copies')} that broke off in the workspace",
                "--fix removes them (not while something is copied there)",
                "remove what was half copied",
            )
        )
    return findings


def old_workers(names: Sequence[str]) -> list[str]:
    """Which names in a workspace are folders of workers."""
    return [name for name in names if re.fullmatch(r"worker-[0-9a-f]{16}", name)]


def half_copies(names: Sequence[str]) -> list[str]:
    """Which names in a workspace are files that were being copied."""
    return [name for name in names if _HALF_COPY.fullmatch(name)]


def governor_findings(files: Mapping[str, str], wanted: str | None) -> list[Finding]:
    """Governor and clock of each group of cores, from `policyN/...` of /sys by their path.

    `wanted` is what boards.toml has set while something is measured: a governor, or another setting
    that holds the clock.
    """
    policies: dict[str, dict[str, str]] = {}
    for path, text in files.items():
        folder, _, name = path.rpartition("/")
        policies.setdefault(folder.rpartition("/")[2], {})[name] = text
    governors = list(
        dict.fromkeys(p["scaling_governor"] for p in policies.values() if p.get("scaling_governor"))
    )
    if not governors:
        return [
            Finding(
                "governor",
                "note",
                "clock and governor cannot be read, as on most virtual machines",
                "measure when nothing else runs, and believe the spread between sessions",
            )
        ]
    words = "+".join(governors)
    findings = []
    if governors == ["performance"]:
        findings.append(Finding("governor", "ok", "performance holds the clock"))
    elif wanted is not None:
        findings.append(
            Finding("governor", "ok", f"{words}; {wanted} is set while something is measured")
        )
    else:
        findings.append(
            Finding(
                "governor",
                "warning",
                f"{words} changes the clock while something is measured",
                'write settings = { governor = "performance" } in boards.toml: it is set for a '
                "measurement and put back",
            )
        )
    capped = [share for policy in policies.values() if (share := _share_allowed(policy)) < 0.99]
    if capped:
        findings.append(
            Finding(
                "clock",
                "warning",
                f"the system allows {min(capped):.0%} of the highest clock",
                "let the board cool down, give it enough power, and look for a power mode or a "
                "limit in scaling_max_freq",
            )
        )
    return findings


def _share_allowed(policy: Mapping[str, str]) -> float:
    highest = number(policy.get("cpuinfo_max_freq"))
    allowed = number(policy.get("scaling_max_freq"))
    return allowed / highest if highest and allowed and 0 < allowed < highest else 1.0


def cluster_finding(clusters: Sequence[Cluster], entry: BoardEntry, core: int | None) -> Finding:
    """Which kinds of cores there are, and whether it is said where a worker runs."""
    if not clusters:
        return Finding("cores", "note", "the board does not show its cores")
    words = ", ".join(_cluster_text(cluster) for cluster in clusters)
    if entry.cluster is not None:
        if entry.cluster not in {cluster.name for cluster in clusters}:
            return Finding(
                "cores",
                "problem",
                f"boards.toml names the cluster {entry.cluster}, and there are: {words}",
                "name one of these",
            )
        return Finding("cores", "ok", f"{words}; measured on {entry.cluster}")
    there = {number for cluster in clusters for number in cluster.cores}
    chosen = list(entry.cores) if entry.cores else [] if core is None else [core]
    if missing := [number for number in chosen if number not in there]:
        return Finding(
            "cores",
            "problem",
            f"boards.toml names the cores {cores_text(missing)}, and there are: {words}",
            "name cores of these",
        )
    if len(clusters) > 1 and not chosen:
        return Finding(
            "cores",
            "warning",
            f"{words}; where a worker runs is left to the scheduler",
            'write cluster = "big" in boards.toml, or another one',
        )
    where = f"; measured on {cores_text(chosen)}" if chosen else ""
    return Finding("cores", "ok", f"{words}{where}")


def _cluster_text(cluster: Cluster) -> str:
    clock = cluster.max_frequency
    speed = f" (to {clock / 1e9:.1f} GHz)" if clock else ""
    return f"{cluster.name} {cores_text(cluster.cores)}{speed}"


def temperature_finding(celsius: float | None, start_below: float | None) -> Finding:
    """How warm the chip is, against what boards lower their clock at, or the entry's limit."""
    if celsius is None:
        state: State = "note" if start_below is None else "problem"
        remedy = "" if start_below is None else "remove limits.start_below from boards.toml"
        return Finding("temperature", state, "no temperature can be read", remedy)
    words = f"{celsius:.0f} °C"
    remedy = "end other work, let it cool down, give it a fan"
    if start_below is not None and celsius >= start_below:
        return Finding(
            "temperature",
            "warning",
            f"{words}; measuring waits until it is below {start_below:g} °C",
            remedy,
        )
    if celsius >= HOT:
        return Finding("temperature", "warning", f"{words}: the clock is about to fall", remedy)
    if celsius >= WARM:
        return Finding("temperature", "note", f"{words}: lasting load will lower the clock", remedy)
    return Finding("temperature", "ok", words)


def load_finding(text: str | None, cores: int | None) -> Finding | None:
    """Whether other programs keep the board busy, from /proc/loadavg."""
    load = number((text or "").partition(" ")[0])
    if load is None:
        return None
    words = f"{load:.1f} programs ran at a time during the last minute"
    if load < BUSY:
        return Finding("load", "ok", words)
    state: State = "warning" if load >= max(1.0, (cores or 1) / 2) else "note"
    return Finding("load", state, words, "end other work on the board while something is measured")


def throttle_count_finding(files: Mapping[str, str]) -> Finding | None:
    """How often a PC's processor slowed itself since its start; `None` where it does not count."""
    counts = [value for text in files.values() if (value := number(text)) is not None]
    if not counts:
        return None
    highest = int(max(counts))
    if not highest:
        return Finding("throttling", "ok", "not once since the board was started")
    return Finding(
        "throttling",
        "note",
        f"a core slowed itself {_count(highest, 'time')} since the board was started",
        "cool it better before lasting load is measured",
    )


def _count(number: int, one: str, several: str | None = None) -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
