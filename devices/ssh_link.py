"""An open SSH connection that is kept alive, and found lost where nobody answers any more."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

import paramiko

from .errors import DeviceError, DeviceLost, DeviceTimeout

_JOIN = 5.0  # seconds for a thread that was told to end
TELLING = 0.3  # seconds from the first sign that a link broke until paramiko says so
_FREEING = (0.0, 0.05, 0.2, 0.5)  # seconds to wait for sessions that were given back just now
_OPENING = 30.0  # seconds in which a board opens a session
_STALLED_AFTER = 60.0  # seconds in which the other end takes nothing, where no alive checks are


class Guarded:
    """A socket for paramiko that notices when the other end is gone without a word.

    paramiko waits for ever for a link that is silent, and its own keep-alive asks for no answer.
    It asks this socket ten times a second, though: where something was `asked` and nothing came
    for `patience` seconds, or the other end took nothing for so long, the socket breaks.
    """

    def __init__(self, sock: Any, patience: float) -> None:
        self._sock = sock
        self._patience = patience
        self.beginning = b""  # the first bytes that came, which tell a foreign protocol
        self.heard = time.monotonic()
        self.asked: float | None = None  # since when an answer is awaited
        self._stuck: float | None = None  # since when the other end takes nothing

    def recv(self, count: int) -> bytes:
        """Receive as a socket does."""
        try:
            data: bytes = self._sock.recv(count)
        except TimeoutError:
            if self.asked is not None and self._patience < time.monotonic() - max(
                self.asked, self.heard
            ):
                return b""  # paramiko takes it for the end of the connection
            raise
        self.heard = time.monotonic()
        if len(self.beginning) < 80:
            self.beginning += data[:80]
        return data

    def send(self, data: bytes) -> int:
        """Send as a socket does."""
        try:
            count: int = self._sock.send(data)
        except TimeoutError:
            now = time.monotonic()
            self._stuck = self._stuck or now
            if now - self._stuck > (self._patience or _STALLED_AFTER):
                raise ConnectionResetError("the other end takes nothing any more") from None
            raise
        self._stuck = None
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class Link:
    """A connection over which sessions are opened; `name` is what errors call the board.

    `held` is closed last: what the connection leads over. After `interval` seconds without a word
    from the board it is asked for one (0: never).
    """

    def __init__(
        self,
        name: str,
        transport: paramiko.Transport,
        guarded: Guarded,
        held: contextlib.ExitStack,
        *,
        interval: float,
    ) -> None:
        self.name = name
        self._transport = transport
        self._guarded = guarded
        self._held = held
        self._interval = interval
        self._ended = threading.Event()
        self._asking = threading.Thread(
            target=self._ask, name=f"alive checks of {name}", daemon=True
        )
        if interval:
            self._asking.start()

    @property
    def lost(self) -> bool:
        """Whether nothing can come over it any more."""
        if not self._transport.is_active():
            return True
        # Set before the channels of a broken connection end, `active` only after that; a session
        # that is refused stands there for a moment, too.
        error = self._transport.saved_exception
        return error is not None and not isinstance(error, paramiko.ChannelException)

    def lost_within(self, seconds: float) -> bool:
        """Whether it is lost by then; a channel is told a moment before the link knows."""
        if not self.lost:
            self._transport.join(seconds)
        return self.lost

    def loss(self) -> DeviceLost:
        """What is raised once it is lost."""
        return DeviceLost(
            f"the link to {self.name} broke; check its power and network, and run the same "
            "command again"
        )

    def session(self, *, timeout: float = _OPENING) -> paramiko.Channel:
        """Open a session on the board. Raises `DeviceLost`, `DeviceTimeout`, `DeviceError`."""
        for wait in _FREEING:
            self._ended.wait(wait)
            try:
                return self._transport.open_session(timeout=timeout)
            except paramiko.ChannelException as error:
                refusal = error
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise self.problem(error) from error
        raise DeviceError(
            f"{self.name} opens no further session ({refusal.text}); end other work there, or "
            "raise MaxSessions in its /etc/ssh/sshd_config"
        ) from refusal

    def problem(self, error: Exception) -> DeviceError:
        """What an exception of paramiko or of a socket means."""
        if self.lost_within(0.0 if isinstance(error, TimeoutError) else TELLING):
            return self.loss()
        if isinstance(error, TimeoutError) or "imeout" in str(error):
            return DeviceTimeout(
                f"{self.name} does not answer; run the same command again, and restart the board "
                "if that does not help"
            )
        return DeviceError(f"{self.name} broke the SSH protocol ({error}); connect again")

    def close(self) -> None:
        """Give everything back. Closing twice does nothing."""
        self._ended.set()
        close_transport(self._transport)
        if self._asking.ident is not None:
            self._asking.join(_JOIN)
        self._held.close()

    def _ask(self) -> None:
        while not self._ended.wait(self._interval):
            if time.monotonic() - self._guarded.heard < self._interval:
                continue
            self._guarded.asked = time.monotonic()
            try:
                self._transport.global_request("keepalive@openssh.com", wait=True)
            except (paramiko.SSHException, OSError, EOFError):
                return
            self._guarded.asked = None
            if not self._transport.is_active():
                return


class SftpStream:
    """The bytes of an SFTP session. What goes wrong is raised as `DeviceError`."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel = link.session()
        self._channel.settimeout(_STALLED_AFTER)
        try:
            self._channel.invoke_subsystem("sftp")
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.close()
            if link.lost_within(TELLING):
                raise link.loss() from error
            raise DeviceError(
                f"{link.name} has no file server (SFTP); install it there (`sudo apt install "
                "openssh-sftp-server`), and let /etc/ssh/sshd_config have a line `Subsystem sftp`"
            ) from error

    def send(self, data: bytes) -> int:
        """Send some of it; 0 where the server has ended."""
        try:
            count = self._channel.send(data)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._link.problem(error) from error
        if not count and self._link.lost_within(TELLING):
            raise self._link.loss()
        return count

    def recv(self, count: int) -> bytes:
        """Receive some; empty where the server has ended."""
        try:
            data = self._channel.recv(count)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self._link.problem(error) from error
        if not data and self._link.lost_within(TELLING):
            raise self._link.loss()
        return data

    def close(self) -> None:
        """End the session."""
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            self._channel.close()


def close_transport(transport: paramiko.Transport) -> None:
    """End a connection and its thread; paramiko leaves both where a handshake failed."""
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        transport.sock.shutdown(socket.SHUT_RDWR)  # its thread would notice 0.1 s later
    transport.close()
    transport.packetizer.close()
    transport.packetizer.complete_handshake()  # ends the thread that would time it
    transport.sock.close()
    if transport.ident is not None:
        transport.join(_JOIN)
