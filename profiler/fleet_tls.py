"""Which schedulers a fleet may join, and the certificates that protect it."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ..devices.errors import DeviceLost, InputError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class TlsFiles:
    """Certificates in PEM files: of the authority that all members trust, and one's own with its
    key. Raises `InputError` where one is missing or cannot be read."""

    authority: Path
    certificate: Path
    key: Path

    def __post_init__(self) -> None:
        for name, path in (("ca", self.authority), ("cert", self.certificate), ("key", self.key)):
            try:
                with path.open("rb"):
                    pass
            except OSError as error:
                raise InputError(
                    f"--tls-{name} {path}: cannot be read: {error.strerror}"
                ) from error


def check_address(address: str, tls: TlsFiles | None) -> str:
    """The address of a scheduler as it is. Raises `InputError` where it is none, or one that is
    not this host and not protected by mutual TLS."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = None, None, None
    if parts is None or parts.scheme not in {"tcp", "tls"} or not host or not port:
        raise InputError(
            f"--scheduler {address}: write tls://HOST:PORT, or tcp://127.0.0.1:PORT for a "
            "scheduler on this host"
        )
    if parts.scheme == "tls" and tls is None:
        raise InputError(f"--scheduler {address}: give --tls-ca, --tls-cert and --tls-key, too")
    if parts.scheme == "tcp" and tls is not None:
        raise InputError(f"--scheduler {address}: with certificates the address begins with tls://")
    if parts.scheme == "tcp" and not _is_loopback(host):
        raise InputError(
            f"--scheduler {address}: is not this host. Whoever reaches a Dask scheduler can run "
            "programs on all of its members: use tls:// with --tls-ca, --tls-cert and --tls-key"
        )
    return address


def _is_loopback(host: str) -> bool:
    """Whether an address is this host for certain; a name other than localhost is not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_address(scheduler: str) -> str:
    """The address of this host on the way to the scheduler: where one
    may listen."""
    parts = urlsplit(scheduler)
    assert parts.hostname is not None
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_DGRAM)
        family, kind, _, _, address = found[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            return str(probe.getsockname()[0])
    except OSError as error:
        raise DeviceLost(f"the scheduler {scheduler} cannot be reached: {error}") from error
