"""What was seen of boards that fail: counts, the file that keeps them, and the bars."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path

from bars import bar


@dataclass
class Tally:
    """What was seen over all attempts."""

    faults: Counter[str] = field(default_factory=Counter)  # by board and kind
    harm: Counter[str] = field(
        default_factory=lambda: Counter({"lost": 0, "doubled": 0, "changed": 0})
    )
    looked_for: int = 0  # rows that had been committed before
    attempts: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # errors that ended an attempt, by name
    hangs: int = 0
    longest_silence: float = 0.0  # seconds between two signs of life of a build
    changed_settings: int = 0
    settings_seen: int = 0  # attempts that were seen to have changed the governor
    put_back_late: int = 0  # attempts after which a watchdog or the next one put it back
    left_over: int = 0  # workers that outlived their build
    unlike: int = 0  # rows of finished tables that an undisturbed build has otherwise
    tables: int = 0
    seconds: float = 0.0  # of all attempts, on boards that were at work at the same time

    def add(self, other: Tally) -> None:
        """Count what another one has seen, too."""
        for one in fields(self):
            mine, theirs = getattr(self, one.name), getattr(other, one.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            elif one.name == "longest_silence":
                self.longest_silence = max(mine, theirs)
            else:
                setattr(self, one.name, mine + theirs)


class Seen:
    """All that was seen, by this call and by earlier ones with the same file.

    `calls` are the lines of the file, so that a call that goes on inflicts other faults.
    """

    def __init__(self, path: Path | None) -> None:
        self.tally = Tally()
        self._path = path
        self._lock = threading.Lock()
        lines = path.read_text().splitlines() if path and path.exists() else []
        self.calls = len(lines)
        for line in lines:
            content = json.loads(line)
            counters = {k: Counter(v) for k, v in content.items() if isinstance(v, dict)}
            self.tally.add(Tally(**{**content, **counters}))

    def keep(self, tally: Tally) -> None:
        """Count what was seen of one more table, and write it down."""
        with self._lock:
            self.tally.add(tally)
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write(json.dumps(vars(tally)) + "\n")


def told(tally: Tally, faults: int) -> bool:
    """Print what was seen; whether the bars are met."""
    for kind, count in sorted(tally.faults.items()):
        print(f"{kind}: {count}")
    ended = ", ".join(f"{name} {count}" for name, count in sorted(tally.refused.items()))
    print(
        f"{sum(tally.faults.values())} faults in {tally.attempts} attempts of {tally.tables} "
        f"tables in {tally.seconds:.0f} s; {tally.looked_for} times a committed row was looked for "
        f"again. Attempts that ended with an error: {ended or 'none'}"
    )
    print(
        f"builds said something every {tally.longest_silence:.0f} s at least; "
        f"{tally.settings_seen} attempts were seen with another governor, {tally.put_back_late} of "
        "which left it to the board or to the next one to put it back"
    )
    kinds = {name.partition(", ")[2] for name in tally.faults}
    met = [
        bar("faults", sum(tally.faults.values()), faults, least=True, form="d"),
        bar("kinds of faults", len(kinds), min(8, faults), least=True, form="d"),
        *(bar(f"rows {name}", n, 0, least=False, form="d") for name, n in tally.harm.items()),
        bar("rows unlike an undisturbed build's", tally.unlike, 0, least=False, form="d"),
        bar("builds that said nothing for too long", tally.hangs, 0, least=False, form="d"),
        bar("boards with changed settings", tally.changed_settings, 0, least=False, form="d"),
        bar("workers left on boards", tally.left_over, 0, least=False, form="d"),
    ]
    return all(met)
