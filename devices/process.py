"""A child process whose pipes are read and written without blocking and without threads."""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence

from .base import LINE_LIMIT
from .errors import CommandFailed

_CHUNK = 64 * 1024  # bytes; what a Linux pipe holds
_HINTS = {
    signal.SIGKILL: " (the system does that when memory runs out: `dmesg` tells)",
    signal.SIGILL: " (it holds instructions that this processor lacks)",
}


class Process:
    """A child in a process group of its own, its pipes read and written without blocking.

    What it wrote gathers in `stdout` and `stderr`, of the latter only the last `stderr_kept` bytes
    where that is given. Raises `CommandFailed` where it cannot be started.
    """

    def __init__(self, argv: Sequence[str], *, stdin: int, stderr_kept: int | None = None) -> None:
        try:
            self._popen = subprocess.Popen(
                list(argv),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise CommandFailed(
                f"there is no program {argv[0]!r} on this machine; install it, or name it by its "
                "whole path"
            ) from error
        except (OSError, ValueError) as error:
            # ValueError: an argument that holds a NUL byte.
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CommandFailed(
                f"{brief(argv)} cannot be started on this machine: {reason}; check that it is a "
                "program for this machine and may be executed"
            ) from error
        assert self._popen.stdout is not None
        assert self._popen.stderr is not None
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._released = False
        self._stderr_kept = stderr_kept
        self._stdout_fd = self._popen.stdout.fileno()
        # The pipes that have not reached their end, and where their bytes go.
        self.sinks = {
            self._stdout_fd: self.stdout,
            self._popen.stderr.fileno(): self.stderr,
        }
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)

    @property
    def can_still_write(self) -> bool:
        """Whether more may come on stdout."""
        return self._stdout_fd in self.sinks

    @property
    def at_end(self) -> bool:
        """Whether nothing more can come, on stdout or on stderr."""
        return not self.sinks

    def pump(self, wait: float, outgoing: memoryview | None = None) -> int:
        """Wait until a pipe is ready, move what it takes, return how many bytes were written.

        Raises `BrokenPipeError` where the child reads no more.
        """
        written = 0
        with selectors.PollSelector() as selector:
            for fd in self.sinks:
                # More is left in the pipe: a child that floods us waits, our memory does not grow.
                if fd != self._stdout_fd or len(self.stdout) <= LINE_LIMIT:
                    selector.register(fd, selectors.EVENT_READ)
            if outgoing is not None and self._popen.stdin is not None:
                selector.register(self._popen.stdin.fileno(), selectors.EVENT_WRITE)
            for key, _ in selector.select(wait):
                with contextlib.suppress(BlockingIOError):
                    if key.fd not in self.sinks:
                        assert outgoing is not None
                        written = os.write(key.fd, outgoing[:_CHUNK])
                    elif chunk := os.read(key.fd, _CHUNK):
                        self.sinks[key.fd] += chunk
                    else:
                        del self.sinks[key.fd]
        if self._stderr_kept is not None:
            del self.stderr[: -self._stderr_kept]
        return written

    def drain(self, seconds: float) -> int | None:
        """Read to the end and wait for it; the exit code, or None where the child lives on."""
        deadline = time.monotonic() + seconds
        while (
            self.sinks
            and len(self.stdout) <= LINE_LIMIT
            and (wait := deadline - time.monotonic()) > 0
        ):
            self.pump(wait)
        return self.wait(max(0.0, deadline - time.monotonic()))

    def wait(self, seconds: float) -> int | None:
        """The exit code, or None where the child lives on."""
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def close_stdin(self) -> None:
        """Tell the child that nothing more will come."""
        if self._popen.stdin is not None:
            self._popen.stdin.close()

    def end(self, *, grace: float = 0.0) -> None:
        """End the child and whatever it started, and close our ends of the pipes.

        With `grace` its input is closed first, then it is sent SIGTERM; each is given so many
        seconds to be heeded.
        """
        if self._released:
            return
        if grace:
            self.close_stdin()
            if self.drain(grace) is None:
                self._signal_group(signal.SIGTERM)
                self.drain(grace)
        self._signal_group(signal.SIGKILL)
        self.wait(5.0)  # what the kernel itself holds back cannot be ended
        for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr):
            if pipe is not None:
                pipe.close()
        self.sinks.clear()
        self._released = True

    def _signal_group(self, number: signal.Signals) -> None:
        # PermissionError: macOS, for a group of which only the dead are left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)


def signal_of(code: int | None) -> int | None:
    """The number of the signal that ended a process, where its exit code tells one.

    Negative codes are Python's; shells, and the boards behind them, add 128.
    """
    if code is None:
        return None
    if code < 0:
        return -code
    return code - 128 if 128 < code < 128 + signal.NSIG else None


def fate(code: int | None) -> str:
    """How a process ended, in words; `code` is None where it lived on."""
    if code is None:
        return "closed its output without ending and was ended"
    number = signal_of(code)
    if number is None:
        return f"ended with code {code}"
    try:
        name = signal.Signals(number)
    except ValueError:  # a real-time signal
        return f"was killed by signal {number}" if code < 0 else f"ended with code {code}"
    if code > 0:  # a program may choose such a code itself
        return f"ended with code {code}, as {name.name} makes it{_HINTS.get(name, '')}"
    return f"was killed by {name.name}{_HINTS.get(name, '')}"


def brief(argv: Sequence[str]) -> str:
    """A command as one reads it in an error, cut where it is long."""
    text = shlex.join(argv)
    return text if len(text) <= 80 else f"{text[:77]}..."
