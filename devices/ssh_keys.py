"""Log in at a host with a key, from the agent or from a file, in the order that OpenSSH has.

No password is asked for: not for the board, and not for a key, which the agent then has to hold.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from .errors import DeviceUnauthorised, DeviceUnreachable
from .remote_shell import command_line
from .ssh_config import Hop

_PATIENCE = 30.0  # seconds for an agent, which may have to ask its user
_LARGEST_KEY = 1024 * 1024  # bytes
_MAGIC = b"openssh-key-v1\0"


def authenticate(transport: paramiko.Transport, hop: Hop) -> None:
    """Log in.

    Raises `DeviceUnauthorised`, which tells what was tried and what to do, and `DeviceUnreachable`
    where the host broke off or fell silent meanwhile, which says nothing about keys.
    """
    transport.auth_timeout = _PATIENCE
    try:
        transport.auth_none(hop.user)  # tells which ways there are
        return
    except paramiko.BadAuthenticationType as error:
        if "publickey" not in error.allowed_types:
            raise DeviceUnauthorised(
                f"{hop.address} takes no keys from {hop.user!r}, only "
                f"{' and '.join(error.allowed_types) or 'nothing'}, and boardfit asks for no "
                "password; allow PubkeyAuthentication in its /etc/ssh/sshd_config"
            ) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise _broke_off(hop, [], error) from error
    with contextlib.ExitStack() as stack:
        held, problems = _held_by_agent(hop, stack)
        tried: list[str] = []
        for name, key in _keys(hop, held, problems):
            tried.append(name)
            begin = time.monotonic()
            try:
                further = transport.auth_publickey(hop.user, key)
            except paramiko.AuthenticationException as error:
                # paramiko raises the same where nobody has answered.
                if not transport.is_active() or time.monotonic() - begin >= _PATIENCE:
                    raise _broke_off(hop, tried, error) from error
                continue
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise _broke_off(hop, tried, error) from error
            if not further:
                return
            raise DeviceUnauthorised(
                f"{hop.address} wants {' and '.join(further)} besides a key, and boardfit asks "
                "for nothing; allow keys alone for this user in its /etc/ssh/sshd_config"
            )
    raise _refused(hop, tried, problems)


def _keys(
    hop: Hop, held: Sequence[AgentKey], problems: list[str]
) -> Iterator[tuple[str, paramiko.PKey]]:
    """The keys to try, each with its name; those that cannot be used go to `problems`."""
    by_blob = {key.asbytes(): key for key in held}
    from_files = {path: _public_blob(path) for path in hop.identity_files}
    for path, blob in from_files.items():
        if blob is not None and blob in by_blob:
            yield f"{path} (held by the agent)", by_blob[blob]
    if not hop.identities_only:
        for blob, key in by_blob.items():
            if blob not in from_files.values():
                yield f"{key.comment or 'a key'} (held by the agent)", key
    for path, blob in from_files.items():
        if blob in by_blob or not path.exists() or path.suffix == ".pub":
            continue
        try:
            yield str(path), paramiko.PKey.from_path(path)
        except (TypeError, paramiko.PasswordRequiredException):
            add = command_line(["ssh-add", str(path)])
            problems.append(f"{path} is encrypted and no agent holds it: `{add}`")
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
        except Exception:  # paramiko and cryptography raise a dozen kinds for a damaged key
            problems.append(f"{path} is no private key that paramiko can use")


def _held_by_agent(hop: Hop, stack: contextlib.ExitStack) -> tuple[tuple[AgentKey, ...], list[str]]:
    if hop.agent is None:
        return (), []
    agent = _Agent()
    stack.callback(agent.close)
    try:
        agent.reach(hop.agent)
    except (OSError, paramiko.SSHException) as error:
        return (), [f"the agent at {hop.agent} does not answer ({error})"]
    return agent.get_keys(), []


class _Agent(AgentSSH):
    """paramiko's agent with a socket of our choice, and bounded waiting."""

    def reach(self, path: str) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(_PATIENCE)
            sock.connect(path)
            self._connect(sock)  # type: ignore[attr-defined]
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        self._close()  # type: ignore[attr-defined]


def _public_blob(path: Path) -> bytes | None:
    """The public half of a key, which is readable also where the key is encrypted."""
    for file in (path, path.with_name(path.name + ".pub")):
        try:
            with file.open("rb") as opened:
                text = opened.read(_LARGEST_KEY)
        except OSError:
            continue
        with contextlib.suppress(binascii.Error, ValueError, IndexError, struct.error):
            if text.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----"):
                return _blob_in(base64.b64decode(b"".join(text.splitlines()[1:-1])))
            if not text.startswith(b"-----"):
                return base64.b64decode(text.split()[1], validate=True)
    return None


def _blob_in(data: bytes) -> bytes:
    """The first public key of a private file (OpenSSH's PROTOCOL.key)."""
    if not data.startswith(_MAGIC):
        raise ValueError("not OpenSSH's format")
    at = len(_MAGIC)
    for part in ("cipher", "key derivation", "its options", "number of keys", "public key"):
        if part == "number of keys":
            at += 4
            continue
        (length,) = struct.unpack_from(">I", data, at)
        found = data[at + 4 : at + 4 + length]
        at += 4 + length
    return found


def _broke_off(
    hop: Hop, tried: Sequence[str], error: Exception
) -> DeviceUnauthorised | DeviceUnreachable:
    if len(tried) < 2:  # which are not too many for any host
        return DeviceUnreachable(
            f"{hop.address} broke off while {hop.user!r} logged in ({error or 'without a word'}); "
            "try again, and look at the board's log (`journalctl -u ssh`)"
        )
    return DeviceUnauthorised(
        f"{hop.address} broke off while {hop.user!r} logged in with {tried[-1]}, after "
        f"{len(tried)} keys ({error or 'without a word'}); where these are too many for it, name "
        "the right one: `identity_file` in boards.toml, or IdentityFile and IdentitiesOnly in "
        "~/.ssh/config"
    )


def _refused(hop: Hop, tried: Sequence[str], problems: Sequence[str]) -> DeviceUnauthorised:
    seen = [f"it refused {name}" for name in tried] + list(problems)
    if not seen:
        files = ", ".join(str(path) for path in hop.identity_files)
        seen = [f"there is no key to show ({files or 'none is named'}); make one with `ssh-keygen`"]
    copy = command_line(["ssh-copy-id", "-p", str(hop.port), f"{hop.user}@{hop.host}"])
    return DeviceUnauthorised(
        f"{hop.address} does not let {hop.user!r} in: {'; '.join(seen)}. Otherwise check the user, "
        f"and put a key there: `{copy}`"
    )
