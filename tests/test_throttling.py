"""What slows a board is read from its tools' own words, and nothing else is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from boardfit.devices.fake import FakeTransport
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
    kind_of,
    parse_battery,
    parse_thermal_service,
    parse_throttled,
    zones_of,
)

from . import tool_outputs as outputs
from .shimmed_board import NVPMODEL_CONF, shimmed_board

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
    off = "cpu3: Online=0 Governor=schedutil MinFreq=102000 MaxFreq=1479000 CurrentFreq=0\n"
    assert clocks_are_held(outputs.CLOCKS_HELD + off) is True
    assert clocks_are_held("Error: Run this script(jetson_clocks) as a root user") is None


# /sys


def test_thermal_zones_are_named_and_told_apart() -> None:
    zones = [
        ("cpu-thermal", "48312"),
        ("cpu-thermal", "49000"),
        ("tsens 1", "38"),  # whole degrees
        ("cv0-thermal", "-256000"),
        ("x", "unknown"),
    ]
    files: dict[str, str] = {}
    for index, (kind, value) in enumerate(zones):
        folder = f"/sys/class/thermal/thermal_zone{index}"
        files |= {f"{folder}/type": kind, f"{folder}/temp": value}
    assert zones_of(files) == {"cpu-thermal": 48.312, "cpu-thermal.1": 49.0, "tsens_1": 38.0}
    assert zones_of({"/a/thermal_zone3/temp": "41000"}) == {"thermal_zone3": 41.0}


@pytest.mark.parametrize("kind", ["raspberry_pi", "jetson", "android"])
def test_whose_tools_a_board_has(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = shimmed_board(kind, tmp_path, monkeypatch)
    assert kind_of(board.transport, root=board.root) == kind
    assert kind_of(FakeTransport()) == "linux"


def test_the_shims_are_programs() -> None:
    for shim in (Path(__file__).parent / "shims").iterdir():
        assert shutil.which(str(shim)), f"{shim} is not executable"
