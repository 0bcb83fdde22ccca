"""The frames of which a connection to adbd consists (protocol.txt of Android's adb).

Six little-endian numbers (command, two arguments, length and checksum of what follows, and the
command inverted), then the payload.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .errors import DeviceLost

_HEADER = struct.Struct("<4s5I")
HEADER_SIZE = _HEADER.size
COMMANDS = frozenset({b"CNXN", b"AUTH", b"STLS", b"OPEN", b"OKAY", b"WRTE", b"CLSE", b"SYNC"})
WITH_CHECKSUMS = 0x01000000  # protocol versions
WITHOUT_CHECKSUMS = 0x01000001
LARGEST = 1024 * 1024  # bytes of a payload that we say we take, and that Android does


@dataclass(frozen=True)
class Frame:
    """A command, its two arguments (mostly: the sender's and the receiver's number of a stream),
    and its payload."""

    command: bytes
    first: int
    second: int
    payload: bytes = b""

    def encode(self, *, checksum: bool) -> tuple[bytes, bytes]:
        """Header and payload as they are sent."""
        code = sum(self.payload) & 0xFFFFFFFF if checksum else 0
        inverted = int.from_bytes(self.command, "little") ^ 0xFFFFFFFF
        size = len(self.payload)
        return (
            _HEADER.pack(self.command, self.first, self.second, size, code, inverted),
            self.payload,
        )


@dataclass(frozen=True)
class Header:
    """The front of a frame that comes: `size` bytes of payload follow."""

    command: bytes
    first: int
    second: int
    size: int
    checksum: int

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Read `HEADER_SIZE` bytes. Raises `DeviceLost` where they are no header of ours: after
        that nothing can be understood any more."""
        command, first, second, size, checksum, inverted = _HEADER.unpack(data)
        if inverted != int.from_bytes(command, "little") ^ 0xFFFFFFFF or command not in COMMANDS:
            raise foreign(f"something that begins with {data[:8]!r}")
        if size > LARGEST:
            raise foreign(f"a {command.decode()} of {size} bytes, more than it was allowed")
        return cls(command, first, second, size, checksum)

    def frame(self, payload: bytes, *, checksum: bool) -> Frame:
        """The whole frame. Raises `DeviceLost` where the payload was changed on its way.

        Without `checksum` a board may leave it out.
        """
        if (checksum or self.checksum) and sum(payload) & 0xFFFFFFFF != self.checksum:
            raise foreign(f"a {self.command.decode()} whose checksum is wrong")
        return Frame(self.command, self.first, self.second, payload)


def foreign(what: str) -> DeviceLost:
    """The error of a board that does not keep to the protocol."""
    return DeviceLost(
        f"the board sent {what}; it does not speak ADB, or the link garbles: connect again, with "
        "another cable or port if that does not help"
    )
