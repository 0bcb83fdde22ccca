"""Boards and adb servers that answer otherwise than ADB says, in memory: each layer's own way of
speaking, spoilt in places. Subjects of `hostile_input.py`."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from boardfit.devices.adb_connect import choose
from boardfit.devices.adb_devices import one_of_each
from boardfit.devices.adb_direct import _broke
from boardfit.devices.adb_frames import LARGEST, WITHOUT_CHECKSUMS, Frame
from boardfit.devices.adb_protocol import Connection
from boardfit.devices.adb_server import AdbServer, AdbServerTransport
from boardfit.devices.adb_shell_v2 import EXIT, STDERR, STDOUT, packet
from boardfit.devices.adb_stream import Bytes, Stream
from boardfit.devices.adb_transport import AdbTransport
from boardfit.devices.errors import BoardfitError, DeviceLost

from .mutations import mutate_bytes

FEATURES = "shell_v2,cmd,stat_v2,ls_v2"
_NUMBERS = (0, 1, 2, 3, 4, 5, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x100000, 0x100001, 2**31, 2**32 - 1)
_IDLE = 0.02  # seconds after which a link breaks on which nobody speaks


def spoilt(data: bytes, rng: random.Random, share: float) -> bytes:
    """Mostly `data`; otherwise with other numbers, letters or lengths, twice, or nothing."""
    if not data or rng.random() >= share:
        return data
    what = rng.randrange(6)
    if what <= 1 and len(data) >= 4:  # the numbers in front are what matters
        found = bytearray(data)
        for _ in range(rng.choice([1, 1, 2])):
            at = rng.randrange(min(len(found) - 3, 28))
            struct.pack_into("<I", found, at, rng.choice(_NUMBERS))
        return bytes(found)
    if what == 2:
        return rng.choice([b"", data * 2, data[::-1], rng.randbytes(rng.randrange(64))])
    return mutate_bytes(data, rng, rng.choice([1, 4, 24]))


def shell_answer(rng: random.Random) -> list[bytes]:
    """What a board says while a program runs."""
    out = [packet(STDOUT, rng.randbytes(rng.randrange(40)) + b"\n") for _ in range(3)]
    return [packet(STDERR, b"%d\n" % rng.randrange(2**15)), *out, packet(EXIT, b"\0")]


class SpoiltStream:
    """A service in memory: it answers what the host sends, and ends when it has no more to say."""

    def __init__(self, rng: random.Random, share: float, service: bytes) -> None:
        self.received = bytearray()
        self.ended = False
        self._rng = rng
        self._share = share
        self._queue: deque[bytes] = deque()
        if service.startswith(b"shell"):
            self._say(*shell_answer(rng))

    def pump(self, wait: float, outgoing: Bytes = b"", *, read: bool = True) -> int:
        """Take all or some of what is sent, and deliver some of what there is."""
        taken = min(len(outgoing), self._rng.choice([1, 7, 10_000_000]))
        self._answer(bytes(outgoing[:taken]))
        if read and self._queue and (not outgoing or self._rng.random() < self._share):
            piece = self._queue.popleft()
            cut = self._rng.choice([len(piece), 1, 3])
            self.received += piece[:cut]
            if piece[cut:]:
                self._queue.appendleft(piece[cut:])
        elif not outgoing:
            self.ended = True
        return taken

    def close(self) -> None:
        """End it."""
        self.ended = True

    def _say(self, *answers: bytes) -> None:
        self._queue.extend(spoilt(answer, self._rng, self._share) for answer in answers)

    def _answer(self, sent: bytes) -> None:
        rng = self._rng
        if b"STA2" in sent or b"STAT" in sent:
            error = rng.choice([0, 0, 0, 0, 2, 13, 999])
            mode = rng.choice([0o100644] * 4 + [0o40755, 0o120777, 0o20666])
            numbers = (error, 1, 2, mode, 1, 0, 0, rng.choice([0, 70_000, 2**63]), 0, 0, 0)
            self._say(b"STA2" + struct.pack("<IQQIIIIQqqq", *numbers))
        if b"RECV" in sent:
            pieces = [rng.randbytes(rng.choice([0, 1, 65_536])) for _ in range(3)]
            self._say(*(struct.pack("<4sI", b"DATA", len(p)) + p for p in pieces))
            self._say(rng.choice([b"DONE" + bytes(4), b"FAIL" + struct.pack("<I", 4) + b"gone"]))
        if b"DONE" in sent or rng.random() < self._share / 10:
            self._say(rng.choice([b"OKAY" + bytes(4)] * 3 + [b"FAIL\4\0\0\0full"]))


class SpoiltLink:
    """A link in memory (see `adb_stream.Link`)."""

    way = "memory"
    longest_service = 10_000

    def __init__(self, rng: random.Random, share: float) -> None:
        self.lost: str | None = None
        self.features = frozenset(FEATURES.split(","))
        self._rng = rng
        self._share = share

    def open(self, service: bytes, *, timeout: float) -> Stream:
        """Open a service."""
        if self.lost is not None:
            raise DeviceLost(self.lost)
        return SpoiltStream(self._rng, self._share, service)

    def lose(self, reason: str) -> DeviceLost:
        """Give it up."""
        self.lost = self.lost or reason
        return DeviceLost(self.lost)

    def close(self) -> None:
        """Nothing is held."""


class SpoiltPhone:
    """The device side of ADB in memory (see `adb_protocol.Wire`), as simple as it can be."""

    way = "memory"

    def __init__(self, rng: random.Random, share: float) -> None:
        self._rng = rng
        self._share = share
        self._changed = threading.Condition()
        self._bytes = bytearray()
        self._shut = False
        self._say: dict[int, deque[bytes]] = {}

    def read(self, count: int, timeout: float | None) -> bytes:
        """Some of what the board says."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._bytes or self._shut, _IDLE):
                raise _broke(self.way)
            if not self._bytes:
                raise _broke(self.way)
            data = bytes(self._bytes[:count])
            del self._bytes[:count]
            return data

    def write(self, header: bytes, payload: bytes, timeout: float) -> None:
        """Take a frame of the host's, and answer it."""
        command, first, second, *_ = struct.unpack("<4s5I", header)
        with self._changed:
            for frame in self._answers(command, first, second, payload):
                whole = b"".join(frame.encode(checksum=self._rng.random() < 0.5))
                self._bytes += spoilt(whole, self._rng, self._share)
            self._changed.notify_all()

    def shut(self) -> None:
        """Wake who reads."""
        with self._changed:
            self._shut = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing is held."""

    def _answers(self, command: bytes, first: int, second: int, payload: bytes) -> Iterator[Frame]:
        if command == b"CNXN" and self._rng.random() < 0.3:
            yield Frame(b"AUTH", 1, 0, self._rng.randbytes(20))
        elif command in {b"CNXN", b"AUTH"}:
            banner = f"device::ro.product.name=x;features={FEATURES}".encode()
            yield Frame(b"CNXN", WITHOUT_CHECKSUMS, LARGEST, banner)
        elif command == b"OPEN":
            self._say[first] = deque(shell_answer(self._rng))
            yield Frame(b"OKAY", first + 7, first)
            yield Frame(b"WRTE", first + 7, first, self._say[first].popleft())
        elif command == b"WRTE":
            yield Frame(b"OKAY", second, first)
        elif command == b"OKAY":
            if self._say.get(first):
                yield Frame(b"WRTE", second, first, self._say[first].popleft())
            else:
                yield Frame(b"CLSE", second, first)


class MemoryKey:
    """A key that signs nothing."""

    public = b"key"

    def sign(self, token: bytes) -> bytes:
        """Bytes in place of a signature."""
        return bytes(256)


class SpoiltServer(AdbServer):
    """An adb server on sockets that are connected already."""

    def __init__(self, rng: random.Random, share: float, answers: Sequence[bytes]) -> None:
        super().__init__(("127.0.0.1", 5037))
        self._rng = rng
        self._share = share
        self._answers = deque(answers)
        self._theirs: socket.socket | None = None

    def dial(self, deadline: float) -> socket.socket:
        """A connection on which the next answer waits already."""
        self.end()
        ours, self._theirs = socket.socketpair()
        answer = self._answers.popleft() if self._answers else b"FAIL0006closed"
        self._theirs.sendall(spoilt(answer, self._rng, self._share))
        self._theirs.shutdown(socket.SHUT_WR)
        return ours

    def end(self) -> None:
        """Close our side of the last connection."""
        if self._theirs is not None:
            self._theirs.close()


def told(text: bytes) -> bytes:
    """An adb server's answer to a question."""
    return b"OKAY%04x" % len(text) + text


def adb_server(rng: random.Random, folder: Path) -> None:
    """Ask a server for its boards, choose one, and use it."""
    phone = b"emulator-5554          device product:sdk model:sdk_phone device:e transport_id:1\n"
    others = b"127.0.0.1:5555 offline\nR58 unauthorized usb:1-1\nX no permissions (a; b: c)\n"
    answers = [told(b"0029"), told(phone + others), told(phone), told(FEATURES.encode())]
    shells = [b"OKAYOKAY" + b"".join(shell_answer(rng)) for _ in range(2)]
    server = SpoiltServer(rng, rng.choice([0.1, 0.5]), [*answers, *shells])
    try:
        server.answers()
        for listed in one_of_each(server.boards()):
            assert str(listed.refused())
        serial = choose(server, rng.choice([None, "emulator-5554"]))
        with contextlib.closing(AdbServerTransport(server, serial)) as transport:
            for _ in range(2):
                assert 0 <= transport.run(["true"], timeout=0.2).code < 256
    finally:
        server.end()


def adb_frames(rng: random.Random, folder: Path) -> None:
    """Speak over a connection of our own."""
    wire = SpoiltPhone(rng, rng.choice([0.05, 0.3]))
    connection = Connection(wire, [MemoryKey()], timeout=0.1, patience=0.1)
    with contextlib.closing(AdbTransport(connection)) as transport:
        _use(rng, transport)


def adb_shell(rng: random.Random, folder: Path) -> None:
    """Run programs whose packets are spoilt."""
    with contextlib.closing(AdbTransport(SpoiltLink(rng, rng.choice([0.05, 0.3])))) as transport:
        _use(rng, transport)


def adb_files(rng: random.Random, folder: Path) -> None:
    """Copy files there and back."""
    share = rng.choice([0.05, 0.3])
    with contextlib.closing(AdbTransport(SpoiltLink(rng, share))) as transport:
        target = folder / "case"
        target.unlink(missing_ok=True)
        before = None
        try:
            transport.pull(PurePosixPath("/data/file"), target)
        except BoardfitError as error:
            before = error
        assert target.exists() == (before is None)  # whole or not at all
        transport.push(folder / "model.tflite", PurePosixPath("/data/file"))
        if before is not None:
            raise before


def _use(rng: random.Random, transport: AdbTransport) -> None:
    done = transport.run(["true"], timeout=0.2)
    assert 0 <= done.code < 256
    channel = transport.open(["worker"])
    channel.send(b"x" * rng.choice([1, 100_000]))
    for _ in range(3):
        assert b"\n" not in channel.receive(timeout=0.05)
