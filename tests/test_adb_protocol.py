"""Frames, shell packets and a connection's rules: what a board may say, and what it may not."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adb_shell.exceptions import TcpTimeoutException, UsbReadFailedError, UsbWriteFailedError
from adb_shell.transport.tcp_transport import TcpTransport
from hypothesis import given
from hypothesis import strategies as st
from usb1 import USBErrorNoDevice, USBErrorTimeout

from boardfit.devices.adb_direct import PatientTcpTransport, TcpWire, UsbWire
from boardfit.devices.adb_frames import (
    COMMANDS,
    HEADER_SIZE,
    LARGEST,
    WITH_CHECKSUMS,
    WITHOUT_CHECKSUMS,
    Frame,
    Header,
)
from boardfit.devices.adb_protocol import Connection, features
from boardfit.devices.adb_shell_v2 import EXIT, STDERR, STDOUT, ShellPackets, packet
from boardfit.devices.errors import (
    DeviceError,
    DeviceLost,
    DeviceNotFound,
    DeviceTimeout,
    DeviceUnauthorised,
    DeviceUnreachable,
)

from .adb_device import AdbDevice, serving
from .hostile_input import time_limit

GREETING = Frame(b"CNXN", WITHOUT_CHECKSUMS, LARGEST, b"device::features=shell_v2")
NUMBERS = st.integers(0, 2**32 - 1)


@given(st.sampled_from(sorted(COMMANDS)), NUMBERS, NUMBERS, st.binary(max_size=200), st.booleans())
def test_frames_come_back(command: bytes, first: int, second: int, data: bytes, c: bool) -> None:
    frame = Frame(command, first, second, data)
    header, payload = frame.encode(checksum=c)
    assert Header.decode(header).frame(payload, checksum=c) == frame


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (0, 0x12345678, "something that begins with"),
        (20, 0, "something that begins with"),
        (12, LARGEST + 1, "WRTE of 1048577 bytes"),
        (12, 2**32 - 1, "WRTE of 4294967295 bytes"),
    ],
)
def test_what_is_no_frame_is_refused(at: int, value: int, words: str) -> None:
    header = bytearray(Frame(b"WRTE", 1, 1, b"data").encode(checksum=True)[0])
    struct.pack_into("<I", header, at, value)
    with pytest.raises(DeviceLost, match=words):
        Header.decode(bytes(header))


def test_a_wrong_checksum_is_refused() -> None:
    header, payload = Frame(b"WRTE", 1, 1, b"data").encode(checksum=True)
    for checksum in (True, False):
        with pytest.raises(DeviceLost, match="checksum is wrong"):
            Header.decode(header).frame(b"datA", checksum=checksum)
    without, _ = Frame(b"WRTE", 1, 1, b"data").encode(checksum=False)
    assert Header.decode(without).frame(payload, checksum=False).payload == b"data"
    with pytest.raises(DeviceLost, match="checksum is wrong"):
        Header.decode(without).frame(payload, checksum=True)


@given(
    st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=20)), max_size=8),
    st.integers(0, 255),
    st.lists(st.integers(1, 9), min_size=1),
)
def test_shell_packets_mean_the_same_however_they_are_cut(
    said: list[tuple[int, bytes]], code: int, cuts: list[int]
) -> None:
    data = b"".join(packet(*one) for one in said) + packet(EXIT, bytes([code])) + b"left"
    stdout, stderr = bytearray(), bytearray()
    packets = ShellPackets(stdout, stderr)
    place = number = 0
    while place < len(data):
        piece = data[place : place + cuts[number % len(cuts)]]
        place += len(piece)
        number += 1
        packets.feed(piece)
    assert packets.code == code
    assert stdout == b"".join(text for kind, text in said if kind == STDOUT)
    assert stderr == b"".join(text for kind, text in said if kind == STDERR)


@pytest.mark.parametrize("data", [packet(9, b"x"), packet(EXIT, b"12"), packet(EXIT), packet(0)])
def test_shell_packets_that_there_are_not_are_refused(data: bytes) -> None:
    with pytest.raises(DeviceError, match="does not speak ADB"):
        ShellPackets(bytearray(), bytearray()).feed(data)


def test_a_claimed_length_takes_no_memory() -> None:
    stdout = bytearray()
    packets = ShellPackets(stdout, bytearray())
    packets.feed(struct.pack("<BI", STDOUT, 2**32 - 1) + b"some")
    assert (bytes(stdout), packets.code) == (b"some", None)


@pytest.mark.parametrize(
    ("banner", "found"),
    [
        (b"device::ro.product.name=x;features=shell_v2,cmd", {"shell_v2", "cmd"}),
        (b"device::features=a\0", {"a"}),
        (b"device::ro.product.name=x;", set()),
        (b"", set()),
        (b"device::other.features=a", set()),
        (b"\xff;features=b", {"b"}),
    ],
)
def test_features_are_read_from_the_greeting(banner: bytes, found: set[str]) -> None:
    assert features(banner) == found


# What a board does on a connection: it gets the socket, and a function that reads a frame.
Board = Callable[[socket.socket], None]


def read_frame(link: socket.socket) -> Frame:
    data = _exactly(link, HEADER_SIZE)
    header = Header.decode(data)
    return header.frame(_exactly(link, header.size), checksum=False)


def _exactly(link: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += link.recv(count - len(data)) or pytest.fail("the host hung up")
    return data


def say(link: socket.socket, *frames: Frame) -> None:
    for frame in frames:
        link.sendall(b"".join(frame.encode(checksum=True)))


@contextlib.contextmanager
def board(behave: Board) -> Iterator[TcpWire]:
    """A wire to a board that behaves so, and then waits until the host is done."""

    def serve() -> None:
        link, _ = listener.accept()
        with link, contextlib.suppress(OSError):
            behave(link)
            link.settimeout(20)
            while link.recv(65_536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener, time_limit(20):
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield TcpWire("127.0.0.1", listener.getsockname()[1], timeout=10)
        finally:
            thread.join(20)


def greet(link: socket.socket) -> None:
    assert read_frame(link).command == b"CNXN"
    say(link, GREETING)


def test_a_board_that_says_nothing_is_a_timeout() -> None:
    with board(lambda link: None) as wire, pytest.raises(DeviceTimeout, match="does not greet"):
        Connection(wire, [], timeout=0.05)


def test_a_board_that_wants_tls_is_explained() -> None:
    with (
        board(lambda link: say(link, Frame(b"STLS", WITH_CHECKSUMS, 0))) as wire,
        pytest.raises(DeviceUnauthorised, match=r"adb pair.*adb tcpip"),
    ):
        Connection(wire, [], timeout=5)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (Frame(b"OPEN", 1, 1), "OPEN 1 in place of a greeting"),
        (Frame(b"AUTH", 1, 0, b"short"), "a token of 5 bytes"),
        (Frame(b"AUTH", 3, 0, bytes(20)), "AUTH 3 in place of a greeting"),
        (Frame(b"CNXN", 1, LARGEST, b"device::"), "version 0x1"),
        (Frame(b"CNXN", WITHOUT_CHECKSUMS, 0, b"device::"), "room for 0 bytes"),
    ],
)
def test_a_strange_greeting_is_refused(frame: Frame, words: str) -> None:
    with board(lambda link: say(link, frame)) as wire, pytest.raises(DeviceLost, match=words):
        Connection(wire, [], timeout=5)


def use(connection: Connection) -> None:
    """Open services and read from them, so that whatever comes is met."""
    for _ in range(3):
        connection.open(b"sync:", timeout=5).pump(5)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([Frame(b"WRTE", 9, 1, b"a"), Frame(b"WRTE", 9, 1, b"b")], "before it was asked"),
        ([Frame(b"WRTE", 9, 77, b"a")], "a stream 77 that never was"),
        ([Frame(b"WRTE", 9, 0, b"a")], "a stream 0 that never was"),
        ([Frame(b"WRTE", 8, 1, b"a")], "from a stream 8 of another's"),
        ([Frame(b"OPEN", 9, 1, b"tcp:22")], "OPEN, which it has no reason to"),
        ([Frame(b"SYNC", 1, 1)], "SYNC, which it has no reason to"),
        ([GREETING], "CNXN, which it has no reason to"),
    ],
)
def test_a_connection_that_breaks_the_rules_is_given_up(frames: list[Frame], words: str) -> None:
    def behave(link: socket.socket) -> None:
        greet(link)
        assert read_frame(link).command == b"OPEN"
        say(link, Frame(b"OKAY", 9, 1), *frames)

    with board(behave) as wire:
        connection = Connection(wire, [], timeout=5)
        with pytest.raises(DeviceLost, match=words):
            use(connection)
        with pytest.raises(DeviceLost, match=words):  # and stays lost
            connection.open(b"sync:", timeout=5)
        connection.close()
        connection.close()


def test_a_refused_service_and_one_that_does_not_begin_are_named() -> None:
    late = threading.Event()

    def behave(link: socket.socket) -> None:
        greet(link)
        say(link, Frame(b"CLSE", 0, read_frame(link).first))
        read_frame(link)
        late.wait(10)
        say(link, Frame(b"OKAY", 9, 2))
        say(link, Frame(b"OKAY", 10, read_frame(link).first))
        assert read_frame(link) == Frame(b"CLSE", 2, 9)  # the host no longer wants it
        say(link, Frame(b"OKAY", 11, read_frame(link).first))

    with board(behave) as wire:
        connection = Connection(wire, [], timeout=5)
        with pytest.raises(DeviceError, match="refuses the service b'sync:'"):
            connection.open(b"sync:", timeout=5)
        with pytest.raises(DeviceTimeout, match=r"within 0\.05 s"):
            connection.open(b"sync:", timeout=0.05)
        late.set()
        assert not connection.open(b"sync:", timeout=5).ended
        assert not connection.open(b"sync:", timeout=5).ended
        connection.close()


def test_a_board_that_never_stops_talking_of_a_closed_stream_is_given_up() -> None:
    def behave(link: socket.socket) -> None:
        greet(link)
        read_frame(link)
        say(link, Frame(b"OKAY", 9, 1))
        assert read_frame(link).command == b"CLSE"
        say(link, *[Frame(b"WRTE", 9, 1, bytes(1000))] * 100)

    with board(behave) as wire:
        connection = Connection(wire, [], timeout=5)
        connection.open(b"sync:", timeout=5).close()
        deadline = time.monotonic() + 10
        while connection.lost is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "for streams that are closed" in (connection.lost or "")
        connection.close()


def test_a_stream_holds_one_payload_until_it_is_taken() -> None:
    told = threading.Event()

    def behave(link: socket.socket) -> None:
        greet(link)
        read_frame(link)
        say(link, Frame(b"OKAY", 9, 1), Frame(b"WRTE", 9, 1, b"first"))
        assert read_frame(link) == Frame(b"OKAY", 1, 9)
        told.set()
        say(link, Frame(b"WRTE", 9, 1, b"second"), Frame(b"CLSE", 9, 1))

    with board(behave) as wire:
        connection = Connection(wire, [], timeout=5)
        stream = connection.open(b"sync:", timeout=5)
        stream.pump(0.1, read=False)
        assert not told.is_set()
        while not stream.ended:
            stream.pump(5)
        assert (bytes(stream.received), stream.pump(5, b"more")) == (b"firstsecond", 0)
        connection.close()


def test_nothing_is_sent_before_the_board_asked_for_more() -> None:
    def behave(link: socket.socket) -> None:
        greet(link)
        read_frame(link)
        say(link, Frame(b"OKAY", 9, 1))
        assert read_frame(link) == Frame(b"WRTE", 1, 9, b"first")
        more.wait(10)
        say(link, Frame(b"OKAY", 9, 1))
        assert read_frame(link) == Frame(b"WRTE", 1, 9, b"second")

    more = threading.Event()
    with board(behave) as wire:
        connection = Connection(wire, [], timeout=5)
        stream = connection.open(b"sync:", timeout=5)
        assert stream.pump(5, b"first") == 5
        assert stream.pump(0.05, b"second") == 0
        more.set()
        assert stream.pump(5, b"second") == 6
        connection.close()


def test_a_link_that_breaks_wakes_whoever_waits() -> None:
    def behave(link: socket.socket) -> None:
        greet(link)
        read_frame(link)
        say(link, Frame(b"OKAY", 9, 1))
        time.sleep(0.1)
        link.shutdown(socket.SHUT_RDWR)

    with board(behave) as wire:
        connection = Connection(wire, [], timeout=5)
        stream = connection.open(b"sync:", timeout=5)
        with pytest.raises(DeviceLost, match="broke"):
            stream.pump(10)
        connection.close()


def test_addresses_that_do_not_answer_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DeviceUnreachable, match=rf"127\.0\.0\.1:{port} does not answer.*adb tcpip"):
        TcpWire("127.0.0.1", port, timeout=5)
    with pytest.raises(DeviceNotFound, match=r"no host 'no-such-host\.invalid'"):
        TcpWire("no-such-host.invalid", port, timeout=5)


@contextlib.contextmanager
def narrow_link(transport: TcpTransport, listener: socket.socket) -> Iterator[socket.socket]:
    """A transport's link whose buffers are so small that the system takes little at a time."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    transport.connect(5)
    transport._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    link, _ = listener.accept()
    with link:
        yield link
    transport.close()


def test_all_is_sent_over_a_link_that_takes_little_at_a_time() -> None:
    content = random.Random(0).randbytes(1_000_000)
    with socket.create_server(("127.0.0.1", 0)) as listener, time_limit(20):
        port = listener.getsockname()[1]
        theirs = TcpTransport("127.0.0.1", port)
        with narrow_link(theirs, listener):  # what is worked around
            assert theirs.bulk_write(content, 5) < len(content)
        ours = PatientTcpTransport("127.0.0.1", port)
        with narrow_link(ours, listener) as link:
            sender = threading.Thread(target=ours.bulk_write, args=(content, 5))
            sender.start()
            assert _exactly(link, len(content)) == content
            sender.join()
            assert ours._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            with pytest.raises(TcpTimeoutException):  # nobody reads
                ours.bulk_write(bytes(20_000_000), 0.05)


class Cable:
    """What adb-shell's USB transport does, over a socket: transfers of their own, and timeouts."""

    def __init__(self, port: int) -> None:
        self._link = socket.create_connection(("127.0.0.1", port))
        self.written: list[int] = []
        self.gone = False

    def bulk_read(self, numbytes: int, transport_timeout_s: float) -> bytes:
        # Not by the socket's own timeout, which another thread may set anew for what it writes.
        if not select.select([self._link], [], [], transport_timeout_s)[0]:
            raise UsbReadFailedError("no data", USBErrorTimeout())
        return self._link.recv(numbytes)

    def bulk_write(self, data: bytes, transport_timeout_s: float) -> int:
        if self.gone:
            raise UsbWriteFailedError("gone", USBErrorNoDevice())
        self.written.append(len(data))
        self._link.settimeout(transport_timeout_s)
        self._link.sendall(data)
        return len(data)

    def close(self) -> None:
        self._link.close()


def test_usb_carries_header_and_payload_as_transfers_of_their_own(tmp_path: Path) -> None:
    with serving(AdbDevice()) as phone, time_limit(20):
        cable = Cable(phone.port)
        connection = Connection(UsbWire(cable, "serial", 512), [], timeout=5)
        assert connection.way == "serial directly over USB"
        assert cable.written[0] == HEADER_SIZE
        cable.written.clear()
        stream = connection.open(b"shell,v2,raw:" + b" " * 498, timeout=5)  # with the NUL: 512
        assert cable.written == [HEADER_SIZE, 512, 0]
        stream.close()
        cable.gone = True
        with pytest.raises(DeviceLost, match="over USB"):
            connection.open(b"sync:", timeout=5)
        connection.close()


def test_a_usb_board_that_says_nothing_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, time_limit(20):
        wire = UsbWire(Cable(listener.getsockname()[1]), "serial", 512)
        with pytest.raises(DeviceTimeout, match="does not greet"):
            Connection(wire, [], timeout=0.05)
