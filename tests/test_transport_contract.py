"""What every transport promises, over all of them (see `transport_boards.py`)."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boardfit.devices.base import LINE_LIMIT, Completed
from boardfit.devices.errors import (
    CommandFailed,
    DeviceError,
    DeviceLost,
    DeviceTimeout,
    InputError,
    StorageError,
)

from .transport_boards import BOARDS, Board

HOSTILE = [
    "with space",
    "quote'single",
    'quote"double',
    "new\nline",
    "$(touch pwned)",
    "`touch pwned`",
    "semi;colon",
    "amper&sand | pipe > out",
    "-leading-dash",
    "--",
    "star*?[a]",
    "back\\slash",
    "tilde~ $HOME",
    "ünïcode ☃",
    "n" * 255,
]


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Board]:
    with BOARDS[request.param](tmp_path) as found:
        yield found
        found.transport.close()


def test_exit_codes_are_returned_and_not_raised(board: Board) -> None:
    assert board.transport.run(["true"], timeout=10).code == 0
    assert board.transport.run(["false"], timeout=10).code == 1
    with pytest.raises(CommandFailed, match="false ended with code 1"):
        board.transport.run(["false"], timeout=10).check()


def test_output_is_kept_apart_byte_for_byte(board: Board) -> None:
    done = board.transport.run(argv := board.call("streams"), timeout=10)
    assert done == Completed(tuple(argv), 7, b"out\0\xff\n", b"err\n")


def test_a_missing_program_is_named_with_the_next_step(board: Board) -> None:
    with pytest.raises(CommandFailed, match=r"no program 'no-such-program' .*; "):
        board.transport.run(["no-such-program"], timeout=10)
    with pytest.raises(CommandFailed, match=r"no program 'no-such-program' .*; "):
        board.transport.open(["no-such-program"])


def test_a_command_that_takes_too_long_is_given_up(board: Board) -> None:
    with pytest.raises(DeviceTimeout, match=r"sleep.*longer than 0\.05 s"):
        board.transport.run(["sleep", "60"], timeout=0.05)
    assert board.transport.run(["true"], timeout=10).code == 0


def test_arguments_arrive_as_they_are(board: Board) -> None:
    arguments = [*HOSTILE, ""]
    done = board.transport.run([*board.call("arguments"), *arguments], timeout=10)
    assert json.loads(done.stdout) == arguments


@pytest.mark.parametrize(
    "size", [0, 1, 5_000_000, pytest.param(50_000_000, marks=pytest.mark.boards)]
)
def test_files_travel_byte_for_byte(board: Board, tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    (tmp_path / "source").write_bytes(content)
    remote = board.root / "new" / "folders" / "file"
    board.transport.push(tmp_path / "source", remote)
    assert board.transport.run(["cat", str(remote)], timeout=120).stdout == content
    board.transport.pull(remote, tmp_path / "also" / "new" / "copy")
    assert (tmp_path / "also" / "new" / "copy").read_bytes() == content


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_names_of_files_mean_nothing_else(board: Board, tmp_path: Path, name: str) -> None:
    (tmp_path / "source").write_bytes(name.encode())
    board.transport.push(tmp_path / "source", board.root / name)
    done = board.transport.run(["cat", "--", str(board.root / name)], timeout=10)
    assert done.check().stdout == name.encode()
    board.transport.pull(board.root / name, tmp_path / "back" / name)
    assert [path.name for path in (tmp_path / "back").iterdir()] == [name]
    assert (tmp_path / "back" / name).read_bytes() == name.encode()


def test_a_copy_replaces_an_older_file(board: Board, tmp_path: Path) -> None:
    for content in (b"a long first version", b"second"):
        (tmp_path / "source").write_bytes(content)
        board.transport.push(tmp_path / "source", board.root / "file")
        board.transport.pull(board.root / "file", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == content


def test_missing_files_are_named(board: Board, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: it does not exist"):
        board.transport.push(tmp_path / "absent", board.root / "file")
    with pytest.raises(CommandFailed, match="gone: it does not exist"):
        board.transport.pull(board.root / "gone", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    done = board.transport.run(["cat", str(board.root / "gone")], timeout=10)
    assert done.code == 1
    assert b"gone" in done.stderr


def test_only_ordinary_files_are_pushed(board: Board, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not an ordinary file"):
        board.transport.push(tmp_path, board.root / "file")
    with pytest.raises(InputError, match="not an ordinary file"):
        board.transport.push(Path("/dev/zero"), board.root / "file")


def test_pulling_to_a_place_that_is_taken_leaves_nothing_behind(
    board: Board, tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(b"1")
    board.transport.push(tmp_path / "source", board.root / "file")
    place = tmp_path / "place"
    (place / "folder").mkdir(parents=True)
    with pytest.raises(StorageError, match="folder"):
        board.transport.pull(board.root / "file", place / "folder")
    with pytest.raises(StorageError, match="source"):
        board.transport.pull(board.root / "file", tmp_path / "source" / "below a file")
    assert [path.name for path in place.iterdir()] == ["folder"]


def test_lines_are_exchanged(board: Board) -> None:
    channel = board.transport.open(board.call("echo"))
    for line in (b"one", b"", b'{"two": 2}', b"\xff\0\r", b"x" * 3_000_000):
        channel.send(line)
        assert channel.receive(timeout=10) == line
    channel.close()


def test_lines_sent_ahead_are_answered_in_order(board: Board) -> None:
    channel = board.transport.open(board.call("greeter"))
    channel.send(b"2")
    channel.send(b"0")
    channel.send(b"1")
    assert [channel.receive(timeout=10) for _ in range(4)] == [b"hello", b"0", b"1", b"0"]


def test_channels_do_not_mix(board: Board) -> None:
    one, two = (board.transport.open(board.call("echo")) for _ in range(2))
    one.send(b"one")
    two.send(b"two")
    assert two.receive(timeout=10) == b"two"
    one.close()
    two.send(b"still there")
    assert two.receive(timeout=10) == b"still there"


def test_commands_run_while_another_thread_waits_for_a_line(board: Board) -> None:
    """A lease is renewed while the worker is measuring."""
    channel = board.transport.open(board.call("echo"))
    waits, enough = threading.Event(), threading.Event()
    found: list[bytes] = []

    def wait() -> None:
        while not enough.is_set():
            waits.set()
            with contextlib.suppress(DeviceTimeout):
                channel.receive(timeout=0.5)
        channel.send(b"still there")
        found.append(channel.receive(timeout=10))

    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(10)
    for _ in range(3):
        assert board.transport.run(["true"], timeout=10).code == 0
    enough.set()
    thread.join(30)
    assert found == [b"still there"]


def test_a_line_cannot_smuggle_in_another(board: Board) -> None:
    channel = board.transport.open(board.call("echo"))
    with pytest.raises(ValueError, match="newline"):
        channel.send(b"one\ntwo")
    channel.send(b"three")
    assert channel.receive(timeout=10) == b"three"


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_silence_is_a_timeout_and_the_channel_lives_on(board: Board, timeout: float) -> None:
    channel = board.transport.open(board.call("echo"))
    with pytest.raises(DeviceTimeout, match=f"not answered for {timeout:g} s"):
        channel.receive(timeout=timeout)
    channel.send(b"awake?")
    assert channel.receive(timeout=10) == b"awake?"


def test_the_end_of_a_program_is_told_with_its_code_and_last_words(board: Board) -> None:
    channel = board.transport.open(board.call("mortal"))
    channel.send(b"anything")
    assert channel.receive(timeout=10) == b"farewell"
    for _ in range(2):
        with pytest.raises(DeviceLost, match=r"ended with code 3.*out of luck"):
            channel.receive(timeout=10)
    with pytest.raises(DeviceLost, match=r"ended with code 3.*out of luck"):
        channel.send(b"more")
    channel.close()


def test_a_line_without_end_is_refused(board: Board) -> None:
    channel = board.transport.open(board.call("endless"))
    channel.send(b"go")
    with pytest.raises(DeviceError, match=f"line of more than {LINE_LIMIT} bytes") as caught:
        channel.receive(timeout=60)
    assert not isinstance(caught.value, DeviceTimeout)
    with pytest.raises(DeviceLost):
        channel.receive(timeout=1)


def test_closing_twice_does_nothing(board: Board) -> None:
    channel = board.transport.open(board.call("greeter"))
    channel.close()
    channel.close()
    with pytest.raises(DeviceLost, match="closed"):
        channel.send(b"1")
    with pytest.raises(DeviceLost, match="closed"):
        channel.receive(timeout=1)
    board.transport.close()
    board.transport.close()


def test_a_closed_transport_ends_what_was_opened_over_it(board: Board, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"1")
    channel = board.transport.open(board.call("echo"))
    board.transport.close()
    attempts: list[Callable[[], object]] = [
        lambda: channel.send(b"1"),
        lambda: board.transport.run(["true"], timeout=1),
        lambda: board.transport.open(board.call("echo")),
        lambda: board.transport.push(tmp_path / "source", board.root / "file"),
        lambda: board.transport.pull(board.root / "file", tmp_path / "copy"),
    ]
    for attempt in attempts:
        with pytest.raises(DeviceLost, match="closed"):
            attempt()
