"""What boards say of their own state, read in one go, and what of it means that they are slowed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from boardfit.devices.board_state import (
    NOTHING_SAID,
    SCRIPT,
    BoardState,
    parse_state,
    read_state,
    wait_until_cool,
)
from boardfit.devices.errors import DeviceLost, MeasurementError
from boardfit.devices.fake import FakeTransport, SimulatedClock

from . import tool_outputs as outputs
from .shimmed_board import ShimmedBoard, shimmed_board, stateful

KINDS = ("raspberry_pi", "jetson", "android")


@pytest.fixture
def pi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShimmedBoard:
    return stateful(shimmed_board("raspberry_pi", tmp_path, monkeypatch))


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_of_each_kind_of_board(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = stateful(shimmed_board(kind, tmp_path, monkeypatch))
    state = read_state(board.transport, root=board.root)
    found = state.facts
    assert state.uptime == 4711.25
    assert found["clock.limit"] == 1.0
    if kind == "raspberry_pi":
        assert found["temperature"] == found["temperature.cpu-thermal"] == 48.312
        assert found["throttled.under_voltage"] == 1.0
        assert found["throttled.frequency_capped"] == 0.0
        assert found["throttled.since_start.throttled"] == 1.0
        assert state.slowed_by() == ("under-voltage", "throttled")
    elif kind == "jetson":
        assert found["temperature"] == 53.5  # the hottest of the chip's
        assert found["power.VDD_IN"] == 5.0
        assert found["gpu.load"] == 0.87
        assert state.slowed_by() == ()
    else:
        assert found["temperature"] == 57.9  # neither the battery's nor a cached one
        assert "temperature.cpu-thermal" not in found  # a phone's zones do not say what they are
        assert found["thermal.status"] == 1.0
        assert found["battery.level"] == 0.75
        assert found["battery.charging"] == 1.0
        assert state.slowed_by() == ("thermal status light",)


@pytest.mark.parametrize("shell", ["dash", "mksh", "busybox"])
def test_any_shell_of_a_board_says_it_again_until_nobody_listens(
    shell: str, pi: ShimmedBoard
) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    words = [program, *(["sh"] if shell == "busybox" else []), str(SCRIPT)]
    files = ["/proc/uptime", "/sys/class/thermal/thermal_zone[0-9]*/t*"]
    with subprocess.Popen(
        [*words, "1", "1000", *(f"{pi.root}{file}" for file in files)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):
            lines = iter(process.stdout.readline, "end\n")
            state = parse_state(map(str.rstrip, lines), root=pi.root)
            assert state.uptime == 4711.25
            assert state.facts["temperature"] == 48.312
            assert state.facts["throttled.throttled"] == 1.0
        process.stdin.close()
        assert process.wait(10) != 0
        assert process.stderr.read() == ""


def test_a_clock_that_the_system_limits_is_seen(pi: ShimmedBoard) -> None:
    pi.set("throttled", "0x0")
    first = read_state(pi.transport, root=pi.root)
    pi.write("sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq", "755200\n")
    later = read_state(pi.transport, root=pi.root)
    assert later.facts["clock.limit"] == pytest.approx(0.5)
    assert later.slowed_by(first, first) == ("clock limited",)
    # What was limited from the beginning is how the board is set.
    assert later.slowed_by(later, later) == later.slowed_by() == ()
    pi.write("sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq", "1436000\n")  # 5 % less
    assert read_state(pi.transport, root=pi.root).slowed_by(first, first) == ()


def test_a_processor_of_a_pc_that_was_throttled_meanwhile_is_seen(pi: ShimmedBoard) -> None:
    pi.set("throttled", "0x0")
    for core, count in enumerate((3, 7)):
        folder = f"sys/devices/system/cpu/cpu{core}/thermal_throttle"
        pi.write(f"{folder}/package_throttle_count", f"{count}\n")
    before = read_state(pi.transport, root=pi.root)
    pi.write("sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count", "8\n")
    after = read_state(pi.transport, root=pi.root)
    assert (before.slowed_by(), before.slowed_by(before)) == ((), ())
    assert after.slowed_by(before) == ("throttled",)


def flags(now: int, since_start: int) -> BoardState:
    text = f"throttled={now | since_start << 16:#x}"
    return parse_state(["state 1.00", "tool get_throttled", f"|{text}", "end"])


def test_what_began_and_ended_between_two_looks_is_seen_and_what_was_before_is_not() -> None:
    before, after = flags(0, 0b0001), flags(0, 0b0101)
    assert before.slowed_by(before) == ()
    assert after.slowed_by() == ()
    assert after.slowed_by(before) == ("throttled",)
    assert flags(0b1010, 0b1111).slowed_by() == ("frequency capped", "soft temperature limit")


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, ()), (3, ("thermal status severe",)), (99, ("thermal status shutdown",))],
)
def test_the_thermal_status_has_a_name(status: int, words: tuple[str, ...]) -> None:
    said = outputs.THERMAL_XIAOMI.replace("Thermal Status: 1", f"Thermal Status: {status}")
    lines = ["tool thermalservice", *(f"|{line}" for line in said.splitlines())]
    assert parse_state(lines).slowed_by() == words


def test_a_sensor_that_says_100_for_ever_is_not_the_hottest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = stateful(shimmed_board("jetson", tmp_path, monkeypatch))
    board.set("tegrastats", f"{outputs.TEGRASTATS_4}\n")
    found = read_state(board.transport, root=board.root).facts
    assert found["temperature.PMIC"] == 100
    assert found["temperature"] == 48.312


@pytest.mark.parametrize("kind", KINDS)
def test_tools_that_fail_leave_their_part_out(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = stateful(shimmed_board(kind, tmp_path, monkeypatch))
    for tool in (board.folder / "bin").iterdir():
        tool.write_text("#!/bin/sh\nexit 3\n")
    found = read_state(board.transport, root=board.root).facts
    assert "clock.limit" in found
    assert not [name for name in found if name.startswith(("throttled", "power", "battery"))]


def test_a_board_without_any_of_it_tells_nothing(tmp_path: Path) -> None:
    fake = FakeTransport()
    assert read_state(fake) == NOTHING_SAID
    assert read_state(ShimmedBoard(tmp_path).transport, root=str(tmp_path)) == NOTHING_SAID
    fake.close()
    with pytest.raises(DeviceLost):
        read_state(fake)


def test_a_board_with_thousands_of_sensors_is_cut_short() -> None:
    zones = [f"file /sys/class/thermal/thermal_zone{n}/temp\t{40 + n % 50}000" for n in range(4000)]
    found = parse_state(["state 1.5", *zones, "file /no/tab", "nonsense", "end"])
    assert found.uptime == 1.5
    assert found.facts["temperature"] == 89.0
    assert len(found.facts) == 200


# Waiting for a cool board


@pytest.mark.parametrize("kind", KINDS)
def test_a_cool_board_is_not_waited_for(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = stateful(shimmed_board(kind, tmp_path, monkeypatch))
    clock = SimulatedClock()
    waited = wait_until_cool(
        board.transport, 60.0, at_most=100, root=board.root, clock=clock.now, sleep=clock.sleep
    )
    assert (waited, clock.now()) == (0.0, 0.0)


def test_a_warm_board_is_waited_for_until_it_is_cool(pi: ShimmedBoard) -> None:
    clock = SimulatedClock()

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now() >= 6:
            pi.write("sys/class/thermal/thermal_zone0/temp", "29900\n")

    waited = wait_until_cool(
        pi.transport, 30.0, at_most=21, root=pi.root, clock=clock.now, sleep=sleep
    )
    assert waited == 6.0


def test_waiting_ends_at_its_bound_and_says_what_it_saw(pi: ShimmedBoard) -> None:
    clock = SimulatedClock()
    with pytest.raises(MeasurementError, match=r"°C after 21 s of waiting .*less than 30 °C"):
        wait_until_cool(
            pi.transport, 30.0, at_most=21, root=pi.root, clock=clock.now, sleep=clock.sleep
        )
    assert clock.now() == 21.0


def test_a_board_without_a_temperature_is_not_waited_for() -> None:
    with pytest.raises(MeasurementError, match=r"shows no temperature .* remove `start_below`"):
        wait_until_cool(FakeTransport(), 50.0, at_most=1e9)
    with pytest.raises(ValueError, match="cooled to"):
        wait_until_cool(FakeTransport(), 50.0, at_most=float("inf"))
