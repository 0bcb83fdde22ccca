"""Whether a host's key is the one that was written down: `known_hosts` as OpenSSH has it.

Pure: texts in, verdicts out (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT). paramiko's own reader passes
over lines with a marker, so that a revoked key would be an unknown one at worst, and over patterns.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

STANDARD_PORT = 22
Verdict = Literal["known", "unknown", "changed", "revoked"]


@dataclass(frozen=True)
class KnownKey:
    """One line: which hosts it is about, the key, and where the line stands (`place`).

    `marker` is empty, `@revoked` or `@cert-authority`.
    """

    marker: str
    hosts: str
    kind: str
    key: bytes
    place: str

    def is_about(self, name: str) -> bool:
        """Whether the line names the host (`name` as `host_name` writes it)."""
        if self.hosts.startswith("|1|"):
            return _is_hash_of(self.hosts, name)
        patterns = self.hosts.lower().split(",")
        if any(p.startswith("!") and matches(p[1:], name) for p in patterns):
            return False
        return any(matches(pattern, name) for pattern in patterns)


def host_name(host: str, port: int) -> str:
    """What a host is called in `known_hosts`: another port than 22 is part of its name."""
    return host.lower() if port == STANDARD_PORT else f"[{host.lower()}]:{port}"


def parse_known_hosts(text: str, source: str) -> list[KnownKey]:
    """The keys of a file; lines that cannot be understood are passed over, as OpenSSH does.

    `source` is the file's name.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        marker = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) < 3 or marker not in {"", "@revoked", "@cert-authority"}:
            continue
        hosts, kind, encoded = fields[:3]
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            continue
        found.append(KnownKey(marker, hosts, kind, key, f"{source}:{number}"))
    return found


def about(keys: Iterable[KnownKey], host: str, port: int) -> list[KnownKey]:
    """The lines about a host at a port."""
    name = host_name(host, port)
    return [key for key in keys if key.is_about(name)]


def judge(keys: Sequence[KnownKey], host: str, port: int, key: bytes) -> Verdict:
    """What is known of the key that a host showed."""
    found = _verdict(about(keys, host, port), key)
    if found == "unknown" and port != STANDARD_PORT:
        # As OpenSSH does: a key known of the host itself will do; another one says nothing, since
        # something else may answer at that port.
        at_standard = _verdict(about(keys, host, STANDARD_PORT), key)
        return "unknown" if at_standard == "changed" else at_standard
    return found


def _verdict(keys: Sequence[KnownKey], key: bytes) -> Verdict:
    if any(known.marker == "@revoked" and known.key == key for known in keys):
        return "revoked"
    plain = [known for known in keys if not known.marker]
    if any(known.key == key for known in plain):
        return "known"
    return "changed" if plain else "unknown"


def fingerprint(key: bytes) -> str:
    """How people compare keys: as `ssh-keygen -l` prints them."""
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def matches(pattern: str, text: str) -> bool:
    """OpenSSH's patterns: `*` and `?`, and nothing else is special."""
    return fnmatch.fnmatchcase(text, re.sub(r"\[", "[[]", pattern))


def _is_hash_of(hashed: str, name: str) -> bool:
    parts = hashed.split("|")
    if len(parts) != 4:
        return False
    try:
        salt, expected = (base64.b64decode(part, validate=True) for part in parts[2:])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), expected)
