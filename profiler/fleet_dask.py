"""Reach the boards of a fleet through Dask `distributed`, on this host or on several.

The only module that imports it. A Dask worker is a process that has the resource `board:NAME` and
reaches that board by its own inventory; a task is one share of a table. Members of a Dask cluster
execute what other members send: whoever can connect can do what the user can. So everything
listens on loopback alone, unless both ends prove themselves by certificates (mutual TLS).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import dask
from distributed import Client, Scheduler, SpecCluster, Worker, WorkerPlugin, get_worker
from distributed.security import Security

from ..devices.errors import (
    BoardfitError,
    DeviceAmbiguous,
    DeviceLost,
    DeviceTimeout,
    InputError,
    StorageError,
)
from ..devices.inventory import Inventory
from .connect import connect
from .fleet_dispatch import News
from .fleet_share import answer_share, write_failure
from .fleet_tls import LOOPBACK, TlsFiles, check_address, own_address
from .progress import Progress

TOPIC = "boardfit fleet"  # where boards tell their progress
TELL_SECONDS = 1.0  # between two reports of a board
CONNECT_TIMEOUT = 30.0  # seconds to reach a scheduler
ANSWER_TIMEOUT = 60.0  # seconds for the scheduler to say who is there, and to hand over an answer
START_TIMEOUT = 60.0  # seconds for the workers of this host to start
STOP_TIMEOUT = 5.0  # seconds for a worker of this host to end before it is killed
_PLUGIN = "boardfit board"
_ROLES = ("client", "scheduler", "worker")
SETTINGS: Mapping[str, Any] = {
    "distributed.scheduler.allowed-failures": 0,  # a lost share is ours to give to others
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.admin.system-monitor.gil.enabled": False,
}


def security_of(tls: TlsFiles | None) -> Security:
    """What `distributed` is told of certificates: nothing is sent or accepted without."""
    if tls is None:
        return Security()
    mine = {"cert": str(tls.certificate), "key": str(tls.key)}
    roles = {f"tls_{role}_{part}": mine[part] for role in _ROLES for part in mine}
    security = Security(require_encryption=True, tls_ca_file=str(tls.authority), **roles)
    try:
        security.get_connection_args("client")
    except (OSError, ValueError) as error:
        raise InputError(
            f"--tls-cert {tls.certificate}: these are no certificate, key and authority that fit "
            f"one another: {error}"
        ) from error
    return security


class BoardPlugin(WorkerPlugin):
    """Tells the tasks of a Dask worker which board is theirs."""

    name = _PLUGIN

    def __init__(self, board: str, inventory: Path | None, wait: float | None) -> None:
        self.board = board
        self.inventory = inventory
        self.wait = wait


def measure_share(board: str, text: str) -> str:
    """The task: do a share on this worker's board, telling how far it has come."""
    worker = get_worker()
    mine = cast(BoardPlugin, worker.plugins[_PLUGIN])
    told = -TELL_SECONDS

    def tell(step: Progress) -> None:
        nonlocal told
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            worker.log_event(TOPIC, {"board": board, "done": step.done / max(1.0, step.total)})

    try:
        if mine.board != board:
            raise DeviceLost(f"this worker offers {mine.board}, and not {board}")
        with connect(board, inventory=mine.inventory, wait=mine.wait) as device:
            return answer_share(text, device, tell)
    except BoardfitError as error:
        return write_failure(error)


def offer(
    board: str,
    scheduler: str,
    *,
    tls: TlsFiles | None = None,
    inventory: Path | None = None,
    wait: float | None = None,
) -> None:
    """Offer a board of this host to a scheduler, until the scheduler ends or it is interrupted.

    `wait` is that of `connect`. Raises `InputError` for an address that is refused
    (`check_address`), `DeviceNotFound`, and `DeviceLost` where the scheduler cannot be reached or
    has the board from somebody else.
    """
    check_address(scheduler, tls)
    Inventory.load(inventory).get(board)
    plugin = BoardPlugin(board, inventory, wait)
    _silence()
    with (
        tempfile.TemporaryDirectory(prefix="boardfit-") as folder,
        dask.config.set(SETTINGS),
        contextlib.suppress(asyncio.CancelledError),  # it was asked to end
    ):
        asyncio.run(_serve(plugin, scheduler, tls, Path(folder)))


async def _serve(plugin: BoardPlugin, scheduler: str, tls: TlsFiles | None, folder: Path) -> None:
    task = asyncio.current_task()
    assert task is not None
    # Otherwise the process would end at once, and leave its folder behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    board = plugin.board
    worker = Worker(
        scheduler,
        name=f"board:{board}",  # a scheduler takes a name once
        nthreads=1,
        resources={f"board:{board}": 1},
        host=own_address(scheduler),
        protocol="tls" if tls else "tcp",
        security=security_of(tls),
        dashboard=False,
        dashboard_address=f"{LOOPBACK}:0",
        memory_limit=0,
        death_timeout=CONNECT_TIMEOUT,
        local_directory=str(folder),
        plugins=(plugin,),
    )
    try:
        await worker
    except Exception as error:
        cause = error.__cause__ or error
        raise DeviceLost(
            f"the scheduler {scheduler} did not take {board}: {cause}; see that it runs, that the "
            "certificates are of its authority, and that nobody else offers this board"
        ) from error
    try:
        await worker.finished()
    finally:
        # A share that is being measured has nobody left to send it to.
        await worker.close(timeout=STOP_TIMEOUT, executor_wait=False)


class DaskBoards:
    """The boards that the workers of a scheduler offer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._arrived: queue.Queue[tuple[object, News]] = queue.Queue()
        self._futures: dict[str, Any] = {}
        self._addresses: dict[str, str] = {}  # of the workers that were asked
        self._looked = -1.0
        self._offered: dict[str, str] = {}
        client.subscribe_topic(TOPIC, self._hear)

    def offered(self) -> Set[str]:
        """The names of the boards that can be asked just now.

        Raises `DeviceLost` where the scheduler does not answer, `DeviceAmbiguous` where two
        workers offer a board.
        """
        if time.monotonic() - self._looked > 1.0:
            self._offered = self._look()
            self._looked = time.monotonic()
        return self._offered.keys()

    def start(self, board: str, text: str) -> None:
        """Send a share to a board."""
        self._addresses[board] = self._offered[board]
        self._futures[board] = future = self._client.submit(
            measure_share,
            board,
            text,
            key=f"boardfit-{board}-{uuid.uuid4().hex}",
            resources={f"board:{board}": 1},
            pure=False,
            retries=0,
        )
        future.add_done_callback(partial(self._fetch_aside, board))

    def wait(self, seconds: float) -> Sequence[News]:
        """What has come from the boards; waits so long where there is nothing."""
        found: list[News] = []
        with contextlib.suppress(queue.Empty):
            found += self._wanted(*self._arrived.get(timeout=seconds))
            while True:
                found += self._wanted(*self._arrived.get_nowait())
        offered = self.offered()
        for board, address in [(board, self._addresses[board]) for board in self._futures]:
            if self._offered.get(board) != address or board not in offered:
                self.abandon(board)
                found.append(News(board, lost=f"the Dask worker of {board} ended"))
        return found

    def abandon(self, board: str) -> None:
        """Want no answer any more to what a board was asked."""
        future = self._futures.pop(board, None)
        if future is not None:
            with contextlib.suppress(Exception):
                future.cancel()

    def _wanted(self, future: object, news: News) -> Sequence[News]:
        """What came, unless it answers something that nobody wants to know any more."""
        if future is None:
            return [news]
        if self._futures.get(news.board) is not future:
            return []
        del self._futures[news.board]
        return [news]

    def _fetch_aside(self, board: str, future: Any) -> None:
        """Fetch an answer in a thread of its own: a worker that hangs holds up nobody else."""
        threading.Thread(target=self._fetch, args=(board, future), daemon=True).start()

    def _fetch(self, board: str, future: Any) -> None:
        try:
            news = News(board, answer=future.result(timeout=ANSWER_TIMEOUT))
        except Exception as error:
            # Whatever the other process did: a killed worker, a task that broke.
            words = f"{type(error).__name__}: {error}"[:300]
            news = News(board, lost=f"the Dask worker of {board} failed ({words})")
        self._arrived.put((future, news))

    def _hear(self, event: object) -> None:
        """A message of a worker, or of anybody else in the cluster."""
        message = event[1] if isinstance(event, tuple | list) and len(event) == 2 else None
        if isinstance(message, dict):
            board, done = message.get("board"), message.get("done")
            if isinstance(board, str) and isinstance(done, float) and 0 <= done <= 1:
                self._arrived.put((None, News(board, done)))

    def _look(self) -> dict[str, str]:
        try:
            identity = cast(Any, self._client.scheduler).identity
            found = self._client.sync(identity, n_workers=-1, callback_timeout=ANSWER_TIMEOUT)
        except (OSError, TimeoutError) as error:
            raise DeviceLost(
                "the scheduler does not answer any more; what was measured is kept: start it and "
                "the workers, and run the same command again"
            ) from error
        boards: dict[str, str] = {}
        for address, worker in found["workers"].items():
            for resource in worker.get("resources", {}):
                board = resource.removeprefix("board:")
                if board in boards:
                    raise DeviceAmbiguous(f"two workers offer the board {board}; end one of them")
                if board != resource:
                    boards[board] = address
        return boards


@contextlib.contextmanager
def join(scheduler: str, *, tls: TlsFiles | None = None) -> Iterator[DaskBoards]:
    """The boards that are offered to a running scheduler.

    Raises `InputError` for an address that is refused, `DeviceLost` where nobody answers there.
    """
    check_address(scheduler, tls)
    with open_client(scheduler, security_of(tls)) as client:
        yield DaskBoards(client)


@contextlib.contextmanager
def local_cluster(
    names: Sequence[str], *, inventory: Path | None = None, wait: float | None = None
) -> Iterator[DaskBoards]:
    """A scheduler in this process and a worker process for each board, on loopback."""
    options_of_worker = [
        *([] if inventory is None else ["--boards", str(inventory)]),
        *([] if wait is None else ["--wait", str(wait)]),
    ]
    _silence()
    options = {
        "host": LOOPBACK,
        "port": 0,
        "protocol": "tcp",
        "dashboard": False,
        "dashboard_address": f"{LOOPBACK}:0",
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(SETTINGS))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="boardfit-")))
        cluster = stack.enter_context(
            SpecCluster(
                workers={},
                scheduler={"cls": Scheduler, "options": options},
                security=Security(),
                silence_logs=logging.CRITICAL,
            )
        )
        address = cluster.scheduler_address
        processes = {
            name: stack.enter_context(_worker_process(name, address, options_of_worker, folder))
            for name in names
        }
        boards = DaskBoards(stack.enter_context(open_client(address, Security())))
        _wait_for_workers(boards, processes, folder)
        yield boards


@contextlib.contextmanager
def _worker_process(
    name: str, address: str, options: Sequence[str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of this host, ended at the end; what it says lies in the folder."""
    command = [sys.executable, "-m", "boardfit", "devices", "worker", name, "--scheduler", address]
    command += options
    with (folder / name).open("wb") as said:
        process = _started(command, said)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(command: Sequence[str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        # A session of its own: Ctrl-C is for the host, which then ends its workers.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
        )
    except OSError as error:
        raise StorageError(f"a worker process cannot be started: {error}") from error


def _wait_for_workers(
    boards: DaskBoards, processes: Mapping[str, subprocess.Popen[bytes]], folder: Path
) -> None:
    end = time.monotonic() + START_TIMEOUT
    while missing := processes.keys() - boards.offered():
        for name in missing:
            if processes[name].poll() is not None:
                words = (folder / name).read_text(errors="replace").strip()[-1000:]
                raise DeviceLost(f"the worker of {name} ended as it started: {words}")
        if time.monotonic() > end:
            raise DeviceTimeout(
                f"the workers of {' and '.join(sorted(missing))} have not started within "
                f"{START_TIMEOUT:.0f} s; end other work on this host"
            )
        boards.wait(0.2)


@contextlib.contextmanager
def open_client(address: str, security: Security) -> Iterator[Client]:
    """A client of the scheduler at an address; raises `DeviceLost` where none answers."""
    _silence()
    try:
        client = Client(
            address,
            security=security,
            timeout=CONNECT_TIMEOUT,
            set_as_default=False,
            name="boardfit",
        )
    except (OSError, TimeoutError, ValueError) as error:
        raise DeviceLost(
            f"no scheduler answers at {address} ({error}); see that it runs, and that the "
            "certificates are of its authority"
        ) from error
    try:
        yield client
    finally:
        client.close(timeout=STOP_TIMEOUT)


def _silence() -> None:
    """What goes wrong is said once, in our words."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL + 1)


Reach = Callable[[], contextlib.AbstractContextManager[DaskBoards]]
