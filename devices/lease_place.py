"""Where the lease of a board lies, what its names mean, and the steps that change them.

    boardfit-lease/lock/    exactly one folder: `free,...`, or `held,...` with who holds it
    boardfit-lease/queue/   a folder for each job that waits, in the order of its number

All that is known stands in the folders' names, so that each step is one rename, which a board's
kernel does for one of many and never by halves: whoever renames `free,...` into a name of its own
holds the board, and whoever finds a dead holder renames that. A heartbeat renames, too, and fails
where somebody took the lease over. What stands there is other users' text: it is read strictly.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from .base import Completed, Transport
from .errors import CommandFailed, DeviceError, StorageError

SHARED_FOLDERS = ("/data/local/tmp", "/tmp")  # which every user of a board can reach
FOLDER = "boardfit-lease"
_TIMEOUT = 10.0  # seconds for one small command
_LONGEST = 150  # letters of the owner's words in a name, which may have 255
_UPTIME = "import time; print(time.monotonic())"
# What `mv` says where another job was faster.
_OTHERS = ("No such file", "not empty", "File exists")
MOST = 999_999_999  # of a waiting job's number
_SECONDS = r"(?:0|[1-9]\d{0,9})\.\d\d"
_NAME = re.compile(
    r"(?P<kind>held|[1-9]\d{0,8}),(?P<token>[0-9a-f]{16}),"
    r"(?P<process>-|[0-9a-f]{8}-[1-9]\d{0,9}),(?P<boot>[0-9a-f-]{1,40}),"
    rf"(?P<since>{_SECONDS}),(?P<beat>{_SECONDS}),(?P<text>[^,/]*)",
    flags=re.ASCII,
)


@dataclass(frozen=True)
class Claim:
    """A folder of the lease: whose it is, since when, and when it was last heard of.

    `number` is a waiting job's place, None that of the one who holds the board. `since` and `beat`
    are seconds of the board's uptime, `boot` says of which. `process` and `text` are the owner's,
    the words encoded.
    """

    token: str
    process: str
    boot: str
    since: float
    beat: float
    text: str
    number: int | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        kind = "held" if self.number is None else str(self.number)
        when = f"{self.boot},{self.since:.2f},{self.beat:.2f}"
        return f"{kind},{self.token},{self.process},{when},{self.text}"

    @property
    def words(self) -> str:
        """What the owner says of itself; another user's text, made safe for a terminal."""
        said = unquote(self.text, errors="replace")
        return "".join(letter if letter.isprintable() else "?" for letter in said)


def parse_claim(name: str) -> Claim | None:
    """The claim in a folder's name; None where it is none."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    return Claim(
        found["token"],
        found["process"],
        found["boot"],
        float(found["since"]),
        float(found["beat"]),
        found["text"],
        None if found["kind"] == "held" else int(found["kind"]),
    )


def parse_now(text: str) -> tuple[str, float]:
    """Boot identifier ("-" where there is none) and uptime in seconds, from /proc/uptime with the
    kernel's boot_id behind it. Raises `DeviceError` where there is no uptime in it."""
    found = re.match(r"(\d{1,10}(?:\.\d{1,12})?)(?: [\d.]+)?\n([0-9a-f-]{1,40})?", text, re.ASCII)
    if found is None:
        raise DeviceError(
            f"the board does not tell how long it is up (/proc/uptime: {text[:40]!r}), so that "
            "nobody could see whether a job still measures on it; use another board"
        )
    return found[2] or "-", float(found[1])


@dataclass(frozen=True)
class Owner:
    """Who asks for a board: words for others, and a process that those on the same host can look
    for ("-": they cannot)."""

    words: str
    process: str = "-"


def this_job(purpose: str) -> Owner:
    """This process: user@host, its number, and what for."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user identifier without a name, as in containers
        user = str(os.getuid())
    here = _process_space()
    return Owner(
        f"{user}@{socket.gethostname()} (process {os.getpid()}): {purpose}",
        f"{here}-{os.getpid()}" if here else "-",
    )


def _process_space() -> str:
    """Eight digits that those share who see the same processes; "" where nobody can tell.

    Names of hosts do not tell: containers and new boards have the same ones.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        space = os.readlink("/proc/self/ns/pid").encode()
    except OSError:
        return ""
    return hashlib.sha256(boot + space).hexdigest()[:8]


def _is_gone(process: str) -> bool:
    """Whether it is known that there is no such process any more."""
    here, _, number = process.partition("-")
    if not here or here != _process_space():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False


def encoded(words: str) -> str:
    """Words as they fit into a name."""
    while len(text := quote(words, safe=" ():@")) > _LONGEST:
        words = words[:-1]
    return text


def free_name() -> str:
    return f"free,{secrets.token_hex(8)}"


@dataclass(frozen=True)
class View:
    """What lies on the board at a moment: its boot identifier, its uptime in seconds, the names in
    the lock, and those of the queue in its order."""

    boot: str
    uptime: float
    lock: tuple[str, ...] | None
    queue: tuple[str, ...]

    @property
    def holder(self) -> Claim | None:
        claims = [parse_claim(name) for name in self.lock or ()]
        return next((claim for claim in claims if claim and claim.number is None), None)

    @property
    def free(self) -> str | None:
        return next((name for name in self.lock or () if name.startswith("free,")), None)

    @property
    def waiting(self) -> list[Claim]:
        found = [claim for claim in map(parse_claim, self.queue) if claim and claim.number]
        return sorted(found, key=order)

    def dead(self, claim: Claim, expiry: float) -> bool:
        """Whether its owner is gone: from an earlier boot, not heard of for too long, or a process
        of this host that has ended."""
        silent = not 0 <= self.uptime - claim.beat <= expiry
        return claim.boot != self.boot or silent or _is_gone(claim.process)


class Place:
    """The folders of the lease on one board, and the steps that change them: each one command."""

    def __init__(self, transport: Transport, folder: PurePosixPath) -> None:
        self.transport = transport
        self.folder = folder
        self.lock = folder / "lock"
        self.queue = folder / "queue"

    def look(self) -> View:
        """Read everything; two commands."""
        # The names before the time: whatever was renamed in between is found to be so when it is
        # renamed, and nothing is taken for older than it is by then.
        listed = self._run("find", str(self.folder), "-maxdepth", "2").stdout
        lock: list[str] | None = None
        queue: list[str] = []
        for line in listed.decode(errors="replace").splitlines():
            if line == str(self.lock):
                lock = []
            elif line.startswith(f"{self.lock}/") and lock is not None:
                lock.append(line.removeprefix(f"{self.lock}/"))
            elif line.startswith(f"{self.queue}/"):
                queue.append(line.removeprefix(f"{self.queue}/"))
        boot, uptime = self.now()
        return View(boot, uptime, None if lock is None else tuple(lock), tuple(queue))

    def now(self) -> tuple[str, float]:
        """The board's boot identifier ("-" where it has none) and its uptime in seconds."""
        files = ["/proc/uptime", "/proc/sys/kernel/random/boot_id"]
        said = self._run("cat", *files).stdout.decode(errors="replace")
        if not said.strip():  # macOS; there the clock of each process began when the machine did
            said = self._run("python3", "-c", _UPTIME).stdout.decode(errors="replace")
        return parse_now(said)

    def rename(self, folder: PurePosixPath, old: str, new: str) -> bool:
        """Whether it was there under the old name, and is now under the new one."""
        done = self._run("mv", str(folder / old), str(folder / new))
        words = self._words(done)
        if words and not any(others in words for others in _OTHERS):
            raise self._unusable(words)
        return done.code == 0

    def remove(self, folder: PurePosixPath, *names: str) -> None:
        """Remove folders; those that are gone do no harm."""
        if names:
            self._run("rmdir", *(str(folder / name) for name in names))

    def make(self, *paths: PurePosixPath) -> None:
        """Make folders that every user can change, in this order; those that are there stay."""
        words = self._words(self._run("mkdir", "-m", "777", *map(str, paths)))
        problems = [line for line in words.splitlines() if "File exists" not in line]
        if problems:
            raise self._unusable(problems[0])

    def prepare(self) -> None:
        """Make the lock, free, where there is none; of several that do so one makes it.

        It is renamed into place with what lies in it. Where another was there first, `mv` puts
        ours into that one, where it means nothing.
        """
        free = free_name()
        fresh = self.folder / f"new,{secrets.token_hex(8)}"
        # Empty only where somebody has tidied up; `rmdir` leaves one that is not.
        self.remove(self.folder, "lock")
        self.make(self.folder, self.queue, fresh, fresh / free)
        if not self.rename(self.folder, fresh.name, "lock"):
            self.remove(fresh, free)
            self.remove(self.folder, fresh.name)
            return
        moved = self.lock / fresh.name
        self._run("rmdir", str(moved / free), str(moved))

    def _run(self, *argv: str) -> Completed:
        # In the language that the errors are looked for in.
        return self.transport.run(["env", "LC_ALL=C", *argv], timeout=_TIMEOUT)

    def _words(self, done: Completed) -> str:
        """What a command said where it failed. Raises `StorageError` where the disk is full."""
        words = "" if done.code == 0 else done.stderr.decode(errors="replace").strip()
        if "No space left" in words or "Disk quota exceeded" in words:
            raise StorageError(
                f"no space left on the board for its lease in {self.folder}; free some there and "
                "run the same command again"
            )
        return words

    def _unusable(self, words: str) -> StorageError:
        return StorageError(
            f"cannot keep the board's lease in {self.folder}: {words.strip()[:200]}; make that "
            "place writable for all its users, or remove it"
        )


def order(claim: Claim) -> tuple[int, str]:
    return claim.number or 0, claim.token


def take(place: Place, view: View, claim: Claim) -> bool:
    """Take what was seen to be free, or its holder dead; False where somebody else was faster, or
    where the lock had to be made first."""
    old = view.free if view.holder is None else view.holder.name
    if old is None:
        place.prepare()
        return False
    return place.rename(place.lock, old, claim.name)


def situation(view: View, mine: str) -> str:
    """Who holds the board, since when, and how many wait besides the job `mine`, in words."""
    waiting = sum(claim.token != mine for claim in view.waiting)
    queue = f"{waiting} other {'job waits' if waiting == 1 else 'jobs wait'}"
    holder = view.holder
    if holder is None:
        return f"nobody holds it, and {queue}"
    since = (
        f"for {view.uptime - holder.since:.0f} s" if holder.boot == view.boot else "until a reboot"
    )
    return f"{holder.words or 'somebody'} has held it {since}, and {queue}"


def shared_folder(transport: Transport) -> PurePosixPath:
    """The folder of the lease on a board, in a place that all of its users can reach."""
    # Android has the first, and often no /tmp.
    said = transport.run(["find", *SHARED_FOLDERS, "-maxdepth", "0"], timeout=_TIMEOUT).stdout
    for line in said.decode(errors="replace").splitlines():
        if line in SHARED_FOLDERS:
            return PurePosixPath(line) / FOLDER
    raise CommandFailed(
        f"the board has none of {', '.join(SHARED_FOLDERS)}, where its lease could lie; make one "
        "of them, writable for all users"
    )
