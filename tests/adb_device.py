"""The device side of ADB over TCP: what adbd does on a phone, for tests on a machine without one.

Commands really run, in this machine's shell; files are really written. `adb connect` of Android's
own client works with it, as do shells (both protocols, with and without a terminal), `exec`, sync
(stat, list, send and receive in both versions) and authentication.

    with serving(AdbDevice(root=tmp_path, environment={"PATH": ...})) as port: ...
    python tests/adb_device.py --root FOLDER --shims FOLDER      # prints its port

With a `root`, paths below those in `mapped` mean files below `root`: in requests for files always,
in commands wherever such a path is written out. Programs in the first folders of PATH stand in for
the phone's (`getprop`, `dumpsys`, ...).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import errno
import os
import pty
import re
import signal
import socket
import stat
import struct
import sys
import threading
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

VERSION, VERSION_WITH_CHECKSUMS = 0x01000001, 0x01000000
MAX_PAYLOAD = 1024 * 1024
FEATURES = ("shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir")
PIXEL = {
    "ro.product.name": "oriole",
    "ro.product.model": "Pixel 6",
    "ro.product.device": "oriole",
}
HEADER = struct.Struct("<4s5I")
TOKEN, SIGNATURE, PUBLIC_KEY = 1, 2, 3
SHA1_PREFIX = bytes.fromhex("3021300906052b0e03021a05000414")  # PKCS 1: "a SHA-1 hash follows"
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
SYNC_PIECE = 64 * 1024


@dataclass
class AdbDevice:
    """A phone: what it says of itself, whom it lets in, what its files and programs are.

    `known_keys` are the public keys that it knows; with `secure` nobody else comes in, unless
    somebody taps Allow (`allow`). `receive_buffer` makes its sockets small (bytes); a file that is
    pushed may have `room` bytes before the disk is full.
    """

    properties: Mapping[str, str] = field(default_factory=lambda: PIXEL)
    features: Sequence[str] = FEATURES
    version: int = VERSION
    max_payload: int = MAX_PAYLOAD
    secure: bool = False
    allow: bool = False
    known_keys: list[str] = field(default_factory=list)
    root: Path | None = None
    mapped: Sequence[str] = ("/data", "/sdcard", "/sys", "/proc", "/vendor")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    shell: str = "/bin/sh"
    receive_buffer: int | None = None
    room: int | None = None
    connections: set[Connection] = field(default_factory=set)
    _left: dict[asyncio.subprocess.Process, asyncio.Task[None]] = field(default_factory=dict)

    def banner(self) -> bytes:
        """What it says when it greets."""
        said = "".join(f"{name}={value};" for name, value in self.properties.items())
        return f"device::{said}features={','.join(self.features)}".encode()

    def path(self, path: bytes) -> bytes:
        """The file here that is at `path` on the phone."""
        if self.root is None:
            return path
        first = b"/" + path.lstrip(b"/").split(b"/")[0]
        return os.fsencode(self.root) + path if os.fsdecode(first) in self.mapped else path

    def command(self, command: bytes) -> bytes:
        """A command with the paths that it names put below `root`."""
        if self.root is None:
            return command
        names = b"|".join(re.escape(os.fsencode(name)) for name in self.mapped)
        pattern = rb"(?<![\w./-])(?:" + names + rb")(?![\w.-])"
        root = os.fsencode(self.root)
        return re.sub(pattern, lambda found: root + found[0], command)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak with a host until it goes."""
        link: socket.socket = writer.get_extra_info("socket")
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    def hang_up(self, process: asyncio.subprocess.Process) -> None:
        """What adbd does when a stream ends: SIGHUP to the one process, and its pipes are closed.

        Whoever does not care about either lives on, until the device ends.
        """
        transport = cast(Any, process)._transport
        if process.returncode is not None:
            transport.close()
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGHUP)
        for number in range(3):
            if pipe := transport.get_pipe_transport(number):
                pipe.close()

        async def wait() -> None:
            await process.wait()
            transport.close()
            del self._left[process]

        self._left[process] = asyncio.create_task(wait())

    async def end(self) -> None:
        """Break all links, and end what still runs, as switching off does."""
        self.drop()
        for process in list(self._left):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await asyncio.gather(*self._left.values())

    def drop(self) -> None:
        """Break all links at once, as pulling the cable does; from the loop's own thread."""
        for connection in list(self.connections):
            connection.writer.transport.abort()


class Gone(ConnectionError):
    """The host closed a stream or the link."""


class Connection:
    """The link to one host, with its streams."""

    def __init__(
        self, device: AdbDevice, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.device = device
        self.reader = reader
        self.writer = writer
        self.version = VERSION_WITH_CHECKSUMS
        self.max_payload = 4096
        self.streams: dict[int, Stream] = {}
        self._last = 0
        self._online = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Read frames until the host goes or breaks the protocol."""
        token = b""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                command, first, second, payload = await self._frame()
                if command == b"CNXN":
                    self.version = min(first, self.device.version)
                    self.max_payload = min(second, self.device.max_payload)
                    token = os.urandom(20)
                    await (self._ask(token) if self.device.secure else self._greet())
                elif command == b"AUTH" and token and not self._online:
                    token = await self._judge(first, payload, token)
                elif self._online:
                    await self._hand_on(command, first, second, payload)
        for stream in list(self.streams.values()):
            stream.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def send(self, command: bytes, first: int, second: int, payload: bytes = b"") -> None:
        """Send a frame."""
        check = sum(payload) & 0xFFFFFFFF if self.version < VERSION else 0
        inverted = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        async with self._writing:
            header = HEADER.pack(command, first, second, len(payload), check, inverted)
            self.writer.write(header + payload)
            await self.writer.drain()

    async def _frame(self) -> tuple[bytes, int, int, bytes]:
        data = await self.reader.readexactly(HEADER.size)
        command, first, second, length, check, inverted = HEADER.unpack(data)
        if int.from_bytes(command, "little") ^ 0xFFFFFFFF != inverted or length > MAX_PAYLOAD:
            raise Gone("not a frame")
        payload = await self.reader.readexactly(length)
        checked = command != b"CNXN" and self.version < VERSION
        if checked and sum(payload) & 0xFFFFFFFF != check:
            raise Gone("a wrong checksum")
        return command, first, second, payload

    async def _greet(self) -> None:
        self._online = True
        await self.send(b"CNXN", self.device.version, self.device.max_payload, self.device.banner())

    async def _ask(self, token: bytes) -> None:
        await self.send(b"AUTH", TOKEN, 0, token)

    async def _judge(self, kind: int, payload: bytes, token: bytes) -> bytes:
        """Let the host in, or ask it again with the token that is returned."""
        if kind == SIGNATURE:
            if any(signed_by(key, token, payload) for key in self.device.known_keys):
                await self._greet()
                return b""
            token = os.urandom(20)
            await self._ask(token)
        elif kind == PUBLIC_KEY and self.device.allow:
            self.device.known_keys.append(payload.rstrip(b"\0").decode())
            await self._greet()
        return token

    async def _hand_on(self, command: bytes, first: int, second: int, payload: bytes) -> None:
        stream = self.streams.get(second)
        if command == b"OPEN":
            self._last += 1
            stream = self.streams[self._last] = Stream(self, self._last, first)
            task = asyncio.create_task(self._service(stream, payload.rstrip(b"\0")))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif stream is None:
            pass  # it crossed our closing of the stream
        elif command == b"OKAY":
            stream.acknowledged.set()
        elif command == b"WRTE":
            stream.came.put_nowait(payload)
        elif command == b"CLSE":
            del self.streams[second]
            stream.end()

    async def _service(self, stream: Stream, destination: bytes) -> None:
        name, _, argument = destination.partition(b":")
        kind, *options = name.decode(errors="replace").split(",")
        service = SERVICES.get(kind)
        with contextlib.suppress(ConnectionError):
            if service is None:
                del self.streams[stream.number]
                await self.send(b"CLSE", 0, stream.theirs)
                return
            await self.send(b"OKAY", stream.number, stream.theirs)
            with contextlib.suppress(Gone):
                await service(stream, argument, options)
            if self.streams.pop(stream.number, None) is not None:
                await self.send(b"CLSE", stream.number, stream.theirs)


class Stream:
    """A service that the host opened; what it reads is acknowledged as it is taken."""

    def __init__(self, connection: Connection, number: int, theirs: int) -> None:
        self.connection = connection
        self.number = number
        self.theirs = theirs
        self.came: asyncio.Queue[bytes] = asyncio.Queue()
        self.acknowledged = asyncio.Event()
        self.ended = False
        self._rest = b""
        self._writing = asyncio.Lock()

    async def write(self, data: bytes) -> None:
        """Send, one payload after the other. Raises Gone."""
        size = self.connection.max_payload
        async with self._writing:  # each is acknowledged before the next one is sent
            for begin in range(0, len(data), size):
                self.acknowledged.clear()
                if self.ended:
                    raise Gone
                piece = data[begin : begin + size]
                await self.connection.send(b"WRTE", self.number, self.theirs, piece)
                await self.acknowledged.wait()
        if self.ended:
            raise Gone

    async def read(self) -> bytes:
        """What came next. Raises Gone."""
        rest, self._rest = self._rest, b""
        if rest:
            return rest
        data = await self.came.get()
        if self.ended and not data:
            raise Gone
        await self.connection.send(b"OKAY", self.number, self.theirs)
        return data

    async def exactly(self, count: int) -> bytes:
        """The next `count` bytes. Raises Gone."""
        pieces, had = [], 0
        while had < count:
            pieces.append(await self.read())
            had += len(pieces[-1])
        data = b"".join(pieces)
        self._rest = data[count:]
        return data[:count]

    def end(self) -> None:
        """The host closed it."""
        self.ended = True
        self.acknowledged.set()
        self.came.put_nowait(b"")


async def shell(stream: Stream, command: bytes, options: list[str]) -> None:
    """A shell with a command, or one to type into; with a terminal unless `raw` is asked for."""
    packets = "v2" in options
    terminal = "pty" in options or "raw" not in options

    async def out(kind: int, data: bytes) -> None:
        await stream.write(struct.pack("<BI", kind, len(data)) + data if packets else data)

    async def typed() -> tuple[int, bytes]:
        if not packets:
            return STDIN, await stream.read()
        kind, length = struct.unpack("<BI", await stream.exactly(5))
        return kind, await stream.exactly(length)

    device = stream.connection.device
    # A terminal of the first protocol leaves line ends alone, since nobody sits at it.
    raw = bool(command) and not packets
    async with (
        on_terminal(device, command, raw) if terminal else on_pipes(device, command) as child
    ):
        code = await converse(child, typed, out)
    if packets:
        await out(EXIT, bytes([code]))


async def execute(stream: Stream, command: bytes, options: list[str]) -> None:
    """A command whose output and errors are one stream of bytes."""

    async def out(kind: int, data: bytes) -> None:
        await stream.write(data)

    async def typed() -> tuple[int, bytes]:
        return STDIN, await stream.read()

    async with on_pipes(stream.connection.device, command) as child:
        await converse(child, typed, out)


@dataclass
class Child:
    """A program that runs: where its input goes, and where its output comes from."""

    process: asyncio.subprocess.Process
    put: Callable[[bytes], Awaitable[None]]
    end_input: Callable[[], None]
    outputs: Mapping[int, asyncio.StreamReader]


@contextlib.asynccontextmanager
async def on_pipes(device: AdbDevice, command: bytes) -> AsyncIterator[Child]:
    """Start a command with three pipes; hang up on it where it outlives the block."""
    pipe = asyncio.subprocess.PIPE
    process = await start(device, command, stdin=pipe, stdout=pipe, stderr=pipe)
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    assert stdin is not None
    assert stdout is not None
    assert stderr is not None

    async def put(data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            stdin.write(data)
            await stdin.drain()

    outputs = {STDOUT: stdout, STDERR: stderr}
    try:
        yield Child(process, put, stdin.close, outputs)
    finally:
        device.hang_up(process)


@contextlib.asynccontextmanager
async def on_terminal(device: AdbDevice, command: bytes, raw: bool) -> AsyncIterator[Child]:
    """Start a command on a terminal of its own."""
    ours, theirs = pty.openpty()
    if raw:
        tty.setraw(theirs)
    process = await start(device, command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    output = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(output), os.fdopen(os.dup(ours), "rb", 0)
    )

    async def put(data: bytes) -> None:
        os.write(ours, data)

    def end_input() -> None:
        os.write(ours, b"\4")  # Ctrl-D

    try:
        yield Child(process, put, end_input, {STDOUT: output})
    finally:
        device.hang_up(process)
        transport.close()
        os.close(ours)


async def start(device: AdbDevice, command: bytes, **pipes: int) -> asyncio.subprocess.Process:
    """Start the shell as adbd does: in a session of its own."""
    words: list[str | bytes] = [device.shell]
    if command:
        words += ["-c", device.command(command)]
    environment, more = dict(device.environment), cast(Any, pipes)
    return await asyncio.create_subprocess_exec(
        *words, env=environment, cwd="/", start_new_session=True, **more
    )


async def converse(
    child: Child,
    typed: Callable[[], Awaitable[tuple[int, bytes]]],
    out: Callable[[int, bytes], Awaitable[None]],
) -> int:
    """Carry input and output until the program has ended; its exit code. Raises Gone."""

    async def feed() -> None:
        while True:
            kind, data = await typed()
            if kind == STDIN:
                await child.put(data)
            elif kind == CLOSE_STDIN:
                child.end_input()

    async def carry(kind: int, output: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):  # a terminal whose program has ended
            while data := await output.read(32 * 1024):
                await out(kind, data)

    feeding = asyncio.create_task(feed())
    carrying = [asyncio.create_task(carry(*item)) for item in child.outputs.items()]
    try:
        everything = asyncio.ensure_future(_all(carrying))
        await asyncio.wait({feeding, everything}, return_when=asyncio.FIRST_COMPLETED)
        if not everything.done():
            everything.cancel()
            await feeding  # raises
        await everything
        code = await child.process.wait()
    finally:
        for task in (feeding, *carrying):
            task.cancel()
        await asyncio.gather(feeding, *carrying, return_exceptions=True)
    return code & 0xFF if code >= 0 else 128 - code


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        await task


async def sync(stream: Stream, argument: bytes, options: list[str]) -> None:
    """Files: requests one after the other until the host says QUIT."""
    device = stream.connection.device
    while True:
        word, length = struct.unpack("<4sI", await stream.exactly(8))
        if word == b"QUIT":
            return
        if length > 1024:
            return await fail(stream, "path too long")
        path = await stream.exactly(length)
        if word == b"STAT":
            found, _ = look(device.path(path), follow=False)
            fields = (found.st_mode, found.st_size, int(found.st_mtime)) if found else (0, 0, 0)
            await stream.write(b"STAT" + struct.pack("<III", *(f & 0xFFFFFFFF for f in fields)))
        elif word in {b"STA2", b"LST2"}:
            found, error = look(device.path(path), follow=word == b"STA2")
            await stream.write(word + stat_2(found, error))
        elif word in {b"LIST", b"LIS2"}:
            await entries(stream, device.path(path), second=word == b"LIS2")
        elif word == b"RECV":
            await give(stream, device.path(path))
        elif word == b"SEND":
            path, _, mode = path.rpartition(b",")
            if not await accept(stream, device.path(path), int(mode), device.room):
                return
        else:
            return await fail(stream, f"unknown command {word!r}")


async def fail(stream: Stream, words: str) -> None:
    """Answer that something did not work."""
    await stream.write(b"FAIL" + struct.pack("<I", len(words.encode())) + words.encode())


def look(path: bytes, *, follow: bool) -> tuple[os.stat_result | None, int]:
    """What there is, or the error's number."""
    try:
        return (os.stat if follow else os.lstat)(path), 0
    except OSError as error:
        return None, error.errno or errno.EIO
    except ValueError:  # a NUL byte
        return None, errno.EINVAL


def stat_2(found: os.stat_result | None, error: int) -> bytes:
    """The second version's answer, with sizes of 64 bits and the error."""
    layout = struct.Struct("<IQQIIIIQqqq")
    if found is None:
        return layout.pack(error, *[0] * 10)
    numbers = (found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid)
    times = (int(found.st_atime), int(found.st_mtime), int(found.st_ctime))
    return layout.pack(0, *numbers, found.st_gid, found.st_size, *times)


async def entries(stream: Stream, folder: bytes, *, second: bool) -> None:
    """List a folder."""
    with contextlib.suppress(OSError):
        for name in [b".", b"..", *sorted(os.listdir(folder))]:
            found, error = look(os.path.join(folder, name), follow=False)
            if found is not None:
                size, changed = found.st_size & 0xFFFFFFFF, int(found.st_mtime)
                front = b"DNT2" + stat_2(found, error)
                if not second:
                    front = b"DENT" + struct.pack("<III", found.st_mode, size, changed)
                await stream.write(front + struct.pack("<I", len(name)) + name)
    await stream.write(b"DONE" + bytes(76 if second else 16))


async def give(stream: Stream, path: bytes) -> None:
    """Send a file."""
    try:
        with open(path, "rb") as file:
            while data := file.read(SYNC_PIECE):
                await stream.write(b"DATA" + struct.pack("<I", len(data)) + data)
    except OSError as error:
        return await fail(stream, f"open failed: {error.strerror}")
    await stream.write(b"DONE" + bytes(4))


async def accept(stream: Stream, path: bytes, mode: int, room: int | None) -> bool:
    """Take a file, making its folders; False where the host does not keep to the protocol.

    Where it cannot be written the rest is read all the same, since the host sends it.
    """
    failed: OSError | None = None
    link = stat.S_ISLNK(mode)
    target = b""  # of a link
    with contextlib.ExitStack() as opened:
        file = None
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if link and os.path.lexists(path):
                os.unlink(path)
            file = None if link else opened.enter_context(open(path, "wb"))
        except OSError as error:
            failed = error
        while True:
            word, length = struct.unpack("<4sI", await stream.exactly(8))
            if word == b"DONE":
                break
            if word != b"DATA" or length > SYNC_PIECE:
                await fail(stream, "oversize data message")
                return False
            data = await stream.exactly(length)
            try:
                if room is not None and (room := room - len(data)) < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if file is not None:
                    file.write(data)
                elif link:
                    target += data
            except OSError as error:
                failed = failed or error
    try:
        if failed is None and link:
            os.symlink(target.rstrip(b"\0"), path)
        elif failed is None:
            owner = mode & 0o700
            os.chmod(path, (mode & 0o777) | (owner >> 3) | (owner >> 6))
            os.utime(path, (length, length))
    except OSError as error:
        failed = error
    if failed is None:
        await stream.write(b"OKAY" + bytes(4))
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)
        await fail(stream, f"couldn't create file: {failed.strerror}")
    return True


Service = Callable[[Stream, bytes, list[str]], Awaitable[None]]
SERVICES: Mapping[str, Service] = {"shell": shell, "exec": execute, "sync": sync}


def signed_by(key: str, token: bytes, signature: bytes) -> bool:
    """Whether a signature is of this token by this key (RSASSA-PKCS1-v1_5, the token as hash)."""
    data = base64.b64decode(key.split()[0])
    size: int = struct.unpack_from("<I", data)[0] * 4
    modulus = int.from_bytes(data[8 : 8 + size], "little")
    exponent: int = struct.unpack_from("<I", data, 8 + 2 * size)[0]
    filled = size - 3 - len(SHA1_PREFIX) - len(token)
    expected = b"\0\1" + b"\xff" * filled + b"\0" + SHA1_PREFIX + token
    found = pow(int.from_bytes(signature), exponent, modulus)
    return len(signature) == size and bytes(found.to_bytes(size)) == expected


async def listen(device: AdbDevice, port: int) -> asyncio.Server:
    """Listen on this machine alone; port 0 lets the system choose."""
    link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if device.receive_buffer is not None:  # before connections inherit it
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, device.receive_buffer)
    link.bind(("127.0.0.1", port))
    return await asyncio.start_server(device.serve, sock=link, limit=4 * 1024 * 1024)


@dataclass(frozen=True)
class Serving:
    """A device that can be reached at `port`."""

    port: int
    loop: asyncio.AbstractEventLoop
    device: AdbDevice

    @property
    def serial(self) -> str:
        """What `adb connect` is told."""
        return f"127.0.0.1:{self.port}"

    def drop(self) -> None:
        """Break all links at once, as pulling the cable does."""
        self.loop.call_soon_threadsafe(self.device.drop)


@contextlib.contextmanager
def serving(device: AdbDevice, port: int = 0) -> Iterator[Serving]:
    """The device in a thread of this process, for as long as the block lasts."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="adb device")
    thread.start()
    try:
        future = asyncio.run_coroutine_threadsafe(listen(device, port), loop)
        server = future.result(10)
        try:
            yield Serving(server.sockets[0].getsockname()[1], loop, device)
        finally:
            asyncio.run_coroutine_threadsafe(_stop(device, server), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _stop(device: AdbDevice, server: asyncio.Server) -> None:
    server.close()
    device.drop()
    while device.connections:
        await asyncio.sleep(0.005)
    await device.end()
    await server.wait_closed()


async def _main(device: AdbDevice, port: int) -> None:
    server = await listen(device, port)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await _stop(device, server)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=0)
    options.add_argument("--root", type=Path)
    options.add_argument("--shims", type=Path, help="a folder of programs that come first")
    options.add_argument("--secure", action="store_true")
    options.add_argument("--allow", action="store_true", help="allow every key that is offered")
    given = options.parse_args()
    place = dict(os.environ)
    if given.shims:
        place["PATH"] = f"{given.shims}:{place['PATH']}"
    phone = AdbDevice(root=given.root, environment=place, secure=given.secure, allow=given.allow)
    sys.exit(asyncio.run(_main(phone, given.port)))
