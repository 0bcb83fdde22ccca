"""Which hosts a user's ~/.ssh/config names, for the list of what boards there might be.

Only what a list needs is read: names without wildcards, and where they lead. How a host is reached
in all detail is the business of whoever connects.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

_DEEPEST = 16  # files that include another one, as with OpenSSH
_MOST_FILES = 256
_LARGEST = 1024 * 1024  # bytes
_WILD = frozenset("*?!")


@dataclass(frozen=True)
class SshHost:
    """A host's alias and where it leads; `behind` says that another program or host leads there."""

    alias: str
    host: str
    port: int
    behind: bool


def ssh_hosts(config: Path) -> list[SshHost]:
    """The hosts that a configuration names, in its order; none where there is no such file."""
    blocks = list(_blocks(config, config.parent))
    names = dict.fromkeys(
        name for patterns, _ in blocks for name in patterns if not _WILD & set(name)
    )
    return [_resolved(name, blocks) for name in names if not name.startswith("-")]


_Block = tuple[list[str], dict[str, str]]


def _resolved(name: str, blocks: list[_Block]) -> SshHost:
    found: dict[str, str] = {}
    for patterns, options in blocks:
        if _applies(name, patterns):
            found = {**options, **found}  # the first value of a keyword holds
    port = found.get("port", "22")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 22
    behind = any(found.get(key, "none") != "none" for key in ("proxyjump", "proxycommand"))
    host = found.get("hostname", name).replace("%h", name)
    return SshHost(name, host, number if 1 <= number <= 65535 else 22, behind)


def _applies(name: str, patterns: list[str]) -> bool:
    if any(fnmatchcase(name, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _blocks(config: Path, folder: Path) -> Iterator[_Block]:
    """Patterns and options of each block, included files in their place."""
    read = 0

    def walk(path: Path, depth: int, patterns: list[str]) -> Iterator[_Block]:
        nonlocal read
        read += 1
        if depth > _DEEPEST or read > _MOST_FILES:
            return
        options: dict[str, str] = {}
        for keyword, words in _lines(path):
            if keyword in {"host", "match", "include"}:
                yield patterns, options
                options = {}
            if keyword == "host":
                patterns = words
            elif keyword == "match":  # what it asks is not known to a list
                patterns = []
            elif keyword == "include":
                for word in words:
                    full = Path(word).expanduser() if word.startswith("~") else folder / word
                    for included in sorted(glob.glob(str(full))):
                        yield from walk(Path(included), depth + 1, patterns)
            elif words:
                options.setdefault(keyword, words[0])
        yield patterns, options

    yield from walk(config, 0, ["*"])


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return
        text = path.read_text(encoding="utf-8", errors="replace")
    except (OSError, RuntimeError):
        return
    for line in text.splitlines():
        found = re.match(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*)$", line)
        if found:
            words = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', found[2])]
            yield found[1].lower(), words
