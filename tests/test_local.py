"""The machine at hand: what only real processes, pipes and disks can get wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from types import FrameType

import pytest

from boardfit.devices.base import LINE_LIMIT
from boardfit.devices.board_entry import BoardEntry
from boardfit.devices.errors import (
    CommandFailed,
    DeviceError,
    DeviceLost,
    DeviceTimeout,
    InventoryError,
    StorageError,
)
from boardfit.devices.line_channel import LineChannel
from boardfit.devices.local import LocalTransport, local_device


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


@pytest.fixture
def local() -> Iterator[LocalTransport]:
    transport = LocalTransport()
    yield transport
    transport.close()


def state_and_group(pid: int | str) -> tuple[str, int]:
    """The state of a process (`X` where there is none) and the number of its group."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "X", 0
    state, _, group = stat.rpartition(")")[2].split()[:3]
    return state, int(group)


def lives(pid: int | str) -> bool:
    """Whether a process runs; one that only waits to be reaped by init does not."""
    return state_and_group(pid)[0] not in {"Z", "X"}


def group_of(pid: int) -> set[str]:
    """The processes of a group that run."""
    everyone = [name for name in os.listdir("/proc") if name.isdigit()]
    return {other for other in everyone if state_and_group(other)[1] == pid and lives(other)}


def until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def our_children() -> set[str]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= set((task / "children").read_text().split())
    return found


def open_files() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")


# Commands


@needs_proc
def test_a_timeout_ends_what_the_command_started_too(local: LocalTransport, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(DeviceTimeout):
        local.run(["sh", "-c", f"sleep 60 & echo $! > '{note}'; wait"], timeout=0.5)
    grandchild = int(note.read_text())
    assert until(lambda: not lives(grandchild))


@needs_proc
def test_a_timeout_holds_where_only_a_grandchild_keeps_the_output_open(
    local: LocalTransport,
) -> None:
    begin = time.monotonic()
    with pytest.raises(DeviceTimeout):
        local.run(["sh", "-c", "sleep 60 & exit 0"], timeout=0.2)
    assert time.monotonic() - begin < 5


def test_a_timeout_holds_where_the_output_was_closed_early(local: LocalTransport) -> None:
    with pytest.raises(DeviceTimeout):
        local.run(["sh", "-c", "exec sleep 60 >&- 2>&-"], timeout=0.2)


@pytest.mark.parametrize("script", ["yes", "yes >&2"])
def test_output_without_end_does_not_fill_the_memory(local: LocalTransport, script: str) -> None:
    with pytest.raises(DeviceError, match=f"more than {LINE_LIMIT} bytes"):
        local.run(["sh", "-c", script], timeout=60)


def test_much_output_on_both_streams_does_not_block(local: LocalTransport) -> None:
    code = "import os\nfor _ in range(40): os.write(1, b'o' * 65536); os.write(2, b'e' * 65536)"
    done = local.run(python(code), timeout=30)
    assert (done.code, len(done.stdout), len(done.stderr)) == (0, 40 * 65536, 40 * 65536)


def test_a_command_reads_nothing(local: LocalTransport) -> None:
    assert local.run(["cat"], timeout=10).stdout == b""


def test_the_code_of_a_killed_command_is_not_0(local: LocalTransport) -> None:
    assert local.run(["sh", "-c", "kill -9 $$"], timeout=10).code == -signal.SIGKILL


def test_what_is_not_a_program_is_named(local: LocalTransport, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"\x7fELF of another machine")
    with pytest.raises(CommandFailed, match=r"plain.*Permission denied; check"):
        local.run([str(plain)], timeout=10)
    plain.chmod(0o755)
    with pytest.raises(CommandFailed, match=r"plain.*Exec format error; check"):
        local.run([str(plain)], timeout=10)
    with pytest.raises(CommandFailed, match="null byte; check"):
        local.run(["true", "a\0b"], timeout=10)


@needs_proc
def test_an_interruption_leaves_no_process(local: LocalTransport) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = our_children()
    previous = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            local.run(["sleep", "60"], timeout=30)
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, previous)
    assert our_children() == before


# Channels


def test_a_signal_is_called_by_its_name(local: LocalTransport) -> None:
    code = (
        "import os, resource, signal, sys\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "sys.stderr.write('loading the model\\n'); sys.stderr.flush()\n"
        "os.kill(os.getpid(), signal.SIGSEGV)"
    )
    channel = local.open(python(code))
    with pytest.raises(DeviceLost, match=r"was killed by SIGSEGV; .*loading the model"):
        channel.receive(timeout=10)


@pytest.mark.parametrize(
    ("number", "words"),
    [(9, r"SIGKILL \(.*memory"), (4, r"SIGILL \(.*instructions"), (35, "by signal 35")],
)
def test_signals_that_have_a_usual_cause_name_it(
    local: LocalTransport, number: int, words: str
) -> None:
    code = f"import os, resource; resource.setrlimit(4, (0, 0)); os.kill(os.getpid(), {number})"
    channel = local.open(python(code))
    with pytest.raises(DeviceLost, match=words):
        channel.receive(timeout=10)


def test_sending_to_a_dead_process_tells_why_and_keeps_its_last_lines(
    local: LocalTransport,
) -> None:
    channel = local.open(["sh", "-c", "echo last line; echo broken >&2; exit 5"])

    def insist() -> None:
        for _ in range(500):  # until it has ended, the pipe takes what is sent
            channel.send(b"anyone there?")
            time.sleep(0.01)

    with pytest.raises(DeviceLost, match=r"ended with code 5; .*broken"):
        insist()
    assert channel.receive(timeout=1) == b"last line"
    with pytest.raises(DeviceLost, match=r"ended with code 5; .*broken"):
        channel.receive(timeout=1)


def test_half_a_line_is_kept_until_the_rest_comes(local: LocalTransport) -> None:
    code = (
        "import sys\n"
        "sys.stdout.write('first '); sys.stdout.flush(); sys.stdin.readline()\n"
        "print('half'); sys.stdout.flush(); sys.stdin.readline()"
    )
    channel = local.open(python(code))
    with pytest.raises(DeviceTimeout):
        channel.receive(timeout=0.3)
    channel.send(b"go on")
    assert channel.receive(timeout=10) == b"first half"


def test_half_a_line_at_the_end_is_no_line(local: LocalTransport) -> None:
    channel = local.open(["printf", r"whole\nhal"])
    assert channel.receive(timeout=10) == b"whole"
    with pytest.raises(DeviceLost, match="ended with code 0; it left no words"):
        channel.receive(timeout=10)


def test_timeouts_are_kept_while_bytes_trickle_in(local: LocalTransport) -> None:
    code = "import os, time\nwhile True: os.write(1, b'.'); time.sleep(0.01)"
    channel = local.open(python(code))
    begin = time.monotonic()
    with pytest.raises(DeviceTimeout):
        channel.receive(timeout=0.3)
    assert 0.3 <= time.monotonic() - begin < 3


def test_large_lines_do_not_block_while_the_process_writes(local: LocalTransport) -> None:
    # The child fills its own output before it reads: a host that only wrote would wait for ever.
    code = (
        "import os, sys\n"
        "os.write(2, b'e' * 1000000)\n"
        "for _ in range(50): os.write(1, b'o' * 100000 + b'\\n')\n"
        "line = sys.stdin.buffer.readline()\n"
        "print(len(line), flush=True); sys.stdin.readline()"
    )
    channel = local.open(python(code))
    channel.send(b"x" * 8_000_000)
    assert {channel.receive(timeout=10) for _ in range(50)} == {b"o" * 100_000}
    assert channel.receive(timeout=10) == b"8000001"


def test_a_process_that_reads_nothing_is_given_up(
    local: LocalTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The minute that is allowed is a constant; only its length is changed.
    monkeypatch.setattr(sys.modules[LineChannel.__module__], "_STALLED_AFTER", 0.2)
    channel = local.open(["sleep", "60"])
    with pytest.raises(DeviceTimeout, match=r"sleep 60 has read nothing for 0\.2 s"):
        channel.send(b"x" * 1_000_000)
    with pytest.raises(DeviceLost):
        channel.send(b"x")


def test_of_many_words_the_last_are_kept(local: LocalTransport) -> None:
    code = (
        "import sys\n"
        "for number in range(100000): sys.stderr.write(f'line {number}\\n')\n"
        "sys.exit(1)"
    )
    channel = local.open(python(code))
    with pytest.raises(DeviceLost, match="line 99999") as caught:
        channel.receive(timeout=30)
    assert len(str(caught.value)) < 2000


def test_words_without_end_do_not_fill_the_memory(local: LocalTransport) -> None:
    code = "import os\nfor _ in range(300): os.write(2, b'e' * 65536)"
    tracemalloc.start()
    try:
        channel = local.open(python(code))
        with pytest.raises(DeviceLost):
            channel.receive(timeout=30)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000  # bytes, of 20 million written
    finally:
        tracemalloc.stop()


def test_a_process_is_asked_to_end_before_it_is_killed(
    local: LocalTransport, tmp_path: Path
) -> None:
    script = f"trap \"echo asked > '{tmp_path}/note'; exit\" TERM; echo ready; sleep 60 & wait"
    channel = local.open(["sh", "-c", script])
    assert channel.receive(timeout=10) == b"ready"
    channel.close()
    assert (tmp_path / "note").read_text() == "asked\n"


def test_a_process_that_closes_its_output_is_ended(local: LocalTransport) -> None:
    channel = local.open(["sh", "-c", "exec sleep 60 >&-"])
    with pytest.raises(DeviceLost, match="closed its output"):
        channel.receive(timeout=10)


@needs_proc
@pytest.mark.parametrize(
    "script",
    [
        "echo $$; read line",
        "trap '' TERM; echo $$; while true; do sleep 1; done",
        "(trap '' TERM; echo $$; exec sleep 60) & wait",
        "echo $$; exec yes",
    ],
    ids=["polite", "stubborn", "stubborn grandchild", "flooding"],
)
def test_closing_ends_the_whole_group_and_leaves_nothing(
    local: LocalTransport, script: str
) -> None:
    files, children = open_files(), our_children()
    channel = local.open(["sh", "-c", script])
    pid = int(channel.receive(timeout=10))
    assert group_of(pid)
    begin = time.monotonic()
    channel.close()
    assert time.monotonic() - begin < 6
    assert until(lambda: not group_of(pid))
    assert our_children() == children
    assert open_files() == files


@needs_proc
def test_no_outcome_leaves_files_or_processes(local: LocalTransport) -> None:
    files, children = open_files(), our_children()
    for _ in range(5):
        local.run(["true"], timeout=10)
        with pytest.raises(CommandFailed):
            local.run(["no-such-program"], timeout=10)
        with pytest.raises(DeviceTimeout):
            local.run(["sleep", "60"], timeout=0.01)
        with pytest.raises(CommandFailed):
            local.open(["no-such-program"])
        channel = local.open(["false"])
        with pytest.raises(DeviceLost):
            channel.receive(timeout=10)
    assert our_children() == children
    assert open_files() == files


def test_the_child_sees_the_end_when_we_die(tmp_path: Path) -> None:
    child = f"open({str(tmp_path / 'pid')!r}, 'w').write('1'); import sys; sys.stdin.read(); "
    child += f"open({str(tmp_path / 'ended')!r}, 'w').write('1')"
    host = (
        "import os, sys, time\n"
        "from boardfit.devices.local import LocalTransport\n"
        f"channel = LocalTransport().open([sys.executable, '-I', '-S', '-c', {child!r}])\n"
        f"while not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(0.01)\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", host], timeout=60).returncode == -9
    assert until(lambda: (tmp_path / "ended").exists())


# Files


def test_a_full_disk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(1_000_000))
    (tmp_path / "small disk").mkdir()
    code = (
        "import os, subprocess\n"
        "from pathlib import Path, PurePosixPath\n"
        "from boardfit.devices.errors import StorageError\n"
        "from boardfit.devices.local import LocalTransport\n"
        "target = PurePosixPath('small disk/file')\n"
        "try: LocalTransport().push(Path('big'), target)\n"
        "except StorageError as error: print(error, os.listdir('small disk'))\n"
    )
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", "small disk"]
    shell = '"$@" || exit 77; exec "$PYTHON" -c "$CODE"'
    try:
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell, "sh", *mount],
            cwd=tmp_path,
            env={**os.environ, "PYTHON": sys.executable, "CODE": code},
            capture_output=True,
            text=True,
            timeout=60,
        )
    except FileNotFoundError:
        pytest.skip("needs unshare to make a small disk")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this machine lets nobody make a small disk")
    assert done.stdout.startswith("no space left while writing small disk/file; free some")
    assert done.stdout.endswith("[]\n")


def test_a_place_that_cannot_be_written_is_named(local: LocalTransport, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"1")
    with pytest.raises(StorageError, match=r"cannot write .*: File name too long"):
        local.push(tmp_path / "source", PurePosixPath(tmp_path / ("n" * 256)))
    with pytest.raises(StorageError, match="source is a file, not a folder"):
        local.push(tmp_path / "source", PurePosixPath(tmp_path / "source" / "below"))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_file_can_be_copied_onto_itself(local: LocalTransport, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    local.push(tmp_path / "file", PurePosixPath(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_broken_link_does_not_exist_and_a_pipe_is_not_waited_for(
    local: LocalTransport, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CommandFailed, match="pipe: it is not an ordinary file"):
        local.pull(PurePosixPath(tmp_path / "pipe"), tmp_path / "copy")


# The device


def test_this_machine_as_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    device = local_device(BoardEntry("local", "local"))
    assert (device.name, device.kind) == ("local", "local")
    assert device.core == max(os.sched_getaffinity(0))
    assert device.python == sys.executable
    assert device.workspace == PurePosixPath(tmp_path / "boardfit")
    assert device.description.cores is not None
    assert device.description.kernel == os.uname().release
    assert not list(tmp_path.iterdir())  # a description writes nothing
    with device as board:
        board.transport.run(["true"], timeout=10)
    with pytest.raises(DeviceLost, match="closed"):
        board.transport.run(["true"], timeout=10)


def test_the_entry_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    entry = BoardEntry("pc", "local", "/opt/python", PurePosixPath("~/work"), core)
    device = local_device(entry)
    assert (device.name, device.python, device.core) == ("pc", "/opt/python", core)
    assert device.workspace == PurePosixPath(tmp_path / "work")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity here")
def test_a_core_that_is_not_there_is_refused() -> None:
    with pytest.raises(InventoryError, match=r"board 'pc': core = 9999 is none of"):
        local_device(BoardEntry("pc", "local", core=9999))
