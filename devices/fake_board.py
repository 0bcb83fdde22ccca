"""What is on a fake board apart from the way to it: files, folders, a clock, and a boot identifier.

Several `FakeTransport`s may lead to one `FakeBoard`, as several jobs reach one real board. Its
commands are those that boardfit calls on boards, with their exit codes and words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from .base import Completed
from .errors import StorageError

if TYPE_CHECKING:
    from .fake import FakeTransport, SimulatedClock

FOLDERS = ("/", "/boardfit", "/data", "/tmp")
_MISSING = "No such file or directory"
_FULL = "No space left on device"


class FakeBoard:
    """The state of a fake board; safe to be used by several threads.

    `files` are its files at the beginning. While `full` is set nothing new fits on its disk.
    """

    def __init__(self, files: Mapping[str, bytes], clock: SimulatedClock) -> None:
        self.files = dict(files)
        self.folders = set(FOLDERS)
        self.clock = clock
        self.full = False
        self.boots = 1
        self._booted = clock.now()
        self._lock = threading.RLock()
        self._transports: list[FakeTransport] = []
        self._commands: Mapping[str, Callable[[list[str]], Iterator[str]]] = {
            "mkdir": self._mkdir,
            "mv": self._mv,
            "rmdir": self._rmdir,
            "rm": self._rm,
        }

    @property
    def boot_id(self) -> str:
        """The identifier that the kernel draws when it starts."""
        return f"00000000-0000-4000-8000-{self.boots:012x}"

    def attach(self, transport: FakeTransport) -> None:
        """Remember a transport that leads here, so that a reboot breaks its link."""
        self._transports.append(transport)

    def reboot(self) -> None:
        """Start anew: every link breaks, the uptime is zero, /tmp is as empty as after most
        boots, and the kernel draws another identifier."""
        with self._lock:
            self.boots += 1
            self._booted = self.clock.now()
            for path in [path for path in self.folders if path.startswith("/tmp/")]:
                self.folders.remove(path)
            for path in [path for path in self.files if path.startswith("/tmp/")]:
                del self.files[path]
            transports, self._transports = self._transports, []
        for transport in transports:
            transport.break_link()

    def read(self, path: str) -> bytes | None:
        """What a file holds, or None where there is none."""
        if path == "/proc/uptime" and path not in self.files:
            return b"%.2f 0.00\n" % (self.clock.now() - self._booted)
        if path == "/proc/sys/kernel/random/boot_id" and path not in self.files:
            return f"{self.boot_id}\n".encode()
        return self.files.get(path)

    def write(self, path: str, content: bytes) -> None:
        """Replace a file, making the folders it lies in. Raises `StorageError` on a full disk."""
        with self._lock:
            if self.full:
                raise StorageError(
                    f"no space left while writing {path} on the fake board; free some and run "
                    "the same command again"
                )
            self.files[path] = content
            self.folders.update(str(parent) for parent in PurePosixPath(path).parents)

    def run(self, argv: Sequence[str]) -> Completed | None:
        """Answer a command that looks at files or changes them; None where it is another one."""
        name, *words = argv[2:] if tuple(argv[:2]) == ("env", "LC_ALL=C") else argv
        with self._lock:
            if name == "cat":
                return self._cat(argv, _operands(words))
            if name == "find":
                return self._find(argv, words)
            if name not in self._commands:
                return None
            said = "".join(f"{name}: {problem}\n" for problem in self._commands[name](words))
        return Completed(tuple(argv), int(bool(said)), b"", said.encode())

    def _cat(self, argv: Sequence[str], paths: Iterable[str]) -> Completed:
        found, problems = b"", ""
        for path in paths:
            content = self.read(path)
            if content is None:
                problems += f"cat: {path}: {_MISSING}\n"
            else:
                found += content
        return Completed(tuple(argv), int(bool(problems)), found, problems.encode())

    def _find(self, argv: Sequence[str], words: Sequence[str]) -> Completed:
        """`find PATH... [-maxdepth N]`: what is there, and what lies in it so deep."""
        depth = int(words[words.index("-maxdepth") + 1]) if "-maxdepth" in words else 1000
        lines, problems = "", ""
        for top in [word for word in words[: len(words) - 2 * ("-maxdepth" in words)]]:
            if not self._exists(top):
                problems += f"find: {top}: {_MISSING}\n"
                continue
            level = len(PurePosixPath(top).parts) + depth
            for path in sorted((*self.folders, *self.files)):
                inside = path == top or path.startswith(f"{top}/")
                if inside and len(PurePosixPath(path).parts) <= level:
                    lines += f"{path}\n"
        return Completed(tuple(argv), int(bool(problems)), lines.encode(), problems.encode())

    def _mkdir(self, words: list[str]) -> Iterator[str]:
        for path in _operands(words, valued=("-m",)):
            if self._exists(path):
                yield f"cannot create directory '{path}': File exists"
            elif str(PurePosixPath(path).parent) not in self.folders:
                yield f"cannot create directory '{path}': {_MISSING}"
            elif self.full:
                yield f"cannot create directory '{path}': {_FULL}"
            else:
                self.folders.add(path)

    def _rmdir(self, words: list[str]) -> Iterator[str]:
        for path in _operands(words):
            if path not in self.folders:
                yield f"failed to remove '{path}': {_MISSING}"
            elif any(self._below(path)):
                yield f"failed to remove '{path}': Directory not empty"
            else:
                self.folders.remove(path)

    def _rm(self, words: list[str]) -> Iterator[str]:
        """`rm [-f] FILE...`, of files alone."""
        for path in _operands(words):
            if path not in self.files:
                if "-f" not in words:
                    yield f"cannot remove '{path}': {_MISSING}"
            else:
                del self.files[path]

    def _mv(self, words: list[str]) -> Iterator[str]:
        """`mv SOURCE TARGET`; into the target where that is a folder, as everywhere."""
        source, target = _operands(words)
        if target in self.folders:
            target = f"{target}/{PurePosixPath(source).name}"
        if not self._exists(source):
            yield f"cannot stat '{source}': {_MISSING}"
        elif str(PurePosixPath(target).parent) not in self.folders:
            yield f"cannot move '{source}' to '{target}': {_MISSING}"
        elif target in self.folders:
            yield f"cannot move '{source}' to '{target}': Directory not empty"
        elif source in self.files:
            self.files[target] = self.files.pop(source)
        else:
            for path in [source, *self._below(source)]:
                moved = target + path[len(source) :]
                if path in self.files:
                    self.files[moved] = self.files.pop(path)
                else:
                    self.folders.remove(path)
                    self.folders.add(moved)

    def _exists(self, path: str) -> bool:
        return path in self.folders or path in self.files

    def _below(self, folder: str) -> list[str]:
        return [path for path in (*self.folders, *self.files) if path.startswith(f"{folder}/")]


def _operands(words: Iterable[str], valued: Sequence[str] = ()) -> list[str]:
    """The paths among the words of a command, without its options."""
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            found += rest
        elif word in valued:
            next(rest)
        elif not word.startswith("-"):
            found.append(word)
    return [str(PurePosixPath(path)) for path in found]
