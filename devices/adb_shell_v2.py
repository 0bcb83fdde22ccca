"""A process on an Android board, over adbd's shell service in its second version.

Packets of one byte (whose bytes these are), four bytes of length (little-endian) and the bytes
themselves: stdin, stdout and stderr are kept apart, and the exit code arrives
(system/core or packages/modules/adb, shell_protocol.h).
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Sequence

from .adb_stream import Bytes, Link, send
from .base import LINE_LIMIT
from .errors import CommandFailed, DeviceError, DeviceLost, DeviceTimeout
from .line_channel import took_longer
from .process import brief
from .remote_shell import announcing_command_line, kill_line, names_missing_program

_HEADER = struct.Struct("<BI")
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
_SHELL = b"shell,v2,raw:"
_LONGEST_PACKET = 64 * 1024  # bytes of stdin in one packet; adbd reads them as they come
_LONGEST_NUMBER = 20  # digits of a process's number, and more than enough
_KILLING = 5.0  # seconds for ending a process that does not end by itself


class ShellPackets:
    """Understands what the shell service sends, however it is cut into pieces.

    A packet's bytes are handed on as they come, so that no length that a board claims makes our
    memory grow. `code` is the exit code once it came.
    """

    def __init__(self, stdout: bytearray, stderr: bytearray) -> None:
        self._sinks = {STDOUT: stdout, STDERR: stderr, EXIT: (exit_bytes := bytearray())}
        self._exit = exit_bytes
        self._header = bytearray()
        self._sink: bytearray | None = None
        self._left = 0  # bytes of the packet at hand that did not come yet

    @property
    def code(self) -> int | None:
        """The exit code, once it came."""
        return self._exit[0] if self._exit else None

    def feed(self, data: bytes) -> None:
        """Take what came next. Raises `DeviceError` where it is none of the protocol's."""
        view = memoryview(data)
        place = 0
        while place < len(view) and self.code is None:
            if self._sink is None:
                wanted = _HEADER.size - len(self._header)
                self._header += view[place : place + wanted]
                place += wanted
                if len(self._header) == _HEADER.size:
                    self._begin(*_HEADER.unpack(self._header))
                    self._header.clear()
            else:
                piece = view[place : place + self._left]
                self._sink += piece
                self._left -= len(piece)
                place += len(piece)
            if self._sink is not None and not self._left:
                self._sink = None

    def _begin(self, kind: int, length: int) -> None:
        sink = self._sinks.get(kind)
        if sink is None or (kind == EXIT and length != 1):
            raise DeviceError(
                f"the board sent a shell packet of kind {kind} and {length} bytes, which there is "
                "not; it does not speak ADB, or the link garbles: connect it otherwise"
            )
        self._sink, self._left = sink, length


def packet(kind: int, data: Bytes = b"") -> bytes:
    """A shell packet as the host sends it."""
    return _HEADER.pack(kind, len(data)) + data


class ShellProcess:
    """A running program (see `line_channel.PumpedProcess`).

    Without `stdin` it reads nothing. Of stderr the last `stderr_kept` bytes are kept where that is
    given. Raises `CommandFailed` where there is no such program, `DeviceTimeout` where none runs
    after `timeout` seconds, `DeviceLost`.
    """

    def __init__(
        self,
        link: Link,
        argv: Sequence[str],
        *,
        timeout: float,
        stdin: bool = True,
        stderr_kept: int | None = None,
    ) -> None:
        deadline = time.monotonic() + timeout
        service = _SHELL + os.fsencode(announcing_command_line(argv))
        if len(service) > link.longest_service:
            raise CommandFailed(
                f"{brief(argv)} has {len(service)} bytes, and a command over ADB at most "
                f"{link.longest_service}; push a script to the board and run that"
            )
        self.stdout = bytearray()
        self.stderr = bytearray()
        self._name = brief(argv)
        self._link = link
        self._stderr_kept = stderr_kept
        self._packets = ShellPackets(self.stdout, self.stderr)
        self._number: int | None = None  # the process's
        self._unsent = memoryview(b"")  # the rest of a packet, and how many bytes it brings
        self._brings = 0
        self._closed = False
        try:
            self._stream = link.open(service, timeout=timeout)
        except DeviceTimeout as error:
            raise DeviceTimeout(took_longer(argv, timeout)) from error
        try:
            if not stdin:
                self.close_stdin()
            self._number = self._started(argv, deadline, timeout)
        except BaseException:
            self.end()
            raise

    @property
    def can_still_write(self) -> bool:
        """Whether more may come on stdout."""
        return self._packets.code is None

    @property
    def at_end(self) -> bool:
        """Whether nothing more can come, on stdout or on stderr."""
        return self._packets.code is not None

    def pump(self, wait: float, outgoing: memoryview | None = None) -> int:
        """Wait until bytes can be moved, move them, and return how many of `outgoing` went.

        What was offered once has to be offered again until it went. Raises `BrokenPipeError` where
        the process has ended, `DeviceLost` where the link broke, `DeviceError` where the board
        does not keep to the protocol.
        """
        if self._packets.code is not None:
            if outgoing:
                raise BrokenPipeError
            return 0
        if outgoing and not self._unsent:
            self._brings = min(len(outgoing), _LONGEST_PACKET)
            self._unsent = memoryview(packet(STDIN, outgoing[: self._brings]))
        # What is beyond stays on the board: one that floods us waits, our memory does not grow.
        read = len(self.stdout) <= LINE_LIMIT
        self._unsent = self._unsent[self._stream.pump(wait, self._unsent, read=read) :]
        self._packets.feed(bytes(self._stream.received))
        self._stream.received.clear()
        if self._stderr_kept is not None and self._number is not None:
            del self.stderr[: -self._stderr_kept]
        if self._stream.ended and self._packets.code is None:
            raise self._link.lose(
                f"the link to the board broke while {self._name} ran there; look at the cable or "
                "the network, and run the same command again"
            )
        brought = 0 if self._unsent else self._brings
        self._brings -= brought
        return brought

    def drain(self, seconds: float) -> int | None:
        """Read to the end; the exit code, or None where the process lives on."""
        deadline = time.monotonic() + seconds
        while (
            self._packets.code is None
            and len(self.stdout) <= LINE_LIMIT
            and (wait := deadline - time.monotonic()) > 0
        ):
            self.pump(wait)
        return self._packets.code

    def close_stdin(self) -> None:
        """Tell the process that nothing more will come."""
        if self._packets.code is None and not self._stream.ended:
            send(self._stream, packet(CLOSE_STDIN))

    def end(self, *, grace: float = 0.0) -> None:
        """End the program and whatever it started, and close the service.

        With `grace` its input is closed first, and it is given so many seconds. adbd hangs up on
        the program when the service is closed; one that is stopped or does not care is killed by
        its number before.
        """
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(DeviceError):  # where the link is lost there is nothing to do
            if grace and self._link.lost is None:
                self.close_stdin()
                self.drain(grace)
            if self._packets.code is None and self._link.lost is None:
                self._kill()
        self._stream.close()

    def _kill(self) -> None:
        if self._number is None:
            return
        line = _SHELL + kill_line(self._number).encode()
        killing = self._link.open(line, timeout=_KILLING)
        deadline = time.monotonic() + _KILLING
        try:
            while not killing.ended and (wait := deadline - time.monotonic()) > 0:
                killing.pump(wait)
                killing.received.clear()
        finally:
            killing.close()

    def _started(self, argv: Sequence[str], deadline: float, timeout: float) -> int:
        """The number of the process, which its shell says before it becomes the program."""
        while True:
            line, newline, _ = bytes(self.stderr[:_LONGEST_NUMBER]).partition(b"\n")
            if newline and line.isdigit():
                del self.stderr[: len(line) + 1]
                return int(line)
            code = self._packets.code
            if code is not None and names_missing_program(code, self.stderr):
                raise CommandFailed(
                    f"there is no program {argv[0]!r} on the board; install it there, or name it "
                    "by its whole path"
                )
            if code is not None and code > 128 and not self.stderr:
                raise DeviceLost(
                    f"a signal ended the board's shell before {self._name} began; run the same "
                    "command again, and look at the board's memory if that does not help"
                )
            if code is not None or len(self.stderr) > LINE_LIMIT:
                words = self.stderr[-500:].decode(errors="replace").strip()
                raise CommandFailed(f"{self._name} cannot be started on the board: {words}")
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise DeviceTimeout(took_longer(argv, timeout))
            self.pump(wait)
