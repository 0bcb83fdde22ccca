"""boards.toml: read strictly, each mistake named with its fix; the choice of a board."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from boardfit.devices.board_entry import BoardEntry, Limits, Settings
from boardfit.devices.errors import DeviceAmbiguous, DeviceNotFound, InventoryError
from boardfit.devices.inventory import SIZE_LIMIT, Inventory, xdg_folder

EXAMPLE = """
[boards.desk]
transport = "local"
python = "/usr/bin/python3"
workspace = "~/boardfit"
core = 3
tags = ["lab", "x86"]

[boards."sim.1"]
transport = "fake"
seed = 7
tags = ["lab"]
"""
REMOTE = """
[boards.pi]
transport = "ssh"
host = "pi.lab"
user = "me"
port = 2222
identity_file = "~/.ssh/lab"
soc = "bcm2712"
cores = [2, 3]
limits = { start_below = 60 }

[boards.pixel]
transport = "adb"
serial = "0A1B2C"
server = false
benchmark_model = "/opt/benchmark_model"
cluster = "big"

[boards.pixel.settings]
governor = "performance"
fixed_performance = true
nvpmodel = 0
jetson_clocks = false
"""


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home folder without any inventory."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BOARDFIT_BOARDS", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path / "home"


def load(tmp_path: Path, text: str | bytes) -> Inventory:
    path = tmp_path / "boards.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Inventory.load(path)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# Reading


def test_every_field_is_read(tmp_path: Path) -> None:
    inventory = load(tmp_path, EXAMPLE)
    assert inventory.path == tmp_path / "boards.toml"
    assert inventory.entries == (
        BoardEntry(
            "desk",
            "local",
            "/usr/bin/python3",
            PurePosixPath("~/boardfit"),
            3,
            ("lab", "x86"),
        ),
        BoardEntry("sim.1", "fake", tags=("lab",), seed=7),
    )


def test_every_field_of_boards_behind_a_link_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, REMOTE).entries == (
        BoardEntry(
            "pi",
            "ssh",
            host="pi.lab",
            user="me",
            port=2222,
            identity_file=Path("~/.ssh/lab"),
            soc="bcm2712",
            cores=(2, 3),
            limits=Limits(start_below=60),
        ),
        BoardEntry(
            "pixel",
            "adb",
            serial="0A1B2C",
            server=False,
            benchmark_model=Path("/opt/benchmark_model"),
            cluster="big",
            settings=Settings("performance", True, 0, False),
        ),
    )


def test_an_empty_file_lists_no_boards(tmp_path: Path) -> None:
    assert load(tmp_path, "").entries == ()
    assert load(tmp_path, b"\xef\xbb\xbf[boards]\r\n").entries == ()


BOARD = '[boards.pi]\ntransport = "local"\n'
SSH = '[boards.pi]\ntransport = "ssh"\n'
ADB = '[boards.pi]\ntransport = "adb"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[boards.pi", "is not valid TOML: .*at end of document"),
        (BOARD + BOARD, "is not valid TOML: .*line 3"),
        ("x = " + "[" * 5000, "is not valid TOML: brackets are nested too deep"),
        (b"# caf\xe9", r"is not UTF-8 text \(byte 5\); save it as UTF-8"),
        ('[board.pi]\ntransport = "local"', r"'board' is not known; boards begin with \[boards"),
        ("boards = 1", r"'boards' is a value; write each board below a line \[boards.NAME\]"),
        ("[[boards]]", r"'boards' is a value"),
        ("[boards]\npi = 1", r"board 'pi': is a value; write its fields below \[boards.pi\]"),
        ("[boards.pi]", "board 'pi', transport: is missing; write transport = \"local\""),
        ('[boards.pi]\ntransport = "tty"', "board 'pi', transport: 'tty' is not known; this ver"),
        ('[boards.pi]\ntransport = "ssh"', "board 'pi', host: is missing; write host = "),
        (SSH + 'host = "-oProxyCommand=x"', "host: '-oProxyCommand=x' is not one word"),
        (SSH + 'host = ""', "host: '' is not one word"),
        (SSH + 'host = "a\\nb"', r"host: 'a\\nb' is not one word"),
        (SSH + 'host = "pi"\nuser = "a b"', "user: 'a b' is not one word"),
        (SSH + 'host = "pi"\nport = 0', "port: 0 is no port; give one from 1 to 65535"),
        (SSH + 'host = "pi"\nport = 65536', "port: 65536 is no port"),
        (SSH + 'host = "pi"\nidentity_file = "id"', "identity_file: give a path that begins"),
        (SSH + 'host = "pi"\nserial = "x"', "serial: only adb boards have one; remove the line"),
        (BOARD + 'host = "pi"', "host: only ssh boards have one; remove the line"),
        (ADB + 'serial = "-s"', "serial: '-s' is not one word"),
        (ADB + 'server = "5037"', "server: '5037' is not true or false"),
        (ADB + 'benchmark_model = ""', "benchmark_model: give a path that begins with / or ~/"),
        (BOARD + 'soc = ""', "soc: '' is not one word"),
        (BOARD + 'cluster = "huge"', "cluster: 'huge' is none; write little, middle, big"),
        (BOARD + 'core = 0\ncluster = "big"', "cluster: core and cluster are given; keep one"),
        (BOARD + "core = 0\ncores = [1]", "cores: core and cores are given; keep one"),
        (BOARD + "cores = [true]", r"cores: \[True\] is not a list of whole numbers"),
        (BOARD + "cores = [-1]", "cores: -1 is no core; the first one is 0"),
        (BOARD + "cores = [1, 1]", "cores: one core is listed twice"),
        (BOARD + "cores = []", "cores: is empty; list cores, or remove the line"),
        (BOARD + "limits = 3", "limits: 3 is not a table such as"),
        (BOARD + "limits = {below = 3}", "limits.below: not a field; did you mean 'start_below'"),
        (BOARD + 'limits = {start_below = "x"}', "limits.start_below: 'x' is not a number"),
        (BOARD + "limits = {start_below = nan}", "limits.start_below: nan degrees Celsius is no"),
        (BOARD + f"limits = {{start_below = {'9' * 400}}}", "limits.start_below: 9999"),
        (BOARD + "limits = {start_below = true}", "limits.start_below: True is not a number"),
        (BOARD + "settings = {nvpmodel = -1}", "settings.nvpmodel: -1 is no mode"),
        (BOARD + 'settings = {governor = "a b"}', "settings.governor: 'a b' is no governor's"),
        (BOARD + "settings = {jetson_clocks = 1}", "settings.jetson_clocks: 1 is not true or fal"),
        ("[boards.pi]\ntransport = 1", "board 'pi', transport: 1 is not a text"),
        (BOARD + 'pyhton = "x"', "board 'pi', pyhton: not a field; did you mean 'python'?"),
        (BOARD + "zzz = 1", "board 'pi', zzz: not a field; known: transport, python"),
        (BOARD + "python = 3", "board 'pi', python: 3 is not a text"),
        (BOARD + 'python = " "', "board 'pi', python: give the path or the name"),
        (BOARD + 'python = "a\\u0000b"', "board 'pi', python: give the path or the name"),
        (BOARD + 'workspace = "somewhere"', "board 'pi', workspace: give a path that begins"),
        (BOARD + 'workspace = ""', "board 'pi', workspace: give a path that begins"),
        (BOARD + 'workspace = "/a\\u0000"', "board 'pi', workspace: give a path that begins"),
        (BOARD + 'core = "3"', "board 'pi', core: '3' is not a whole number"),
        (BOARD + "core = true", "board 'pi', core: True is not a whole number"),
        (BOARD + "core = 1.0", "board 'pi', core: 1.0 is not a whole number"),
        (BOARD + "core = -1", "board 'pi', core: -1 is no core; the first one is 0"),
        (BOARD + 'tags = "lab"', "board 'pi', tags: 'lab' is not a list of texts"),
        (BOARD + "tags = [1]", r"board 'pi', tags: \[1\] is not a list of texts"),
        (BOARD + 'tags = ["a b"]', "board 'pi', tags: 'a b' is not a usable tag; use letters"),
        (BOARD + "seed = 1", "board 'pi', seed: only fake boards have one; remove the line"),
        ('[boards.f]\ntransport = "fake"\nseed = -1', "board 'f', seed: -1 is negative; give 0"),
        ('[boards.local]\ntransport = "fake"', "board 'local', transport: this name always"),
        ("#" * (SIZE_LIMIT + 1), f"is larger than {SIZE_LIMIT} bytes"),
    ],
)
def test_mistakes_are_named_with_their_place_and_fix(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    with pytest.raises(InventoryError, match=words) as caught:
        load(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'boards.toml'}: ")


@pytest.mark.parametrize(
    "name", ["-pi", "", " ", "a b", "a/b", "a\nb", "pi\n", "ü", ".", "..", "tag:x", "$(x)", "a;b"]
)
def test_names_that_would_mean_something_else_are_refused(tmp_path: Path, name: str) -> None:
    quoted = name.replace("\n", "\\n")
    with pytest.raises(InventoryError, match="not a usable name; use letters, digits"):
        load(tmp_path, f'[boards."{quoted}"]\ntransport = "local"')


@pytest.mark.parametrize("name", ["pi", "0", "a.b-c_D", ".hidden", "_"])
def test_plain_names_are_taken(tmp_path: Path, name: str) -> None:
    assert load(tmp_path, f'[boards."{name}"]\ntransport = "local"').get(name).name == name


def test_the_largest_file_is_read(tmp_path: Path) -> None:
    text = BOARD + "#" * (SIZE_LIMIT - len(BOARD))
    assert load(tmp_path, text).get().name == "pi"


def test_a_board_cannot_be_written_down_twice() -> None:
    entry = BoardEntry("pi", "local")
    with pytest.raises(InventoryError, match="board 'pi': written down twice"):
        Inventory((entry, entry))


toml_like = st.lists(
    st.sampled_from(
        [
            "[boards.a]",
            "[[boards.a]]",
            "[boards]",
            'transport = "local"',
            'transport = "fake"',
            "core = 1",
            "core = 99999999999999999999",
            "seed = 0x7f",
            'transport = "ssh"',
            'transport = "adb"',
            'host = "x"',
            "port = 22",
            "cores = [1]",
            "limits = {start_below = inf}",
            "settings = {nvpmodel = 1, governor = 'x'}",
            "tags = []",
            'tags = ["x", 1979-05-27]',
            "workspace = '/x'",
            "a.b.c = {}",
            "boards.b.transport = 'local'",
            '"\\ud800" = 1',
            "= = =",
        ]
    ),
    max_size=8,
).map("\n".join)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.one_of(st.binary(max_size=200), toml_like.map(str.encode), st.text().map(str.encode)))
def test_whatever_a_file_holds_it_is_an_inventory_or_an_inventory_error(
    tmp_path: Path, data: bytes
) -> None:
    with contextlib.suppress(InventoryError):
        assert isinstance(load(tmp_path, data), Inventory)


# Where it is


def test_the_users_own_file_may_be_missing() -> None:
    assert Inventory.load() == Inventory()


def test_the_users_own_file_is_found(
    monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    write(home / ".config/boardfit/boards.toml", BOARD.replace("pi", "at-home"))
    assert Inventory.load().get().name == "at-home"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative/is/ignored")
    assert Inventory.load().get().name == "at-home"
    write(tmp_path / "xdg/boardfit/boards.toml", BOARD.replace("pi", "in-xdg"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert Inventory.load().get().name == "in-xdg"
    write(home / "mine.toml", BOARD.replace("pi", "named"))
    monkeypatch.setenv("BOARDFIT_BOARDS", "~/mine.toml")
    assert Inventory.load().get().name == "named"


def test_a_file_that_was_asked_for_must_be_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InventoryError, match=r"absent\.toml: there is no such file"):
        Inventory.load(tmp_path / "absent.toml")
    monkeypatch.setenv("BOARDFIT_BOARDS", str(tmp_path / "named.toml"))
    with pytest.raises(InventoryError, match=r"named\.toml: there is no such file"):
        Inventory.load()


def test_what_is_not_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="not an ordinary file"):
        Inventory.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InventoryError, match="not an ordinary file"):
        Inventory.load(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path / "secret.toml", BOARD).chmod(0)
    with pytest.raises(InventoryError, match=r"secret\.toml: cannot be read: Permission denied"):
        Inventory.load(tmp_path / "secret.toml")


def test_folders_follow_the_specification(
    monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert xdg_folder("XDG_CACHE_HOME", ".cache") == tmp_path
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert xdg_folder("XDG_CACHE_HOME", ".cache") == home / ".cache"


# Choosing


def test_without_boards_it_is_this_machine() -> None:
    assert Inventory().get() == BoardEntry("local", "local")


def test_the_only_board_needs_no_name(tmp_path: Path) -> None:
    assert load(tmp_path, BOARD).get().name == "pi"


def test_several_boards_are_never_guessed_from(tmp_path: Path) -> None:
    inventory = load(tmp_path, EXAMPLE)
    with pytest.raises(DeviceAmbiguous, match=r"no board was named, .* fit: desk, sim\.1; choose"):
        inventory.get()
    with pytest.raises(DeviceAmbiguous, match=r"the tag 'lab', .* fit: desk, sim\.1; choose"):
        inventory.get("tag:lab")


def test_boards_are_chosen_by_name_and_tag(tmp_path: Path) -> None:
    inventory = load(tmp_path, EXAMPLE)
    assert inventory.get("sim.1").seed == 7
    assert inventory.get("tag:x86").name == "desk"


def test_built_in_boards_are_always_there(tmp_path: Path) -> None:
    inventory = load(tmp_path, EXAMPLE)
    assert inventory.get("local").transport == "local"
    assert inventory.get("fake") == BoardEntry("fake", "fake", seed=0)
    names = [entry.name for entry in inventory.all_entries]
    assert names == ["desk", "sim.1", "local", "fake"]


def test_a_built_in_board_can_be_written_down_otherwise(tmp_path: Path) -> None:
    inventory = load(tmp_path, '[boards.local]\ntransport = "local"\ncore = 1')
    assert inventory.get("local").core == 1
    assert [entry.name for entry in inventory.all_entries] == ["local", "fake"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "dsk",
            r"no board has the name 'dsk'; did you mean 'desk'\? there are in .*boards\.toml: ",
        ),
        ("quite other", r"no board has the name 'quite other'; there are in"),
        ("tag:labb", r"no board has the tag 'labb'; did you mean 'tag:lab'\? "),
        ("", "no board has the name ''; there are in"),
        ("tag:", "no board has the tag ''"),
        ("DESK", "no board has the name 'DESK'"),
    ],
)
def test_who_misses_a_board_is_told_what_there_is(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(DeviceNotFound, match=words) as caught:
        load(tmp_path, EXAMPLE).get(name)
    assert str(caught.value).endswith(": desk, sim.1, local, fake, tag:lab, tag:x86")
