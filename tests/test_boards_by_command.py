"""Boards by the commands that users type: real sshd, the tests' phone, and one that is taken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from boardfit.devices.board_state import read_state
from boardfit.devices.local import LocalTransport
from boardfit.devices.occupy import occupied
from boardfit.profiler.connect import connect
from boardfit.profiler.emit_tflite import emit

from .adb_device import AdbDevice, Serving, serving
from .adb_programs import adb_server
from .small_board import small_network
from .sshd import Sshd


@dataclass
class User:
    """Somebody with a home folder of their own, and an inventory."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def inventory(self) -> Path:
        return self.home / "boards.toml"

    def boards(self) -> dict[str, Any]:
        return dict(tomllib.loads(self.inventory.read_text())["boards"])

    def boardfit(self, *words: object, code: int = 0) -> str:
        """Run a command; what it said, on both streams."""
        done = subprocess.run(
            [sys.executable, "-m", "boardfit", *map(str, words)],
            cwd=self.home,
            env={
                **os.environ,
                "HOME": str(self.home),
                "BOARDFIT_BOARDS": str(self.inventory),
                "COLUMNS": "200",
                **self.environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        assert done.returncode == code, done.stdout
        return done.stdout

    def listed(self) -> dict[str, dict[str, Any]]:
        """What `devices list` says of each board by its name."""
        return {row["name"]: row for row in json.loads(self.boardfit("devices", "list", "--json"))}


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with Sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def user(sshd: Sshd) -> User:
    """Somebody whose ~/.ssh/config knows the server as `lab-pi`."""
    home = sshd.folder / "user"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/config").write_text(
        f"Host lab-pi\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n"
        f"  IdentityFile {sshd.key}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {sshd.known_hosts}\n"
    )
    home.joinpath("boards.toml").write_text("# mine\n")
    return User(home)


def test_a_board_over_ssh_is_added_listed_and_examined(user: User, sshd: Sshd) -> None:
    add = ["devices", "add", "pi5", "--host", "lab-pi", "--tag", "lab", "--python", sys.executable]
    said = user.boardfit(*add, "--dry-run")
    assert "[boards.pi5]" in said
    assert user.inventory.read_text() == "# mine\n"
    assert "next: boardfit devices doctor pi5" in user.boardfit(*add)
    assert user.inventory.read_text().startswith("# mine\n")
    entry = user.boards()["pi5"]
    assert (entry["transport"], entry["host"], entry["tags"]) == ("ssh", "lab-pi", ["lab"])
    assert "is there already; choose another name" in user.boardfit(*add, code=2)
    row = user.listed()["pi5"]
    assert (row["transport"], row["state"]) == ("ssh", "ready")
    findings = json.loads(user.boardfit("devices", "doctor", "pi5", "--json"))
    assert {"link", "python", "runtime"} <= {finding["what"] for finding in findings}
    sshd.__exit__()
    row = user.listed()["pi5"]
    assert row["state"] == "offline"


def test_what_hinders_adding_over_ssh_is_said_with_the_next_step(user: User, sshd: Sshd) -> None:
    before = user.inventory.read_text()
    sshd.known_hosts.write_text("")
    said = user.boardfit("devices", "add", "pi5", "--host", "lab-pi", code=3)
    assert "ssh-keyscan" in said or "known_hosts" in said
    sshd.know()
    sshd.authorized_keys.write_text("")
    said = user.boardfit("devices", "add", "pi5", "--host", "lab-pi", code=3)
    assert "ssh-copy-id" in said
    said = user.boardfit("devices", "add", "pi5", "--host", "127.0.0.1", "--port", "1", code=3)
    assert "127.0.0.1" in said
    assert "not one word" in user.boardfit("devices", "add", "x", "--host", "-oProxy=x", code=2)
    assert "give --host" in user.boardfit("devices", "add", "x", code=2)
    assert user.inventory.read_text() == before


@pytest.fixture
def phone() -> Iterator[Serving]:
    with serving(AdbDevice()) as found:
        yield found


def test_a_phone_is_added_around_a_server_and_through_one(phone: Serving, tmp_path: Path) -> None:
    with adb_server(tmp_path) as server:
        port = {"ANDROID_ADB_SERVER_PORT": str(server.address[1])}
        user = User(tmp_path / "home", port)  # without an inventory, which is made
        user.boardfit("devices", "add", "near", "--serial", phone.serial, "--no-server")
        user.boardfit("devices", "add", "far", "--serial", phone.serial, "--server")
        boards = user.boards()
        assert (boards["near"]["server"], boards["far"]["server"]) == (False, True)
        # The only one that the server sees needs no name.
        user.boardfit("devices", "add", "only", "--transport", "adb")
        assert user.boards()["only"]["serial"] == phone.serial
        states = {name: row["state"] for name, row in user.listed().items()}
        assert {states[name] for name in ("near", "far", "only")} == {"ready"}
    said = user.boardfit("devices", "add", "gone", "--transport", "adb", code=3)
    assert "adb start-server" in said


def test_no_board_is_measured_before_it_is_cool(
    user: User, sshd: Sshd, phone: Serving, tmp_path: Path
) -> None:
    """The limit is asked for over any way; this machine may show no temperature at all."""
    user.inventory.write_text(
        "[boards.pi]\ntransport = 'ssh'\nhost = 'lab-pi'\nlimits = { start_below = 0.5 }\n"
        f"[boards.pixel]\ntransport = 'adb'\nserial = '{phone.serial}'\nserver = false\n"
        f"workspace = '{tmp_path / 'phone'}'\nlimits = {{ start_below = 0.5 }}\n"
    )
    model = tmp_path / "m.tflite"
    model.write_bytes(emit(small_network(8)))
    if read_state(LocalTransport()).facts.get("temperature") is not None:
        pytest.skip("this machine shows its temperature, and would be waited for")
    for name in ("pi", "pixel"):
        said = user.boardfit("profile", "--device", name, model, "--wait", "60", code=4)
        assert "shows no temperature that could be waited for" in said


def test_a_board_that_another_job_has_is_not_waited_for(tmp_path: Path) -> None:
    """By any command that measures: with `--wait 0` it is told at once who has the board."""
    user = User(tmp_path)
    user.inventory.write_text("")
    model = tmp_path / "m.tflite"
    model.write_bytes(emit(small_network(8)))
    with connect("local") as board, occupied(board, "a long measurement"):
        for words in (
            ["profile", "--device", "local", model],
            ["profile", "--device", "local", "--space", "mobilenetv3-32", "--out", "t"],
            ["devices", "setup", "local", "--remove"],
        ):
            said = user.boardfit(*words, "--wait", "0", code=3)
            assert "a long measurement" in said
    assert "--wait" in user.boardfit("profile", model, "--wait", "-1", code=2)
    assert isinstance(board.transport, LocalTransport)
    said = user.boardfit("devices", "setup", "local", "--remove", "--wait", "0")
    assert "Nothing there." in said
