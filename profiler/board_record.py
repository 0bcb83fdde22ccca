"""What a board said of its own state while a campaign measured on it, beside the visits.

`BoardRecorder` turns what arrives during a session (`devices/board_watch.py`) into evidence on the
clock of the visits; `board_record` sums up what a whole file holds of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..devices.board_watch import BoardWatch, Seen

if TYPE_CHECKING:
    from .store import Store

SLOWED_BY = "slowed_by"  # what a piece of evidence from the board is known by; "" where nothing did
_MOST_CAUSES = 10
_POWER = "power."


class BoardRecorder:
    """Evidence rows of what a board says during one session.

    A row has the facts of `BoardState`, `at` (the clock of the visits, seconds), `throttled` (0 or
    1) and `slowed_by` (what slows it, in words).
    """

    def __init__(self, watch: BoardWatch) -> None:
        self._watch = watch
        self._ahead: float | None = None  # of the board's uptime is the clock of the visits
        self._waiting: list[Seen] = []

    def learn(self, conditions: Mapping[str, float]) -> None:
        """Find out how the board's two clocks differ, from a moment that both tell."""
        if "at" in conditions and "uptime" in conditions:
            self._ahead = conditions["at"] - conditions["uptime"]

    def rows(self) -> list[dict[str, Any]]:
        """What has arrived since the last call. Nothing is waited for."""
        return self._rows(self._watch.seen())

    def last_rows(self) -> list[dict[str, Any]]:
        """The same, and the state of this moment. Raises what asking the board raises."""
        return self._rows(self._watch.look())

    def _rows(self, seen: Sequence[Seen]) -> list[dict[str, Any]]:
        self._waiting += seen
        if self._ahead is None:
            return []
        found = []
        for one in self._waiting:
            assert one.state.uptime is not None
            row: dict[str, Any] = dict(one.state.facts)
            row["at"] = one.state.uptime + self._ahead
            row["throttled"] = float(bool(one.slowed_by))
            row[SLOWED_BY] = ", ".join(one.slowed_by)
            found.append(row)
        self._waiting.clear()
        return found


@dataclass(frozen=True)
class Moments:
    """The moments at which a board told its state: session, clock and whether it was slowed, in
    the order of sessions and times."""

    session: NDArray[np.int64]
    at: NDArray[np.float64]
    slowed: NDArray[np.bool_]

    def before(self, session: NDArray[np.int64], at: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Of visits, given by session and time: whether the board was slowed when it was last
        looked at before them. What comes later changes no answer."""
        found, _ = self._around(session, at)
        return found

    def around(self, session: NDArray[np.int64], at: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Of visits: whether the board was slowed at the look before them, or has been since
        according to the look after them."""
        before, after = self._around(session, at)
        return before | after

    def _around(
        self, session: NDArray[np.int64], at: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        before, after = np.zeros(len(at), bool), np.zeros(len(at), bool)
        for number in np.unique(session).tolist():
            mine = self.session == number
            if not mine.any():
                continue
            flags = np.concatenate([[False], self.slowed[mine], [False]])
            chosen = session == number
            place = np.searchsorted(self.at[mine], at[chosen], side="right")
            before[chosen], after[chosen] = flags[place], flags[place + 1]
        return before, after


def moments(evidence: Sequence[Mapping[str, Any]]) -> Moments:
    """The moments in evidence (`Store.evidence`). Raises ValueError or TypeError where one is
    damaged."""
    rows = sorted(
        (int(row["session"]), _finite(row["at"]), bool(_finite(row["throttled"])))
        for row in evidence
        if SLOWED_BY in row
    )
    return Moments(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.float64),
        np.array([row[2] for row in rows], bool),
    )


@dataclass(frozen=True)
class BoardRecord:
    """What a board said while it measured: in `looks` looks; `slowed_share` is the share of visits
    during which it was slowed, `causes` by what, the most frequent first.

    `temperature` is the least and the most of the chip's hottest sensor (°C), `battery` the least
    level (0 to 1), `charging` whether a charger was attached, `watts` the mean power of each
    metered supply; None, or empty, where the board does not tell.
    """

    looks: int
    slowed_share: float
    causes: tuple[str, ...] = ()
    temperature: tuple[float, float] | None = None
    battery: float | None = None
    charging: bool | None = None
    watts: Mapping[str, float] | None = None

    @property
    def words(self) -> str:
        """What slowed the board, in a sentence without its end; empty where nothing did."""
        if not self.causes:
            return ""
        return (
            f"the board said that it was slowed ({', '.join(self.causes)}) during "
            f"{self.slowed_share:.0%} of the visits"
        )

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What it had meanwhile, as people read it: name and value of each."""
        found = []
        if self.temperature is not None:
            found.append(("temperature", "{:.0f} to {:.0f} °C".format(*self.temperature)))
        if self.battery is not None:
            charger = "on a charger" if self.charging else "without a charger"
            found.append(("battery", f"at least {self.battery:.0%}, {charger}"))
        return [*found, *((name, f"{watts:.2f} W") for name, watts in (self.watts or {}).items())]

    def content(self) -> dict[str, Any]:
        """The record as a JSON object; `read_board_record` is the inverse."""
        return asdict(self)


def board_record(store: Store) -> BoardRecord | None:
    """What the board said while a file was measured; None where it told nothing.

    Raises ValueError, TypeError or KeyError where the evidence is damaged.
    """
    # A lasting load, which belongs to no run, is to slow a board.
    rows = [row for row in store.evidence() if SLOWED_BY in row and row["run"] >= 0]
    if not rows:
        return None
    runs = sorted({run for _, run, _ in store.sessions()})
    visits = [visit for run in runs for visit in store.visit_times(run)]
    session = np.array([visit[2] for visit in visits], np.int64)
    at = np.array([visit[3] for visit in visits], np.float64)
    slowed = moments(rows).around(session, at)
    warm = [_finite(row["temperature"]) for row in rows if "temperature" in row]
    levels = [_finite(row["battery.level"]) for row in rows if "battery.level" in row]
    charging = [bool(row["battery.charging"]) for row in rows if "battery.charging" in row]
    supplies = dict.fromkeys(name for row in rows for name in row if name.startswith(_POWER))
    watts = {
        name.removeprefix(_POWER): float(np.mean([_finite(r[name]) for r in rows if name in r]))
        for name in supplies
    }
    return BoardRecord(
        looks=len(rows),
        slowed_share=float(slowed.mean()) if len(slowed) else 0.0,
        causes=causes_of(rows),
        temperature=(min(warm), max(warm)) if warm else None,
        battery=min(levels) if levels else None,
        charging=any(charging) if charging else None,
        watts=watts or None,
    )


def causes_of(evidence: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """What slowed a board according to evidence, in its words, the most frequent first."""
    counted = Counter(
        cause for row in evidence for cause in str(row.get(SLOWED_BY, "")).split(", ") if cause
    )
    return tuple(cause[:100] for cause, _ in counted.most_common(_MOST_CAUSES))


def read_board_record(content: Any) -> BoardRecord | None:
    """The inverse of `BoardRecord.content`; None for what older files do not say. Raises
    ValueError, TypeError or KeyError where it is damaged."""
    if content is None:
        return None
    warm, level, charging = content["temperature"], content["battery"], content["charging"]
    watts = content["watts"]
    if warm is not None:
        low, high = warm
        warm = _finite(low), _finite(high)
    return BoardRecord(
        int(content["looks"]),
        _finite(content["slowed_share"]),
        tuple(str(cause)[:100] for cause in content["causes"][:_MOST_CAUSES]),
        warm,
        None if level is None else _finite(level),
        None if charging is None else bool(charging),
        None
        if watts is None
        else {str(name): _finite(value) for name, value in dict(watts).items()},
    )


def _finite(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)
