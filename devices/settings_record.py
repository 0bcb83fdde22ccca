"""The settings that are wanted, and what was there before.

What was there before boardfit changed it is a short text that lies on the board:

    boardfit-settings 1
    token 5f0c...                  which change of settings this belongs to
    boot 0b1f...                   the board's start during which it was written
    nvpmodel 2                     the power mode that was set
    jetson_clocks                  the file `clocks` beside holds what jetson_clocks stored
    fixed_performance              it was switched on, and is to be switched off
    governor policy0 schedutil     one line for each
    end

`put_back.sh` reads it on the board. Whoever reads it trusts nothing in it: numbers and names only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .board_files import is_plausible
from .errors import InputError

_FIRST, _LAST = "boardfit-settings 1", "end"
_GOVERNOR = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}"
_LINE = re.compile(
    r"(?:token (?P<token>[0-9a-f]{1,64})|boot (?P<boot>[0-9a-zA-Z-]{1,64})|"
    r"nvpmodel (?P<nvpmodel>\d{1,7})|(?P<clocks>jetson_clocks)|(?P<fixed>fixed_performance)|"
    rf"governor (?P<policy>policy\d{{1,7}}) (?P<governor>{_GOVERNOR}))",
    re.ASCII,
)


@dataclass(frozen=True)
class Wanted:
    """The settings to measure under; what is left out is not changed.

    `nvpmodel` is a power mode's number or name. `cool_below` in °C is waited for before measuring,
    `cool_at_most` seconds long. Raises `InputError` where a value cannot be used.
    """

    governor: str | None = None
    fixed_performance: bool = False
    nvpmodel: int | str | None = None
    jetson_clocks: bool = False
    cool_below: float | None = None
    cool_at_most: float = 600.0

    def __post_init__(self) -> None:
        if self.governor is not None and not re.fullmatch(_GOVERNOR, self.governor):
            raise InputError(
                f"governor: {self.governor!r:.80} is none; write one such as performance"
            )
        if isinstance(self.nvpmodel, str) and not re.fullmatch(r"[!-~]{1,80}", self.nvpmodel):
            raise InputError(
                f"nvpmodel: {self.nvpmodel!r:.80} is no mode; `nvpmodel -q` tells their names"
            )
        if isinstance(self.nvpmodel, int) and not 0 <= self.nvpmodel < 10_000:
            raise InputError(f"nvpmodel: {self.nvpmodel} is no mode; the first one is 0")
        if self.cool_below is not None and not (is_plausible(self.cool_below)):
            raise InputError(f"cool_below: no board is cooled to {self.cool_below} °C")
        if not 0 <= self.cool_at_most <= 86_400:
            raise InputError(
                f"cool_at_most: {self.cool_at_most} s cannot be waited for; give at most a day"
            )

    @property
    def changes(self) -> bool:
        """Whether anything on the board is to be changed."""
        return bool(self.conditions)

    @property
    def conditions(self) -> dict[str, object]:
        """What is changed on the board, and so belongs to what was measured under it."""
        changed = {
            "governor": self.governor,
            "nvpmodel": self.nvpmodel,
            "fixed_performance": self.fixed_performance or None,
            "jetson_clocks": self.jetson_clocks or None,
        }
        return {name: value for name, value in changed.items() if value is not None}


NOTHING = Wanted()


@dataclass(frozen=True)
class Before:
    """What is to be put back; `governors` by the cpufreq policy (`policy0`)."""

    token: str
    boot: str
    nvpmodel: int | None = None
    jetson_clocks: bool = False
    fixed_performance: bool = False
    governors: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The record as it lies on the board. Raises ValueError for what no record can hold."""
        lines = [f"token {self.token}", f"boot {self.boot}"]
        if self.nvpmodel is not None:
            lines.append(f"nvpmodel {self.nvpmodel}")
        lines += ["jetson_clocks"] * self.jetson_clocks
        lines += ["fixed_performance"] * self.fixed_performance
        lines += [f"governor {policy} {name}" for policy, name in self.governors.items()]
        if wrong := [line for line in lines if not _LINE.fullmatch(line)]:
            raise ValueError(f"{wrong[0]!r} cannot be written down")
        return "\n".join([_FIRST, *lines, _LAST, ""])


def parse_before(text: str) -> Before | None:
    """The record in a text; `None` where it is cut off, damaged or of another version."""
    lines = text.split("\n")
    if lines[0] != _FIRST or lines[-2:] != [_LAST, ""]:
        return None
    found: dict[str, str] = {}
    governors: dict[str, str] = {}
    for line in lines[1:-2]:
        parts = _LINE.fullmatch(line)
        if parts is None:
            return None
        facts = {name: value for name, value in parts.groupdict().items() if value is not None}
        if "policy" in facts:
            governors[facts["policy"]] = facts["governor"]
        elif facts.keys() & found.keys():
            return None
        else:
            found.update(facts)
    if not {"token", "boot"} <= found.keys():
        return None
    return Before(
        token=found["token"],
        boot=found["boot"],
        nvpmodel=int(found["nvpmodel"]) if "nvpmodel" in found else None,
        jetson_clocks="clocks" in found,
        fixed_performance="fixed" in found,
        governors=governors,
    )
