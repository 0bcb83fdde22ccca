"""Builds on boards that fail in every way that boards do, at random moments, until they are done.

python benchmarks/measure_faults.py [--faults N] [--boards NAME,...] [--into FILE]

`fake` is the simulated board; `ssh`, `adb` and `phone` (measured by a tool, through Android's adb
server) are machines with real servers, whose clock governor each build sets (these need root). Each
build is a process of its own, which is started again with the same arguments until the table is
finished. All boards are at work at the same time. A FILE keeps what was seen after each table, so
that an interrupted call goes on until there were N faults.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import faults_build
import faults_fake
from faults_boards import BOARDS, Board
from faults_machine import GOVERNOR, can_be_made
from faults_process import Build, End
from faults_tally import Seen, Tally, told
from measure_kills import Rows, grown

from boardfit.profiler.store import Store

FAULTS = 200
SHARES = {"fake": 5, "ssh": 7, "adb": 7, "phone": 2}  # of the faults; a phone is slow
PUT_BACK = 75.0  # seconds within which settings are put back: a watchdog has 60
ENDS = 15.0  # seconds for workers to end after their host
FAKE_SILENCE = 120.0  # seconds of a build on the simulated board
TABLE = "table.boardfit"
REPEATABLE = {"fake", "phone"}  # boards on which every build sees the same values


# A way to try to build once: the table, faults in the order in which they come, each with its
# moment after the one before, and the seed of what is random; the faults that happened.
Attempt = Callable[[Path, Sequence[tuple[str, float]], int], tuple[End, list[str]]]


def attempt_on_fake(
    table: Path, faults: Sequence[tuple[str, float]], seed: int
) -> tuple[End, list[str]]:
    """Build on the simulated board, which fails from inside; moments are counted in lines."""
    counts = [(kind, max(1, int(lines))) for kind, lines in faults]
    process = Build(faults_fake.build, table, counts, seed, environment={}, silence=FAKE_SILENCE)
    process.wait()
    return process.end(), [line for line in process.said if line in faults_fake.KINDS]


def attempt_on(board: Board) -> Attempt:
    """Build on a machine, which fails from outside; moments are seconds, from when it is ready."""

    def attempt(
        table: Path, faults: Sequence[tuple[str, float]], seed: int
    ) -> tuple[End, list[str]]:
        rng = random.Random(seed)
        inventory = table.with_name("boards.toml")
        inventory.write_text(board.inventory())
        process = Build(
            faults_build.build,
            board.name,
            inventory,
            table,
            environment=board.environment,
            silence=board.silence,
        )
        process.wait(lambda: faults_build.READY in process.said)
        happened = []
        for kind, seconds in faults:
            process.sleep(seconds)
            while not process.ended and not process.hung:
                if board.kinds[kind](process, rng):
                    happened.append(kind)
                    break
                process.sleep(0.05)  # there is no worker just now
        process.wait()
        return process.end(), happened

    return attempt


@contextlib.contextmanager
def ways(name: str, folder: Path) -> Iterator[tuple[Attempt, Sequence[str], Board | None]]:
    """How to build on a board, and the kinds of faults that it knows."""
    if name == "fake":
        yield attempt_on_fake, faults_fake.KINDS, None
        return
    with BOARDS[name](folder) as board:
        yield attempt_on(board), tuple(board.kinds), board


def disturb(
    name: str,
    folder: Path,
    count: int,
    rng: random.Random,
    keep: Callable[[Tally], None],
    logs: Path | None,
) -> None:
    """Build tables on one board until it has had so many faults; `keep` is told after each table
    what was seen."""
    with ways(name, folder) as (attempt, known, board):
        (folder / "undisturbed").mkdir(parents=True)
        begin = time.monotonic()
        whole, _ = attempt(folder / "undisturbed" / TABLE, [], 0)
        if not whole.finished:
            raise RuntimeError(f"an undisturbed build on {name} ended: {whole.said}")
        took = time.monotonic() - begin
        print(f"{name}: an undisturbed build takes {took:.1f} s", flush=True)
        # Moments are counted in lines of the simulated board, or in seconds; other work on this
        # machine makes some builds longer than others.
        longest = float(whole.said.get("lines", took)) / 3
        kinds: list[str] = []
        done = number = 0
        tally, before = Tally(), Rows()
        while done < count or tally.attempts:  # a table that was begun is finished
            begin = time.monotonic()
            place = folder / f"table-{number}"
            place.mkdir(exist_ok=True)
            faults: list[tuple[str, float]] = []
            for _ in range(min(rng.randint(1, 3), count - done)):
                if not kinds:
                    kinds = rng.sample(known, len(known))
                faults.append((kinds.pop(), rng.uniform(0.0, longest)))
            with _watched(board) as seen:
                end, happened = attempt(place / TABLE, faults, rng.randrange(2**32))
            done += len(happened)
            kinds += [kind for kind, _ in faults[len(happened) :]]
            if logs:
                _log(logs / f"{name}.log", end, happened)
            words = ", ".join(happened) or "no fault"
            print(f"{name}: {words}: {end.said.get('error') or 'finished'!s:.300}", flush=True)
            tally.faults.update(f"{name}, {kind}" for kind in happened)
            tally.attempts += 1
            tally.hangs += end.hung
            tally.longest_silence = max(tally.longest_silence, end.silence)
            tally.refused.update([end.error] if end.error else [])
            tally.looked_for += len(before)
            tally.settings_seen += seen.is_set()
            before = grown(before, place / TABLE, tally.harm)
            _look_at_board(board, end, rng, tally)
            if end.finished:
                if board is not None and not happened:
                    longest = min(longest, end.seconds / 2)
                tally.tables += 1
                if name in REPEATABLE:
                    tally.unlike += unlike(place / TABLE, folder / "undisturbed" / TABLE)
            tally.seconds += time.monotonic() - begin
            if end.finished:
                keep(tally)
                number, tally, before = number + 1, Tally(), Rows()
        if board is not None:
            keep(Tally(changed_settings=int(not _comes_back(board, PUT_BACK))))


def _log(path: Path, end: End, happened: Sequence[str]) -> None:
    """Write down what a build said, with the seconds from its beginning."""
    with path.open("a") as log:
        log.write(f"== {', '.join(happened)}\n")
        log.writelines(f"{at:8.1f} {line}\n" for at, line in end.log)


@contextlib.contextmanager
def _watched(board: Board | None) -> Iterator[threading.Event]:
    """Whether the governor was seen to be another one meanwhile."""
    seen, over = threading.Event(), threading.Event()

    def watch() -> None:
        while board is not None and not over.wait(0.05):
            if board.machine.governor not in {GOVERNOR, ""}:
                seen.set()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _look_at_board(board: Board | None, end: End, rng: random.Random, tally: Tally) -> None:
    """Whether its settings are as before, and nothing of ours runs there.

    Where the build could not see to it, the board does so by itself, or else the next build.
    """
    if board is None:
        tally.changed_settings += bool(end.said.get("changed", False))
        return
    back = board.machine.governor == GOVERNOR
    tally.put_back_late += not back
    if end.finished:
        tally.changed_settings += not back
        deadline = time.monotonic() + ENDS
        while (left := len(board.machine.running(board.work))) and time.monotonic() < deadline:
            time.sleep(0.1)
        tally.left_over += left
    elif not back and rng.random() < 0.5:
        tally.changed_settings += not _comes_back(board, PUT_BACK)


def _comes_back(board: Board, seconds: float) -> bool:
    """Whether the governor is what it was within so many seconds."""
    deadline = time.monotonic() + seconds
    while board.machine.governor != GOVERNOR:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


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
    parser.add_argument("--boards", default=",".join(SHARES))
    parser.add_argument("--logs", type=Path, help="a folder for all that the builds say")
    parser.add_argument("--into", type=Path, help="a file that holds what earlier calls have seen")
    options = parser.parse_args()
    names = options.boards.split(",")
    if names != ["fake"] and Path(__file__).is_relative_to("/tmp"):
        print("MISSED: the machines have a /tmp of their own, and do not see this checkout there")
        return 1
    if missing := [name for name in names if name in BOARDS and not can_be_made()]:
        print(f"MISSED: {', '.join(missing)}: only root can make such boards, on Linux")
        return 1
    seen = Seen(options.into)
    left = max(0, options.faults - sum(seen.tally.faults.values()))
    weights = [SHARES[name] for name in names]
    places = [left * sum(weights[:n]) // sum(weights) for n in range(len(names) + 1)]
    counts = [after - before for before, after in pairwise(places)]
    # Not in /tmp, since the machines have one of their own.
    with (
        tempfile.TemporaryDirectory(prefix="boardfit-", dir="/var/tmp") as folder,
        ThreadPoolExecutor(len(names)) as threads,
    ):
        jobs = [
            threads.submit(
                disturb,
                name,
                Path(folder) / name,
                count,
                random.Random(f"{name} {seen.calls}"),
                seen.keep,
                options.logs,
            )
            for name, count in zip(names, counts, strict=True)
            if count
        ]
        for job in jobs:
            job.result()
    return int(not told(seen.tally, options.faults))


if __name__ == "__main__":
    sys.exit(main())
