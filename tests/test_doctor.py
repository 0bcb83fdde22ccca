"""The doctor on boards of each kind, as a person calls it; and what each reading is taken for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.base import Completed, Description, Device
from boardfit.devices.board_entry import BoardEntry, Settings
from boardfit.devices.clusters import Cluster
from boardfit.devices.doctor import examine, repair
from boardfit.devices.errors import DeviceLost
from boardfit.devices.fake import FakeTransport
from boardfit.devices.findings import (
    DiskSpace,
    Finding,
    chip_finding,
    cluster_finding,
    disk_finding,
    governor_findings,
    half_copies,
    link_finding,
    litter_findings,
    load_finding,
    parse_disk_space,
    temperature_finding,
    throttle_count_finding,
    workspace_finding,
)
from boardfit.devices.jetson import PowerMode
from boardfit.devices.local import LocalTransport
from boardfit.devices.power_findings import (
    battery_findings,
    clocks_finding,
    elf_machine,
    power_mode_finding,
    rights_finding,
    screen_finding,
    thermal_finding,
    throttled_findings,
    tool_finding,
)
from boardfit.devices.throttling import Battery, ThermalService, parse_throttled
from boardfit.devices_summary import finding_lines, verdict

from .doctor_boards import (
    ARM64_PROGRAM,
    DOCTOR_BOARDS,
    JETSON,
    PIXEL,
    RASPBERRY_PI,
    Built,
    DoctorBoard,
    build,
)

DOCS = Path(__file__).parent.parent / "docs/devices.md"
PC = BoardEntry("pc", "local")


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Built]:
    return lambda name: build(DOCTOR_BOARDS[name], tmp_path / name)


def same_link(text: str) -> str:
    """How long a request takes depends on the machine."""
    return re.sub(r"a request takes [\d.]+ ms", "a request takes 8.5 ms", text)


# As a person calls it


@pytest.mark.parametrize("name", DOCTOR_BOARDS)
def test_the_docs_show_what_the_command_prints(name: str, make: Callable[[str], Built]) -> None:
    done = make(name).boardfit("devices", "doctor", name)
    assert done.stderr == ""
    assert done.returncode == (3 if name in {"pi5", "orin"} else 0)
    shown = re.search(
        rf"^    \$ boardfit devices doctor {name}\n((?:    .*\n)+)", DOCS.read_text(), re.MULTILINE
    )
    assert shown is not None
    lines = [line.removeprefix("    ") for line in shown[1].splitlines()]
    assert same_link(done.stdout).splitlines() == [same_link(line) for line in lines]


def test_programs_get_json(make: Callable[[str], Built]) -> None:
    done = make("nuc").boardfit("devices", "doctor", "nuc", "--json")
    rows = json.loads(done.stdout)
    assert {row["state"] for row in rows} == {"ok"}
    assert [row["what"] for row in rows][:3] == ["link", "rights", "disk"]


def test_fix_makes_the_workspace(make: Callable[[str], Built]) -> None:
    board = make("pi5")
    governor = board.root / "sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    done = board.boardfit("devices", "doctor", "pi5", "--fix")
    assert "Done: made /home/pi/boardfit." in done.stdout
    assert "ok       workspace    /home/pi/boardfit" in done.stdout
    assert done.returncode == 3  # the other problems are the user's
    assert (board.root / "home/pi/boardfit").is_dir()
    assert governor.read_text() == "ondemand\n"


def test_fix_removes_what_was_left_behind(make: Callable[[str], Built]) -> None:
    board = make("orin")
    workspace = board.root / "home/lab/boardfit"
    (workspace / "mine").mkdir()
    done = board.boardfit("devices", "doctor", "orin", "--fix")
    assert "Done: removed /home/lab/boardfit/worker-0123456789abcdef." in done.stdout
    assert [path.name for path in workspace.iterdir()] == ["mine"]
    phone = make("pixel")
    phone.boardfit("devices", "doctor", "pixel", "--fix")
    assert list((phone.root / "data/local/tmp/boardfit").iterdir()) == []


def test_a_python_that_does_not_work_is_told_in_its_own_words(make: Callable[[str], Built]) -> None:
    board = make("nuc")
    (board.folder / "state/python").unlink()
    done = board.boardfit("devices", "doctor", "nuc")
    assert "python3 is no Python that works: python3: error while loading shared" in done.stdout
    (board.folder / "bin/python3").unlink()
    done = board.boardfit("devices", "doctor", "nuc")
    assert "there is no program 'python3'" in done.stdout
    assert "install python3 there, or name the interpreter" in " ".join(done.stdout.split())


def test_no_more_than_the_sudo_rules_that_are_missing_count(tmp_path: Path) -> None:
    rules = "tee /sys/devices/system/cpu/cpufreq/policy0/scaling_governor\n"
    allowed = replace(RASPBERRY_PI, state={**RASPBERRY_PI.state, "sudoers": rules})
    done = build(allowed, tmp_path / "b").boardfit("devices", "doctor", "pi5", "--json")
    rights = next(row for row in json.loads(done.stdout) if row["what"] == "rights")
    assert (rights["state"], rights["words"]) == ("ok", "pi, with sudo for what changes settings")


@pytest.mark.parametrize(
    ("what", "settings", "state"),
    [
        (JETSON, "nvpmodel = 0", "problem"),
        (JETSON, "fixed_performance = false", "note"),
        (RASPBERRY_PI, 'governor = "performance"', "problem"),
    ],
)
def test_rights_that_are_missing_matter_where_a_setting_is_wanted(
    tmp_path: Path, what: DoctorBoard, settings: str, state: str
) -> None:
    head = what.toml.partition("settings =")[0]
    asking = replace(what, toml=f"{head}settings = {{ {settings} }}\n")
    done = build(asking, tmp_path / "b").boardfit("devices", "doctor", "--json")
    assert {row["state"] for row in json.loads(done.stdout) if row["what"] == "rights"} == {state}


def test_jetson_clocks_hold_no_clock_of_another_board(tmp_path: Path) -> None:
    asking = replace(
        RASPBERRY_PI, toml=f"{RASPBERRY_PI.toml}settings = {{ jetson_clocks = true }}\n"
    )
    done = build(asking, tmp_path / "b").boardfit("devices", "doctor", "--json")
    assert [row["state"] for row in json.loads(done.stdout) if row["what"] == "governor"] == [
        "warning"
    ]


def test_the_simulated_board_is_fit() -> None:
    board = BoardEntry("fake", "fake")
    transport = FakeTransport()
    device = Device("fake", "fake", transport, DESCRIPTION, "python3", PurePosixPath("/b"), 0)
    findings = examine(device, board)
    assert {finding.state for finding in findings} <= {"ok", "note"}


DESCRIPTION = Description(None, None, None, None, None, None, None, None)


class Breaking(FakeTransport):
    """A board whose link breaks at the n-th command."""

    def __init__(self, commands: int) -> None:
        super().__init__()
        self._left = commands

    def run(self, argv: Sequence[str], *, timeout: float) -> Completed:
        self._left -= 1
        if self._left < 0:
            raise DeviceLost("the link broke; run the same command again")
        return super().run(argv, timeout=timeout)


@pytest.mark.parametrize("commands", range(0, 20, 3))
def test_a_link_that_breaks_is_the_last_finding(commands: int) -> None:
    device = Device(
        "b", "ssh", Breaking(commands), DESCRIPTION, "python3", PurePosixPath("/b"), None
    )
    findings = examine(device, BoardEntry("b", "ssh", host="b"))
    assert findings[-1] == Finding("link", "problem", "the link broke; run the same command again")


def test_a_hostile_workspace_is_data(tmp_path: Path) -> None:
    """Names on the board, and of the workspace, are removed or made, never run."""
    workspace = tmp_path / "a b;$(touch pwned)'\"\n-x"
    device = Device(
        "b", "local", LocalTransport(), DESCRIPTION, "python3", PurePosixPath(workspace), 0
    )
    made = repair(device, [workspace_finding(str(workspace), "can be made")], frozenset())
    assert workspace.is_dir()
    assert made == [f"made {workspace}"]
    for name in ("worker-$(touch pwned)", "worker-0000000000000000", "worker-1111111111111111"):
        (workspace / name).mkdir()
    (tmp_path / "outside").mkdir()
    (workspace / "worker-2222222222222222").symlink_to(tmp_path / "outside")
    (workspace / "worker-0000000000000000/.boardfit-0000000000000000").write_text("half")
    findings = examine(device, PC, keep_workers=frozenset({"worker-0000000000000000"}))
    repair(device, findings, frozenset({"worker-0000000000000000"}))
    assert sorted(path.name for path in workspace.iterdir()) == [
        "worker-$(touch pwned)",
        "worker-0000000000000000",
    ]
    assert list((workspace / "worker-0000000000000000").iterdir()) == []
    assert (tmp_path / "outside").is_dir()
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("pwned").exists()


# What readings are taken for


@pytest.mark.parametrize(
    ("seconds", "state", "words"),
    [
        ([0.004, 0.0036, 0.9], "ok", "a request takes 4.0 ms (median of 3)"),
        ([0.06], "note", "60 ms"),
        ([0.7], "warning", "700 ms"),
    ],
)
def test_link(seconds: list[float], state: str, words: str) -> None:
    finding = link_finding(seconds)
    assert finding.state == state
    assert words in finding.words


def test_disk() -> None:
    text = (
        "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
        "/dev/block/dm-5 with space 1000000 900000 100000 90% /data/my disk\n"
    )
    space = parse_disk_space(text)
    assert space == DiskSpace(100000 * 1024, 1000000 * 1024, "/data/my disk")
    assert disk_finding(space).state == "warning"
    assert disk_finding(replace(space, free=10**9)).state == "ok"
    assert disk_finding(replace(space, free=10**7)).state == "problem"
    assert disk_finding(parse_disk_space("df: no such file")).state == "note"


def test_workspace() -> None:
    states = {
        "writable": "ok",
        "can be made": "note",
        "read-only": "problem",
        "not a folder": "problem",
        "": "problem",
    }
    assert {said: workspace_finding("/w", said).state for said in states} == states


def test_litter() -> None:
    names = ["worker-0000000000000001", "worker-x", ".boardfit-00112233445566zz", "mine"]
    assert litter_findings(names, frozenset({"worker-0000000000000001"})) == []
    (finding,) = litter_findings(names, frozenset())
    assert finding.words == "1 worker of other versions of boardfit in the workspace"
    assert half_copies(["../.boardfit-0011223344556677", "/x/.boardfit-0011223344556677"]) == []


def test_chip() -> None:
    entry = replace(PC, soc="BCM2712")
    assert chip_finding(PC, "bcm2712", None) is None
    ok = chip_finding(entry, "bcm2712", None)
    other = chip_finding(entry, "bcm2711", "Raspberry Pi 4")
    unknown = chip_finding(entry, None, None)
    assert ok is not None
    assert ok.state == "ok"
    assert other is not None
    assert (other.state, other.words) == (
        "warning",
        "it is a bcm2711, and boards.toml expects a BCM2712",
    )
    assert unknown is not None
    assert unknown.state == "note"


def policy(governor: str, allowed: int = 100) -> Mapping[str, str]:
    base = "/sys/devices/system/cpu/cpufreq/policy0"
    return {
        f"{base}/scaling_governor": governor,
        f"{base}/scaling_max_freq": str(allowed),
        f"{base}/cpuinfo_max_freq": "100",
    }


@pytest.mark.parametrize(
    ("files", "wanted", "states"),
    [
        ({}, None, ["note"]),
        (policy("performance"), None, ["ok"]),
        (policy("ondemand"), None, ["warning"]),
        (policy("ondemand"), "performance", ["ok"]),
        (policy("performance", 60), None, ["ok", "warning"]),
    ],
)
def test_governor(files: Mapping[str, str], wanted: str | None, states: list[str]) -> None:
    assert [finding.state for finding in governor_findings(files, wanted)] == states


TWO = (Cluster("little", (0, 1, 2, 3), 250.0, 1.8e9), Cluster("big", (4, 5), 1024.0, 2.8e9))


@pytest.mark.parametrize(
    ("entry", "core", "state", "words"),
    [
        (PC, 5, "ok", "little 0-3 (to 1.8 GHz), big 4-5 (to 2.8 GHz); measured on 5"),
        (PC, None, "warning", "left to the scheduler"),
        (PC, 9, "problem", "the cores 9"),
        (replace(PC, cluster="big"), None, "ok", "measured on big"),
        (replace(PC, cluster="middle"), None, "problem", "the cluster middle"),
        (replace(PC, cores=(4, 5)), None, "ok", "measured on 4-5"),
        (replace(PC, cores=(5, 6)), None, "problem", "the cores 6"),
    ],
)
def test_clusters(entry: BoardEntry, core: int | None, state: str, words: str) -> None:
    finding = cluster_finding(TWO, entry, core)
    assert finding.state == state
    assert words in finding.words


def test_a_board_with_cores_of_one_kind_needs_no_choice() -> None:
    finding = cluster_finding(TWO[:1], PC, None)
    assert (finding.state, finding.words) == ("ok", "little 0-3 (to 1.8 GHz)")


def test_temperature_and_load() -> None:
    assert temperature_finding(50.0, None).state == "ok"
    assert temperature_finding(75.0, None).state == "note"
    assert temperature_finding(85.0, None).state == "warning"
    assert temperature_finding(50.0, 45.0).state == "warning"
    assert temperature_finding(None, None).state == "note"
    assert temperature_finding(None, 45.0).state == "problem"
    assert load_finding(None, 4) is None
    states = [load_finding(f"{load} 0 0 1/2 3", 4) for load in ("0.2", "0.9", "3.1")]
    assert [finding.state for finding in states if finding] == ["ok", "note", "warning"]
    counted = throttle_count_finding({"/sys/cpu0/package_throttle_count": "3"})
    assert counted is not None
    assert "3 times" in counted.words


@pytest.mark.parametrize(
    ("bits", "power", "throttling"),
    [
        ("0x0", "ok", "ok"),
        ("0x50000", "warning", "warning"),
        ("0x50005", "problem", "problem"),
        ("0x80008", "ok", "problem"),
        ("0x20000", "ok", "warning"),
    ],
)
def test_flags_of_a_raspberry_pi(bits: str, power: str, throttling: str) -> None:
    findings = throttled_findings(parse_throttled(f"throttled={bits}"))
    assert [finding.state for finding in findings] == [power, throttling]
    assert throttled_findings(parse_throttled("VCHI initialization failed")) == []


def test_phones() -> None:
    assert battery_findings(Battery(0.2, "usb", 30.0))[0].state == "problem"
    assert battery_findings(Battery(0.8, "usb", 30.0))[0].state == "note"
    assert battery_findings(Battery(0.8, None, 30.0))[0].state == "ok"
    assert battery_findings(None)[0].state == "note"
    assert thermal_finding(None) is None
    states = [thermal_finding(ThermalService(status, ())) for status in (0, 2, 3, 9)]
    assert [f.state for f in states if f] == ["ok", "warning", "problem", "problem"]
    awake = screen_finding("x\n  mWakefulness=Awake\n")
    asleep = screen_finding("  mWakefulness=Dozing\n")
    assert [f.state for f in (awake, asleep) if f] == ["note", "ok"]
    assert screen_finding("") is None


def test_jetson() -> None:
    modes = (PowerMode(0, "15W"), PowerMode(1, "7W"))
    wants = replace(PC, settings=Settings(nvpmodel=1))
    assert power_mode_finding(0, modes, PC).words == "0 (15W)"
    assert power_mode_finding(0, modes, wants).words.endswith(
        "1 is set while something is measured"
    )
    other = replace(PC, settings=Settings(nvpmodel=7))
    assert power_mode_finding(0, modes, other).state == "problem"
    assert power_mode_finding(None, modes, PC).state == "warning"
    free = "cpu0: Online=1 MinFreq=1 MaxFreq=2 CurrentFreq=2"
    states = [clocks_finding(text, PC) for text in (free, free.replace("=1 Max", "=2 Max"))]
    assert [f.state for f in states if f] == ["warning", "ok"]
    assert clocks_finding("", PC) is None


def test_rights_are_asked_for_by_the_line_that_gives_them() -> None:
    needed = ["/usr/bin/tee /sys/x", '/usr/bin/jetson_clocks ""']
    finding = rights_finding("me", False, needed, needed[:1], wants=True)
    assert finding.state == "problem"
    assert finding.fix.splitlines()[-1] == (
        'me ALL=(root) NOPASSWD: /usr/bin/tee /sys/x, /usr/bin/jetson_clocks ""'
    )
    assert rights_finding("me", False, needed, needed, wants=False).state == "note"
    assert rights_finding("me", False, needed, [], wants=True).state == "ok"
    assert rights_finding("root", True, needed, needed, wants=True).state == "ok"


def test_a_program_for_another_processor_is_found(tmp_path: Path) -> None:
    path = tmp_path / "benchmark_model"
    entry = replace(PC, benchmark_model=path)
    abis = "arm64-v8a,armeabi-v7a"
    assert tool_finding(PC, abis).state == "problem"
    assert "No such file" in tool_finding(entry, abis).words
    path.write_bytes(ARM64_PROGRAM)
    assert elf_machine(path) == "aarch64"
    assert tool_finding(entry, abis).state == "ok"
    assert "is for aarch64, and the phone runs x86_64" in tool_finding(entry, "x86_64").words
    path.write_bytes(ARM64_PROGRAM[:18] + b"\x3e\0" + ARM64_PROGRAM[20:])
    assert "is for x86_64, and the phone runs aarch64, armv7" in tool_finding(entry, abis).words
    path.write_bytes(b"#!/bin/sh\nexec something")
    assert "is no program for Linux or Android" in tool_finding(entry, abis).words
    path.write_bytes(b"\x7fELF\x01\x02\x01" + bytes(9) + b"\0\2\0\x28")  # big-endian 32-bit ARM
    assert elf_machine(path) == "armv7"


@given(st.text())
def test_whatever_a_board_says_is_understood_or_not(text: str) -> None:
    disk_finding(parse_disk_space(text))
    load_finding(text, 4)
    screen_finding(text)
    clocks_finding(text, PC)
    half_copies(text.splitlines())


def test_what_is_to_be_copied_is_not_wrapped() -> None:
    line = "x " * 100
    lines = list(finding_lines([Finding("what", "note", "words", f"do\n{line}")]))
    assert lines[2].strip() == line.strip()
    assert lines[-1] == "The board is fit to be measured."
    findings = [Finding("a", "problem", "x"), Finding("b", "warning", "x"), Finding("c", "ok", "x")]
    assert verdict(findings) == "The board cannot be measured as it is: 1 problem, 1 warning."


def test_phones_have_no_python_to_ask(tmp_path: Path) -> None:
    bare = replace(PIXEL, toml=PIXEL.toml.replace('benchmark_model = "~/benchmark_model"\n', ""))
    done = build(bare, tmp_path / "b").boardfit("devices", "doctor", "pixel")
    assert "boards.toml names none for aarch64, and phones have no Python" in done.stdout
    assert done.returncode == 3
    assert os.listdir(tmp_path / "b/root/data/local/tmp/boardfit")  # nothing is fixed unasked
