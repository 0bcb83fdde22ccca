"""The fake board: simulated time, built-in commands, and faults that come when they are told to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.base import Channel, Completed
from boardfit.devices.errors import CommandFailed, DeviceLost, DeviceTimeout
from boardfit.devices.fake import FakeTransport, Faults, ProgramExit, SimulatedClock


class Counter:
    """Says hello, then answers each line with three numbered ones; remembers what it was asked."""

    def __init__(self) -> None:
        self.handled: list[bytes] = []
        self.produced = 0

    def start(self) -> Iterator[bytes]:
        yield b"hello"

    def handle(self, line: bytes) -> Iterator[bytes]:
        self.handled.append(line)
        for number in range(3):
            self.produced += 1
            yield line + b" %d" % number


NO_FAULTS = Faults()


def open_counter(faults: Faults = NO_FAULTS) -> tuple[FakeTransport, Channel]:
    transport = FakeTransport(programs={"counter": Counter}, faults=faults)
    return transport, transport.open(["counter", "--any", "argument"])


def lines(channel: Channel, count: int) -> list[bytes]:
    return [channel.receive(timeout=1) for _ in range(count)]


# Time


def test_time_passes_only_when_told() -> None:
    clock = SimulatedClock(100.0)
    assert (clock.start, clock.now()) == (100.0, 100.0)
    clock.advance(1.5)
    clock.sleep(0.5)
    assert (clock.start, clock.now()) == (100.0, 102.0)


@pytest.mark.parametrize("seconds", [-1e-9, float("nan"), float("inf")])
def test_time_goes_neither_back_nor_on_for_ever(seconds: float) -> None:
    clock = SimulatedClock()
    with pytest.raises(ValueError, match="time cannot pass"):
        clock.advance(seconds)
    assert clock.now() == 0


@given(st.lists(st.floats(0, 1e6), max_size=20))
def test_time_never_goes_back(steps: list[float]) -> None:
    clock = SimulatedClock(5.0)
    for step in steps:
        before = clock.now()
        clock.advance(step)
        assert clock.now() >= before
    assert clock.now() == pytest.approx(5.0 + sum(steps))


def test_a_day_of_waiting_takes_no_time() -> None:
    begin = time.monotonic()
    clock = SimulatedClock()
    transport = FakeTransport(programs={"counter": Counter}, clock=clock)
    transport.run(["sleep", "3600"], timeout=7200)
    with pytest.raises(DeviceTimeout):
        transport.run(["sleep", "7200"], timeout=3600)
    channel = transport.open(["counter"])
    assert channel.receive(timeout=86400) == b"hello"
    assert clock.now() == 7200  # an answer that is there is not waited for
    with pytest.raises(DeviceTimeout):
        channel.receive(timeout=86400)
    assert clock.now() == 7200 + 86400
    assert time.monotonic() - begin < 5


# Files and commands


def test_cat_joins_files_and_names_those_that_are_missing() -> None:
    transport = FakeTransport({"/a": b"1", "/b": b"2\xff"})
    done = transport.run(["cat", "/a", "/no", "/./b"], timeout=1)
    assert (done.code, done.stdout, done.stderr) == (
        1,
        b"12\xff",
        b"cat: /no: No such file or directory\n",
    )


def test_uname_answers_one_flag() -> None:
    transport = FakeTransport(uname={"-m": "armv7l"})
    assert transport.run(["uname", "-m"], timeout=1).stdout == b"armv7l\n"
    with pytest.raises(CommandFailed):
        transport.run(["uname", "-r"], timeout=1)


def test_commands_are_functions_and_may_replace_built_in_ones() -> None:
    transport = FakeTransport(commands={"true": lambda argv: Completed(argv, 42, b"", b"no")})
    assert transport.run(["true", "x"], timeout=1) == Completed(("true", "x"), 42, b"", b"no")


def test_files_handed_in_are_not_changed(tmp_path: Path) -> None:
    files = {"/a": b"1"}
    transport = FakeTransport(files)
    (tmp_path / "new").write_bytes(b"2")
    transport.push(tmp_path / "new", PurePosixPath("/a"))
    assert transport.files == {"/a": b"2"}
    assert files == {"/a": b"1"}


# Programs


def test_answers_are_made_when_they_are_asked_for() -> None:
    counter = Counter()
    channel = FakeTransport(programs={"counter": lambda: counter}).open(["counter"])
    channel.send(b"a")
    channel.send(b"b")
    assert lines(channel, 2) == [b"hello", b"a 0"]
    assert (counter.handled, counter.produced) == ([b"a"], 1)
    assert lines(channel, 3) == [b"a 1", b"a 2", b"b 0"]
    assert (counter.handled, counter.produced) == ([b"a", b"b"], 4)


def test_each_channel_has_a_program_of_its_own() -> None:
    transport, one = open_counter()
    two = transport.open(["counter"])
    assert one.receive(timeout=1) == two.receive(timeout=1) == b"hello"


def test_a_program_may_end_before_it_says_anything() -> None:
    class Stillborn(Counter):
        def start(self) -> Iterator[bytes]:
            raise ProgramExit(127)
            yield b"never"

    channel = FakeTransport(programs={"stillborn": Stillborn}).open(["stillborn"])
    with pytest.raises(DeviceLost, match="stillborn ended with code 127"):
        channel.receive(timeout=1)


def test_a_mistake_in_a_program_is_not_hidden() -> None:
    class Wrong(Counter):
        def handle(self, line: bytes) -> Iterator[bytes]:
            raise ZeroDivisionError
            yield b"never"

    channel = FakeTransport(programs={"wrong": Wrong}).open(["wrong"])
    channel.send(b"a")
    assert channel.receive(timeout=1) == b"hello"
    with pytest.raises(ZeroDivisionError):
        channel.receive(timeout=1)


# Faults


def test_a_lost_link_is_lost_once_and_a_second_attempt_goes_on() -> None:
    transport, channel = open_counter(Faults(lose=frozenset({3})))
    channel.send(b"a")
    assert lines(channel, 2) == [b"hello", b"a 0"]
    for _ in range(2):
        with pytest.raises(DeviceLost, match="link to counter broke; run the same command"):
            channel.receive(timeout=1)
    with pytest.raises(DeviceLost):
        channel.send(b"b")
    again = transport.open(["counter"])
    again.send(b"a")
    assert lines(again, 4) == [b"hello", b"a 0", b"a 1", b"a 2"]


def test_a_hanging_program_says_nothing_more_and_another_one_does() -> None:
    transport, channel = open_counter(Faults(hang=frozenset({2})))
    assert channel.receive(timeout=1) == b"hello"
    channel.send(b"a")
    for waited in (10, 20):
        with pytest.raises(DeviceTimeout, match="not answered for 10 s"):
            channel.receive(timeout=10)
        assert transport.clock.now() == waited
    assert transport.open(["counter"]).receive(timeout=1) == b"hello"


def test_garbage_takes_the_place_of_one_line() -> None:
    _, channel = open_counter(Faults(garbage=frozenset({2})))
    channel.send(b"a")
    first, garbage, *rest = lines(channel, 4)
    assert (first, rest) == (b"hello", [b"a 1", b"a 2"])
    assert b"\n" not in garbage
    with pytest.raises(UnicodeDecodeError):
        garbage.decode()


@given(st.integers(0, 2**32))
def test_a_truncated_line_is_a_true_beginning(seed: int) -> None:
    _, channel = open_counter(Faults(truncate=frozenset({1}), seed=seed))
    line = channel.receive(timeout=1)
    assert b"hello".startswith(line)
    assert len(line) < len(b"hello")


def test_faults_are_the_same_for_the_same_seed() -> None:
    def spoiled(seed: int) -> list[bytes]:
        faults = Faults(garbage=frozenset({1, 3}), truncate=frozenset({2}), seed=seed)
        _, channel = open_counter(faults)
        channel.send(b"a")
        return lines(channel, 4)

    assert spoiled(1) == spoiled(1)
    assert spoiled(1) != spoiled(2)


def test_faults_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="counted from 1"):
        Faults(lose=frozenset({0}))
    with pytest.raises(ValueError, match="two faults"):
        Faults(lose=frozenset({4}), hang=frozenset({4}))
