"""What slows a board is read from its tools' own words, and nothing else is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from boardfit.devices.errors import DeviceLost, MeasurementError
from boardfit.devices.fake import FakeTransport, SimulatedClock
from boardfit.devices.jetson import (
    clocks_are_held,
    needs_reboot,
    parse_power_mode,
    parse_power_modes,
    parse_tegrastats,
)
from boardfit.devices.throttling import (
    Battery,
    Throttled,
    evidence,
    kind_of,
    parse_battery,
    parse_thermal_service,
    parse_throttled,
    thermal_zones,
    wait_until_cool,
    zones_of,
)

from . import tool_outputs as outputs
from .hostile_tools import SUBJECTS, try_texts
from .shimmed_board import NVPMODEL_CONF, ShimmedBoard, shimmed_board

# Raspberry Pi


@pytest.mark.parametrize(
    ("text", "now", "since_start"),
    [
        ("throttled=0x0\n", set(), set()),
        ("throttled=0x50000\n", set(), {"under_voltage", "throttled"}),
        ("throttled=0x50005", {"under_voltage", "throttled"}, {"under_voltage", "throttled"}),
        ("throttled=0xe0008", {"soft_temperature_limit"}, None),
        ("throttled=0x20002", {"frequency_capped"}, {"frequency_capped"}),
    ],
)
def test_what_holds_now_and_what_once_held_are_told_apart(
    text: str, now: set[str], since_start: set[str] | None
) -> None:
    found = parse_throttled(text)
    assert found is not None
    assert found.now == now
    assert since_start is None or found.since_start == since_start


@pytest.mark.parametrize("text", [None, "", "throttled=", "throttled=0x", "throttled=5", "error=1"])
def test_without_an_answer_nothing_is_made_up(text: str | None) -> None:
    assert parse_throttled(text) is None


def test_what_was_set_before_proves_nothing_new() -> None:
    before = Throttled(frozenset(), frozenset({"under_voltage"}))
    assert before.news_since(before) == set()
    # Throttled between two readings, and not any more; under-voltage again cannot be seen.
    after = Throttled(frozenset(), frozenset({"under_voltage", "throttled"}))
    assert after.news_since(before) == {"throttled"}
    assert Throttled(frozenset({"under_voltage"}), before.since_start).news_since(before) == {
        "under_voltage"
    }


# Android


def test_the_cached_temperatures_are_not_believed() -> None:
    found = parse_thermal_service(outputs.THERMAL_XIAOMI)
    assert found is not None
    assert found.status == 1
    assert {(one.name, one.kind): one.celsius for one in found.sensors} == {
        ("CPU", "cpu"): 57.9,
        ("SKIN", "skin"): 34.351,
        ("BATTERY", "battery"): 42.2,
    }


def test_sensors_that_are_not_there_are_left_out() -> None:
    found = parse_thermal_service(outputs.THERMAL_SAMSUNG)
    assert found is not None
    assert [one.name for one in found.sensors] == ["AP", "BAT", "PA"]


def test_a_phone_without_the_hal_tells_its_status_alone() -> None:
    found = parse_thermal_service(outputs.THERMAL_NO_HAL)
    assert found is not None
    assert (found.status, found.sensors) == (0, ())
    assert parse_thermal_service("Can't find service: thermalservice\n") is None
    assert parse_thermal_service(None) is None


@pytest.mark.parametrize(
    ("text", "battery"),
    [
        (outputs.BATTERY, Battery(0.75, "usb", 27.4)),
        (outputs.BATTERY_WITH_LOG, Battery(0.75, "ac", 35.7)),
        (outputs.BATTERY.replace("USB powered: true", "USB powered: false"), (0.75, None, 27.4)),
        (outputs.BATTERY.replace("scale: 100", "scale: 0"), (None, "usb", 27.4)),
        (outputs.BATTERY.replace("present: true", "present: false"), None),
        ("Can't find service: battery", None),
        (None, None),
    ],
)
def test_batteries(text: str | None, battery: Battery | tuple[float, str, float] | None) -> None:
    expected = Battery(*battery) if isinstance(battery, tuple) else battery
    assert parse_battery(text) == expected


# Jetson


def test_tegrastats_of_each_generation() -> None:
    found = parse_tegrastats(outputs.TEGRASTATS_4)
    assert found["gpu.load"] == 0.0
    assert found["gpu.frequency"] == pytest.approx(114e6)
    assert found["memory.frequency"] == pytest.approx(1.6e9)
    assert found["temperature.PMIC"] == 100
    assert found["power.VDD_IN"] == pytest.approx(3.528)
    found = parse_tegrastats(outputs.TEGRASTATS_NANO)
    assert found["gpu.load"] == pytest.approx(0.45)
    assert "gpu.frequency" not in found
    assert found["power.POM_5V_IN"] == pytest.approx(4.25)
    assert found["power.POM_5V_CPU"] == pytest.approx(1.52)
    found = parse_tegrastats(outputs.TEGRASTATS_6)
    assert (found["gpu.load"], found["gpu.frequency"]) == pytest.approx((0.87, 306e6))
    assert found["power.VDD_IN"] == pytest.approx(5.0)  # what is now, not the mean
    assert "temperature.cv0" not in found  # -256 °C: switched off
    found = parse_tegrastats(outputs.TEGRASTATS_7)
    assert "gpu.load" not in found
    assert found["gpu.frequency"] == pytest.approx(1574e6)
    assert found["temperature.tj"] == pytest.approx(51.218)
    assert found["power.VIN"] == pytest.approx(28.906)
    assert found["power.VDD_GPU"] == pytest.approx(6.33)
    assert parse_tegrastats(None) == {}


def test_power_modes_are_read() -> None:
    assert parse_power_mode(outputs.NVPMODEL_NANO) == 0
    assert parse_power_mode(outputs.NVPMODEL_ORIN) == 2
    assert parse_power_mode(outputs.NVPMODEL_VERBOSE) == 2
    assert parse_power_mode(outputs.NVPMODEL_REBOOT) is None
    assert parse_power_mode("") is None
    modes = parse_power_modes(NVPMODEL_CONF)
    assert [(mode.number, mode.name) for mode in modes] == [
        *((0, "15W"), (1, "7W"), (2, "MAXN_SUPER"), (3, "MODE_50W")),
    ]
    assert modes[3].gating == {"TPC_POWER_GATING TPC_PG_MASK": "1"}
    assert needs_reboot(outputs.NVPMODEL_REBOOT)
    assert not needs_reboot(outputs.NVPMODEL_ORIN)


def test_clocks_that_are_held_are_told_from_free_ones() -> None:
    assert clocks_are_held(outputs.CLOCKS_HELD) is True
    assert clocks_are_held(outputs.CLOCKS_FREE) is False
    assert clocks_are_held(outputs.CLOCKS_HELD.replace("GPU MinFreq=9", "GPU MinFreq=8")) is False
    assert clocks_are_held("Error: Run this script(jetson_clocks) as a root user") is None


# /sys


def test_thermal_zones_are_named_and_told_apart(tmp_path: Path) -> None:
    zones = [
        ("cpu-thermal", "48312\n"),
        ("cpu-thermal", "49000\n"),
        ("tsens 1", "38\n"),  # whole degrees
        ("cv0-thermal", "-256000\n"),
        ("x", "unknown\n"),
    ]
    for index, (kind, value) in enumerate(zones):
        folder = tmp_path / f"sys/class/thermal/thermal_zone{index}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(f"{kind}\n")
        (folder / "temp").write_text(value)
    (tmp_path / "sys/class/thermal/thermal_zone9").mkdir()  # nothing in it that could be read
    board = ShimmedBoard(tmp_path)
    assert thermal_zones(board.transport, root=str(tmp_path)) == {
        "cpu-thermal": 48.312,
        "cpu-thermal.1": 49.0,
        "tsens_1": 38.0,
    }
    assert thermal_zones(FakeTransport()) == {}
    assert zones_of({"/a/thermal_zone3/temp": "41000"}) == {"thermal_zone3": 41.0}


# Evidence, on boards


@pytest.fixture(params=["raspberry_pi", "jetson", "android"])
def board(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ShimmedBoard:
    found = shimmed_board(request.param, tmp_path, monkeypatch)
    found.write("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    found.write("sys/class/thermal/thermal_zone0/temp", "48312\n")
    found.set("throttled", "0x50005")
    found.set("tegrastats", f"{outputs.TEGRASTATS_6}\n")
    found.set("dumpsys.thermalservice", outputs.THERMAL_XIAOMI)
    found.set("dumpsys.battery", outputs.BATTERY)
    return found


def test_evidence_of_each_kind_of_board(board: ShimmedBoard) -> None:
    kind = kind_of(board.transport, root=board.root)
    found = evidence(board.transport, kind, root=board.root)
    assert found["clock.limit"] == 1.0
    if kind == "raspberry_pi":
        assert found["temperature"] == 48.312
        assert found["throttled.under_voltage"] == 1.0
        assert found["throttled.frequency_capped"] == 0.0
        assert found["throttled.since_start.throttled"] == 1.0
    elif kind == "jetson":
        assert found["temperature"] == 53.5  # the hottest of the chip's
        assert found["power.VDD_IN"] == 5.0
    else:
        assert kind == "android"
        assert found["temperature"] == 57.9  # neither the battery's nor a cached one
        assert found["thermal.status"] == 1.0
        assert found["battery.level"] == 0.75
        assert found["battery.charging"] == 1.0


def test_a_clock_that_the_system_limits_is_seen(board: ShimmedBoard) -> None:
    board.write("sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq", "755200\n")
    found = evidence(board.transport, "linux", root=board.root)
    assert found["clock.limit"] == pytest.approx(0.5)


@pytest.mark.parametrize("board", ["jetson"], indirect=True)
def test_a_sensor_that_says_100_for_ever_is_not_the_hottest(board: ShimmedBoard) -> None:
    board.set("tegrastats", f"{outputs.TEGRASTATS_4}\n")
    found = evidence(board.transport, "jetson", root=board.root)
    assert found["temperature.PMIC"] == 100
    assert found["temperature"] == 48.312


def test_tools_that_fail_leave_their_part_out(board: ShimmedBoard) -> None:
    for tool in (board.folder / "bin").iterdir():
        tool.write_text("#!/bin/sh\nexit 3\n")
    for kind in ("raspberry_pi", "jetson", "android", "linux"):
        found = evidence(board.transport, kind, root=board.root)
        assert "clock.limit" in found
        assert not [name for name in found if name.startswith(("throttled", "power", "battery"))]


def test_a_board_without_any_of_it_tells_nothing() -> None:
    fake = FakeTransport()
    assert kind_of(fake) == "linux"
    for kind in ("raspberry_pi", "jetson", "android", "linux"):
        assert evidence(fake, kind) == {}
    fake.close()
    with pytest.raises(DeviceLost):
        evidence(fake, "linux")


# Waiting for a cool board


def test_a_cool_board_is_not_waited_for(board: ShimmedBoard) -> None:
    clock = SimulatedClock()
    waited = wait_until_cool(
        board.transport, 60.0, at_most=100, root=board.root, clock=clock.now, sleep=clock.sleep
    )
    assert (waited, clock.now()) == (0.0, 0.0)


def test_waiting_ends_at_its_bound_and_says_what_it_saw(board: ShimmedBoard) -> None:
    clock = SimulatedClock()
    with pytest.raises(MeasurementError, match=r"°C after 21 s of waiting .*less than 30 °C"):
        wait_until_cool(
            board.transport, 30.0, at_most=21, root=board.root, clock=clock.now, sleep=clock.sleep
        )
    assert clock.now() == 21.0


def test_a_board_without_a_temperature_is_not_waited_for() -> None:
    with pytest.raises(MeasurementError, match=r"shows no temperature .* remove `start_below`"):
        wait_until_cool(FakeTransport(), 50.0, at_most=1e9)
    with pytest.raises(ValueError, match="cooled to"):
        wait_until_cool(FakeTransport(), 50.0, at_most=float("inf"))


# Hostile texts


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_text_of_a_tool_upsets_its_parser(subject: str) -> None:
    endings = try_texts(subject, range(1000))
    assert endings["used"] > 0  # some are still understood: they do get past the first check


def test_the_shims_are_programs() -> None:
    for shim in (Path(__file__).parent / "shims").iterdir():
        assert shutil.which(str(shim)), f"{shim} is not executable"
