"""One measuring job a board: threads on a fake board, processes and their signals on a real one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.base import Completed
from boardfit.devices.errors import BoardInUse, CommandFailed, DeviceError, DeviceLost, StorageError
from boardfit.devices.fake import FAKE_FILES, FakeTransport, SimulatedClock
from boardfit.devices.fake_board import FakeBoard
from boardfit.devices.lease import Lease, in_use, leased
from boardfit.devices.lease_place import (
    Claim,
    Owner,
    encoded,
    parse_claim,
    parse_now,
    shared_folder,
    this_job,
)
from boardfit.devices.local import LocalTransport

from .conftest import missing
from .other_jobs import entered_elsewhere, on_a_thread

SELDOM = 1e6  # seconds between heartbeats of a job that seems to be dead
PLACE = PurePosixPath("/tmp/boardfit-lease")


@pytest.fixture
def fake() -> FakeBoard:
    board = FakeBoard(FAKE_FILES, SimulatedClock())
    board.clock.advance(100)
    return board


def way(board: FakeBoard) -> FakeTransport:
    return FakeTransport(board=board)


def take(board: FakeBoard, owner: str, **options: Any) -> contextlib.AbstractContextManager[Lease]:
    """Another host's job on the board, over a way of its own."""
    options = {"sleep": board.clock.sleep, "beat": SELDOM, **options}
    return leased(way(board), "test", owner=Owner(owner), **options)


def expect_in_use(board: FakeBoard, words: str, **options: Any) -> None:
    def other() -> None:
        with pytest.raises(BoardInUse, match=words), take(board, "eve@far", **options):
            pass

    on_a_thread(other)


def folders(board: FakeBoard, part: str = "") -> list[str]:
    return sorted(path for path in board.folders if path.startswith(f"{PLACE}/{part}"))


# One holder


def test_a_second_job_is_told_who_holds_the_board_and_since_when(fake: FakeBoard) -> None:
    with take(fake, "ann@lab (process 7): build t"):
        fake.clock.advance(12)
        expect_in_use(fake, r"in use: ann@lab \(process 7\): build t has held it for 12 s")
    with take(fake, "bob@lab"):
        pass


def test_a_job_that_waits_is_told_whom_for_and_gets_its_turn(fake: FakeBoard) -> None:
    told: list[str] = []
    holder = contextlib.ExitStack()
    holder.enter_context(take(fake, "ann@lab"))

    def sleep(seconds: float) -> None:
        fake.clock.advance(seconds)
        if fake.clock.now() > 110:
            holder.close()

    def other() -> None:
        with take(fake, "bob@far", wait=60, sleep=sleep, tell=told.append):
            assert 110 < fake.clock.now() < 116

    on_a_thread(other)
    assert told[0] == "waiting for the board: ann@lab has held it for 0 s, and 0 other jobs wait"
    assert len(told) == 1  # nothing has changed but the seconds
    assert not folders(fake, "queue/")


def test_who_waited_too_long_gives_up_and_leaves_the_queue(fake: FakeBoard) -> None:
    with take(fake, "ann@lab", expiry=1e6):
        expect_in_use(fake, "in use after 20 s of waiting: ann@lab", wait=20, expiry=1e6)
        assert fake.clock.now() == pytest.approx(120, abs=0.1)
        assert not folders(fake, "queue/")


def test_a_job_goes_on_with_the_lease_that_it_has(fake: FakeBoard) -> None:
    transport = way(fake)
    with leased(transport, "outside") as one:
        with leased(transport, "inside") as two, leased(way(fake), "another way") as three:
            assert one is two is three
        expect_in_use(fake, "outside")  # the inner ones gave nothing back
        one.check()
    with take(fake, "bob@far"):
        pass


def test_a_thread_of_its_own_is_another_job(fake: FakeBoard) -> None:
    transport = way(fake)

    def other() -> None:
        with pytest.raises(BoardInUse), leased(transport, "inside of a thread"):
            pass

    with leased(transport, "outside"):
        on_a_thread(other)


def test_the_board_is_given_back_however_the_job_ends(fake: FakeBoard) -> None:
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), take(fake, "ann@lab"):
            raise error
        with take(fake, "bob@far"):
            pass
    assert len(folders(fake, "lock/")) == 1


def test_whether_a_board_is_in_use_can_be_asked_without_taking_it(fake: FakeBoard) -> None:
    assert in_use(way(fake)) == ""
    assert not folders(fake)
    with take(fake, "ann@lab: build t"):
        before = folders(fake)
        assert in_use(way(fake)) == "ann@lab: build t has held it for 0 s, and 0 other jobs wait"
        assert folders(fake) == before
        fake.clock.advance(31)
        assert in_use(way(fake)) == ""
    assert in_use(way(fake)) == ""


def test_it_lies_where_all_users_of_the_board_reach_it(fake: FakeBoard) -> None:
    assert shared_folder(way(fake)) == PLACE
    fake.folders.add("/data/local/tmp")
    assert str(shared_folder(way(fake))) == "/data/local/tmp/boardfit-lease"
    fake.folders -= {"/tmp", "/data/local/tmp"}
    with pytest.raises(CommandFailed, match="none of /data/local/tmp, /tmp"):
        shared_folder(way(fake))


# Dead holders


def test_a_dead_owner_is_taken_over_when_its_time_is_up(fake: FakeBoard) -> None:
    with take(fake, "ann@lab") as old:
        fake.clock.advance(30)
        expect_in_use(fake, "ann@lab")
        fake.clock.advance(0.1)
        with entered_elsewhere(take(fake, "bob@far")):
            held = folders(fake, "lock/")
            old.renew()
            with pytest.raises(
                BoardInUse, match=r"lost the board, .* heard of for 30 s .* bob@far has held it"
            ):
                old.check()
            old.end()
            assert folders(fake, "lock/") == held  # another's lease is not touched
    assert "free" in folders(fake, "lock/")[0]


def test_a_heartbeat_keeps_it(fake: FakeBoard) -> None:
    with take(fake, "ann@lab") as lease:
        for _ in range(5):
            fake.clock.advance(29)
            lease.renew()
        expect_in_use(fake, "ann@lab has held it for 145 s")
        lease.check()


def test_the_thread_gives_the_heartbeats(tmp_path: Path) -> None:
    folder = PurePosixPath(tmp_path / "lease")
    with leased(LocalTransport(), "test", folder=folder, expiry=0.5, beat=0.05):
        first = os.listdir(folder / "lock")
        time.sleep(0.8)
        assert os.listdir(folder / "lock") != first
        on_a_thread(lambda: expect_busy(folder))


def expect_busy(folder: PurePosixPath) -> None:
    with pytest.raises(BoardInUse), leased(LocalTransport(), "x", folder=folder, expiry=0.5):
        pass


def test_a_process_of_this_host_that_ended_is_not_waited_for(fake: FakeBoard) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine = this_job("x").process
    gone = f"{mine.partition('-')[0]}-{ended.pid}"
    for process, waits in ((mine, True), (f"00000000-{ended.pid}", True), (gone, False)):
        stack = contextlib.ExitStack()
        stack.enter_context(leased(way(fake), "x", owner=Owner("ann@lab", process), beat=SELDOM))
        if waits:
            expect_in_use(fake, "ann@lab")
        else:
            on_a_thread(lambda: take(fake, "bob@far").__enter__().check())
        stack.close()
        fake.clock.advance(100)


def test_a_dead_job_in_the_queue_is_passed_over(fake: FakeBoard) -> None:
    ticket = Claim("0" * 16, "-", fake.boot_id, 1.0, 60.0, "gone", number=1)
    with take(fake, "ann@lab"):
        pass
    fake.folders.add(f"{PLACE}/queue/{ticket.name}")
    with take(fake, "bob@far"):
        assert not folders(fake, "queue/")


def test_a_living_job_in_the_queue_is_not_overtaken(fake: FakeBoard) -> None:
    ticket = Claim("0" * 16, "-", fake.boot_id, 90.0, 90.0, "earlier", number=1)
    with take(fake, "ann@lab"):
        pass
    fake.folders.add(f"{PLACE}/queue/{ticket.name}")
    expect_in_use(fake, "nobody holds it, and 1 other job waits")


def test_who_was_removed_from_the_queue_joins_it_again(fake: FakeBoard) -> None:
    holder = contextlib.ExitStack()
    holder.enter_context(take(fake, "ann@lab", expiry=1e6))
    moments = iter(range(100))

    def sleep(seconds: float) -> None:
        moment = next(moments)
        fake.clock.advance(seconds)
        if moment == 3:
            fake.folders -= set(folders(fake, "queue/"))
        if moment == 8:
            assert len(folders(fake, "queue/")) == 1
            holder.close()

    def other() -> None:
        with take(fake, "bob@far", wait=60, sleep=sleep, expiry=1e6):
            pass

    on_a_thread(other)


# Reboots, lost links, full disks, tidied folders


def test_a_reboot_frees_the_board(fake: FakeBoard) -> None:
    transport = way(fake)
    kept = ("lock", "queue")
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(leased(transport, "old", beat=SELDOM))
        # /tmp may also outlive a reboot: the boot identifier tells.
        saved = {path for name in kept for path in folders(fake, name)} | {str(PLACE)}
        fake.clock.advance(50)
        fake.reboot()
        fake.folders |= saved
        with entered_elsewhere(take(fake, "bob@far")), pytest.raises(DeviceLost):
            old.renew()


@pytest.mark.parametrize("emptied", [True, False])
def test_after_a_reboot_a_job_keeps_the_board_where_nobody_was_faster(
    fake: FakeBoard, emptied: bool
) -> None:
    transport = Through(fake)
    with leased(transport, "old", beat=SELDOM) as old:
        saved = set(folders(fake)) | {str(PLACE)}
        fake.reboot()
        if not emptied:
            fake.folders |= saved
        fake.clock.advance(1)
        old.renew()
        old.check()
        expect_in_use(fake, "old has held it for 0 s")
        fake.reboot()
        with entered_elsewhere(take(fake, "bob@far")):
            old.renew()
            with pytest.raises(BoardInUse, match="bob@far"):
                old.check()


class Through(FakeTransport):
    """A way that is there again at once, and that loses answers after the board has acted."""

    def __init__(self, board: FakeBoard) -> None:
        super().__init__(board=board)
        self.lose: set[str] = set()

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        done = way(self.board).run(argv, timeout=timeout)
        if argv[2:3] and argv[2] in self.lose:
            self.lose.clear()
            raise DeviceLost("the link broke; run the same command again")
        return done


def test_an_answer_that_is_lost_loses_no_lease(fake: FakeBoard) -> None:
    transport = Through(fake)
    with leased(transport, "ann", beat=SELDOM) as lease:
        fake.clock.advance(5)
        transport.lose = {"mv"}
        with pytest.raises(DeviceLost):
            lease.renew()
        fake.clock.advance(5)
        lease.renew()
        lease.check()
        assert "110.00" in folders(fake, "lock/")[0]
        transport.lose = {"mv"}
    # It was given back although the answer to that was lost.
    with take(fake, "bob@far"):
        pass


@pytest.mark.parametrize("step", ["find", "cat", "mkdir", "mv", "rmdir"])
def test_a_link_that_breaks_while_the_board_is_taken_costs_nothing(
    fake: FakeBoard, step: str
) -> None:
    transport = Through(fake)
    transport.lose = {step}
    with leased(transport, "ann"):
        assert not transport.lose
        assert fake.clock.now() == 100  # above all it did not wait for itself
        expect_in_use(fake, "ann has held it")
    with take(fake, "bob@far"):
        pass


def test_a_place_that_can_no_longer_be_written_is_told(tmp_path: Path) -> None:
    class ReadOnly(LocalTransport):
        broken = False

        def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
            if self.broken and "mv" in argv:
                words = b"mv: cannot move: Read-only file system\n"
                return Completed(tuple(argv), 1, b"", words)
            return super().run(argv, timeout=timeout)

    transport = ReadOnly()
    place = PurePosixPath(tmp_path / "lease")
    with leased(transport, "ann", folder=place, expiry=0.2, beat=0.05) as lease:
        transport.broken = True
        time.sleep(0.2)
        with pytest.raises(StorageError, match=r"lease in .*Read-only file system; make that"):
            lease.check()


def test_a_link_that_breaks_while_waiting_costs_no_turn(fake: FakeBoard) -> None:
    transport = Through(fake)
    with take(fake, "ann@lab"):

        def sleep(seconds: float) -> None:
            fake.clock.advance(seconds)
            if 105 < fake.clock.now() < 108:
                transport.lose = {"find", "mv"}

        def other() -> None:
            with leased(transport, "waits", wait=60, sleep=sleep):
                assert fake.clock.now() < 135

        on_a_thread(other)


def test_a_full_disk_is_told(fake: FakeBoard) -> None:
    fake.full = True
    words = "no space left on the board for its lease"
    with pytest.raises(StorageError, match=words), take(fake, "ann@lab"):
        pass
    fake.full = False
    with take(fake, "ann@lab") as lease:
        fake.full = True  # a heartbeat needs no space
        fake.clock.advance(5)
        lease.renew()
        lease.check()
    with take(fake, "bob@far"):
        pass


def test_a_folder_that_was_tidied_away_is_made_again(fake: FakeBoard) -> None:
    with take(fake, "ann@lab"):
        pass
    for part in ("lock/", ""):  # the lock's inside, or all of it
        fake.folders -= set(folders(fake, part))
        with take(fake, "bob@far"):
            expect_in_use(fake, "bob@far")


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    expect_refused(tmp_path / "file", r"keep the board's lease in .*file.*; make that place")
    (tmp_path / "link").symlink_to(tmp_path)
    expect_refused(tmp_path / "link", "does not stay")


def expect_refused(folder: Path, words: str, error: type[Exception] = StorageError) -> None:
    place = PurePosixPath(folder)
    with pytest.raises(error, match=words), leased(LocalTransport(), "test", folder=place):
        pass


# What others write there


@given(st.text())
def test_a_claim_is_read_from_a_name_or_is_none(name: str) -> None:
    found = parse_claim(name)
    assert found is None or found.name == name


@given(
    st.integers(0, 2**64 - 1),
    st.floats(0, 1e9),
    st.floats(0, 1e9),
    st.text(max_size=300),
    st.one_of(st.none(), st.integers(1, 999_999_999)),
)
def test_a_claim_comes_back_from_its_name(
    token: int, since: float, beat: float, words: str, number: int | None
) -> None:
    with contextlib.suppress(UnicodeEncodeError):  # half a surrogate pair
        words.encode()
        claim = Claim(f"{token:016x}", "-", "0-a", since, beat, encoded(words), number)
        assert len(claim.name) <= 255
        assert "/" not in claim.name
        found = parse_claim(claim.name)
        assert found is not None
        assert found.name == claim.name
        assert found.words.isprintable()


@given(st.text())
def test_a_strange_clock_is_an_error_or_a_time(text: str) -> None:
    with contextlib.suppress(DeviceError):
        boot, uptime = parse_now(text)
        assert boot
        assert uptime >= 0


def test_the_clock_of_the_kernel_is_understood() -> None:
    assert parse_now("31514.41 33397.80\nc428b34b-2c80\n") == ("c428b34b-2c80", 31514.41)
    assert parse_now("12.5\n") == ("-", 12.5)
    with pytest.raises(DeviceError, match="does not tell how long it is up"):
        parse_now("12345678-80aa-4efa\n")  # an identifier alone, of which a part looks like a time


def test_what_others_write_there_is_data(tmp_path: Path) -> None:
    folder = tmp_path / "lease"
    with leased(LocalTransport(), "test", folder=PurePosixPath(folder)):
        pass
    hostile = ["$(touch pwned)", "-rf", "a b", "held,x", "new\nline", "'", "ü", "x" * 255]
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for name in hostile:
        (folder / "queue" / name).mkdir()
        (folder / "lock" / name).mkdir()
        (folder / "queue" / f"{name[:200]} file").write_text("x")
    with leased(LocalTransport(), "test", folder=PurePosixPath(folder)):
        assert {path.name for path in (folder / "lock").iterdir()} > set(hostile)
    (free,) = (path for path in (folder / "lock").iterdir() if path.name.startswith("free,"))
    words = "%1b[2Jred%0anext%00"
    free.rename(free.with_name(f"held,{'a' * 16},-,{boot},{uptime:.2f},{uptime:.2f},{words}"))
    expect_refused(folder, r": \?\[2Jred\?next\? has held it for 0 s, and", BoardInUse)
    assert not list(tmp_path.rglob("pwned"))


def test_this_job_says_who_where_and_what() -> None:
    assert f"(process {os.getpid()}): build t" in this_job("build t").words


# Races


def test_of_twenty_that_find_a_dead_owner_one_gets_the_board(fake: FakeBoard) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for turn in range(200):
            expect_one_winner(lambda: take(fake, "racer"), 20)
            fake.clock.advance(31)
            if turn % 50 == 49:  # also where the folders have to be made
                fake.folders -= set(folders(fake))
    finally:
        sys.setswitchinterval(before)


def test_of_twenty_real_jobs_one_gets_the_board(tmp_path: Path) -> None:
    for turn in range(8):
        folder = tmp_path / f"lease-{turn // 4}"  # to be made in every fourth turn
        for free in folder.glob("lock/free,*"):
            free.rename(free.with_name(f"held,{'a' * 16},-,0-0,1.00,1.00,of an earlier boot"))

        def ask(folder: Path = folder) -> contextlib.AbstractContextManager[Lease]:
            return leased(LocalTransport(), "racer", folder=PurePosixPath(folder))

        for stack in expect_one_winner(ask, 20):
            stack.close()
        assert len(list(folder.glob("lock/free,*"))) == 1


class SmallBoard(LocalTransport):
    """This machine with the tools of one program, as on Android (toybox) and small systems."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        return super().run(["env", f"PATH={self._folder}", *argv], timeout=timeout)


@pytest.mark.parametrize("program", ["toybox", "busybox"])
def test_the_tools_of_small_boards_are_enough(program: str, tmp_path: Path) -> None:
    path = shutil.which(program)
    if path is None:
        missing(program, f"apt-get install {program}")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("env", "cat", "find", "mkdir", "mv", "rmdir"):
        (tools / name).symlink_to(str(path))
    folder = tmp_path / "lease"

    def ask() -> contextlib.AbstractContextManager[Lease]:
        return leased(SmallBoard(tools), "racer", folder=PurePosixPath(folder), wait=0)

    for _ in range(3):
        for stack in expect_one_winner(ask, 8):
            stack.close()
        (free,) = folder.glob("lock/*")
        assert free.name.startswith("free,")
        free.rename(free.with_name(f"held,{'a' * 16},-,0-0,1.00,1.00,of an earlier boot"))
    with leased(SmallBoard(tools), "x", folder=PurePosixPath(folder)) as lease:
        (held,) = folder.glob("lock/held,*")
        held.rename(held.with_name("free,1"))
        time.sleep(0.05)  # a heartbeat within the same hundredth of a second changes no name
        lease.renew()
        with pytest.raises(BoardInUse):
            lease.check()
    assert shared_folder(SmallBoard(tools)).name == "boardfit-lease"


def expect_one_winner(
    ask: Callable[[], contextlib.AbstractContextManager[Lease]], count: int
) -> list[contextlib.ExitStack]:
    """Let so many ask at once, of which one gets it; what would give it back."""
    won: list[Lease] = []
    stacks: list[contextlib.ExitStack] = []
    barrier = threading.Barrier(count)

    def race() -> None:
        barrier.wait(30)
        stack = contextlib.ExitStack()
        with contextlib.suppress(BoardInUse):
            won.append(stack.enter_context(ask()))
        stacks.append(stack)

    threads = [threading.Thread(target=race) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert len(won) == 1
    won[0].check()
    return stacks


# Processes

JOB = """
import os, sys, time
from pathlib import PurePosixPath
from boardfit.devices.errors import BoardInUse
from boardfit.devices.lease import leased
from boardfit.devices.lease_place import Owner
from boardfit.devices.local import LocalTransport
folder, owner, turns, out, expiry, hold = sys.argv[1:]
for turn in range(int(turns)):
    with leased(LocalTransport(), "job", folder=PurePosixPath(folder), owner=Owner(owner), wait=60,
                expiry=float(expiry), beat=float(expiry) / 10, poll=0.02) as lease:
        begin = time.monotonic()
        print("held", turn, flush=True)
        end = begin + float(hold)
        while time.monotonic() < end:
            time.sleep(0.005)
            try:
                lease.check()
            except BoardInUse as error:
                print("lost", error, flush=True)
                sys.exit(3)
        with open(out, "a") as file:
            file.write(f"{owner} {begin} {time.monotonic()}\\n")
"""


@contextlib.contextmanager
def job(
    folder: Path, owner: str, *, turns: int = 1, expiry: float = 2.0, hold: float = 0.01
) -> Iterator[subprocess.Popen[str]]:
    argv = [str(folder / "lease"), owner, str(turns), str(folder / "turns"), str(expiry), str(hold)]
    process = subprocess.Popen(
        [sys.executable, "-c", JOB, *argv], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_three_jobs_take_turns_and_none_starves(tmp_path: Path) -> None:
    """Two processes here, and a third that is another user on another host."""
    owners = ["ann@here", "bob@here", "eve@elsewhere"]
    with contextlib.ExitStack() as stack:
        jobs = [stack.enter_context(job(tmp_path, owner, turns=10)) for owner in owners]
        for process in jobs:
            assert process.wait(60) == 0
    rows = [line.split() for line in (tmp_path / "turns").read_text().splitlines()]
    turns = sorted((float(begin), float(end), owner) for owner, begin, end in rows)
    assert len(turns) == 30
    for (_, end, _), (begin, _, _) in itertools.pairwise(turns):
        assert end <= begin
    # While all three want it, nobody has it twice before another has had it once.
    names = [owner for _, _, owner in turns]
    together = names[max(map(names.index, owners)) :]
    last = min(len(together) - 1 - together[::-1].index(owner) for owner in owners)
    for place in range(last - 3):
        assert len(set(together[place : place + 5])) == 3, together


def test_the_lease_of_a_killed_owner_is_taken_over_in_time(tmp_path: Path) -> None:
    with job(tmp_path, "dead", expiry=1.5, hold=60) as dead:
        assert said(dead) == "held 0"
        with job(tmp_path, "next", expiry=1.5) as following:
            time.sleep(0.5)
            dead.kill()
            dead.wait(10)
            killed = time.monotonic()
            assert said(following) == "held 0"
            assert 1.0 < time.monotonic() - killed < 4.0
            assert following.wait(10) == 0


def test_a_suspended_owner_finds_out_that_it_lost_the_board(tmp_path: Path) -> None:
    with job(tmp_path, "sleeper", expiry=1.0, hold=60) as sleeper:
        assert said(sleeper) == "held 0"
        sleeper.send_signal(signal.SIGSTOP)
        with job(tmp_path, "awake", expiry=1.0, hold=1.0) as awake:
            assert said(awake) == "held 0"
            sleeper.send_signal(signal.SIGCONT)
            assert "lost this job has lost the board, as it was not heard of for 1 s" in said(
                sleeper
            )
            assert sleeper.wait(10) == 3
            assert awake.wait(10) == 0  # it was left alone
    assert [line.split()[0] for line in (tmp_path / "turns").read_text().splitlines()] == ["awake"]


def test_a_job_that_is_killed_at_any_moment_blocks_nobody(tmp_path: Path) -> None:
    rng = random.Random(0)
    for _ in range(6):
        with job(tmp_path, "killed", turns=100, expiry=0.6, hold=0.0):
            time.sleep(rng.uniform(0.1, 0.5))
    with job(tmp_path, "last", expiry=0.6) as last:
        assert last.wait(20) == 0
    assert json.dumps(os.listdir(tmp_path / "lease" / "lock")).count("free,") == 1
