"""Builds on boards that fail in every way that boards do, at random moments, until they are done.

python benchmarks/measure_faults.py [--faults N] [--boards NAME,...]

Each build is a process of its own, which is started again with the same arguments until the table
is finished. Faults are inflicted inside of it, when a random number of lines has come from the
board: what one board cannot suffer for real is done to the way to it.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from bars import bar
from measure_kills import Rows, grown

from boardfit.devices.base import Channel, Completed, Device, Transport
from boardfit.devices.conditions import describe
from boardfit.devices.errors import BoardfitError, DeviceLost, DeviceTimeout, StorageError
from boardfit.devices.fake import FAKE_FILES, FakeTransport, SimulatedClock
from boardfit.devices.fake_board import FakeBoard
from boardfit.devices.inventory import BoardEntry
from boardfit.devices.local import LocalTransport, local_device
from boardfit.devices.occupy import FOLDER_VARIABLE
from boardfit.devices.reconnecting import ReconnectingTransport
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import fake_device
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.simulated import SimulatedWorker
from boardfit.profiler.store import Store
from boardfit.search.spaces import open_space
from boardfit.search.tabulate import plan_table

FAULTS = 200
SILENCE = 3.0  # seconds after which a worker that says nothing is given up here
LONGEST = 120.0  # seconds of an attempt; beyond it hangs
TABLE = "table.boardfit"
REPEATABLE = {"fake"}  # boards on which every build sees the same values
KINDS = (
    "link lost",
    "worker killed",
    "worker hangs",
    "garbage line",
    "truncated line",
    "host killed",
    "disk full",
    "server restarted",
    "reboot",
    "slow link",
)
SCHEDULE = Schedule(runs=2, minimum_rounds=3, maximum_rounds=4, samples=2, warmup_seconds=0.01)


@dataclass(frozen=True)
class Board:
    """A board that can be made to fail.

    `connect` makes a way to it, `device` what is measured over a way. `faults` are the kinds that
    it suffers itself, each as a function; the others are done to the way. `settings` reads what
    could be left changed on it.
    """

    connect: Callable[[], Transport]
    device: Callable[[Transport], Device]
    faults: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    settings: Callable[[], object] = lambda: None


@contextlib.contextmanager
def fake_board(folder: Path) -> Iterator[Board]:
    """The simulated board; it lives as long as the process."""
    board = FakeBoard(FAKE_FILES, SimulatedClock())
    programs = {"python3": partial(SimulatedWorker, seed=0, noise=0.01)}
    known = fake_device(BoardEntry("fake", "fake", seed=0))

    def full() -> None:
        board.full = True

    yield Board(
        lambda: FakeTransport(board=board, programs=programs),
        lambda transport: replace(known, transport=transport),
        {"reboot": board.reboot, "disk full": full},
        lambda: describe(FakeTransport(board=board)).governor,
    )


@contextlib.contextmanager
def local_board(folder: Path) -> Iterator[Board]:
    """This machine, with real workers."""
    entry = BoardEntry("local", "local", workspace=PurePosixPath(folder / "workspace"))
    known = local_device(entry)
    try:
        yield Board(
            LocalTransport,
            lambda transport: replace(known, transport=transport),
            {
                "worker killed": partial(signal_workers, folder, signal.SIGKILL),
                "worker hangs": partial(signal_workers, folder, signal.SIGSTOP),
            },
            lambda: describe(LocalTransport()).governor,
        )
    finally:
        signal_workers(folder, signal.SIGKILL)  # one that was stopped when its host was killed


# A folder of the board's own -> the board, for as long as the context lasts.
BOARDS: Mapping[str, Callable[[Path], contextlib.AbstractContextManager[Board]]] = {
    "fake": fake_board,
    "local": local_board,
}


def signal_workers(folder: Path, number: signal.Signals) -> None:
    """Signal the workers that run out of a folder, whoever started them."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if any(word.startswith(bytes(folder)) and b"worker" in word for word in words):
                os.kill(int(process.name), number)


class Failing:
    """What goes wrong: kinds, and how many lines have to come from the board before each."""

    def __init__(self, board: Board, faults: Sequence[tuple[str, int]], seed: int) -> None:
        self.board = board
        self.faults = list(faults)
        self.random = random.Random(seed)
        self.lines = 0  # that came since the last fault
        self.all_lines = 0
        self.full = False
        self.refused = 0  # attempts to connect that fail
        self.boots = 0
        self.slow = 0  # lines that are late
        self.ways: list[FailingTransport] = []

    def connect(self) -> Transport:
        """One more way to the board."""
        if self.refused:
            self.refused -= 1
            raise DeviceLost("the server does not answer; it may be starting")
        self.ways.append(FailingTransport(self, self.board.connect()))
        return self.ways[-1]

    def line(self, channel: FailingChannel, line: bytes) -> bytes:
        """What arrives of a line."""
        if self.slow:
            self.slow -= 1
            time.sleep(0.05)
        self.lines += 1
        self.all_lines += 1
        if not self.faults or self.lines < self.faults[0][1]:
            return line
        kind, _ = self.faults.pop(0)
        self.lines = 0
        print(kind, flush=True)  # while this process can
        return self._happen(kind, channel, line)

    def _happen(self, kind: str, channel: FailingChannel, line: bytes) -> bytes:
        if kind in self.board.faults:
            self.board.faults[kind]()
        elif kind == "garbage line":
            return b"\xff" + self.random.randbytes(31).replace(b"\n", b"\0")
        elif kind == "truncated line":
            return line[: self.random.randrange(max(1, len(line)))]
        elif kind == "host killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "slow link":
            self.slow = 40
        elif kind == "worker hangs":
            channel.hangs = True
        elif kind == "disk full":
            self.full = True
        elif kind == "worker killed":
            channel.close()
        else:
            self.refused = 3 * (kind == "server restarted")
            self.boots += kind == "reboot"
            for way in self.ways:
                way.lose()
        if kind == "disk full":  # met by whoever starts the next worker
            channel.close()
        return line


class FailingTransport:
    """A way to a board that fails when `Failing` says so."""

    def __init__(self, failing: Failing, inner: Transport) -> None:
        self._failing = failing
        self._inner = inner
        self._lost = False

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        self._check()
        done = self._inner.run(argv, timeout=timeout)
        boots = self._failing.boots
        if boots and argv[-1] == "/proc/sys/kernel/random/boot_id":
            # Another identifier than before, as a kernel draws one.
            first, end, last = done.stdout.rstrip(b"\n").rpartition(b"\n")
            drawn = hashlib.sha256(last + b"%d" % boots).hexdigest()[:32].encode()
            return replace(done, stdout=first + end + drawn + b"\n")
        return done

    def open(self, argv: Sequence[str]) -> Channel:
        self._check()
        return FailingChannel(self._failing, self, self._inner.open(argv))

    def push(self, local: Path, remote: PurePosixPath) -> None:
        self._check()
        if self._failing.full:
            raise StorageError(f"no space left while writing {remote}; free some there")
        self._inner.push(local, remote)

    def pull(self, remote: PurePosixPath, local: Path) -> None:
        self._check()
        self._inner.pull(remote, local)

    def close(self) -> None:
        self._inner.close()

    def lose(self) -> None:
        """Lose the link, for good."""
        self._lost = True
        self._inner.close()

    def _check(self) -> None:
        if self._lost:
            raise DeviceLost("the link to the board broke; run the same command again")


class FailingChannel:
    """A program on a board that fails."""

    def __init__(self, failing: Failing, way: FailingTransport, inner: Channel) -> None:
        self._failing = failing
        self._way = way
        self._inner = inner
        self.hangs = False

    def send(self, line: bytes) -> None:
        self._way._check()
        self._inner.send(line)

    def receive(self, *, timeout: float) -> bytes:
        self._way._check()
        if self.hangs:
            raise DeviceTimeout(f"the worker has not answered for {timeout:g} s")
        # What is slow here is a fault, so that nobody has to wait a minute for each.
        line = self._inner.receive(timeout=min(timeout, SILENCE))
        return self._failing.line(self, line)

    def close(self) -> None:
        self._inner.close()


# The process that builds


def build(name: str, folder: Path, faults: Sequence[tuple[str, int]], seed: int) -> int:
    """One attempt to build the table in `folder`. Tells each fault as it happens, and at the end
    how many lines came from the board, and how it ended."""
    with BOARDS[name](folder) as board:
        failing = Failing(board, faults, seed)
        transport = ReconnectingTransport(
            failing.connect,
            first_wait=0.01,
            longest_wait=0.2,
            on_reconnect=lambda words: print(f"# {words}"),
        )
        words = ""
        try:
            build_table(folder / TABLE, board.device(transport), small_plan(), SCHEDULE)
        except BoardfitError as error:
            words = f"{type(error).__name__}: {error}"
        finally:
            transport.close()
    print(json.dumps({"lines": failing.all_lines, "error": words}))
    return int(bool(words))


def small_plan() -> TablePlan:
    """Few operators and networks of a small space."""
    space = open_space("mobilenetv3-32", width_factor=0.25)
    return plan_table(space, calibration=6, validation=6, operators=40)


# The process that starts it again and again


@dataclass
class Tally:
    """What was seen over all attempts."""

    faults: Counter[str] = field(default_factory=Counter)
    harm: Counter[str] = field(
        default_factory=lambda: Counter({"lost": 0, "doubled": 0, "changed": 0})
    )
    looked_for: int = 0  # rows that had been committed before
    attempts: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # errors that ended an attempt, by name
    hangs: int = 0
    changed_settings: int = 0
    unlike: int = 0  # rows of finished tables that an undisturbed build has otherwise
    tables: int = 0


@dataclass(frozen=True)
class End:
    """How an attempt ended: the faults that happened, the lines that came, the error's name ("":
    none), whether it was ended here because it took too long."""

    faults: tuple[str, ...]
    lines: int
    error: str
    finished: bool
    hung: bool


def attempt(name: str, folder: Path, faults: Sequence[tuple[str, int]], seed: int) -> End:
    """Start the build once, with these faults before it. Raises RuntimeError where it ends in a
    way that no user should see."""
    argv = [sys.executable, __file__, "--attempt", name, str(folder), json.dumps(faults), str(seed)]
    leases = folder / "leases"
    leases.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, FOLDER_VARIABLE: str(leases)}
    hung = False
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            said, words = process.communicate(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            hung = True
            process.kill()
            said, words = process.communicate()
    lines = said.splitlines()
    happened = tuple(line for line in lines if line in KINDS)
    killed = "host killed" in happened
    if not hung and not killed and (words or process.returncode not in {0, 1}):
        raise RuntimeError(f"a build ended otherwise than with a result or an error: {words}")
    end = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    error = str(end.get("error", "")).partition(":")[0]
    return End(happened, int(end.get("lines", 0)), error, process.returncode == 0, hung)


def disturb(name: str, folder: Path, count: int, rng: random.Random, tally: Tally) -> None:
    """Build tables on one board until it has had so many faults."""
    begin = time.monotonic()
    whole = attempt(name, folder / "undisturbed", [], 0)
    if not whole.finished:
        raise RuntimeError(f"an undisturbed build on {name} ended with {whole.error}")
    print(
        f"{name}: an undisturbed build takes {time.monotonic() - begin:.1f} s and "
        f"{whole.lines} lines",
        flush=True,
    )
    kinds: list[str] = []
    done = number = 0
    before: Rows = {}
    while done < count or before:
        place = folder / f"table-{number}"
        faults: list[tuple[str, int]] = []
        for _ in range(min(rng.randint(1, 3), count - done)):
            if not kinds:
                kinds = rng.sample(KINDS, len(KINDS))
            faults.append((kinds.pop(), rng.randint(1, max(1, whole.lines // 3))))
        with BOARDS[name](place) as board:
            settings = board.settings()
            end = attempt(name, place, faults, rng.randrange(2**32))
            tally.changed_settings += board.settings() != settings
        kinds += [kind for kind, _ in faults[len(end.faults) :]]
        done += len(end.faults)
        tally.faults.update(end.faults)
        tally.attempts += 1
        tally.hangs += end.hung
        tally.refused.update([end.error] if end.error else [])
        tally.looked_for += len(before)
        before = grown(before, place / TABLE, tally.harm)
        if end.finished:
            tally.tables += 1
            if name in REPEATABLE:
                tally.unlike += unlike(place / TABLE, folder / "undisturbed" / TABLE)
            number, before = number + 1, {}


def unlike(path: Path, other: Path) -> int:
    """How many rows two tables do not share, apart from sessions and moments."""
    found = []
    for table in (path, other):
        with Store.open(table) as store:
            found.append({(*row[:6], *row[8:]) for row in store.samples()})
    return len(found[0] ^ found[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faults", type=int, default=FAULTS)
    parser.add_argument("--boards", default=",".join(BOARDS))
    parser.add_argument("--attempt", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attempt:
        name, folder, faults, seed = options.attempt
        return build(name, Path(folder), [(k, n) for k, n in json.loads(faults)], int(seed))
    names = options.boards.split(",")
    begin = time.monotonic()
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        for place, name in enumerate(names):
            count = (options.faults * (place + 1)) // len(names) - sum(tally.faults.values())
            disturb(name, Path(folder) / name, count, random.Random(place), tally)
    return int(not told(tally, options.faults, time.monotonic() - begin))


def told(tally: Tally, faults: int, seconds: float) -> bool:
    """Print what was seen; whether the bars are met."""
    for kind, count in sorted(tally.faults.items()):
        print(f"{kind}: {count}")
    ended = ", ".join(f"{name} {count}" for name, count in sorted(tally.refused.items()))
    print(
        f"{sum(tally.faults.values())} faults in {tally.attempts} attempts of {tally.tables} "
        f"tables in {seconds:.0f} s; {tally.looked_for} times a committed row was looked for "
        f"again. Attempts that ended with an error: {ended or 'none'}"
    )
    met = [
        bar("faults", sum(tally.faults.values()), faults, least=True, form="d"),
        bar("kinds of faults", len(tally.faults), min(8, faults), least=True, form="d"),
        *(bar(f"rows {name}", n, 0, least=False, form="d") for name, n in tally.harm.items()),
        bar("rows unlike an undisturbed build's", tally.unlike, 0, least=False, form="d"),
        bar(f"hangs of more than {LONGEST:.0f} s", tally.hangs, 0, least=False, form="d"),
        bar("boards with changed settings", tally.changed_settings, 0, least=False, form="d"),
    ]
    return all(met)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BoardfitError as error:
        sys.exit(str(error))
