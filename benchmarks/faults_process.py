"""Processes that build, forked from one that has loaded everything, and whose signs of life are
watched."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

_PATIENCE = 30.0  # seconds for a process that was killed to end
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["faults_build", "faults_fake"])


@dataclass(frozen=True)
class End:
    """How a build ended: what it said of its end ({}: it was killed), whether it was ended here
    because it said nothing for too long, the longest time for which it said nothing, and all lines
    with their times from the beginning (s)."""

    said: Mapping[str, Any]
    hung: bool
    silence: float
    log: tuple[tuple[float, str], ...]

    @property
    def finished(self) -> bool:
        """Whether the table is finished."""
        return self.said.get("error") == ""

    @property
    def seconds(self) -> float:
        """How long it took, up to its last line."""
        return self.log[-1][0] if self.log else 0.0

    @property
    def error(self) -> str:
        """The name of the error that ended it, or ""."""
        return str(self.said.get("error", "")).partition(":")[0]


class Build:
    """A process that calls a function, whose lines are signs of life.

    `silence` is how many seconds it may say nothing.
    """

    def __init__(
        self,
        work: Callable[..., None],
        *arguments: object,
        environment: Mapping[str, str],
        silence: float,
    ) -> None:
        ours, theirs = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(
            target=_call, args=(theirs, dict(environment), work, arguments)
        )
        self._process.start()
        theirs.close()
        self._silence = silence
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._begin = self._last = time.monotonic()
        self._killed = False
        self._longest = 0.0
        self.said: list[str] = []
        self._times: list[float] = []
        self.hung = False
        self.ended = False
        self._reader = threading.Thread(target=self._read, args=(ours,), daemon=True)
        self._reader.start()

    def _read(self, ours: Connection) -> None:
        with ours, os.fdopen(os.dup(ours.fileno()), errors="replace") as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._killed = self._killed or number == signal.SIGKILL
        with contextlib.suppress(ProcessLookupError):
            if self._process.pid is not None and self._process.is_alive():
                os.kill(self._process.pid, number)

    def heard(self) -> None:
        """Do not count its silence until now."""
        self._last = time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait so long, or until it has ended."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.ended:
            with contextlib.suppress(queue.Empty):
                self._take(self._lines.get(timeout=min(left, 1.0)))

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Wait until something is so, it has ended, or it has said nothing for too long."""
        while not self.ended and not self.hung and not until():
            with contextlib.suppress(queue.Empty):
                self._take(self._lines.get(timeout=0.2))
            self.hung = time.monotonic() - self._last > self._silence

    def _take(self, line: str | None) -> None:
        now = time.monotonic()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        if line is None:
            self.ended = True
        else:
            self.said.append(line)
            self._times.append(now - self._begin)

    def end(self) -> End:
        """How it ended; one that has not is killed.

        Raises RuntimeError where it ended in a way that no user should see.
        """
        if self.ended and not self._killed:
            self._process.join(_PATIENCE)
        self._process.kill()
        self._process.join(_PATIENCE)
        last = self.said[-1] if self.said else ""
        said = json.loads(last) if last.startswith("{") else {}
        if not said and not self.hung and self._process.exitcode != -signal.SIGKILL:
            words = "\n".join(self.said[-40:])
            raise RuntimeError(f"a build ended otherwise than with a result or an error: {words}")
        log = tuple(zip(self._times, self.said, strict=True))
        return End(said, self.hung, self._longest, log)


def _call(
    theirs: Connection,
    environment: Mapping[str, str],
    work: Callable[..., None],
    arguments: tuple[object, ...],
) -> None:
    """In the new process: everything that is written is said to the other end."""
    os.environ.update(environment)
    for stream in (1, 2):
        os.dup2(theirs.fileno(), stream)
    theirs.close()
    work(*arguments)
