"""What is attached: phones of an adb server, hosts of ssh, boards of the inventory, in words."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.adb_devices import Listed, one_of_each, parse_list
from boardfit.devices.adb_server import attached
from boardfit.devices.board_entry import BoardEntry
from boardfit.devices.discover import Sighting, discover, greet, state_of
from boardfit.devices.errors import (
    BoardInUse,
    DeviceError,
    DeviceLost,
    DeviceTimeout,
    DeviceUnauthorised,
    DeviceUnreachable,
    InputError,
)
from boardfit.devices.ssh_config import Surroundings

from .conftest import missing

LIST = """\
0A1B2C3D               device usb:1-4 product:oriole model:Pixel_6 device:oriole transport_id:3
192.168.1.7:5555       device product:panther model:Pixel_7 device:panther transport_id:4
ABCDEF                 unauthorized usb:1-2 transport_id:5
emulator-5554          offline transport_id:6
????????????           no permissions (user in plugdev group; are your udev rules wrong?); \
see [http://developer.android.com/tools/device.html] usb:1-1 transport_id:7
99                     recovery usb:1-3 product:x model:y device:z transport_id:8
"""


@contextlib.contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """A server on this machine that answers each caller so."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = server.accept()
                    with link, contextlib.suppress(OSError):
                        answer(link)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def adb_server(text: str) -> Callable[[socket.socket], None]:
    """An adb server that has this list."""

    def answer(link: socket.socket) -> None:
        assert link.recv(100) == b"000ehost:devices-l"
        data = text.encode()
        link.sendall(b"OKAY%04x" % len(data) + data)

    return answer


def saying(data: bytes) -> Callable[[socket.socket], None]:
    """A server that says this, whatever it is asked."""
    return lambda link: link.sendall(data)


@pytest.fixture
def closed() -> tuple[str, int]:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address: tuple[str, int] = server.getsockname()
    return address


# adb


def test_phones_are_told_apart_by_what_they_wait_for() -> None:
    with serving(adb_server(LIST)) as address:
        phones = attached(address, timeout=10)
    assert [(phone.serial, phone.readiness, phone.model) for phone in phones] == [
        ("0A1B2C3D", "ready", "Pixel 6"),
        ("192.168.1.7:5555", "ready", "Pixel 7"),
        ("ABCDEF", "unauthorised", None),
        ("emulator-5554", "offline", None),
        ("????????????", "unauthorised", None),
        ("99", "busy", "y"),
    ]
    steps = [phone.next_step for phone in phones]
    assert steps[:2] == ["", ""]
    assert "allow this computer" in steps[2]
    assert "udev rules" in steps[4]
    assert "recovery mode" in steps[5]


def test_a_state_that_is_new_is_quoted() -> None:
    (phone,) = parse_list("X  dreaming deeply model:A")
    assert phone.readiness == "unknown"
    assert "'dreaming deeply'" in phone.next_step


@pytest.mark.parametrize(
    ("devices", "left"),
    [
        ({"emulator-5554": "device", "127.0.0.1:5555": "device"}, ["127.0.0.1:5555"]),
        ({"emulator-5554": "offline", "localhost:5555": "device"}, ["localhost:5555"]),
        ({"emulator-5554": "device", "127.0.0.1:5555": "offline"}, ["emulator-5554"]),
        (
            {"emulator-5556": "device", "127.0.0.1:5555": "device"},
            ["emulator-5556", "127.0.0.1:5555"],
        ),
        (
            {"emulator-5554": "device", "10.0.0.1:5555": "device"},
            ["emulator-5554", "10.0.0.1:5555"],
        ),
    ],
)
def test_a_device_with_two_names_is_listed_once(devices: dict[str, str], left: list[str]) -> None:
    found = one_of_each([Listed(serial, state) for serial, state in devices.items()])
    assert [device.serial for device in found] == left


def test_servers_that_are_none_are_named(closed: tuple[str, int]) -> None:
    with pytest.raises(DeviceUnreachable, match=r"adb server at 127.* does not answer"):
        attached(closed, timeout=5)
    for beginning in (b"SSH-2.0-x\r\n", b"OKAYzzzz", b"OKAY00ff", b""):
        with (
            serving(saying(beginning)) as address,
            pytest.raises(DeviceError, match=r"no adb server|hung up"),
        ):
            attached(address, timeout=5)
    with serving(lambda link: time.sleep(1)) as address, pytest.raises(DeviceTimeout):
        attached(address, timeout=0.2)
    with (
        serving(saying(b"FAIL0003odd")) as address,
        pytest.raises(DeviceError, match="odd"),
    ):
        attached(address, timeout=5)


@given(st.text())
def test_any_list_is_understood_or_passed_over(text: str) -> None:
    for phone in one_of_each(parse_list(text)):
        assert phone.serial
        assert phone.readiness
        assert phone.readiness == "ready" or phone.next_step


def test_an_address_that_is_none_is_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "99999999")
    found, remarks = discover([], lambda entry: None, around=None)
    assert found == []
    assert remarks == ["ANDROID_ADB_SERVER_PORT is '99999999'; give a port, or unset it"]


# ssh


def around(folder: Path, config: str) -> Surroundings:
    """The ssh configuration of somebody whose home is the folder."""
    (folder / ".ssh").mkdir()
    (folder / ".ssh/config").write_text(config)
    return Surroundings(folder, "me", "here", (folder / ".ssh/config",))


def test_a_host_is_greeted_and_nobody_logs_in(tmp_path: Path, closed: tuple[str, int]) -> None:
    with (
        serving(saying(b"SSH-2.0-OpenSSH_9.2\r\n")) as (_, good),
        serving(saying(b"220 ftp\r\n")) as (_, other),
    ):
        hosts = around(
            tmp_path,
            f"Host pi\n  Port {good}\nHost ftp\n  Port {other}\nHost gone\n  Port {closed[1]}\n"
            "Host deep\n  ProxyJump pi\nHost wrong\n  Port x\nHost nowhere\n  HostName "
            f"{'x' * 300}.invalid\nHost *\n  HostName 127.0.0.1\n",
        )
        greet("pi", hosts, timeout=5)
        with pytest.raises(DeviceUnreachable, match="is no SSH server"):
            greet("ftp", hosts, timeout=5)
    for name in ("gone", "nowhere"):
        with pytest.raises(DeviceUnreachable, match="nothing answers"):
            greet(name, hosts, timeout=5)
    with pytest.raises(DeviceError, match="behind a jump host"):
        greet("deep", hosts, timeout=5)
    with pytest.raises(InputError, match=r"[Pp]ort"):
        greet("wrong", hosts, timeout=5)


# All together


def found(
    entries: list[BoardEntry],
    server: tuple[str, int],
    hosts: Surroundings | None = None,
    patience: float = 10,
) -> tuple[list[Sighting], list[str]]:
    def look(entry: BoardEntry) -> None:
        if entry.name == "hangs":
            time.sleep(2)
        if entry.name in OUTCOMES:
            raise OUTCOMES[entry.name]

    return discover(entries, look, around=hosts, server=server, patience=patience)


OUTCOMES = {
    "taken": BoardInUse("ann measures on it"),
    "shut": DeviceUnauthorised("it does not let us in"),
    "gone": DeviceUnreachable("nothing answers"),
    "lost": DeviceLost("the link broke"),
    "odd": DeviceError("it says something else"),
}


def test_each_board_has_its_state(closed: tuple[str, int]) -> None:
    entries = [
        BoardEntry(name, "ssh", host=name, user="me") for name in (*OUTCOMES, "fine", "hangs")
    ]
    begin = time.monotonic()
    sightings, remarks = found(entries, closed, patience=0.3)
    assert time.monotonic() - begin < 2
    assert {sighting.name: sighting.state for sighting in sightings} == {
        "taken": "busy",
        "shut": "unauthorised",
        "gone": "offline",
        "lost": "offline",
        "odd": "unknown",
        "fine": "ready",
        "hangs": "offline",
    }
    assert sightings[0].where == "me@taken"
    assert sightings[-1].words == "it has not answered within 0.3 s"
    assert "run `adb start-server`" in remarks[0]
    assert state_of(None) == ("ready", "")


def test_phones_of_the_inventory_are_not_listed_twice() -> None:
    entries = [
        BoardEntry("mine", "adb", serial="0A1B2C3D"),
        BoardEntry("locked", "adb", serial="ABCDEF"),
        BoardEntry("gone", "adb", serial="not"),
    ]
    with serving(adb_server(LIST)) as address:
        sightings, remarks = found(entries, address)
    assert remarks == []
    assert [(s.name, s.where, s.state) for s in sightings] == [
        ("mine", "0A1B2C3D", "ready"),
        ("locked", "ABCDEF", "unauthorised"),
        ("gone", "not", "offline"),
        ("", "192.168.1.7:5555", "ready"),
        ("", "emulator-5554", "offline"),
        ("", "????????????", "unauthorised"),
        ("", "99", "busy"),
    ]
    assert "boardfit devices add NAME --serial 192.168.1.7:5555" in sightings[3].words


def test_between_several_phones_nothing_is_guessed() -> None:
    with serving(adb_server(LIST)) as address:
        sightings, _ = found([BoardEntry("any", "adb")], address)
    assert sightings[0].state == "unknown"
    assert "several phones fit (0A1B2C3D, 192.168.1.7:5555" in sightings[0].words
    with serving(adb_server(LIST.splitlines()[0] + "\n")) as address:
        sightings, _ = found([BoardEntry("any", "adb")], address)
    assert [(s.name, s.where, s.state) for s in sightings] == [("any", "0A1B2C3D", "ready")]


def test_a_board_that_another_measures_on_is_busy_also_where_the_server_sees_it() -> None:
    with serving(adb_server("X device usb:1-1\n")) as address:
        sightings, _ = found([BoardEntry("taken", "adb", serial="X")], address)
    assert (sightings[0].state, sightings[0].words) == ("busy", "ann measures on it")


def test_hosts_of_ssh_that_are_no_boards_are_listed(
    tmp_path: Path, closed: tuple[str, int]
) -> None:
    with serving(saying(b"SSH-2.0-x\r\n")) as (host, port):
        hosts = around(
            tmp_path,
            f"Host up mine\n HostName {host}\n Port {port}\nHost down\n HostName {host}\n"
            f" Port {closed[1]}\nHost behind\n ProxyJump up\n",
        )
        sightings, _ = found([BoardEntry("b", "ssh", host="mine")], closed, hosts)
    assert [(s.name, s.where, s.state) for s in sightings] == [
        ("b", "mine", "ready"),
        ("", "up", "unknown"),
        ("", "down", "offline"),
        ("", "behind", "unknown"),
    ]
    assert sightings[1].words == "answers; `boardfit devices add NAME --host up`"


@contextlib.contextmanager
def real_adb_server(home: Path) -> Iterator[tuple[str, int]]:
    """Debian's adb as a server of the test's own."""
    if shutil.which("adb") is None:
        missing("adb", "apt-get install adb")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["adb", "-P", str(port), "nodaemon", "server"],
        env={
            "HOME": str(home),
            "TMPDIR": str(home),
            "PATH": os.environ["PATH"],
            "ADB_LOCAL_TRANSPORT_MAX_PORT": "5553",  # no emulators, which others may run here
            "ADB_MDNS": "0",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(DeviceUnreachable):
                attached(("127.0.0.1", port), timeout=10)
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield "127.0.0.1", port
    finally:
        process.kill()
        process.wait()


def test_a_real_adb_server_is_understood(tmp_path: Path) -> None:
    """A device that takes the connection and says nothing is offline."""
    with socket.create_server(("127.0.0.1", 0)) as mute, real_adb_server(tmp_path) as address:
        serial = f"127.0.0.1:{mute.getsockname()[1]}"
        with subprocess.Popen(
            ["adb", "-P", str(address[1]), "connect", serial],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as connecting:
            try:
                deadline = time.monotonic() + 20
                seen: tuple[Listed, ...] = ()
                while serial not in {phone.serial for phone in seen}:
                    assert time.monotonic() < deadline
                    seen = attached(address, timeout=10)
            finally:
                connecting.kill()
    (device,) = [phone for phone in seen if phone.serial == serial]
    assert device.readiness == "offline"
