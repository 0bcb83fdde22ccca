"""Results of long benchmarks, kept one by one: what was trained once is read, not trained again.

A cell is one trained network, one search, ...: a key (its settings, by name) and a value (what came
out), both JSON objects. A store is a text file with one cell a line, tracked in git; several
processes may fill it at the same time, and each may be killed at any moment.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Key = dict[str, Any]
Value = dict[str, Any]

RESULTS = Path(__file__).with_name("results")
LOCKS = Path(__file__).parents[1] / "runs" / "bench-cells"


class Cells:
    """The cells of one benchmark: `results/NAME.jsonl` beside this file."""

    def __init__(self, name: str, folder: Path = RESULTS) -> None:
        self.path = folder / f"{name}.jsonl"

    def read(self) -> list[tuple[Key, Value]]:
        """All cells, in the order in which they were computed. A last line that a kill cut off is
        left out; any other damage raises `ValueError` with the line's number."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().split("\n")
        cells = []
        for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is cut off
            try:
                cell = json.loads(line)
                cells.append((dict(cell["key"]), dict(cell["value"])))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{self.path}, line {number} is damaged: {error}") from error
        return cells

    def find(self, key: Key) -> Value | None:
        """The value of a cell, `None` where it was not computed yet."""
        wanted = _text(key)
        return next((value for other, value in self.read() if _text(other) == wanted), None)

    def compute(self, key: Key, function: Callable[[], Value]) -> bool:
        """Compute a cell and keep it with the seconds it took; false where it is there already, or
        another process is at it."""
        with _alone(self.path, key) as alone:
            if not alone or self.find(key) is not None:
                return False
            begin = time.monotonic()
            value = function()
            line = {"key": key, "value": {**value, "cell_seconds": time.monotonic() - begin}}
            self._append(json.dumps(line, allow_nan=False))
            return True

    def _append(self, line: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            text = self.path.read_bytes()
            file.truncate(text.rfind(b"\n") + 1)  # what a kill cut off
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def _text(key: Key) -> str:
    return json.dumps(key, sort_keys=True)


@contextmanager
def _alone(path: Path, key: Key) -> Iterator[bool]:
    """Whether no other process computes this cell; a lock ends with the process that holds it."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(_text(key).encode()).hexdigest()[:16]
    with (LOCKS / f"{path.stem}-{digest}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
