"""A way to a board that is found again after the link was lost.

Transports stay lost once their link is: whoever asks one again would not know what it still runs
there. This one makes a new way then, after waits that grow, and tells so. It repeats what can be
repeated without harm (copies); a command or a program that may have begun is not begun twice: its
caller is told that the link was lost, and meets a new link with the next call.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from .base import Channel, Completed, Transport
from .errors import (
    CommandFailed,
    DeviceAmbiguous,
    DeviceError,
    DeviceLost,
    DeviceTimeout,
    DeviceUnauthorised,
    DeviceUnverified,
)

ATTEMPTS = 10  # to reach a board again: two minutes with the waits below; a reboot takes one
FIRST_WAIT = 0.5  # seconds, after the first attempt, which is made at once; then twice as long
LONGEST_WAIT = 30.0  # seconds
_TIMEOUT = 10.0  # seconds for one small command
_LOG = logging.getLogger("boardfit")  # goes to stderr, unless a program says otherwise


@dataclass(frozen=True)
class Machine:
    """What stays the same of a board however often it restarts; "" where it does not say."""

    identifier: str
    model: str
    serial: str
    architecture: str

    def differences(self, other: Machine) -> list[str]:
        """In words, what both say and say differently."""
        now = asdict(other)
        return [
            f"{name}: was {old!r}, is {now[name]!r}"
            for name, old in asdict(self).items()
            if old and now[name] and old != now[name]
        ]


def machine(transport: Transport) -> Machine:
    """Ask a board which one it is. Raises what reaching it raises."""
    serial = _say(transport, "cat", "/proc/device-tree/serial-number")
    return Machine(
        identifier=_say(transport, "cat", "/etc/machine-id"),
        model=_say(transport, "cat", "/proc/device-tree/model"),
        serial=serial or _say(transport, "getprop", "ro.serialno"),
        architecture=_say(transport, "uname", "-m"),
    )


def _say(transport: Transport, *argv: str) -> str:
    try:
        said = transport.run(argv, timeout=_TIMEOUT).stdout
    except CommandFailed:
        return ""
    return said.decode(errors="replace").replace("\0", "").strip()[:200]


class ReconnectingTransport:
    """A `Transport` over others that `connect` makes, the first at once, and one after each loss.

    After a loss the next call makes up to `attempts` attempts, the first at once, with waits
    between them that double from `first_wait` to `longest_wait` seconds; `on_reconnect` is told
    before each wait and when the board is there again. Raises `DeviceLost` where it does not come
    back, or where another machine answers. Several threads may use it.
    """

    def __init__(
        self,
        connect: Callable[[], Transport],
        *,
        attempts: int = ATTEMPTS,
        first_wait: float = FIRST_WAIT,
        longest_wait: float = LONGEST_WAIT,
        sleep: Callable[[float], None] = time.sleep,
        on_reconnect: Callable[[str], None] = _LOG.warning,
    ) -> None:
        if attempts < 1 or not 0 <= first_wait <= longest_wait:
            raise ValueError("there is one attempt at least, and the first wait is the shortest")
        self._connect = connect
        self._attempts = attempts
        self._first_wait = first_wait
        self._longest_wait = longest_wait
        self._sleep = sleep
        self._tell = on_reconnect
        self._lock = threading.Lock()  # of whoever reaches the board anew; the others wait for it
        self._switch = threading.Lock()  # of what `_inner` is
        self._closed = False
        self._doubted = False  # something has ended, or is silent: a program, or the link?
        self._inner: Transport | None = connect()
        try:
            self._machine = machine(self._inner)
        except BaseException:
            self._inner.close()
            raise

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        """Run a command to its end; it is not repeated. Raises what transports raise."""
        with self._watched(self._reached()) as inner:
            return inner.run(argv, timeout=timeout)

    def open(self, argv: Sequence[str]) -> Channel:
        """Start a program; it is not started twice. Raises what transports raise."""
        with self._watched(self._reached()) as inner:
            return _WatchedChannel(inner.open(argv), self._doubt)

    def push(self, local: Path, remote: PurePosixPath) -> None:
        """Copy a file to the board, once more where the link is lost. Raises what transports
        raise."""
        self._twice(lambda inner: inner.push(local, remote))

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        """Copy a file from the board, once more where the link is lost. Raises what transports
        raise."""
        self._twice(lambda inner: inner.pull(remote, local))

    def close(self) -> None:
        """Give the link back for good. Closing twice does nothing."""
        self._closed = True
        # Not under the lock: whoever waits for the board finds out after its wait.
        inner = self._inner
        if inner is not None:
            inner.close()

    def _twice(self, copy: Callable[[Transport], None]) -> None:
        inner = self._reached()
        try:
            with self._watched(inner):
                copy(inner)
            return
        except DeviceLost:
            if self._closed:
                raise
        with self._watched(self._reached()) as inner:
            copy(inner)

    @contextlib.contextmanager
    def _watched(self, inner: Transport) -> Iterator[Transport]:
        """Give a way up where it breaks meanwhile, and doubt it where it does not answer."""
        try:
            yield inner
        except DeviceLost:
            self._give_up(inner)
            raise
        except DeviceTimeout:
            self._doubt()
            raise

    def _give_up(self, inner: Transport) -> None:
        with self._switch:
            mine = self._inner is inner and not self._closed
            if mine:
                self._inner = None
        if mine:
            inner.close()

    def _doubt(self) -> None:
        self._doubted = True

    def _reached(self) -> Transport:
        with self._lock:
            if self._closed:
                raise _closed()
            inner = self._inner
            if inner is not None and self._doubted:
                self._doubted = False
                try:
                    inner.run(["true"], timeout=_TIMEOUT)
                except (DeviceLost, DeviceTimeout):
                    self._give_up(inner)
                    inner = None
            return inner or self._again()

    def _again(self) -> Transport:
        """Reach the board anew."""
        wait = self._first_wait
        for attempt in range(1, self._attempts + 1):
            try:
                return self._fresh(attempt)
            except _HOPELESS:
                raise
            except DeviceError as error:
                if attempt == self._attempts:
                    raise DeviceLost(
                        f"the board was lost and did not come back in {attempt} attempts: {error}"
                    ) from error
                self._tell(
                    f"the board is lost, attempt {attempt + 1} of {self._attempts} to reach it "
                    f"in {wait:g} s: {str(error)[:200]}"
                )
            self._sleep(wait)
            wait = min(2 * wait, self._longest_wait)
            if self._closed:
                break
        raise _closed()

    def _fresh(self, attempt: int) -> Transport:
        inner = self._connect()
        try:
            differences = self._machine.differences(machine(inner))
            if differences:
                raise _AnotherMachine(
                    f"another machine answers in the board's place: {'; '.join(differences)}. "
                    "Look at its cable and its address, and run the same command again"
                )
            if self._closed:
                raise _closed()
        except BaseException:
            inner.close()
            raise
        with self._switch:
            self._inner = inner
        self._tell(f"the board was lost and is there again (attempt {attempt})")
        return inner


class _AnotherMachine(DeviceLost):
    """Waiting for the board does not help: something else has its address."""


# No board comes back by being asked again for these.
_HOPELESS = (DeviceAmbiguous, DeviceUnauthorised, DeviceUnverified, _AnotherMachine)


class _WatchedChannel:
    """A channel that says when it ends unasked, since its link may have ended with it."""

    def __init__(self, inner: Channel, doubt: Callable[[], None]) -> None:
        self._inner = inner
        self._doubt = doubt

    def send(self, line: bytes) -> None:
        with self._watched():
            self._inner.send(line)

    def receive(self, *, timeout: float) -> bytes:
        with self._watched():
            return self._inner.receive(timeout=timeout)

    def close(self) -> None:
        self._inner.close()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except (DeviceLost, DeviceTimeout):
            self._doubt()
            raise


def _closed() -> DeviceLost:
    return DeviceLost("the way to the board was closed; connect again")
