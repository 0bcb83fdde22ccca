"""A TCP link that is slow, narrow, or breaks: a proxy in front of a server on this machine.

    with SlowLink(server_port, delay=0.01) as link:      # adds 20 ms to a round trip
        connect("127.0.0.1", link.port)

- `delay`: seconds that each byte is under way, in each direction; many may be under way at once.
- `piece` and `buffer`: it takes and gives so few bytes at a time, and the kernel keeps so few, so
  that whoever sends through it meets partial sends.
- `cut_after`: the link breaks once so many bytes went towards the server.
- `cut()` resets all connections, `freeze()` lets nothing pass while they stay open, `thaw()` ends
  that; `garble()` spoils what comes from the server next, on each connection; `carried` is how many
  bytes went towards the server.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Self

_AT_ONCE = 64 * 1024  # bytes
_UNDER_WAY = 64  # pieces in one direction
_PATIENCE = 10.0  # seconds for the proxy's own thread
_UnderWay = asyncio.Queue[tuple[float, bytes]]  # when each piece arrives, and the piece


class SlowLink:
    """A proxy on a port that the system chooses; a context manager that ends it."""

    def __init__(
        self,
        server_port: int,
        *,
        delay: float = 0.0,
        piece: int | None = None,
        buffer: int | None = None,
        cut_after: int | None = None,
    ) -> None:
        self.carried = 0
        self._server_port = server_port
        self._delay = delay
        self._piece = piece or _AT_ONCE
        self._buffer = buffer
        self._cut_after = cut_after
        self._garbled = 0  # times that what comes was to be spoilt
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._flows.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="slow link")
        self._listening = socket.socket()
        self._shrink(self._listening)  # before `listen`: accepted sockets inherit it
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]

    def __enter__(self) -> Self:
        self._thread.start()
        self._loop.call_soon_threadsafe(self._start, self._accept())
        return self

    def __exit__(self, *reason: object) -> None:
        self._ask(self._end(listen_on=False))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()
        self._listening.close()

    def cut(self) -> None:
        """Reset all connections; new ones are let through."""
        self._ask(self._end(listen_on=True))

    def freeze(self) -> None:
        """Let nothing pass any more, and keep the connections open."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        self._loop.call_soon_threadsafe(self._flows.set)

    def garble(self) -> None:
        """Turn over the bits of what comes from the server next, once on each connection."""
        self._garbled += 1

    def _ask(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end(self, *, listen_on: bool) -> None:
        ended = list(self._tasks)
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        if listen_on:
            self._start(self._accept())

    async def _accept(self) -> None:
        while True:
            near, _ = await self._loop.sock_accept(self._listening)
            self._start(self._connect(near))

    async def _connect(self, near: socket.socket) -> None:
        far = socket.socket()
        try:
            for end in (near, far):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._shrink(far)
            await self._loop.sock_connect(far, ("127.0.0.1", self._server_port))
            # A narrow link holds few bytes itself, or its narrowness would not be felt.
            pieces = 2 if self._buffer else _UNDER_WAY
            async with asyncio.TaskGroup() as group:
                for source, target in ((near, far), (far, near)):
                    under_way: _UnderWay = asyncio.Queue(pieces)
                    group.create_task(self._take(source, under_way))
                    group.create_task(self._give(under_way, target, counts=target is far))
        except* OSError:
            pass  # an end went away; so does the other one
        finally:
            for end in (near, far):
                # Closing resets the connection instead of saying good-bye.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.close()

    async def _take(self, source: socket.socket, under_way: _UnderWay) -> None:
        data = b"anything"
        while data:
            data = await self._loop.sock_recv(source, self._piece)
            await under_way.put((self._loop.time() + self._delay, data))

    async def _give(self, under_way: _UnderWay, target: socket.socket, *, counts: bool) -> None:
        garbled = self._garbled
        while True:
            due, data = await under_way.get()
            if (wait := due - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            await self._flows.wait()
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            if not counts and garbled != self._garbled:
                garbled = self._garbled
                data = bytes(byte ^ 0xFF for byte in data)
            await self._loop.sock_sendall(target, data)
            if counts:
                self.carried += len(data)
                if self._cut_after is not None and self.carried >= self._cut_after:
                    self._cut_after = None
                    raise ConnectionResetError("the link breaks here")

    def _shrink(self, end: socket.socket) -> None:
        if self._buffer is not None:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer)
