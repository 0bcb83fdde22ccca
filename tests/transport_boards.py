"""The boards that the transport contract runs over: how each is reached, and what runs on it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from boardfit.devices.base import LINE_LIMIT, Completed, Transport
from boardfit.devices.fake import FakeTransport, Program, ProgramExit
from boardfit.devices.local import LocalTransport
from boardfit.devices.ssh import SshTransport

from .sshd import Sshd

# Each program twice: as a script for a real process, as a `Program` for the fake board.
SCRIPTS: Mapping[str, str] = {
    "echo": """
        import sys
        for line in sys.stdin.buffer:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
    """,
    "greeter": """
        import sys
        print("hello", flush=True)
        for line in sys.stdin:
            for number in range(int(line)):
                print(number, flush=True)
    """,
    "mortal": """
        import sys
        for line in sys.stdin:
            print("farewell", flush=True)
            sys.stderr.write("out of luck")
            sys.exit(3)
    """,
    "endless": """
        import sys
        sys.stdin.readline()
        while True:
            sys.stdout.write("x" * 1000000)
    """,
}


class Echo:
    def start(self) -> Iterator[bytes]:
        yield from ()

    def handle(self, line: bytes) -> Iterator[bytes]:
        yield line


class Greeter(Echo):
    def start(self) -> Iterator[bytes]:
        yield b"hello"

    def handle(self, line: bytes) -> Iterator[bytes]:
        for number in range(int(line)):
            yield b"%d" % number


class Mortal(Echo):
    def handle(self, line: bytes) -> Iterator[bytes]:
        yield b"farewell"
        raise ProgramExit(3, "out of luck")


class Endless(Echo):
    def handle(self, line: bytes) -> Iterator[bytes]:
        yield bytes(LINE_LIMIT + 1)


PROGRAMS: Mapping[str, Callable[[], Program]] = {
    "echo": Echo,
    "greeter": Greeter,
    "mortal": Mortal,
    "endless": Endless,
}


@dataclass(frozen=True)
class Board:
    """A transport under test, a folder of its own on the board, and how programs are called."""

    transport: Transport
    root: PurePosixPath
    call: Callable[[str], list[str]]


def python(script: str) -> list[str]:
    lines = script.splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    code = "\n".join(line[indent:] for line in lines)
    return [sys.executable, "-I", "-S", "-c", code]


REAL = {  # what only a real process does
    **SCRIPTS,
    "arguments": "import json, sys; print(json.dumps(sys.argv[1:]))",
    "streams": r"""
        import sys
        sys.stdout.buffer.write(b"out\0\xff\n")
        sys.stderr.buffer.write(b"err\n")
        sys.exit(7)
    """,
}


def call_real(name: str) -> list[str]:
    return python(REAL[name])


def print_arguments(argv: tuple[str, ...]) -> Completed:
    return Completed(argv, 0, json.dumps(argv[1:]).encode(), b"")


def two_streams(argv: tuple[str, ...]) -> Completed:
    return Completed(argv, 7, b"out\0\xff\n", b"err\n")


@contextlib.contextmanager
def local_board(folder: Path) -> Iterator[Board]:
    yield Board(LocalTransport(), PurePosixPath(folder / "board"), call_real)


@contextlib.contextmanager
def fake_board(folder: Path) -> Iterator[Board]:
    commands = {"arguments": print_arguments, "streams": two_streams}
    transport = FakeTransport(commands=commands, programs=PROGRAMS)
    yield Board(transport, PurePosixPath("/data/boardfit"), lambda name: [name])


@contextlib.contextmanager
def ssh_board(folder: Path) -> Iterator[Board]:
    with Sshd(folder / "sshd") as server:
        yield Board(SshTransport([server.hop()]), PurePosixPath(server.home / "board"), call_real)


# A folder of the test's own -> the board, for as long as the context lasts.
BOARDS: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Board]]] = {
    "local": local_board,
    "fake": fake_board,
    "ssh": ssh_board,
}
