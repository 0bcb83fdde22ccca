"""A process on a board, over a session of its own; whoever waits for it moves its bytes."""

from __future__ import annotations

import contextlib
import re
import select
import signal
import time
from collections.abc import Callable, Sequence

import paramiko

from .base import LINE_LIMIT
from .errors import CommandFailed, DeviceError, DeviceLost, DeviceTimeout
from .process import brief
from .remote_shell import (
    announced_command_line,
    command_line,
    for_any_shell,
    names_missing_program,
)
from .ssh_link import TELLING, Link

_LONGEST_COMMAND = 120_000  # bytes; Linux lets one argument of a program have 128 KiB
_LONGEST_GREETING = 1024 * 1024  # bytes that a login may print
_CHUNK = 64 * 1024  # bytes
_CHUNKS = 16  # taken before others have their turn
_STARTING = 30.0  # seconds in which a board finds a program
_KILLING = 5.0  # seconds for a board to end a process
_WINDOW = 0.02  # seconds between looks at a window that is full
_UNKNOWN_CODE = 255  # as OpenSSH has it where the board tells no code: a signal ended the shell


class RemoteProcess:
    """A process on a board. What it wrote gathers in `stdout` and `stderr`, of the latter only the
    last `stderr_kept` bytes where that is given.

    `mark` is a word that stands in no output: what a login shell prints before it is not the
    program's. Where `reads` is false the process finds its input at its end. Raises
    `CommandFailed`, `DeviceLost`, `DeviceError`.
    """

    def __init__(
        self,
        link: Link,
        argv: Sequence[str],
        mark: str,
        *,
        reads: bool = True,
        stderr_kept: int | None = None,
    ) -> None:
        try:
            script = for_any_shell(announced_command_line(argv, mark))
        except ValueError as error:
            raise CommandFailed(f"{brief(argv)} cannot be run: {error}") from error
        if len(script) > _LONGEST_COMMAND:
            raise CommandFailed(
                f"{brief(argv)} is too long to be run ({len(script)} bytes); put what it says into "
                "a file"
            )
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._link = link
        self._argv = argv
        self._stderr_kept = stderr_kept
        self._before_stdout = bytearray()  # what came before the mark
        self._before_stderr = bytearray()
        self._stdout_mark = re.compile(re.escape(mark.encode()) + rb" (\d{1,10})\n")
        self._stderr_mark = re.compile(re.escape(mark.encode()) + rb"\n")
        self._stderr_began = False
        self._group: int | None = None  # known as soon as the program was found
        self._all_read = False  # nothing more can come
        self._ended = False
        self._channel = link.session()
        try:
            self._channel.exec_command(script)
            self._channel.settimeout(0.0)
            if not reads:
                self._channel.shutdown_write()
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._channel.close()
            raise link.problem(error) from error
        self._poll = select.poll()
        self._poll.register(self._channel.fileno(), select.POLLIN)

    @property
    def at_end(self) -> bool:
        """Whether nothing more can come; a link that broke is met by `pump`."""
        return self._all_read and not self._link.lost

    @property
    def can_still_write(self) -> bool:
        """Whether more may come on stdout."""
        return not self.at_end

    def await_beginning(self) -> None:
        """Wait until the program was found. Raises `CommandFailed`, `DeviceTimeout`."""
        deadline = time.monotonic() + _STARTING
        while self._group is None and not self._all_read:
            if (wait := deadline - time.monotonic()) <= 0:
                raise DeviceTimeout(
                    f"{self._link.name} has not started {brief(self._argv)} within "
                    f"{_STARTING:g} s; run the same command again, and restart the board if that "
                    "does not help"
                )
            self.pump(wait)
        if self._group is None:
            self.check_began(self.drain(_STARTING))

    def check_began(self, code: int | None) -> None:
        """Raises `CommandFailed` where a process that ended is not the program's, and `DeviceLost`
        where it was ended before it began."""
        if self._group is not None:
            return
        if code is not None and names_missing_program(code, bytes(self.stderr)):
            raise CommandFailed(
                f"there is no program {self._argv[0]!r} on {self._link.name}; install it, or name "
                "it by its whole path"
            )
        said = bytes(self._before_stdout + self._before_stderr + self.stderr)
        if code == _UNKNOWN_CODE and not said.strip():
            raise DeviceLost(
                f"a signal ended the login at {self._link.name} before {brief(self._argv)} began; "
                "run the same command again, and look at the board's memory if that does not help"
            )
        raise CommandFailed(
            f"a login at {self._link.name} runs no command; it ended with code {code} and said "
            f"{said.decode(errors='replace').strip()[:300]!r}; give the user a shell (`chsh`), and "
            "remove ForceCommand"
        )

    def pump(self, wait: float, outgoing: memoryview | None = None) -> int:
        """Wait until bytes can be moved, move them, and return how many of `outgoing` went.

        Raises `BrokenPipeError` where the process reads no more, `DeviceLost` where the link
        broke.
        """
        if self._all_read and self._link.lost:
            raise self._link.loss()
        written = 0
        if outgoing is not None:
            written = self._send(outgoing)
            # Nothing tells that the other end takes more, so it is asked again soon.
            wait = 0.0 if written else min(wait, _WINDOW)
        if not self._all_read:
            self._poll.poll(wait * 1000)
            self._take()
        return written

    def drain(self, seconds: float) -> int | None:
        """Read to the end and wait for it; the exit code, or None where the process lives on.

        Raises `DeviceLost`.
        """
        deadline = time.monotonic() + seconds
        while (
            not self._all_read
            and len(self.stdout) <= LINE_LIMIT
            and (wait := deadline - time.monotonic()) > 0
        ):
            self.pump(wait)
        if not self._channel.status_event.wait(max(0.0, deadline - time.monotonic())):
            return None
        code = self._channel.exit_status
        if code >= 0:
            return code
        if self._link.lost_within(TELLING):
            raise self._link.loss()
        return _UNKNOWN_CODE

    def end(self, *, grace: float = 0.0) -> None:
        """End the process and all that it started; ending twice does nothing.

        With `grace` its input is closed first, then it is sent SIGTERM; each is given so many
        seconds to be heeded.
        """
        if self._ended:
            return
        self._ended = True
        # Where the link is gone the board's sshd ends what it can.
        with contextlib.suppress(DeviceError, OSError, EOFError, paramiko.SSHException):
            if grace and not self._link.lost:
                self._channel.shutdown_write()
                if self.drain(grace) is None:
                    self._signal(signal.SIGTERM)
                    self.drain(grace)
            if not (self._all_read and self._channel.status_event.is_set()):
                self._signal(signal.SIGKILL)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()

    def _send(self, outgoing: memoryview) -> int:
        try:
            written = self._channel.send(bytes(outgoing[:_CHUNK]))
        except TimeoutError:  # the window is full
            return 0
        except (paramiko.SSHException, OSError, EOFError) as error:
            if self._link.lost_within(TELLING):
                raise self._link.loss() from error
            raise BrokenPipeError from error
        if written == 0:  # paramiko says so where the other end is closed
            if self._link.lost_within(TELLING):
                raise self._link.loss()
            raise BrokenPipeError
        return written

    def _take(self) -> None:
        """Move what has come."""
        # Both streams share a window: what is left in one would starve the other.
        self._take_stderr()
        for _ in range(_CHUNKS):
            if len(self.stdout) > LINE_LIMIT:
                return
            chunk = self._received(self._channel.recv)
            if chunk is None:
                return
            if not chunk:
                while self._take_stderr():
                    pass
                self._all_read = True
                return
            self._add_stdout(chunk)

    def _take_stderr(self) -> bool:
        """Move some of stderr; whether more of it is there."""
        for _ in range(_CHUNKS):
            chunk = self._received(self._channel.recv_stderr)
            if not chunk:
                return False
            self._add_stderr(chunk)
        return True

    def _received(self, receive: Callable[[int], bytes]) -> bytes | None:
        """What a stream has; empty at its end, None where it has nothing yet."""
        try:
            return receive(_CHUNK)
        except TimeoutError:
            return None
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._link.problem(error) from error

    def _add_stdout(self, chunk: bytes) -> None:
        if self._group is not None:
            self.stdout += chunk
            return
        self._before_stdout += chunk
        self._check_greeting(self._before_stdout)
        if found := self._stdout_mark.search(self._before_stdout):
            self._group = int(found[1])
            self.stdout += self._before_stdout[found.end() :]
            self._before_stdout.clear()

    def _add_stderr(self, chunk: bytes) -> None:
        if self._stderr_began:
            self.stderr += chunk
            if self._stderr_kept is not None:
                del self.stderr[: -self._stderr_kept]
            return
        self._before_stderr += chunk
        self._check_greeting(self._before_stderr)
        if found := self._stderr_mark.search(self._before_stderr):
            self._stderr_began = True
            rest = bytes(self._before_stderr[found.end() :])
            self._before_stderr.clear()
            self._add_stderr(rest)

    def _check_greeting(self, before: bytearray) -> None:
        if len(before) > _LONGEST_GREETING:
            raise DeviceError(
                f"a login at {self._link.name} prints more than {_LONGEST_GREETING} bytes before "
                "it runs a command; let ~/.bashrc be silent without a terminal: "
                "`[ -t 0 ] || return` at its top"
            )

    def _signal(self, number: signal.Signals) -> None:
        """Signal the process and all that it started, over a session of its own."""
        deadline = time.monotonic() + _KILLING
        while self._group is None and not self._all_read and time.monotonic() < deadline:
            self.pump(deadline - time.monotonic())
        if self._group is None or self._group <= 1:  # 1 would mean every process of the user
            return
        kill = ["kill", "-s", number.name.removeprefix("SIG"), "--", f"-{self._group}"]
        session = self._link.session(timeout=_KILLING)
        try:
            session.exec_command(for_any_shell(command_line(kill)))
            session.status_event.wait(max(1.0, deadline - time.monotonic()))
        finally:
            session.close()
