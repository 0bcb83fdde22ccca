"""How a host is reached, as the user's `~/.ssh/config` says: read as OpenSSH reads it.

paramiko has a reader, too: it passes over `Include`, which may stand inside a `Host` block and then
holds for those hosts only, so that no text without it says the same. What is said of a host is the
first value of each keyword in all parts that apply to it (ssh_config(5)); keywords that boardfit
has no use for are passed over. Names are not made canonical (CanonicalizeHostname).
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import InputError
from .known_hosts import STANDARD_PORT, matches

DEEPEST_INCLUDE = 16  # as in OpenSSH
_MOST_FILES = 500  # read for one host; files that include themselves twice would be without end
_MOST_JUMPS = 16
_LARGEST_FILE = 1024 * 1024  # bytes
_LIST_KEYWORDS = {"identityfile", "certificatefile"}  # each line adds to them
_WHOLE_LINE = {"proxycommand"}  # keywords whose value is the rest of the line as it stands
_DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ed25519")
_DEFAULT_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_ALIVE_EVERY = 15  # seconds; without it nobody would notice that a link is gone
_TRUTH = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True)
class Hop:
    """One host on the way to a board, and how it lets us in.

    `alias` is what the user calls it, `host_key_name` what `known_hosts` does. `identity_files` are
    tried in order, `identities_only` keeps other keys of the agent out; `agent` is its socket, or
    None for none. Each alive check comes after `alive_interval` seconds of silence (0: never);
    after `alive_count` without an answer the link is lost. Times are in seconds.
    """

    alias: str
    host: str
    port: int
    user: str
    identity_files: tuple[Path, ...] = ()
    identities_only: bool = False
    agent: str | None = None
    known_hosts: tuple[Path, ...] = ()
    host_key_name: str | None = None
    proxy_command: str | None = None
    alive_interval: int = _ALIVE_EVERY
    alive_count: int = 3
    connect_timeout: int = 20

    @property
    def address(self) -> str:
        """Where it is, as one reads it in an error."""
        return self.host if self.port == STANDARD_PORT else f"{self.host} port {self.port}"


@dataclass(frozen=True)
class Surroundings:
    """What a configuration is read in: files, the user here, and environment variables.

    `run` runs a command of `Match exec` and says whether it ended well.
    """

    home: Path
    user: str
    host: str
    files: tuple[Path, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    run: Callable[[str], bool] = lambda command: False

    @property
    def folder(self) -> Path:
        """Where a user's relative `Include` begins."""
        return self.home / ".ssh"


def find_route(
    name: str,
    around: Surroundings,
    *,
    user: str | None = None,
    port: int | None = None,
    identity_file: Path | None = None,
) -> tuple[Hop, ...]:
    """The hosts to pass, one after the other, to reach `name` (an alias or an address), the last.

    What is given here goes before what the files say, as on a command line. Raises `InputError`
    where a file cannot be understood, or the jumps lead in a circle.
    """
    given = {"user": user, "port": None if port is None else str(port)}
    options = {key: [value] for key, value in given.items() if value is not None}
    if identity_file is not None:
        options["identityfile"] = [str(identity_file).replace("%", "%%")]
        options["identitiesonly"] = ["yes"]
    return _route(name, options, None, around, ())


def _route(
    name: str,
    given: Mapping[str, list[str]],
    jumps: Sequence[str] | None,
    around: Surroundings,
    behind: tuple[Hop, ...],
) -> tuple[Hop, ...]:
    """`jumps`: instead of what the files say of the host; `behind`: the hops that follow."""
    options = _Reading(name, around, given).options()
    hop = _hop(name, options, around)
    ways = {(other.host, other.port, other.user) for other in behind}
    if (hop.host, hop.port, hop.user) in ways or len(behind) >= _MOST_JUMPS:
        chain = " from ".join(other.alias for other in (*reversed(behind), hop))
        raise InputError(
            f"ProxyJump in ~/.ssh/config leads in a circle: {chain}; write `ProxyJump none` for "
            f"{hop.alias}"
        )
    if jumps is None:
        jumps = _jumps(options, hop)
    if not jumps:
        return (hop, *behind)
    # As with OpenSSH, what the files say of the nearest jump host itself holds only where it is
    # the only one that is named.
    jump = _destination(jumps[-1])
    earlier = jumps[:-1] or None
    return _route(jump.name, jump.options, earlier, around, (hop, *behind))


@dataclass(frozen=True)
class _Destination:
    name: str
    options: Mapping[str, list[str]]


def _destination(text: str) -> _Destination:
    """What `[user@]host[:port]` or `ssh://...` names."""
    found = re.fullmatch(
        r"(?:ssh://)?(?:(?P<user>.+)@)?(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^@:/]+))(?::(?P<port>\d+))?/?",
        text,
    )
    if found is None:
        if re.fullmatch(r"[0-9a-fA-F:.%]+", text):  # an IPv6 address without brackets
            return _Destination(text, {})
        raise InputError(
            f"ProxyJump {text!r} in ~/.ssh/config is not [user@]host[:port]; change it"
        )
    options = {key: [found[key]] for key in ("user", "port") if found[key] is not None}
    return _Destination(found["v6"] or found["host"], options)


def _jumps(options: Mapping[str, list[str]], hop: Hop) -> list[str]:
    jumps = " ".join(options.get("proxyjump", ["none"]))
    if jumps.lower() == "none":
        return []
    tokens = {"h": hop.host, "n": hop.alias, "p": str(hop.port), "r": hop.user}
    return [_expanded(part.strip(), tokens) for part in jumps.split(",") if part.strip()]


def _hop(name: str, options: Mapping[str, list[str]], around: Surroundings) -> Hop:
    def first(keyword: str, default: str) -> str:
        return options.get(keyword, [default])[0]

    def number(keyword: str, default: int, most: int) -> int:
        text = first(keyword, str(default))
        if not re.fullmatch(r"\d{1,9}", text, flags=re.ASCII) or int(text) > most:
            raise InputError(
                f"{keyword} {text!r} of {name!r} in ~/.ssh/config is no number from 0 to {most}; "
                "change it"
            )
        return int(text)

    host = _expanded(first("hostname", name), {"h": name}).lower()
    port = number("port", STANDARD_PORT, 65535) or STANDARD_PORT
    user = first("user", around.user)
    tokens = {
        "d": str(around.home),
        "h": host,
        "k": first("hostkeyalias", name),
        "L": around.host.partition(".")[0],
        "l": around.host,
        "n": name,
        "p": str(port),
        "r": user,
        "u": around.user,
    }

    def path(text: str) -> Path:
        filled = re.sub(r"\$\{(\w+)\}", lambda found: around.environment.get(found[1], ""), text)
        filled = _expanded(filled, tokens)
        if filled == "~" or filled.startswith("~/"):
            return around.home / filled[2:]
        return Path(filled).expanduser() if filled.startswith("~") else Path(filled)

    identities = [text for text in options.get("identityfile", []) if text.lower() != "none"]
    if "identityfile" not in options:
        identities = [f"~/.ssh/{key}" for key in _DEFAULT_KEYS]
    known = options.get("userknownhostsfile", list(_DEFAULT_KNOWN_HOSTS))
    known_to_all = options.get("globalknownhostsfile", list(_GLOBAL_KNOWN_HOSTS))
    agent = first("identityagent", "SSH_AUTH_SOCK")
    if agent.startswith("$") or agent == "SSH_AUTH_SOCK":
        agent_path = around.environment.get(agent.lstrip("$").strip("{}")) or None
    else:
        agent_path = None if agent.lower() == "none" else str(path(agent))
    command = first("proxycommand", "none")
    seconds = number("connecttimeout", 0, 10**6)
    return Hop(
        alias=name,
        host=host,
        port=port,
        user=user,
        identity_files=tuple(dict.fromkeys(path(text) for text in identities)),
        identities_only=_TRUTH.get(first("identitiesonly", "no").lower(), False),
        agent=agent_path,
        known_hosts=tuple(path(text) for text in (*known, *known_to_all) if text.lower() != "none"),
        host_key_name=options["hostkeyalias"][0] if "hostkeyalias" in options else None,
        proxy_command=None if command.lower() == "none" else _expanded(command, tokens),
        alive_interval=number("serveraliveinterval", _ALIVE_EVERY, 10**6),
        alive_count=max(1, number("serveralivecountmax", 3, 1000)),
        connect_timeout=seconds or Hop.connect_timeout,
    )


def _expanded(text: str, tokens: Mapping[str, str]) -> str:
    """A text with its percent tokens filled in. Raises `InputError` for one that is not known."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "%":
            return "%"
        if found[1] not in tokens:
            # Not the text: a ProxyCommand may hold a secret.
            raise InputError(
                f"{found[0]!r} in ~/.ssh/config is not known to boardfit; write out what it "
                "stands for"
            )
        return tokens[found[1]]

    return re.sub(r"%(.?)", value, text)


class _Reading:
    """One walk through the files for one host."""

    def __init__(self, name: str, around: Surroundings, given: Mapping[str, list[str]]) -> None:
        self._name = name
        self._around = around
        self._given = given
        self._found: dict[str, list[str]] = {}
        self._host = name  # what `Host` and `Match host` look at
        self._final = False
        self._wants_final = False
        self._files = 0

    def options(self) -> dict[str, list[str]]:
        """Each keyword (in small letters) with its values."""
        self._walk()
        if self._wants_final:
            # `Match final` has the files read again, with the name that the first reading found.
            self._host = _expanded(self._found.get("hostname", [self._name])[0], {"h": self._name})
            self._found["hostname"] = [self._host.replace("%", "%%")]
            self._final = True
            self._walk()
        return self._found

    def _walk(self) -> None:
        for keyword, values in self._given.items():
            self._found[keyword] = list(values)
        for file in self._around.files:
            self._file(file, applies=True, depth=0)

    def _file(self, file: Path, *, applies: bool, depth: int) -> None:
        if depth > DEEPEST_INCLUDE:
            raise InputError(
                f"{file}: more than {DEEPEST_INCLUDE} Include lie in each other; remove some"
            )
        self._files += 1
        if self._files > _MOST_FILES:
            raise InputError(
                f"{file}: more than {_MOST_FILES} files are included for one host; does one "
                "include itself?"
            )
        try:
            with file.open("rb") as opened:
                data = opened.read(_LARGEST_FILE + 1)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise InputError(f"{file}: cannot be read: {error.strerror}") from error
        if len(data) > _LARGEST_FILE:
            raise InputError(f"{file}: is larger than {_LARGEST_FILE} bytes; is it for ssh?")
        outer = applies  # a block ends with its file, and holds only where the Include does
        for number, line in enumerate(os.fsdecode(data).splitlines(), 1):
            place = f"{file}:{number}"
            keyword, words = _split(line, place)
            if keyword == "host":
                applies = outer and self._is_meant(words)
            elif keyword == "match":
                applies = outer and self._matches(words, place)
            elif keyword == "include":
                for included in self._included(words, file):
                    self._file(included, applies=applies, depth=depth + 1)
            elif keyword and words and applies:
                self._take(keyword, words)

    def _take(self, keyword: str, words: list[str]) -> None:
        if keyword in _LIST_KEYWORDS:
            taken = self._found.setdefault(keyword, [])
            # What was given goes first, and files read twice say nothing twice.
            taken += [word for word in words if word not in taken]
        elif keyword == "proxyjump" and "proxycommand" in self._found:
            return  # the first of the two decides
        elif keyword == "proxycommand" and "proxyjump" in self._found:
            return
        else:
            self._found.setdefault(keyword, words)

    def _is_meant(self, patterns: Sequence[str]) -> bool:
        if any(p.startswith("!") and matches(p[1:], self._host) for p in patterns):
            return False
        return any(matches(pattern, self._host) for pattern in patterns)

    def _included(self, patterns: Sequence[str], file: Path) -> Iterator[Path]:
        # A system's file has its Includes beside itself, a user's in ~/.ssh, wherever that lies.
        folder = file.parent if file.is_relative_to("/etc/ssh") else self._around.folder
        for pattern in patterns:
            if pattern.startswith("~/"):
                pattern = str(self._around.home / pattern[2:])
            full = os.path.join(folder, os.path.expanduser(pattern))
            yield from (Path(path) for path in sorted(glob.glob(full)))

    def _matches(self, words: list[str], place: str) -> bool:
        """Whether all conditions of a `Match` hold; after one that fails no more are looked at."""
        rest = list(words)
        holds = True
        while rest:
            name = rest.pop(0)
            wanted = not name.startswith("!")
            name, _, attached = name.lstrip("!").lower().partition("=")
            if name in {"all", "canonical", "final"}:
                self._wants_final = self._wants_final or name == "final"
                true = name == "all" or (name == "final" and self._final)
            else:
                argument = attached or (rest.pop(0) if rest else None)
                if argument is None:
                    raise InputError(f"{place}: Match {name} without a value; add one")
                if not holds:
                    continue
                true = self._holds(name, argument, place)
            holds = holds and true is wanted
        return holds

    def _holds(self, name: str, argument: str, place: str) -> bool:
        user = self._found.get("user", [self._around.user])[0]
        host = _expanded(self._found.get("hostname", [self._host])[0], {"h": self._host})
        if name == "exec":
            port = self._found.get("port", [str(STANDARD_PORT)])[0]
            tokens = {"h": host, "n": self._name, "p": port, "r": user, "u": self._around.user}
            tokens |= {"d": str(self._around.home), "l": self._around.host}
            return self._around.run(_expanded(argument, tokens))
        looked_at = {
            "host": host,
            "originalhost": self._name,
            "user": user,
            "localuser": self._around.user,
        }
        if name not in looked_at:
            raise InputError(
                f"{place}: boardfit does not know the condition {name!r} of Match; write a Host "
                "block for the board above it"
            )
        patterns = argument.split(",")
        text = looked_at[name]
        if any(p.startswith("!") and matches(p[1:], text) for p in patterns):
            return False
        return any(matches(pattern, text) for pattern in patterns)


def _split(line: str, place: str) -> tuple[str, list[str]]:
    """The keyword in small letters and its words; both empty where a line says nothing."""
    found = re.match(r"[ \t\f]*([^ \t=\"#]+)(?:[ \t]*=[ \t]*|[ \t]+|$)(.*)", line)
    if found is None:
        return "", []
    keyword, rest = found[1].lower(), found[2].strip(" \t\f\r")
    if keyword in _WHOLE_LINE:
        return keyword, [rest] if rest else []
    return keyword, _words(rest, place)


_PART = re.compile(  # of a word
    r"""(?P<plain>[^ \t"'\\]+)
      | \\(?P<escaped>[\\"' ])
      | (?P<backslash>\\)
      | "(?P<double>(?:[^"\\]|\\.)*)"
      | '(?P<single>(?:[^'\\]|\\.)*)'
    """,
    flags=re.VERBOSE | re.DOTALL,
)
_SPACE = re.compile(r"[ \t]*")


def _words(text: str, place: str) -> list[str]:
    """The words of a value: quotation marks hold spaces, `#` at the front of a word ends them."""
    words: list[str] = []
    at = 0
    while True:
        space = _SPACE.match(text, at)
        at = space.end() if space else at
        if at == len(text) or text[at] == "#":
            return words
        word = ""
        while at < len(text) and text[at] not in " \t":
            found = _PART.match(text, at)
            if found is None:
                raise InputError(f"{place}: a quotation mark is missing; add it")
            at = found.end()
            quoted = found["double"] if found["single"] is None else found["single"]
            if quoted is not None:
                word += re.sub(r"\\([\\\"'])", r"\1", quoted)
            else:
                word += found["plain"] or found["escaped"] or found["backslash"]
        words.append(word)
