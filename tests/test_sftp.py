"""SFTP: whatever a server answers, files arrive whole or an error is named."""

from __future__ import annotations

import contextlib
import io
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boardfit.devices.sftp import NO_SUCH_FILE, Blocks, Sftp, SftpBroken, SftpStatus

from .conftest import missing


class Pipe:
    """A real sftp-server over pipes; `most` bytes are taken and given at a time."""

    def __init__(self, program: str, most: int = 1 << 20) -> None:
        self._most = most
        self.sent = bytearray()
        self.process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def send(self, data: bytes) -> int:
        assert self.process.stdin is not None
        part = data[: self._most]
        self.sent += part
        self.process.stdin.write(part)
        return len(part)

    def recv(self, count: int) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.read(min(count, self._most)) or b""

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait(10)


class Script:
    """A server that says what was written down, whatever it is asked."""

    def __init__(self, answers: bytes) -> None:
        self._answers = io.BytesIO(answers)
        self.closed = False

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, count: int) -> bytes:
        return self._answers.read(count)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(params=[1 << 20, 7])
def pipe(request: pytest.FixtureRequest) -> Iterator[Pipe]:
    program = shutil.which("sftp-server", path="/usr/lib/openssh:/usr/libexec:/usr/lib/ssh")
    if program is None:
        missing("sftp-server", "install openssh-sftp-server")
    opened = Pipe(str(program), request.param)
    yield opened
    opened.close()


def path(place: Path) -> bytes:
    return str(place).encode()


def read(sftp: Sftp, place: Path, size: int) -> bytes:
    return io.BufferedReader(Blocks(sftp.read(path(place), size))).read()


@pytest.mark.parametrize("said", [0, 1, 99_999, 100_000, 200_000])
def test_a_file_is_read_to_its_end_whatever_size_it_is_said_to_have(
    pipe: Pipe, tmp_path: Path, said: int
) -> None:
    content = bytes(range(250)) * 400
    (tmp_path / "file").write_bytes(content)
    sftp = Sftp(pipe)
    assert read(sftp, tmp_path / "file", said) == content
    sftp.write(io.BytesIO(content), path(tmp_path / "copy"), 0o600)
    assert (tmp_path / "copy").read_bytes() == content


def test_a_transfer_that_is_given_up_hurts_no_other(pipe: Pipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1_500_000)
    (tmp_path / "other").write_bytes(b"other")
    sftp = Sftp(pipe)
    for _ in range(3):
        blocks = sftp.read(path(tmp_path / "file"), 1_500_000)
        next(blocks)
        blocks.close()

    class Breaks(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 100_000:
                raise KeyboardInterrupt
            return super().read(size)

    with pytest.raises(KeyboardInterrupt):
        sftp.write(Breaks(bytes(300_000)), path(tmp_path / "new"), 0o600)
    with pytest.raises(SftpStatus) as caught:
        sftp.stat(path(tmp_path / "absent"))
    assert caught.value.code == NO_SUCH_FILE
    assert not sftp.broken
    assert read(sftp, tmp_path / "other", 5) == b"other"
    sftp.remove(path(tmp_path / "new"))


def test_a_file_that_is_there_is_not_written_over(pipe: Pipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(SftpStatus):
        Sftp(pipe).write(io.BytesIO(b"new"), path(tmp_path / "file"), 0o600)
    assert (tmp_path / "file").read_bytes() == b"old"


class Sparing:
    """A server of one file that gives few bytes at a time, as it may, and answers in groups, the
    last one first."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._asked = bytearray()
        self._given = bytearray(HELLO)
        self._held: list[bytes] = []

    def send(self, data: bytes) -> int:
        self._asked += data
        while len(self._asked) >= 4:
            (length,) = struct.unpack_from(">I", self._asked)
            if len(self._asked) < 4 + length:
                break
            self._answer(bytes(self._asked[4 : 4 + length]))
            del self._asked[: 4 + length]
        return len(data)

    def recv(self, count: int) -> bytes:
        if not self._given:
            self._given += b"".join(reversed(self._held))
            self._held.clear()
        part = bytes(self._given[:count])
        del self._given[:count]
        return part

    def close(self) -> None: ...

    def _answer(self, request: bytes) -> None:
        kind, number = struct.unpack_from(">BI", request)
        if kind == 3:
            self._held.append(packet(102, struct.pack(">II", number, 1) + b"h"))
        elif kind == 5:
            offset, length = struct.unpack_from(">QI", request, 10)
            data = self._content[offset : offset + min(length, 10_000)]
            body = struct.pack(">II", number, len(data)) + data
            end = packet(101, struct.pack(">II", number, 1))
            self._held.append(packet(103, body) if data else end)


@pytest.mark.parametrize("said", [0, 99_000, 150_000, 400_000])
def test_a_server_that_gives_less_than_was_asked_for_is_asked_again(said: int) -> None:
    content = bytes(range(250)) * 600
    found = io.BufferedReader(Blocks(Sftp(Sparing(content)).read(b"/file", said))).read()
    assert found == content


def packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


HELLO = packet(2, struct.pack(">I", 3))


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (b"", "it ended"),
        (b"Welcome to the board", "it began a packet with b'Welc'"),
        (struct.pack(">I", 0), r"it began a packet with b'\\x00"),
        (struct.pack(">I", 2**31), "it began a packet with"),
        (packet(101, b""), "it began with a packet of kind 101"),
        (packet(2, b"abc"), "a packet is shorter than it says"),
        (HELLO, "it ended"),
        (HELLO + packet(105, b"\0\0"), "a packet is shorter than it says"),
        (HELLO + packet(102, struct.pack(">I", 1)), "it answered with a packet of kind 102"),
        (HELLO + packet(105, struct.pack(">I", 99)) * 200, "it ended"),
        (
            HELLO + b"".join(packet(105, struct.pack(">I", n)) for n in range(2, 200)),
            "it answers what nobody asked",
        ),
    ],
)
def test_a_server_that_breaks_the_protocol_is_named(answers: bytes, words: str) -> None:
    with pytest.raises(SftpBroken, match=words):
        Sftp(Script(answers)).stat(b"/file")


def test_a_server_that_does_not_greet_is_left() -> None:
    script = Script(b"")
    with pytest.raises(SftpBroken):
        Sftp(script)
    assert script.closed


bodies = st.tuples(st.integers(0, 70), st.binary(max_size=40)).map(
    lambda pair: struct.pack(">I", pair[0]) + pair[1]
)
packets = st.tuples(st.sampled_from([101, 102, 103, 105, 201, 7]), bodies).map(
    lambda pair: packet(*pair)
)
handles = st.just(packet(102, struct.pack(">II", 1, 1) + b"h"))
answers = st.one_of(st.binary(max_size=100), st.lists(packets).map(b"".join))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.one_of(handles, st.just(b"")), answers)
def test_whatever_a_server_answers_it_is_a_named_error(begin: bytes, rest: bytes) -> None:
    for act in (
        lambda sftp: list(sftp.read(b"/f", 100_000)),
        lambda sftp: sftp.write(io.BytesIO(bytes(100_000)), b"/f", 0o600),
        lambda sftp: sftp.stat(b"/f"),
        lambda sftp: sftp.make_folder(b"/f", 0o700),
    ):
        with contextlib.suppress(SftpStatus, SftpBroken):
            act(Sftp(Script(HELLO + begin + rest)))
