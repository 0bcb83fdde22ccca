"""From a route to an open connection: sockets, jumps, the host's key, and a key that lets us in.

What paramiko and sockets raise on the way becomes an error of ours here, with the next step.
Passwords are never asked for: a board is reached by a key, from a file or an agent.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

import paramiko
from paramiko.ssh_exception import IncompatiblePeer

from .errors import DeviceUnreachable, DeviceUnverified, InputError
from .known_hosts import (
    STANDARD_PORT,
    KnownKey,
    about,
    fingerprint,
    host_name,
    judge,
    parse_known_hosts,
)
from .remote_shell import command_line
from .ssh_config import Hop, Surroundings
from .ssh_keys import authenticate
from .ssh_link import Guarded, Link, close_transport

_LOG = "boardfit.paramiko"
_RSA = ("rsa-sha2-512", "rsa-sha2-256")  # the algorithms of a key of the kind ssh-rsa
_MATCH_EXEC = 10.0  # seconds for a command of `Match exec`
_LARGEST_KNOWN_HOSTS = 16 * 1024 * 1024  # bytes


def user_surroundings() -> Surroundings:
    """This user's ssh configuration. Raises `InputError` where the user has no home."""
    try:
        home, user = Path.home(), getpass.getuser()
    except (RuntimeError, KeyError, OSError) as error:
        raise InputError(
            f"this user has no name or no home folder ({error}); set USER and HOME"
        ) from error
    return Surroundings(
        home=home,
        user=user,
        host=socket.gethostname(),
        files=(home / ".ssh" / "config", Path("/etc/ssh/ssh_config")),
        environment=os.environ,
        run=_succeeds,
    )


def _succeeds(command: str) -> bool:
    """What `Match exec` asks. Raises `InputError` where the command does not end."""
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=_MATCH_EXEC,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"a command of `Match exec` in ~/.ssh/config takes longer than {_MATCH_EXEC:g} s; "
            "try it in a terminal"
        ) from error
    return done.returncode == 0


def open_link(route: Sequence[Hop]) -> Link:
    """Reach the last host of a route over the others.

    Raises `DeviceUnreachable`, `DeviceUnverified`, `DeviceUnauthorised`, and `InputError` where a
    file of the user's cannot be used.
    """
    with contextlib.ExitStack() as stack:
        hop = route[0]
        transport, guarded = _enter(_first_socket(hop, stack), hop, stack)
        for jump, hop in itertools.pairwise(route):
            sock = _through(transport, jump, hop)
            stack.callback(sock.close)
            transport, guarded = _enter(sock, hop, stack, jumped=True)
        name = hop.alias if hop.alias == hop.host else f"{hop.alias} ({hop.host})"
        return Link(name, transport, guarded, stack.pop_all(), interval=hop.alive_interval)


def _enter(
    sock: Any, hop: Hop, stack: contextlib.ExitStack, *, jumped: bool = False
) -> tuple[paramiko.Transport, Guarded]:
    """Log in at the host that a socket leads to."""
    guarded = Guarded(sock, hop.alive_interval * hop.alive_count)
    transport = paramiko.Transport(cast(socket.socket, guarded))
    stack.callback(close_transport, transport)
    _greet(transport, guarded, hop, jumped=jumped)
    authenticate(transport, hop)
    return transport, guarded


def _first_socket(hop: Hop, stack: contextlib.ExitStack) -> socket.socket:
    if hop.proxy_command is not None:
        return _behind_command(hop.proxy_command, stack)
    try:
        sock = socket.create_connection((hop.host, hop.port), hop.connect_timeout)
    except (socket.gaierror, UnicodeError) as error:
        raise DeviceUnreachable(
            f"no address is known for the host {hop.host!r}; check the name, or write its IP "
            "address as `host` in boards.toml or as HostName in ~/.ssh/config"
        ) from error
    except ConnectionRefusedError as error:
        raise DeviceUnreachable(
            f"nothing listens on port {hop.port} of {hop.host}; check the port, and start the "
            "board's SSH server (`sudo systemctl enable --now ssh`)"
        ) from error
    except TimeoutError as error:
        raise DeviceUnreachable(
            f"{hop.host} does not answer on port {hop.port} within {hop.connect_timeout} s; check "
            "its power, its network and its address"
        ) from error
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DeviceUnreachable(
            f"{hop.host} cannot be reached on port {hop.port}: {reason}; check its address and "
            "this machine's network"
        ) from error
    stack.callback(sock.close)
    # A line is sent as soon as it is written: without it a request takes 48 ms instead of 4.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _behind_command(command: str, stack: contextlib.ExitStack) -> socket.socket:
    """What a ProxyCommand leads to; a socket and not pipes, so that nothing waits for ever."""
    ours, theirs = socket.socketpair()
    stack.callback(ours.close)
    with theirs:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            start_new_session=True,
        )

    def end() -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    stack.callback(end)
    return ours


def _through(transport: paramiko.Transport, jump: Hop, hop: Hop) -> paramiko.Channel:
    try:
        return transport.open_channel(
            "direct-tcpip",
            (hop.host, hop.port),
            ("127.0.0.1", 0),
            timeout=hop.connect_timeout,
        )
    except (paramiko.SSHException, OSError, EOFError) as error:
        reason = error.text if isinstance(error, paramiko.ChannelException) else str(error)
        raise DeviceUnreachable(
            f"{hop.address} cannot be reached from {jump.alias} ({reason}); check the board's "
            f"power and address, and that {jump.alias} lets connections through "
            "(AllowTcpForwarding)"
        ) from error


def _greet(transport: paramiko.Transport, guarded: Guarded, hop: Hop, *, jumped: bool) -> None:
    """Agree on keys with a host, and make sure that it is the one that it should be."""
    logger = logging.getLogger(_LOG)
    if not logger.handlers:  # or Python writes paramiko's tracebacks to stderr
        logger.addHandler(logging.NullHandler())
    transport.set_log_channel(_LOG)
    transport.banner_timeout = hop.connect_timeout
    transport.handshake_timeout = hop.connect_timeout
    known = _read_known_hosts(hop.known_hosts)
    # A key that is known for one algorithm is to be the one that the host shows.
    kinds = [key.kind for key in about(known, *_known_as(hop)) if not key.marker]
    preferred = [name for kind in kinds for name in (_RSA if kind == "ssh-rsa" else (kind,))]
    options = transport.get_security_options()
    possible = list(options.key_types)
    options.key_types = list(
        dict.fromkeys([*(name for name in preferred if name in possible), *possible])
    )
    try:
        transport.start_client(timeout=2 * hop.connect_timeout)
        key = transport.get_remote_server_key()
    except IncompatiblePeer as error:
        raise DeviceUnreachable(
            f"the SSH server of {hop.address} is too old or too new for this paramiko ({error}); "
            "update the board's system, or paramiko here"
        ) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _no_greeting(guarded.beginning, hop, error) from error
    _check_key(known, key, hop, jumped=jumped)


def _no_greeting(beginning: bytes, hop: Hop, error: Exception) -> DeviceUnreachable:
    if beginning.startswith(b"SSH-"):
        return DeviceUnreachable(
            f"{hop.address} broke off while keys were agreed on ({error or 'without a word'}); "
            "try again, and look at the board's log (`journalctl -u ssh`)"
        )
    if beginning:
        words = beginning[:60].decode(errors="replace")
        return DeviceUnreachable(
            f"{hop.address} is no SSH server: it answers {words!r}; check the port"
        )
    if hop.proxy_command is not None:
        return DeviceUnreachable(
            f"the ProxyCommand of {hop.alias} in ~/.ssh/config led to no SSH server; try it in a "
            "terminal"
        )
    return DeviceUnreachable(
        f"{hop.address} took the connection and said nothing within {hop.connect_timeout} s; check "
        "that an SSH server listens there, and that it lets this machine in (firewall, MaxStartups)"
    )


def _read_known_hosts(paths: Sequence[Path]) -> list[KnownKey]:
    keys: list[KnownKey] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                data = file.read(_LARGEST_KNOWN_HOSTS)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}; change that") from error
        keys += parse_known_hosts(data.decode(errors="replace"), str(path))
    return keys


def _check_key(known: Sequence[KnownKey], key: paramiko.PKey, hop: Hop, *, jumped: bool) -> None:
    """Raises `DeviceUnverified` where a host's key is not known to be its."""
    name, port = _known_as(hop)
    shown = f"{key.get_name()} {fingerprint(key.asbytes())}"
    found = judge(known, name, port, key.asbytes())
    if found == "known":
        return
    if found == "revoked":
        raise DeviceUnverified(
            f"{hop.address} shows a key that was revoked ({shown}): do not use this board before "
            "you know who has the key; it needs a new one (`ssh-keygen -A` after removing the old)"
        )
    if found == "changed":
        _changed(known, name, port, shown, hop)
    file = hop.known_hosts[0] if hop.known_hosts else Path("~/.ssh/known_hosts")
    if jumped or hop.proxy_command or hop.host_key_name:  # ssh-keyscan would not get there
        add = f"`{command_line(['ssh', hop.alias])}` and answer yes"
    else:
        scan = command_line(["ssh-keyscan", "-p", str(hop.port), hop.host])
        add = f"`{scan} >> {command_line([str(file)])}`"
    raise DeviceUnverified(
        f"the key of {hop.address} is not known here: {shown}. Compare it with what "
        "`for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -lf $key; done` prints on the "
        f"board itself; where it is one of them: {add}"
    )


def _known_as(hop: Hop) -> tuple[str, int]:
    """The name and port that a host's key is looked up by; HostKeyAlias is taken as it is."""
    if hop.host_key_name is not None:
        return hop.host_key_name, STANDARD_PORT
    return hop.host, hop.port


def _changed(known: Sequence[KnownKey], name: str, port: int, shown: str, hop: Hop) -> NoReturn:
    lines = [key.place for key in about(known, name, port) if not key.marker]
    file = lines[0].rpartition(":")[0]
    remove = command_line(["ssh-keygen", "-f", file, "-R", host_name(name, port)])
    raise DeviceUnverified(
        f"WARNING: {hop.address} shows another key ({shown}) than {', '.join(lines[:3])} has. It "
        "was set up anew, or somebody stands between you and it: find out which before you go on. "
        f"Where it was set up anew: `{remove}`, and run the same command again to see the new key"
    )
