"""A board that one job after the other has lost is left alone for an hour, and the next is told.

`failures/NAME.json`, beside the inventory, holds the jobs in a row that lost the board while they
had it. A job that ends well clears it, and so does a doctor who finds no problem. Who only could
not reach a board has lost nothing; and no wall clock but this computer's own is asked.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .base import Device
from .errors import BoardQuarantined, DeviceLost, DeviceTimeout, StorageError, WorkerLost
from .files import write_atomically
from .findings import Finding, State

FAILURES = 3  # jobs in a row that lose a board before it is left alone
REST = 3600.0  # seconds after the last of them; then one job may try
_KEPT = 10  # failures in the file
_FORMAT, _VERSION = "boardfit failures", 1
_LOST = (DeviceLost, DeviceTimeout, WorkerLost)
_LOG = logging.getLogger("boardfit")


@dataclass(frozen=True)
class Failure:
    """A job that lost a board: the time by this computer's clock (seconds since 1970), and why."""

    at: float
    why: str


def failures(path: Path | None) -> tuple[Failure, ...]:
    """The jobs in a row that lost a board; none where nothing is written, or nothing readable."""
    if path is None:
        return ()
    try:
        content = json.loads(path.read_bytes())
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            return ()
        return tuple(Failure(float(at), str(why)) for at, why in content["failures"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ()


def quarantine(
    name: str, path: Path | None, *, clock: Callable[[], float] = time.time
) -> str | None:
    """Why a board is left alone, until when, and what to do; None where it is not."""
    found = failures(path)
    if len(found) < FAILURES:
        return None
    left = found[-1].at + REST - clock()
    if not 0 < left <= REST:  # also where the clock was put back
        return None
    return (
        f"{name} is left alone for {max(1, round(left / 60))} more minutes, since "
        f"{len(found)} jobs in a row have lost it (the last one: {found[-1].why}). Look at its "
        f"power, its link and its memory; `boardfit devices doctor {name}` ends this where it "
        "finds no problem"
    )


def require_free(name: str, path: Path | None, *, clock: Callable[[], float] = time.time) -> None:
    """Raise `BoardQuarantined` where a board is left alone."""
    if (words := quarantine(name, path, clock=clock)) is not None:
        raise BoardQuarantined(words)


def lift(path: Path | None) -> None:
    """Forget the failures of a board. Raises `StorageError`."""
    if path is not None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"cannot remove {path}: {error.strerror}") from error


def failures_finding(path: Path | None, *, well: bool) -> Finding | None:
    """What a doctor says of jobs that lost a board; None where none did.

    `well`: there is no other problem, and they are forgotten.
    """
    found = failures(path)
    if not found:
        return None
    jobs = "the last job" if len(found) == 1 else f"the last {len(found)} jobs"
    words = f"{jobs} lost it: {found[-1].why}"
    if well:
        return Finding("jobs", "note", f"{words}; forgotten, since no problem was found now")
    state: State = "warning" if len(found) >= FAILURES else "note"
    return Finding(
        "jobs",
        state,
        words,
        f"put right what is a problem here, and look again; after {FAILURES} jobs in a row that "
        f"lose it a board is left alone for {REST / 60:.0f} minutes",
    )


@contextlib.contextmanager
def answered_for(device: Device, *, clock: Callable[[], float] = time.time) -> Iterator[None]:
    """Write down where the block loses the board, and forget earlier losses where it ends well.

    What cannot be written down is passed over: it would hide how the job ended.
    """
    try:
        yield
    except _LOST as error:
        if device.failures is not None:
            before = failures(device.failures)[-_KEPT + 1 :]
            why = str(error).partition("\n")[0][:300]
            with contextlib.suppress(StorageError):
                _write(device.failures, [*before, Failure(clock(), why)])
            if (words := quarantine(device.name, device.failures, clock=clock)) is not None:
                _LOG.warning(words)
        raise
    if failures(device.failures):
        with contextlib.suppress(StorageError):
            lift(device.failures)


def _write(path: Path, found: Sequence[Failure]) -> None:
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "failures": [[failure.at, failure.why] for failure in found],
    }
    write_atomically(path, json.dumps(content, indent=1).encode())
