"""A board is added to boards.toml, and nothing else in it changes."""

from __future__ import annotations

import threading
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from boardfit.devices.add_board import completed, entry_of, free_name
from boardfit.devices.base import Description
from boardfit.devices.board_entry import BoardEntry, Limits, Settings
from boardfit.devices.clusters import Cluster
from boardfit.devices.errors import (
    DeviceAmbiguous,
    DeviceNotFound,
    DeviceUnauthorised,
    InUse,
    InventoryError,
)
from boardfit.devices.files import exclusive
from boardfit.devices.inventory import Inventory
from boardfit.devices.inventory_file import add_board, entry_text

from .test_discover import adb_server, serving

PI = BoardEntry(
    "pi5",
    "ssh",
    host="pi.lab",
    user="pi",
    port=2222,
    identity_file=Path("~/.ssh/lab"),
    workspace=PurePosixPath("~/boardfit"),
    python="/usr/bin/python3",
    soc="bcm2712",
    cores=(2, 3),
    tags=("lab", "arm"),
    limits=Limits(60.5),
    settings=Settings(governor="performance", jetson_clocks=False),
)


def test_what_is_written_is_read_as_the_same(tmp_path: Path) -> None:
    path = add_board(PI, tmp_path / "new" / "boards.toml")
    assert (
        path.read_text()
        == """\
[boards.pi5]
transport = "ssh"
python = "/usr/bin/python3"
workspace = "~/boardfit"
tags = ["lab", "arm"]
host = "pi.lab"
user = "pi"
port = 2222
identity_file = "~/.ssh/lab"
soc = "bcm2712"
cores = [2, 3]
limits = { start_below = 60.5 }
settings = { governor = "performance", jetson_clocks = false }
"""
    )
    assert Inventory.load(path).entries == (PI,)


@pytest.mark.parametrize(
    "before",
    [
        b"# my boards\n\n[boards.a]   # the old one\ntransport = 'local'\n",
        b'\xef\xbb\xbf[boards.a]\r\ntransport = "local"\r\n# end\r\n',
        b"[boards.a]\ntransport = 'local'",
        b"boards.a.transport = 'local'\n",
        b"",
        b"# nothing yet\n\n\n",
    ],
)
def test_the_rest_of_the_file_is_not_touched(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "boards.toml"
    path.write_bytes(before)
    path.chmod(0o600)
    names = [entry.name for entry in Inventory.load(path).entries]
    add_board(PI, path)
    after = path.read_bytes()
    assert after.startswith(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert (b"\r\n" in after) == (b"\r\n" in before)
    assert [entry.name for entry in Inventory.load(path).entries] == [*names, "pi5"]
    assert Inventory.load(path).get("pi5") == PI


def test_a_name_is_not_taken_twice(tmp_path: Path) -> None:
    path = add_board(PI, tmp_path / "boards.toml")
    before = path.read_bytes()
    with pytest.raises(InventoryError, match=r"board 'pi5' is there already; choose another name"):
        add_board(PI, path)
    with pytest.raises(InventoryError, match="'pi5' is there already"):
        free_name("pi5", path)
    free_name("pi6", path)
    free_name("pi5", tmp_path / "absent.toml")
    assert path.read_bytes() == before


def test_a_file_that_takes_no_more_tables_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "boards.toml"
    path.write_text('boards = { a = { transport = "local" } }\n')
    with pytest.raises(InventoryError, match=r"add it by hand:\n\[boards\.pi5\]"):
        add_board(PI, path)
    assert path.read_text() == 'boards = { a = { transport = "local" } }\n'
    path.write_text("[boards.a\n")
    with pytest.raises(InventoryError, match="is not valid TOML"):
        add_board(PI, path)
    assert path.read_text() == "[boards.a\n"


def test_links_are_followed_and_second_writers_kept_out(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/boards.toml").write_text("# mine\n")
    link = tmp_path / "boards.toml"
    link.symlink_to("real/boards.toml")
    assert add_board(PI, link) == tmp_path / "real/boards.toml"
    assert link.is_symlink()
    with exclusive(tmp_path / "real/.boards.toml.lock"), pytest.raises(InUse):
        add_board(BoardEntry("other", "local"), link)


def test_the_usual_file_is_made(tmp_path: Path) -> None:
    path = add_board(BoardEntry("x", "local"))
    assert path == tmp_path / "config/boardfit/boards.toml"
    assert Inventory.load().get("x").transport == "local"


texts = st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    python=texts, folder=st.text(), tags=st.lists(st.from_regex(r"\A[\w.][\w.-]*\Z"), max_size=3)
)
def test_hostile_values_are_data(tmp_path: Path, python: str, folder: str, tags: list[str]) -> None:
    fields: dict[str, Any] = {"python": python, "workspace": PurePosixPath(f"/{folder}")}
    try:
        entry = BoardEntry("b.x", "local", tags=tuple(tags), **fields)
    except InventoryError:
        return
    path = tmp_path / "boards.toml"
    path.write_text("[boards.first]\ntransport = 'fake'\n")
    add_board(entry, path)
    assert Inventory.load(path).get("b.x") == entry
    assert len(Inventory.load(path).entries) == 2


@pytest.mark.parametrize(
    "value", ['"\n[boards.evil]\ntransport = "local', "''' # \\", "\t\x1b[31m\x7f", "\udcff"]
)
def test_a_value_does_not_become_syntax(tmp_path: Path, value: str) -> None:
    path = tmp_path / "boards.toml"
    entry = BoardEntry("b", "local", python=value)
    if value == "\udcff":
        with pytest.raises(InventoryError, match="bytes that are no text"):
            add_board(entry, path)
        return
    add_board(entry, path)
    assert Inventory.load(path).entries == (entry,)


def test_names_with_dots_are_quoted() -> None:
    assert entry_text(BoardEntry("a.b", "fake", seed=3)) == (
        '[boards."a.b"]\ntransport = "fake"\nseed = 3\n'
    )


# What is written about a board that was looked at


def test_a_transport_follows_from_what_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = entry_of("p", None, host="pi", identity_file="keys/id", user=None, serial=None)
    assert (entry.transport, entry.identity_file) == ("ssh", tmp_path / "keys/id")
    assert entry_of("p", None, serial="X1", benchmark_model="~/b").benchmark_model == Path("~/b")
    with pytest.raises(InventoryError, match=r"give --host .* or --serial"):
        entry_of("p", None)
    with pytest.raises(InventoryError, match=r"give --host .* or --serial"):
        entry_of("p", None, host="pi", serial="X")
    with pytest.raises(InventoryError, match="host: '-oProxyCommand=x' is not one word"):
        entry_of("p", "ssh", host="-oProxyCommand=x")


def test_the_only_phone_is_taken_and_of_several_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(text: str) -> BoardEntry:
        with serving(adb_server(text)) as (_, port):
            monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
            return entry_of("p", "adb")

    assert asked("X1 device model:A\n").serial == "X1"
    with pytest.raises(DeviceAmbiguous, match=r"several phones are attached .X1, X2.; choose one"):
        asked("X1 device\nX2 offline\n")
    with pytest.raises(DeviceNotFound, match="sees no phone; plug it in"):
        asked("")
    with pytest.raises(DeviceUnauthorised, match=r"X1 is attached, .* unlock it"):
        asked("X1 unauthorized\n")


def test_chip_and_big_cores_are_written_down() -> None:
    says = Description("Pi", "bcm2712", 4, 1, "Debian", "6", "aarch64", "ondemand")
    phone = (Cluster("little", (0, 1)), Cluster("big", (2, 3)))
    entry = BoardEntry("b", "local")
    assert completed(entry, says, [Cluster("all", (0, 1))]).soc == "bcm2712"
    assert completed(entry, says, [Cluster("all", (0, 1))]).cluster is None
    assert completed(entry, says, phone).cluster == "big"
    chosen = BoardEntry("b", "local", core=1, soc="mine")
    assert completed(chosen, says, phone) == chosen


def test_two_writers_at_a_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "boards.toml"
    added: list[str] = []

    def add(name: str) -> None:
        while True:
            try:
                add_board(BoardEntry(name, "local"), path)
            except InUse:
                continue
            added.append(name)
            return

    threads = [threading.Thread(target=add, args=(f"b{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name for entry in Inventory.load(path).entries} == set(added)
    assert len(added) == 6
