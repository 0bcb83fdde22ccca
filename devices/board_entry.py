"""One board as the inventory has it: how it is reached, and what is wanted there; checked.

`inventory.py` reads such entries from a file, and says what each field means to people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import InventoryError

TRANSPORTS = ("local", "fake", "ssh", "adb")
_NAME = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*")
_CLUSTER = re.compile(r"little|middle[0-9]?|big|all|cluster[0-9]{1,3}")
_NAME_RULE = "use letters, digits, '.', '_' and '-', and do not begin with '-'"
_OWN: Mapping[str, str] = {  # fields that only one transport understands
    "seed": "fake",
    "real_time": "fake",
    "host": "ssh",
    "user": "ssh",
    "port": "ssh",
    "identity_file": "ssh",
    "serial": "adb",
    "server": "adb",
}


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and text not in {".", ".."}


def _is_text(text: str) -> bool:
    return bool(text.strip()) and "\0" not in text


def _is_word(text: str) -> bool:
    """Whether a text can be one word of a protocol or an argument that is no option."""
    return bool(text) and text.isprintable() and " " not in text and not text.startswith("-")


def _is_path(text: str) -> bool:
    return _is_text(text) and text.startswith(("/", "~/"))


@dataclass(frozen=True)
class Limits:
    """What a board must not exceed: degrees Celsius before a job begins."""

    start_below: float | None = None


@dataclass(frozen=True)
class Settings:
    """What is set on a board while something is measured, and put back afterwards.

    `None` leaves a setting as it is. `nvpmodel` is the mode's number.
    """

    governor: str | None = None
    fixed_performance: bool | None = None
    nvpmodel: int | None = None
    jetson_clocks: bool | None = None


@dataclass(frozen=True)
class BoardEntry:
    """How one board is reached, as the inventory has it.

    `None` leaves the choice to the transport; `seed` (fake boards only) decides the simulated
    noise, and with `real_time` simulated time really passes. `benchmark_model` and
    `identity_file` are files of the host. Raises `InventoryError` where a value cannot be used.
    """

    name: str
    transport: str
    python: str | None = None
    workspace: PurePosixPath | None = None
    core: int | None = None
    tags: tuple[str, ...] = ()
    seed: int | None = None
    real_time: bool | None = None
    host: str | None = None
    user: str | None = None
    port: int | None = None
    identity_file: Path | None = None
    serial: str | None = None
    server: bool | None = None
    benchmark_model: Path | None = None
    soc: str | None = None
    cluster: str | None = None
    cores: tuple[int, ...] = ()
    limits: Limits = Limits()
    settings: Settings = Settings()

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise InventoryError(f"board {self.name!r}: not a usable name; {_NAME_RULE}")
        if self.transport not in TRANSPORTS:
            known = ", ".join(f'"{transport}"' for transport in TRANSPORTS)
            raise self._wrong(
                "transport", f"{self.transport!r} is not known; this version has {known}"
            )
        if self.python is not None and not _is_text(self.python):
            raise self._wrong("python", "give the path or the name of an interpreter")
        if self.workspace is not None:
            self._check_path("workspace", str(self.workspace))
        if self.core is not None and self.core < 0:
            raise self._wrong("core", f"{self.core} is no core; the first one is 0")
        for tag in self.tags:
            if not _is_name(tag):
                raise self._wrong("tags", f"{tag!r} is not a usable tag; {_NAME_RULE}")
        for field, transport in _OWN.items():
            if getattr(self, field) is not None and self.transport != transport:
                raise self._wrong(field, f"only {transport} boards have one; remove the line")
        if self.seed is not None and self.seed < 0:
            raise self._wrong("seed", f"{self.seed} is negative; give 0 or more")
        self._check_link()
        self._check_cores()
        self._check_limits()

    def _check_link(self) -> None:
        """The fields that say how a board is reached."""
        if self.transport == "ssh" and self.host is None:
            raise self._wrong("host", 'is missing; write host = "an address or an ssh alias"')
        for field in ("host", "user", "serial", "soc"):
            text = getattr(self, field)
            if text is not None and not _is_word(text):
                raise self._wrong(field, f"{text!r:.80} is not one word that begins without '-'")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise self._wrong("port", f"{self.port} is no port; give one from 1 to 65535")
        for field in ("identity_file", "benchmark_model"):
            if getattr(self, field) is not None:
                self._check_path(field, str(getattr(self, field)))

    def _check_cores(self) -> None:
        chosen = [
            name
            for name, given in (
                ("core", self.core is not None),
                ("cluster", self.cluster is not None),
                ("cores", bool(self.cores)),
            )
            if given
        ]
        if len(chosen) > 1:
            raise self._wrong(chosen[1], f"{' and '.join(chosen)} are given; keep one of them")
        if self.cluster is not None and not _CLUSTER.fullmatch(self.cluster):
            raise self._wrong(
                "cluster",
                f"{self.cluster!r:.80} is none; write little, middle, big, or another name that "
                "`boardfit devices doctor` shows",
            )
        for core in self.cores:
            if core < 0:
                raise self._wrong("cores", f"{core} is no core; the first one is 0")
        if len(set(self.cores)) < len(self.cores):
            raise self._wrong("cores", "one core is listed twice; list each once")

    def _check_limits(self) -> None:
        """The limits, and what is set while something is measured."""
        start = self.limits.start_below
        if start is not None and not 0 < start < 200:
            raise self._wrong(
                "limits.start_below",
                f"{start!r:.40} degrees Celsius is no such limit; 60.0 is usual",
            )
        governor, mode = self.settings.governor, self.settings.nvpmodel
        if governor is not None and not _is_name(governor):
            raise self._wrong("settings.governor", f"{governor!r:.80} is no governor's name")
        if mode is not None and mode < 0:
            raise self._wrong("settings.nvpmodel", f"{mode} is no mode; the first one is 0")

    def _check_path(self, field: str, text: str) -> None:
        if not _is_path(text):
            raise self._wrong(field, "give a path that begins with / or ~/")

    def _wrong(self, field: str, problem: str) -> InventoryError:
        return InventoryError(f"board {self.name!r}, {field}: {problem}")
