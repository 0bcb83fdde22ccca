"""One measuring job a board: a lease that lies on the board and is seen by every user and host.

Times are the board's uptime: wall clocks are not trusted. `lease_place.py` has how it lies there,
and why one of many that want it gets it.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import PurePosixPath

from .base import Transport
from .clocks import lasting
from .errors import BoardInUse, DeviceError, DeviceLost, DeviceTimeout, StorageError
from .lease_place import (
    MOST,
    Claim,
    Owner,
    Place,
    View,
    encoded,
    free_name,
    order,
    shared_folder,
    situation,
    take,
    this_job,
)

EXPIRY = 30.0  # seconds without a heartbeat, after which a lease is taken over
BEAT = 5.0  # seconds between two heartbeats
POLL = 1.0  # seconds between two looks of the job that is next
_SELDOMER = 5  # times, how the jobs behind it look, so that a long queue disturbs nobody
_TIMEOUT = 10.0  # seconds for one small command
_TELL_AGAIN = 60.0  # seconds after which somebody who waits is told so again
_LINK_FAILURES = 3  # in a row, that cost a waiting job no turn
_ATTEMPTS = 20  # to make the folders, or to take what was just free


class Lease:
    """A board that this job holds; `leased` makes it.

    A thread renews it. `check` is called before anything counts that was measured under it.
    """

    def __init__(
        self, place: Place, claim: Claim, *, taken: float, expiry: float, waited: bool
    ) -> None:
        self.waited = waited  # for another job
        self._place = place
        self._claim = claim
        self._renewed = taken  # by our clock; the board knows of it for at least as long
        self._expiry = expiry
        self._lost: str | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def token(self) -> str:
        """What tells this lease from all others."""
        return self._claim.token

    @property
    def transport(self) -> Transport:
        """The way to the board that is held."""
        return self._place.transport

    def check(self) -> None:
        """Return where the board is held for certain; it is asked only where that is in doubt.

        Raises `BoardInUse` where somebody has taken it over meanwhile, as where this process was
        suspended: what was measured since then is worth nothing.
        """
        if self._lost is None and lasting() - self._renewed > self._expiry / 2:
            self.renew()
        if self._lost is not None:
            raise BoardInUse(self._lost)

    def renew(self) -> None:
        """Tell the board that this job is alive, or find out that it lost the lease.

        Raises `DeviceError` where the board cannot be asked.
        """
        with self._lock:
            if self._lost is not None or self._over.is_set():
                return
            began = lasting()
            boot, uptime = self._place.now()
            renewed = replace(self._claim, boot=boot, beat=uptime)
            if boot != self._claim.boot:
                renewed = replace(renewed, since=uptime)
            if self._rename(renewed) or self._regain(renewed):
                self._claim = renewed
                self._renewed = began

    def _rename(self, renewed: Claim) -> bool:
        old, new = self._claim.name, renewed.name
        return old == new or self._place.rename(self._place.lock, old, new)

    def _regain(self, renewed: Claim) -> bool:
        """Whether the board is still ours although our folder has not the name that we know."""
        view = self._place.look()
        if view.holder is not None and view.holder.token == self.token:
            # The answer to an earlier rename was lost with the link.
            self._claim = view.holder
            return self._rename(renewed)
        if renewed.boot != self._claim.boot:
            # A reboot frees the board and may empty the place; whoever was faster has it.
            for _ in range(_ATTEMPTS):
                alive = [c for c in view.waiting if not view.dead(c, self._expiry)]
                if alive or (view.holder and not view.dead(view.holder, self._expiry)):
                    break
                if take(self._place, view, renewed):
                    return True
                view = self._place.look()
        self._lost = (
            f"this job has lost the board, as it was not heard of for {self._expiry:g} s or the "
            f"board restarted: {situation(view, self.token)}. What was measured before is kept; "
            "run the same command again"
        )
        return False

    def start(self, beat: float) -> None:
        """Begin to renew it every `beat` seconds."""
        self._thread = threading.Thread(target=self._keep, args=(beat,), daemon=True)
        self._thread.start()

    def _keep(self, beat: float) -> None:
        while self._lost is None and not self._over.wait(beat):
            # A link that is lost now may be there for the next one.
            with contextlib.suppress(DeviceError, StorageError):
                self.renew()

    def end(self) -> None:
        """Give the board back. Another's lease is never touched: only our own name is renamed."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(2 * _TIMEOUT)
        if not self._lock.acquire(timeout=_TIMEOUT):
            return  # it waits for a board that does not answer; the lease expires by itself
        try:
            with contextlib.suppress(DeviceError, StorageError):
                place, free = self._place, free_name()
                if self._lost is None and not place.rename(place.lock, self._claim.name, free):
                    holder = place.look().holder
                    if holder is not None and holder.token == self.token:
                        place.rename(place.lock, holder.name, free)
        finally:
            self._lock.release()


_HELD: ContextVar[tuple[Lease, ...]] = ContextVar("boardfit_leases", default=())


def held_lease(transport: Transport) -> Lease | None:
    """The lease under which this thread uses a board over this way; None where it has none."""
    return next((lease for lease in _HELD.get() if lease.transport is transport), None)


@contextlib.contextmanager
def leased(
    transport: Transport,
    purpose: str,
    *,
    wait: float = 0.0,
    folder: PurePosixPath | None = None,
    owner: Owner | None = None,
    expiry: float = EXPIRY,
    beat: float = BEAT,
    poll: float = POLL,
    sleep: Callable[[float], None] = time.sleep,
    tell: Callable[[str], None] = lambda words: None,
) -> Iterator[Lease]:
    """Hold a board for one job, from any user, process or host; others wait their turn.

    Where another job holds it, `tell` is told who, and this one waits `wait` seconds (0: not at
    all) in a queue that is served in order. A job that is not heard of for `expiry` seconds of the
    board's uptime, or that began before the board restarted, is taken over. Whoever already holds
    the board (in the same thread) goes on with that lease. `folder` is where it lies on the board
    (see `shared_folder`), `owner` who asks (see `this_job`).

    Raises `BoardInUse` with who holds it and since when, `StorageError` where the board's disk is
    full or the folder cannot be written, and what the transport raises.
    """
    if (held := held_lease(transport)) is not None:
        held.check()
        yield held
        return
    mine = _HELD.get()
    place = Place(transport, folder or shared_folder(transport))
    turn = _Turn(
        place,
        owner or this_job(purpose),
        wait=wait,
        expiry=expiry,
        poll=poll,
        tell=tell,
    )
    lease = turn.lease(mine, sleep)
    if lease in mine:
        lease.check()
        yield lease
        return
    _HELD.set((*mine, lease))
    lease.start(beat)
    try:
        yield lease
    finally:
        _HELD.set(tuple(held for held in _HELD.get() if held is not lease))
        lease.end()


class _Turn:
    """A job that wants a board: it takes it where it is free, and queues where it is not."""

    def __init__(
        self,
        place: Place,
        owner: Owner,
        *,
        wait: float,
        expiry: float,
        poll: float,
        tell: Callable[[str], None],
    ) -> None:
        self._place = place
        self._owner = owner
        self._wait = wait
        self._expiry = expiry
        self._poll = poll
        self._tell = tell
        self._told: tuple[str, int] | None = None
        self._told_after = 0.0
        self._token = secrets.token_hex(8)
        self._ticket: Claim | None = None
        self._began = lasting()
        self._waited = 0.0
        self._before: View | None = None

    def lease(self, mine: Sequence[Lease], sleep: Callable[[float], None]) -> Lease:
        """The lease, new or one of `mine`. Raises `BoardInUse` where it is not had in time."""
        failures = 0
        try:
            while True:
                try:
                    found = self._attempt(mine)
                    failures = 0
                except (DeviceLost, DeviceTimeout):
                    # What has begun may be done: our token tells when we look again.
                    failures += 1
                    if failures > (1 if self._ticket is None else _LINK_FAILURES):
                        raise
                    found = 0.0 if self._ticket is None else self._poll
                if isinstance(found, Lease):
                    return found
                sleep(found)
        finally:
            if self._ticket is not None:
                with contextlib.suppress(DeviceError):
                    self._place.remove(self._place.queue, self._ticket.name)

    def _attempt(self, mine: Sequence[Lease]) -> Lease | float:
        """The lease, or how many seconds to wait before the next attempt."""
        moment = lasting()
        view = self._place.look()
        for lease in mine:
            if view.holder is not None and view.holder.token == lease.token:
                return lease
        if view.holder is not None and view.holder.token == self._token:
            return self._taken(view.holder, moment)
        ahead = self._ahead(view)
        for _ in range(_ATTEMPTS):
            if ahead or not self._takable(view):
                break
            claim = self._claim(view)
            if take(self._place, view, claim):
                return self._taken(claim, moment)
            moment = lasting()
            view = self._place.look()
            ahead = self._ahead(view)
        else:
            raise StorageError(
                f"the board's lease cannot be kept in {self._place.folder}: what is made there "
                "does not stay; remove that folder, and run the same command again"
            )
        self._count(view)
        words = situation(view, self._token)
        if self._waited >= self._wait:
            after = f" after {self._waited:.0f} s of waiting" if self._wait else ""
            raise BoardInUse(
                f"the board is in use{after}: {words}. Wait for it, or end that job, and run the "
                "same command again"
            )
        # Seconds go by in these words: they are told anew where something else has changed.
        about = (view.holder.token if view.holder else "", len(ahead))
        if about != self._told or self._waited - self._told_after >= _TELL_AGAIN:
            self._tell(f"waiting for the board: {words}")
            self._told, self._told_after = about, self._waited
        self._queue(view)
        pause = self._poll
        if ahead:  # but often enough that we are not taken for dead
            pause = max(pause, min(_SELDOMER * self._poll, self._expiry / 6))
        return min(pause, self._wait - self._waited)

    def _taken(self, claim: Claim, moment: float) -> Lease:
        waited = self._ticket is not None
        return Lease(self._place, claim, taken=moment, expiry=self._expiry, waited=waited)

    def _count(self, view: View) -> None:
        """Count the time by whichever clock is faster: a simulated board's may stand still."""
        if self._before is not None and self._before.boot == view.boot:
            self._waited += max(0.0, view.uptime - self._before.uptime)
        self._before = view
        self._waited = max(self._waited, lasting() - self._began)

    def _ahead(self, view: View) -> list[Claim]:
        """The waiting jobs whose turn comes before ours; those that are dead are removed."""
        dead = [claim for claim in view.waiting if view.dead(claim, self._expiry)]
        self._place.remove(self._place.queue, *(claim.name for claim in dead))
        alive = [claim for claim in view.waiting if claim not in dead]
        mine = [claim for claim in alive if claim.token == self._token]
        return [claim for claim in alive if not mine or order(claim) < order(mine[0])]

    def _takable(self, view: View) -> bool:
        return view.holder is None or view.dead(view.holder, self._expiry)

    def _queue(self, view: View) -> None:
        """Renew our place in the queue, or take one at its end."""
        mine = next((claim for claim in view.waiting if claim.token == self._token), None)
        if mine is not None:
            self._ticket = replace(mine, boot=view.boot, beat=view.uptime)
            if mine.name != self._ticket.name:
                self._place.rename(self._place.queue, mine.name, self._ticket.name)
            return
        last = max((claim.number or 0 for claim in view.waiting), default=0)
        self._ticket = self._claim(view, min(last + 1, MOST))
        place = self._place
        place.make(place.folder, place.queue, place.queue / self._ticket.name)

    def _claim(self, view: View, number: int | None = None) -> Claim:
        now = view.uptime
        text = encoded(self._owner.words)
        return Claim(self._token, self._owner.process, view.boot, now, now, text, number)


def in_use(
    transport: Transport, *, folder: PurePosixPath | None = None, expiry: float = EXPIRY
) -> str:
    """Who holds a board, since when, and how many wait; "" where a job would get it at once.

    Nothing is changed on the board. Raises what the transport raises.
    """
    view = Place(transport, folder or shared_folder(transport)).look()
    holder = view.holder
    if holder is not None and not view.dead(holder, expiry):
        return situation(view, "")
    alive = any(not view.dead(claim, expiry) for claim in view.waiting)
    return situation(view, "") if alive else ""
