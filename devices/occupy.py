"""What lies around every job that measures on a board: the lease, and what is set there for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath

from .base import Device
from .errors import BoardInUse, DeviceLost, DeviceTimeout, InputError
from .lease import Lease, held_lease, leased
from .lease_place import FOLDER
from .leftovers import end_leftovers
from .quarantine import answered_for
from .settings import applied
from .settings_record import NOTHING

WAIT = 24 * 3600.0  # seconds that a job waits for a board, unless told otherwise
WAIT_VARIABLE = "BOARDFIT_WAIT"
FOLDER_VARIABLE = "BOARDFIT_LEASES"  # where this machine's lease lies instead of in /tmp


@contextlib.contextmanager
def occupied(
    device: Device,
    purpose: str,
    *,
    settings: Callable[[], contextlib.AbstractContextManager[object]] | None = None,
    tell: Callable[[str], None] = lambda words: None,
) -> Iterator[Lease]:
    """Have a board alone for a job; where this job has it already, it goes on with that.

    What the device wants to be set is set for the job (see `settings.applied`), or what `settings`
    makes is entered instead: once the board is held, and left before it is given back. Where the
    board is lost before the job has begun it is tried once more. `tell` is told for whom is waited,
    at most `device.wait` seconds (None: see `waiting_time`). A job that loses the board is written
    down (see `quarantine.py`). Raises `BoardInUse`, what `applied` raises, and what the board
    raises.
    """
    if (held := held_lease(device.transport)) is not None:
        held.check()
        yield held
        return
    with answered_for(device), contextlib.ExitStack() as stack:
        try:
            lease = _entered(stack, device, purpose, settings, tell)
        except (DeviceLost, DeviceTimeout) as error:
            tell(f"{device.name} was lost before the job had begun: {error}")
            lease = _entered(stack, device, purpose, settings, tell)
        yield lease


def _entered(
    stack: contextlib.ExitStack,
    device: Device,
    purpose: str,
    settings: Callable[[], contextlib.AbstractContextManager[object]] | None,
    tell: Callable[[str], None],
) -> Lease:
    """Hold the board and set what is wanted until the stack is left; nothing where that fails."""
    with contextlib.ExitStack() as fresh:
        try:
            lease = fresh.enter_context(
                leased(
                    device.transport,
                    purpose,
                    wait=waiting_time() if device.wait is None else device.wait,
                    folder=_folder(device),
                    tell=lambda words: tell(f"{device.name}: {words}"),
                )
            )
        except BoardInUse as error:
            raise BoardInUse(f"{device.name}: {error}") from error
        end_leftovers(device)
        # What is set on the board for the job: changed by whoever holds it, and by nobody else.
        if settings is None and device.wanted != NOTHING:
            settings = partial(applied, device.transport, device.wanted, device.workspace)
        if settings is not None:
            fresh.enter_context(settings())
        stack.push(fresh.pop_all())
        return lease


def waiting_time() -> float:
    """How many seconds a job waits for a board: `$BOARDFIT_WAIT`, or a day. Raises `InputError`."""
    said = os.environ.get(WAIT_VARIABLE)
    if said is None:
        return WAIT
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 30 * WAIT:
        raise InputError(
            f"{WAIT_VARIABLE}={said:.40}: give the seconds that a job waits for a board, 0 or more"
        )
    return seconds


def _folder(device: Device) -> PurePosixPath | None:
    here = os.environ.get(FOLDER_VARIABLE)
    return PurePosixPath(here) / FOLDER if here and device.kind == "local" else None
