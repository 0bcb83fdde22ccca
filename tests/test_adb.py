"""Android boards: through Debian's adb server, and directly; and the tests' own phone."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from boardfit.devices import adb_shell_v2
from boardfit.devices.adb_connect import adb_device, choose, parse_address, reach
from boardfit.devices.adb_devices import Listed, one_of_each, parse_list, server_address
from boardfit.devices.adb_direct import AdbDirectTransport, TcpWire, open_usb
from boardfit.devices.adb_keys import load_keys, make_key, read_key
from boardfit.devices.adb_server import AdbServer, AdbServerTransport
from boardfit.devices.adb_shell_v2 import ShellProcess
from boardfit.devices.adb_transport import AdbTransport
from boardfit.devices.base import LINE_LIMIT
from boardfit.devices.board_entry import BoardEntry
from boardfit.devices.errors import (
    CommandFailed,
    DeviceAmbiguous,
    DeviceBusy,
    DeviceError,
    DeviceLost,
    DeviceNotFound,
    DeviceTimeout,
    DeviceUnauthorised,
    InputError,
    InventoryError,
    StorageError,
)
from boardfit.profiler.connect import connect
from boardfit.profiler.run_litert import WorkerSession

from .adb_device import AdbDevice, Serving, serving
from .adb_programs import adb, adb_server
from .hostile_input import time_limit

SHIM = """#!/bin/sh
cat <<'END'
[ro.build.id]: [UQ1A.240205.002]
[ro.build.version.release]: [14]
[ro.product.model]: [Pixel 6]
[ro.soc.model]: [GS101]
[ro.empty]: []
END
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test meets an adb server, keys or settings of the user's."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for variable in ("ADB_SERVER_SOCKET", "ADB_VENDOR_KEYS", "ANDROID_ADB_SERVER_ADDRESS"):
        monkeypatch.delenv(variable, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free))
    return home


@pytest.fixture
def server(debian: tuple[AdbServer, Path]) -> Iterator[tuple[AdbServer, Path]]:
    """Debian's adb server, with no board, and the folder that it and its clients use."""
    yield debian
    debian[0].ask("host:disconnect:")


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[AdbServer, Path]]:
    folder = tmp_path_factory.mktemp("adb")
    with adb_server(folder) as running:
        yield running, folder


@contextlib.contextmanager
def direct(device: AdbDevice | None = None) -> Iterator[tuple[AdbDirectTransport, Serving]]:
    with serving(device or AdbDevice()) as phone:
        transport = AdbDirectTransport(TcpWire("127.0.0.1", phone.port, timeout=10), [])
        with contextlib.closing(transport):
            yield transport, phone


@contextlib.contextmanager
def through(
    running: AdbServer, device: AdbDevice | None = None
) -> Iterator[tuple[AdbServerTransport, Serving]]:
    with serving(device or AdbDevice()) as phone:
        running.connect(phone.serial)
        transport = AdbServerTransport(running, choose(running, phone.serial))
        with contextlib.closing(transport):
            yield transport, phone
        running.ask(f"host:disconnect:{phone.serial}")


@pytest.fixture(params=["direct", "server"])
def both(
    request: pytest.FixtureRequest, server: tuple[AdbServer, Path]
) -> Iterator[tuple[AdbTransport, Serving]]:
    with direct() if request.param == "direct" else through(server[0]) as made:
        yield made


def children(marker: str) -> list[int]:
    """The processes whose command line holds a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if marker.encode() in words and state != "Z":
                found.append(int(folder.name))
    return found


def gone(marker: str) -> bool:
    deadline = time.monotonic() + 5
    while children(marker):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux' /proc")


# The tests' own phone, seen by Android's client.


def test_androids_client_works_with_the_tests_phone(
    server: tuple[AdbServer, Path], tmp_path: Path
) -> None:
    running, folder = server
    with serving(AdbDevice()) as phone:
        serial = phone.serial
        code, said = adb(running, folder, "connect", serial)
        assert (code, said) == (0, f"connected to {serial}\n".encode())

        def client(*words: str, stdin: bytes = b"") -> tuple[int, bytes]:
            return adb(running, folder, "-s", serial, *words, stdin=stdin)

        assert client("shell", "echo out; echo err >&2; exit 7") == (7, b"out\nerr\n")
        assert client("shell", "kill -9 $$") == (137, b"")
        assert client("shell", "cat", stdin=b"a\0\xff\nb") == (0, b"a\0\xff\nb")
        assert client("shell", "-x", "echo first protocol")[1] == b"first protocol\n"
        assert client("shell", "-t", "-t", "test -t 1 && echo terminal")[1] == b"terminal\r\n"
        assert client("exec-out", "printf 'a\\nb'") == (0, b"a\nb")
        content = random.Random(1).randbytes(300_000)
        (tmp_path / "source").write_bytes(content)
        target = tmp_path / "new" / "with, comma"
        assert client("push", str(tmp_path / "source"), str(target))[0] == 0
        assert target.read_bytes() == content
        assert client("pull", str(target), str(tmp_path / "back"))[0] == 0
        assert (tmp_path / "back").read_bytes() == content
        assert client("push", str(tmp_path / "source"), "/proc/no-such")[0] == 1
        assert client("pull", str(tmp_path / "absent"), str(tmp_path / "x"))[0] == 1
        code, said = client("ls", str(tmp_path / "new"))
        assert (code, b"with, comma" in said) == (0, True)
        adb(running, folder, "disconnect", serial)


@pytest.mark.parametrize("features", [["shell_v2", "cmd"], ["cmd"]], ids=["stat 1", "shell 1"])
def test_androids_client_works_with_an_older_phone(
    server: tuple[AdbServer, Path], tmp_path: Path, features: list[str]
) -> None:
    running, folder = server
    with serving(AdbDevice(features=features)) as phone:
        assert adb(running, folder, "connect", phone.serial)[0] == 0
        (tmp_path / "source").write_bytes(b"content")
        target = str(tmp_path / "copy")
        assert (
            adb(running, folder, "-s", phone.serial, "push", f"{tmp_path}/source", target)[0] == 0
        )
        assert adb(running, folder, "-s", phone.serial, "shell", f"cat {target}") == (0, b"content")
        adb(running, folder, "disconnect", phone.serial)


def test_androids_client_is_let_in_once_its_key_is_allowed(
    server: tuple[AdbServer, Path],
) -> None:
    running, folder = server
    with serving(AdbDevice(secure=True)) as phone:
        adb(running, folder, "connect", phone.serial)
        with pytest.raises(DeviceUnauthorised, match="allow this computer"):
            choose(running, phone.serial)
        assert adb(running, folder, "-s", phone.serial, "shell", "true")[0] == 1
        adb(running, folder, "disconnect", phone.serial)
        phone.device.allow = True
        adb(running, folder, "connect", phone.serial)
        adb(running, folder, "-s", phone.serial, "wait-for-device")
        assert choose(running, phone.serial) == phone.serial
        phone.device.allow = False
        assert len(phone.device.known_keys) == 1
        adb(running, folder, "disconnect", phone.serial)
        adb(running, folder, "connect", phone.serial)  # it signs now
        assert choose(running, phone.serial) == phone.serial
        assert adb(running, folder, "-s", phone.serial, "shell", "exit 3")[0] == 3
        adb(running, folder, "disconnect", phone.serial)


# Both ways.


@needs_proc
@pytest.mark.parametrize("how", ["sleep", "deaf", "stopped"])
def test_what_took_too_long_is_ended_on_the_board(
    both: tuple[AdbTransport, Serving], tmp_path: Path, how: str
) -> None:
    marker = f"boardfit-{how}-{os.getpid()}"
    code = "import os, signal, sys, time\n"
    code += "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" if how == "deaf" else ""
    code += "os.kill(os.getpid(), signal.SIGSTOP)\n" if how == "stopped" else ""
    argv = [sys.executable, "-I", "-S", "-c", code + "time.sleep(60)", marker]
    with pytest.raises(DeviceTimeout, match=r"longer than 0\.5 s"):
        both[0].run(argv, timeout=0.5)
    assert gone(marker)


@needs_proc
def test_a_closed_channel_ends_a_program_that_does_not_care(
    both: tuple[AdbTransport, Serving],
) -> None:
    marker = f"boardfit-channel-{os.getpid()}"
    code = "import signal, time; signal.signal(1, signal.SIG_IGN); print(1, flush=True)\n"
    channel = both[0].open([sys.executable, "-c", f"{code}time.sleep(60)", marker])
    assert channel.receive(timeout=10) == b"1"
    assert children(marker)
    channel.close()
    assert gone(marker)


def test_endless_output_is_refused(both: tuple[AdbTransport, Serving]) -> None:
    with pytest.raises(DeviceError, match=f"wrote more than {LINE_LIMIT} bytes") as caught:
        both[0].run(["yes", "x" * 1000], timeout=60)
    assert not isinstance(caught.value, DeviceTimeout)
    assert both[0].run(["true"], timeout=10).code == 0


def test_what_floods_us_stays_on_the_board(
    both: tuple[AdbTransport, Serving], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1_000_000
    monkeypatch.setattr(adb_shell_v2, "LINE_LIMIT", limit)
    process = ShellProcess(both[0]._link, ["yes", "x" * 1000], timeout=10)
    deadline = time.monotonic() + 20
    quiet = 0  # times in a row that nothing came, though nobody took what had come
    while quiet < 3 and len(process.stdout) < 4 * limit and time.monotonic() < deadline:
        before = len(process.stdout)
        process.pump(0.2)
        quiet = quiet + 1 if len(process.stdout) == before > limit else 0
    came = len(process.stdout)
    process.end()
    assert limit < came < 4 * limit


def test_a_program_that_was_killed_is_told(both: tuple[AdbTransport, Serving]) -> None:
    assert both[0].run(["sh", "-c", "kill -9 $$"], timeout=10).code == 137
    channel = both[0].open(["sh", "-c", "read line; kill -9 $$"])
    channel.send(b"go")
    with pytest.raises(DeviceLost, match=r"SIGKILL.*memory") as caught:
        channel.receive(timeout=10)
    assert caught.value.killed


def test_a_shell_that_was_killed_is_lost_and_not_refused(tmp_path: Path) -> None:
    (tmp_path / "sh").write_text("#!/bin/sh\nkill -9 $$\n")
    (tmp_path / "sh").chmod(0o755)
    with direct(AdbDevice(shell=str(tmp_path / "sh"))) as (transport, _):
        with pytest.raises(DeviceLost, match="ended the board's shell before true began"):
            transport.run(["true"], timeout=10)
        (tmp_path / "sh").write_text("#!/bin/sh\nexit 1\n")
        with pytest.raises(CommandFailed, match="cannot be started"):
            transport.run(["true"], timeout=10)


def test_what_a_shell_cannot_start_is_told(both: tuple[AdbTransport, Serving]) -> None:
    assert both[0].run(["echo", "x" * 65_300], timeout=10).stdout == b"x" * 65_300 + b"\n"
    with pytest.raises(CommandFailed, match="push a script"):
        both[0].run(["echo", "x" * 65_536], timeout=10)
    for name in ("-v", ""):
        with pytest.raises(CommandFailed, match="no program"):
            both[0].run([name], timeout=10)


def test_commands_of_several_threads_do_not_mix(both: tuple[AdbTransport, Serving]) -> None:
    wrong: list[object] = []

    def ask(number: int) -> None:
        for turn in range(5):
            word = f"{number} {turn} " + "x" * 50_000
            done = both[0].run(["sh", "-c", 'printf %s "$1"', "sh", word], timeout=30)
            if done.stdout != word.encode():
                wrong.append(done)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_pulled_cable_is_a_loss_that_lasts(
    both: tuple[AdbTransport, Serving], tmp_path: Path
) -> None:
    transport, phone = both
    (tmp_path / "source").write_bytes(b"1")
    channel = transport.open(["cat"])
    channel.send(b"before")
    assert channel.receive(timeout=10) == b"before"
    threading.Timer(0.2, phone.drop).start()
    with pytest.raises(DeviceLost, match="run the same command again"):
        channel.receive(timeout=20)
    attempts: list[Callable[[], object]] = [
        lambda: channel.send(b"1"),
        lambda: transport.run(["true"], timeout=1),
        lambda: transport.open(["cat"]),
        lambda: transport.push(tmp_path / "source", PurePosixPath(tmp_path / "file")),
        lambda: transport.pull(PurePosixPath(tmp_path / "source"), tmp_path / "copy"),
    ]
    for attempt in attempts:
        with pytest.raises(DeviceLost):
            attempt()


@pytest.mark.parametrize("name", ["folder", "pipe", "device", "link to a device"])
def test_only_ordinary_files_are_pulled(
    both: tuple[AdbTransport, Serving], tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    remote = PurePosixPath("/dev/zero" if name == "device" else path)
    with pytest.raises(CommandFailed, match="not an ordinary file"):
        both[0].pull(remote, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_link_to_a_file_brings_the_file_and_replaces_none(
    both: tuple[AdbTransport, Serving], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "ours").symlink_to("victim")
    both[0].pull(PurePosixPath(tmp_path / "link"), tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == b"content"
    assert not (tmp_path / "ours").is_symlink()
    assert not (tmp_path / "victim").exists()


def test_what_cannot_be_written_or_read_on_the_board_is_told(
    both: tuple[AdbTransport, Serving], tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(b"1" * 3_000_000)
    (tmp_path / "place" / "folder").mkdir(parents=True)
    with pytest.raises(StorageError, match="folder is a folder"):
        both[0].push(tmp_path / "source", PurePosixPath(tmp_path / "place" / "folder"))
    with pytest.raises(StorageError, match="on the board"):
        both[0].push(tmp_path / "source", PurePosixPath("/proc/no-such-place/file"))
    with pytest.raises(StorageError, match="on the board"):
        both[0].push(tmp_path / "source", PurePosixPath(tmp_path / "source" / "below"))
    both[1].device.room = 1_000_000
    with pytest.raises(StorageError, match="No space left"):
        both[0].push(tmp_path / "source", PurePosixPath(tmp_path / "place" / "file"))
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["folder"]
    long = PurePosixPath("/" + "/".join(["n" * 200] * 6))
    with pytest.raises(StorageError, match="ADB carries 1024"):
        both[0].push(tmp_path / "source", long)
    with pytest.raises(CommandFailed, match="ADB carries 1024"):
        both[0].pull(long, tmp_path / "copy")


def test_a_push_that_is_cut_off_leaves_the_older_file(
    both: tuple[AdbTransport, Serving], tmp_path: Path
) -> None:
    with (tmp_path / "source").open("wb") as source:
        source.truncate(100_000_000)
    folder = tmp_path / "board"
    folder.mkdir()
    (folder / "file").write_bytes(b"older")

    def cut() -> None:
        deadline = time.monotonic() + 10
        while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        both[1].drop()

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(DeviceLost):
        both[0].push(tmp_path / "source", PurePosixPath(folder / "file"))
    cutter.join()
    assert (folder / "file").read_bytes() == b"older"


def test_a_push_that_arrives_damaged_is_refused(tmp_path: Path) -> None:
    shim = tmp_path / "bin" / "sha256sum"
    shim.parent.mkdir()
    shim.write_text('#!/bin/sh\necho "0000  -"\n')
    shim.chmod(0o755)
    (tmp_path / "source").write_bytes(b"content")
    path = f"{shim.parent}:{os.environ['PATH']}"
    with (
        direct(AdbDevice(environment={**os.environ, "PATH": path})) as (transport, _),
        pytest.raises(StorageError, match="arrived damaged"),
    ):
        transport.push(tmp_path / "source", PurePosixPath(tmp_path / "board" / "file"))
    assert list((tmp_path / "board").iterdir()) == []


def test_a_server_that_ends_is_a_loss(tmp_path: Path) -> None:
    with serving(AdbDevice()) as phone:
        with adb_server(tmp_path) as running:
            running.connect(phone.serial)
            transport = AdbServerTransport(running, phone.serial)
            channel = transport.open(["cat"])
        with pytest.raises(DeviceLost, match="run the same command again"):
            channel.receive(timeout=10)
        with pytest.raises(DeviceLost):
            transport.run(["true"], timeout=10)
        transport.close()
        with pytest.raises(DeviceLost, match="adb start-server"):
            running.boards()


def test_commas_and_small_files_of_the_kernel_travel(
    both: tuple[AdbTransport, Serving], tmp_path: Path
) -> None:
    (tmp_path / "source").write_bytes(b"content")
    remote = PurePosixPath(tmp_path / "a,b" / "c,33188")
    both[0].push(tmp_path / "source", remote)
    assert Path(remote).read_bytes() == b"content"
    assert stat.S_IMODE(Path(remote).stat().st_mode) == 0o644
    both[0].pull(PurePosixPath("/proc/version"), tmp_path / "copy")  # says that it is empty
    assert (tmp_path / "copy").read_text().startswith("Linux")


def test_a_push_over_a_link_that_takes_little_at_a_time_arrives_whole(tmp_path: Path) -> None:
    content = random.Random(5).randbytes(5_000_000)
    (tmp_path / "source").write_bytes(content)
    with serving(AdbDevice(receive_buffer=2048)) as phone, time_limit(60):
        wire = TcpWire("127.0.0.1", phone.port, timeout=10)
        wire._transport._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        with contextlib.closing(AdbDirectTransport(wire, [])) as transport:
            transport.push(tmp_path / "source", PurePosixPath(tmp_path / "target"))
            assert (tmp_path / "target").read_bytes() == content
            transport.pull(PurePosixPath(tmp_path / "target"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.parametrize("changes", [{"version": 0x01000000}, {"max_payload": 4096}])
def test_an_older_board_works(tmp_path: Path, changes: dict[str, int]) -> None:
    device = AdbDevice(features=["shell_v2"], **changes)  # type: ignore[arg-type]
    content = random.Random(6).randbytes(300_000)
    (tmp_path / "source").write_bytes(content)
    with direct(device) as (transport, _):
        assert transport.run(["sh", "-c", "exit 7"], timeout=10).code == 7
        transport.push(tmp_path / "source", PurePosixPath(tmp_path / "target"))
        transport.pull(PurePosixPath(tmp_path / "target"), tmp_path / "back")
        with pytest.raises(CommandFailed, match="does not exist"):
            transport.pull(PurePosixPath(tmp_path / "absent"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


def test_a_board_without_exit_codes_is_refused() -> None:
    with serving(AdbDevice(features=["cmd"])) as phone:
        wire = TcpWire("127.0.0.1", phone.port, timeout=10)
        with pytest.raises(DeviceError, match="Android 9 or newer"):
            AdbDirectTransport(wire, [])


# Keys.


def test_a_key_is_made_once_and_for_its_owner_alone(own_home: Path) -> None:
    (first,) = load_keys()
    path = own_home / ".android" / "adbkey"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(p.name for p in path.parent.iterdir()) == ["adbkey", "adbkey.pub"]
    assert "PRIVATE" not in repr(first)
    path.with_suffix(".pub").unlink()  # adb itself does without
    (again,) = load_keys()
    assert again.public.split()[0] == first.public.split()[0]
    make_key(path)  # another process was faster
    assert load_keys()[0].public.split()[0] == first.public.split()[0]


def test_further_keys_are_tried(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "vendor"
    make_key(folder / "lab.adb_key")
    make_key(tmp_path / "single")
    monkeypatch.setenv("ADB_VENDOR_KEYS", f"{folder}:{tmp_path / 'single'}")
    keys = load_keys()
    assert [key.path.name for key in keys] == ["adbkey", "lab.adb_key", "single"]
    device = AdbDevice(secure=True, known_keys=[keys[2].public.decode()])
    with serving(device) as phone:
        wire = TcpWire("127.0.0.1", phone.port, timeout=10)
        with contextlib.closing(AdbDirectTransport(wire, keys)) as transport:
            assert transport.run(["true"], timeout=10).code == 0
    monkeypatch.setenv("ADB_VENDOR_KEYS", str(tmp_path / "absent"))
    with pytest.raises(InputError, match=r"ADB_VENDOR_KEYS names .*absent"):
        load_keys()


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_damaged_key_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "adbkey").write_bytes(content)
    with pytest.raises(InputError, match="holds no key of adb's") as caught:
        read_key(tmp_path / "adbkey")
    assert "AAAA" not in str(caught.value)


def test_a_board_that_does_not_know_us_is_asked_and_remembers(own_home: Path) -> None:
    with serving(AdbDevice(secure=True)) as phone:
        with pytest.raises(DeviceUnauthorised, match=r"within 0\.2 s; unlock it"):
            reach(phone.serial, server=False, patience=0.2)
        phone.device.allow = True
        reach(phone.serial, server=False).close()
        assert phone.device.known_keys == [load_keys()[0].public.decode()]
        phone.device.allow = False
        reach(phone.serial, server=False, patience=0.2).close()


# Which way is taken.


def test_the_server_is_used_where_one_answers(
    server: tuple[AdbServer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _ = server
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(running.address[1]))
    with serving(AdbDevice()) as phone, serving(AdbDevice()) as other:
        with pytest.raises(DeviceNotFound, match="sees no board; plug one in"):
            reach()
        with contextlib.closing(reach(phone.serial)) as transport:  # connected to on the way
            assert transport.way == f"{phone.serial} through {running}"
            assert transport.run(["true"], timeout=10).code == 0
        reach().close()
        with contextlib.closing(reach(phone.serial, server=False)) as transport:
            assert transport.way == f"{phone.serial} directly"
        reach(other.serial, server=True).close()
        with pytest.raises(DeviceAmbiguous, match=f"{phone.serial}.*{other.serial}|{other.serial}"):
            reach()
        with pytest.raises(DeviceNotFound, match=r"no board 'R58N' \(attached: 127.*adb devices"):
            reach("R58N")
        for serial in (phone.serial, other.serial):
            running.ask(f"host:disconnect:{serial}")


def test_without_a_server_a_serial_says_the_way() -> None:
    with serving(AdbDevice()) as phone:
        with contextlib.closing(reach(phone.serial)) as transport:
            assert transport.way == f"{phone.serial} directly"
        with pytest.raises(DeviceLost, match="adb start-server"):
            reach(phone.serial, server=True)
    with pytest.raises(DeviceNotFound, match=r"no board 'R58N' on USB.*HOST:PORT"):
        reach("R58N")
    with pytest.raises(DeviceNotFound, match=r"no board is attached by USB.*HOST:PORT"):
        reach()


def test_a_port_where_something_else_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer() -> None:
        link, _ = listener.accept()
        with link:
            link.recv(100)
            link.sendall(b"HTTP/1.1 400 Bad Request")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("ADB_SERVER_SOCKET", f"tcp:{listener.getsockname()[1]}")
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DeviceError, match=r"is no adb server.*HTTP"):
            reach()
        thread.join()


def test_a_busy_usb_interface_is_explained() -> None:
    usb1 = pytest.importorskip("usb1")

    class Interface:
        def __init__(self, error: Exception) -> None:
            self._setting = self
            self._error = error

        def iterEndpoints(self) -> list[object]:
            return []

        def connect(self) -> None:
            raise self._error

        def close(self) -> None:
            pass

    with pytest.raises(DeviceBusy, match="adb kill-server"):
        open_usb("R58N", Interface(usb1.USBErrorBusy()))
    with pytest.raises(DeviceUnauthorised, match="udev"):
        open_usb("R58N", Interface(usb1.USBErrorAccess()))
    with pytest.raises(DeviceLost, match="plug it in again"):
        open_usb("R58N", Interface(usb1.USBErrorNoDevice()))


LIST = """R58N123               unauthorized usb:1-4 transport_id:3
emulator-5554         offline
127.0.0.1:5555        device product:sdk model:sdk_gphone device:emu64xa transport_id:1
0123                  no permissions (user in plugdev group; rules?); see [http://d.a.com] usb:1-2
192.168.1.7:5555      device product:oriole model:Pixel_6 device:oriole transport_id:2

"""


def test_the_servers_list_is_understood() -> None:
    boards = parse_list(LIST)
    assert [board.serial for board in boards] == [
        *("R58N123", "emulator-5554", "127.0.0.1:5555", "0123", "192.168.1.7:5555")
    ]
    assert boards[4] == Listed("192.168.1.7:5555", "device", "Pixel 6")
    assert [board.ready for board in boards] == [False, False, True, False, True]
    assert isinstance(boards[0].refused(), DeviceUnauthorised)
    assert "udev" in str(boards[3].refused())
    assert isinstance(boards[1].refused(), DeviceLost)


def test_an_emulator_that_is_listed_twice_is_one_board() -> None:
    found = one_of_each(parse_list(LIST))
    assert [board.serial for board in found] == [
        *("R58N123", "127.0.0.1:5555", "0123", "192.168.1.7:5555")
    ]
    other = Listed("localhost:5556", "device")  # no emulator's port
    assert len(one_of_each([*found, other])) == 5


@pytest.mark.parametrize(
    ("serial", "address"),
    [
        ("10.0.0.7:5555", ("10.0.0.7", 5555)),
        ("10.0.0.7", ("10.0.0.7", 5555)),
        ("pixel.lan:37123", ("pixel.lan", 37123)),
        ("[::1]:5555", ("::1", 5555)),
        ("R58N123", None),
        ("emulator-5554", None),
        ("host:99999", None),
        ("host:0", None),
    ],
)
def test_addresses_are_told_from_serials(serial: str, address: tuple[str, int] | None) -> None:
    assert parse_address(serial) == address


def test_the_server_is_looked_for_where_adb_looks() -> None:
    assert server_address({}) == ("127.0.0.1", 5037)
    assert server_address({"ANDROID_ADB_SERVER_PORT": "5038"}) == ("127.0.0.1", 5038)
    both = {"ANDROID_ADB_SERVER_PORT": "5038", "ADB_SERVER_SOCKET": "tcp:lab:5039"}
    assert server_address(both) == ("lab", 5039)
    for wrong in ({"ANDROID_ADB_SERVER_PORT": "x"}, {"ADB_SERVER_SOCKET": "localfilesystem:/x"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            server_address(wrong)


# As a board of the inventory.


def test_a_phone_from_the_inventory_describes_itself(tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "getprop").write_text(SHIM)
    (shims / "getprop").chmod(0o755)
    (tmp_path / "boards.toml").write_text("")
    device = AdbDevice(
        root=tmp_path / "phone",
        mapped=("/data", "/etc"),
        environment={**os.environ, "PATH": f"{shims}:{os.environ['PATH']}"},
    )
    with serving(device) as phone:
        boards = tmp_path / "boards.toml"
        boards.write_text(f'[boards.pixel]\ntransport = "adb"\nserial = "{phone.serial}"\n')
        with connect("pixel", inventory=boards) as pixel:
            assert (pixel.name, pixel.kind, pixel.python) == ("pixel", "adb", None)
            assert pixel.workspace == PurePosixPath("/data/local/tmp/boardfit")
            assert pixel.description.model == "Pixel 6"
            assert pixel.description.soc == "GS101"
            assert pixel.description.system == "Android 14 (UQ1A.240205.002)"
            pixel.transport.push(boards, pixel.workspace / "file")
            assert (tmp_path / "phone/data/local/tmp/boardfit/file").exists()
            with pytest.raises(DeviceError, match="has no Python"):
                WorkerSession(pixel)


def test_a_phone_with_python_runs_the_worker(tmp_path: Path) -> None:
    with serving(AdbDevice()) as phone:
        entry = BoardEntry(
            "termux",
            "adb",
            python=sys.executable,
            workspace=PurePosixPath(tmp_path / "workspace"),
            serial=phone.serial,
        )
        with adb_device(entry) as device, WorkerSession(device) as session:
            assert session.hello["hello"] == "boardfit worker"


def test_a_phone_has_no_home_folder() -> None:
    entry = BoardEntry("x", "adb", workspace=PurePosixPath("~/boardfit"), serial="h:1")
    with pytest.raises(InventoryError, match="Android has no home folder"):
        adb_device(entry)
