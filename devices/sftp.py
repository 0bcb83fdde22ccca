"""Files over SFTP, many blocks under way at once, so that a slow link is not waited for each time.

Version 3 of the protocol (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions (PROTOCOL in its
sources). paramiko's client reads ahead in a thread that lives on where a transfer is given up, and
tells a full disk from a place that may not be written by nothing.
"""

from __future__ import annotations

import io
import stat
import struct
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

# Bytes. Every server takes and gives 32 KiB at a time; with its head a block fills one SSH packet.
_BLOCK = 31 * 1024
_UNDER_WAY = 64  # blocks
_LARGEST_PACKET = 1024 * 1024  # bytes; a board cannot fill our memory with one
_INIT, _VERSION, _OPEN, _CLOSE, _READ, _WRITE = 1, 2, 3, 4, 5, 6
_MKDIR, _REMOVE, _STAT, _EXTENDED = 14, 13, 17, 200
_STATUS, _HANDLE, _DATA, _ATTRIBUTES, _EXTENDED_REPLY = 101, 102, 103, 105, 201
_FOR_READING, _FOR_WRITING, _CREATE, _EXCLUSIVE = 0x1, 0x2, 0x8, 0x20
_HAS_SIZE, _HAS_OWNER, _HAS_MODE = 0x1, 0x2, 0x4
OK, END, NO_SUCH_FILE, NOT_PERMITTED, FAILURE = 0, 1, 2, 3, 4  # codes of a status


class SftpStatus(Exception):
    """The server could not do what it was asked; `code` is one of SFTP's."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words or f"status {code}")
        self.code = code


class SftpBroken(Exception):
    """The server broke the protocol, or ended in the middle of it."""


class Stream(Protocol):
    """What the packets travel over; both raise `TimeoutError` where nothing moves for long."""

    def send(self, data: bytes) -> int: ...

    def recv(self, count: int) -> bytes: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Attributes:
    """What a server tells of a file: bytes, and its kind and permissions as in `stat`."""

    size: int
    mode: int | None

    @property
    def is_file(self) -> bool:
        """Whether it is an ordinary file, as far as it is known."""
        return self.mode is None or stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, as far as it is known."""
        return self.mode is None or stat.S_ISDIR(self.mode)


class Sftp:
    """A client of one server; `broken` once an answer was cut off, which leaves it unusable."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.broken = False
        self._number = 0
        self._early: dict[int, tuple[int, bytes]] = {}  # answers that came before they were wanted
        self._given_up: set[int] = set()  # requests whose answers nobody wants
        try:
            self.extensions = self._greet()
        except BaseException:
            self.close()
            raise

    @property
    def can_replace(self) -> bool:
        """Whether `replace` is there; other servers than OpenSSH's may lack it."""
        return "posix-rename@openssh.com" in self.extensions

    def stat(self, path: bytes) -> Attributes:
        """What a path leads to. Raises `SftpStatus`."""
        return _attributes(self._ask(_STAT, _text(path), expected=_ATTRIBUTES))

    def make_folder(self, path: bytes, mode: int) -> None:
        """Make one folder. Raises `SftpStatus`."""
        self._ask(_MKDIR, _text(path) + struct.pack(">II", _HAS_MODE, mode))

    def remove(self, path: bytes) -> None:
        """Remove a file. Raises `SftpStatus`."""
        self._ask(_REMOVE, _text(path))

    def replace(self, old: bytes, new: bytes) -> None:
        """Give a file another name, at once and over a file of that name. Raises `SftpStatus`."""
        body = _text(b"posix-rename@openssh.com") + _text(old) + _text(new)
        self._ask(_EXTENDED, body)

    def free_bytes(self, path: bytes) -> int | None:
        """How much may be written where a path lies; None where the server does not tell."""
        if "statvfs@openssh.com" not in self.extensions:
            return None
        body = _text(b"statvfs@openssh.com") + _text(path)
        try:
            answer = self._ask(_EXTENDED, body, expected=_EXTENDED_REPLY)
            _, fragment, _, _, available = struct.unpack_from(">5Q", answer)
        except (SftpStatus, struct.error):
            return None
        return int(fragment * available)

    def write(self, source: BinaryIO, path: bytes, mode: int) -> int:
        """Copy a stream into a new file; how many bytes it has. Raises `SftpStatus`."""
        flags = _FOR_WRITING | _CREATE | _EXCLUSIVE
        handle = self._open(path, flags, struct.pack(">II", _HAS_MODE, mode))
        under_way: deque[int] = deque()
        offset = 0
        closes = False
        try:
            while block := source.read(_BLOCK):
                request = _text(handle) + struct.pack(">Q", offset) + _text(block)
                under_way.append(self._request(_WRITE, request))
                offset += len(block)
                if len(under_way) >= _UNDER_WAY:
                    self._done(under_way.popleft())
            under_way.append(self._request(_CLOSE, _text(handle)))  # may tell of a full disk
            closes = True
            while under_way:
                self._done(under_way.popleft())
        except BaseException:
            self._give_up(under_way, None if closes else handle)
            raise
        return offset

    def read(self, path: bytes, size: int) -> Generator[bytes, None, None]:
        """The blocks of a file, as many as there are by then; `size` are asked for ahead.

        Raises `SftpStatus`.
        """
        handle = self._open(path, _FOR_READING, struct.pack(">I", 0))
        under_way: deque[tuple[int, int, int]] = deque()
        asked = 0
        offset = 0
        try:
            while True:
                while asked < size and len(under_way) < _UNDER_WAY:
                    length = min(_BLOCK, size - asked)
                    under_way.append((self._ask_for(handle, asked, length), asked, length))
                    asked += length
                if not under_way:  # beyond what it was said to be, one by one
                    under_way.append((self._ask_for(handle, offset, _BLOCK), offset, _BLOCK))
                number, begin, length = under_way.popleft()
                data = self._data(number)
                if data and len(data) < length and begin + len(data) < size:
                    # Less than was asked for is allowed, and the rest comes before what follows.
                    rest = (begin + len(data), length - len(data))
                    under_way.appendleft((self._ask_for(handle, *rest), *rest))
                if not data:
                    break
                asked = max(asked, begin + len(data))
                offset = begin + len(data)
                yield data
        finally:
            self._give_up([number for number, _, _ in under_way], handle)

    def close(self) -> None:
        """End the session."""
        self._stream.close()

    def _greet(self) -> set[str]:
        """Agree on the version; the names of the server's extensions."""
        self._send(struct.pack(">BI", _INIT, 3))
        kind, body = self._packet()
        if kind != _VERSION:
            raise SftpBroken(f"it began with a packet of kind {kind}")
        fields = _Fields(body)
        fields.number()
        extensions = set()
        while fields.rest:
            extensions.add(fields.text().decode(errors="replace"))
            fields.text()
        return extensions

    def _ask_for(self, handle: bytes, offset: int, length: int) -> int:
        return self._request(_READ, _text(handle) + struct.pack(">QI", offset, length))

    def _data(self, number: int) -> bytes:
        """A block, empty at the file's end."""
        try:
            data = _Fields(self._answer(number, _DATA)).text()
        except SftpStatus as status:
            if status.code == END:
                return b""
            raise
        if not data or len(data) > _BLOCK:
            raise SftpBroken(f"it answered with a block of {len(data)} bytes")
        return data

    def _open(self, path: bytes, flags: int, attributes: bytes) -> bytes:
        body = _text(path) + struct.pack(">I", flags) + attributes
        return _Fields(self._ask(_OPEN, body, expected=_HANDLE)).text()

    def _ask(self, kind: int, body: bytes, *, expected: int = _STATUS) -> bytes:
        return self._answer(self._request(kind, body), expected)

    def _done(self, number: int) -> None:
        self._answer(number, _STATUS)

    def _request(self, kind: int, body: bytes) -> int:
        self._number = (self._number + 1) % 2**32
        self._send(struct.pack(">BI", kind, self._number) + body)
        return self._number

    def _answer(self, number: int, expected: int) -> bytes:
        """What a request was answered with; raises `SftpStatus` where that is an error."""
        while number not in self._early:
            kind, body = self._packet()
            fields = _Fields(body)
            answered = fields.number()
            if answered in self._given_up:
                self._given_up.discard(answered)
            elif len(self._early) > _UNDER_WAY:
                raise SftpBroken("it answers what nobody asked")
            else:
                self._early[answered] = kind, fields.rest
        kind, rest = self._early.pop(number)
        if kind == _STATUS:
            fields = _Fields(rest)
            code = fields.number()
            if code != OK or expected != _STATUS:
                words = fields.text().decode(errors="replace") if fields.rest else ""
                raise SftpStatus(code, words)
        elif kind != expected:
            raise SftpBroken(f"it answered with a packet of kind {kind}")
        return rest

    def _give_up(self, numbers: Iterable[int], handle: bytes | None) -> None:
        """Want no more answers, and close a file without waiting for it."""
        if not self.broken:
            self._given_up.update(numbers)
            if handle is not None:
                self._given_up.add(self._request(_CLOSE, _text(handle)))

    def _send(self, packet: bytes) -> None:
        rest = struct.pack(">I", len(packet)) + packet
        try:
            while rest:
                count = self._stream.send(rest)
                if count == 0:
                    raise SftpBroken("it ended")
                rest = rest[count:]
        except BaseException:  # half a packet may be on its way
            self.broken = True
            raise

    def _packet(self) -> tuple[int, bytes]:
        try:
            (length,) = struct.unpack(">I", self._exactly(4))
            if not 1 <= length <= _LARGEST_PACKET:
                raise SftpBroken(f"it began a packet with {length.to_bytes(4, 'big')!r}")
            data = self._exactly(length)
        except BaseException:
            self.broken = True
            raise
        return data[0], data[1:]

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            part = self._stream.recv(count)
            if not part:
                raise SftpBroken("it ended")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


class Blocks(io.RawIOBase):
    """Blocks as a stream that can be copied."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the front of a buffer; 0 at the end."""
        if not self._block:
            self._block = memoryview(next(self._blocks, b""))
        count = min(len(buffer), len(self._block))
        buffer[:count] = self._block[:count]
        self._block = self._block[count:]
        return count


class _Fields:
    """The fields of a packet, one after the other. Raises `SftpBroken` where one is missing."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def number(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def text(self) -> bytes:
        return self._take(self.number())

    def _take(self, count: int) -> bytes:
        if len(self.rest) < count:
            raise SftpBroken("a packet is shorter than it says")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken


def _text(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _attributes(data: bytes) -> Attributes:
    fields = _Fields(data)
    flags = fields.number()
    size = (fields.number() << 32 | fields.number()) if flags & _HAS_SIZE else 0
    if flags & _HAS_OWNER:
        fields.number()
        fields.number()
    return Attributes(size, fields.number() if flags & _HAS_MODE else None)
