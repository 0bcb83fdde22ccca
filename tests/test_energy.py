"""Joules are computed from what a meter really says, with what it cannot say."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest

from boardfit.devices.energy import (
    Rail,
    Reading,
    between,
    find_rails,
    input_rails,
    joules_per_inference,
    parse_readings,
    rails_of,
    sampled,
    uptime,
)
from boardfit.devices.errors import MeasurementError
from boardfit.devices.fake import FakeTransport
from boardfit.devices.local import LocalTransport

HWMON = "sys/class/hwmon"


@pytest.fixture
def orin(tmp_path: Path) -> Path:
    """The hwmon of a Jetson Orin Nano: an INA3221 with three supplies, and a fan."""
    root = tmp_path / "a root"
    for path, text in {
        "hwmon0/name": "pwmfan",
        "hwmon0/in1_label": "NOT_A_SUPPLY",
        "hwmon0/in1_input": "1",
        "hwmon0/curr1_input": "1",
        "hwmon1/name": "ina3221",
        "hwmon1/update_interval": "52",
        "hwmon1/in1_label": "VDD_IN",
        "hwmon1/in1_input": "5000",
        "hwmon1/curr1_input": "1000",
        "hwmon1/shunt1_resistor": "5000",
        "hwmon1/in2_label": "VDD_CPU_GPU_CV",
        "hwmon1/in2_input": "5000",
        "hwmon1/curr2_input": "200",
        "hwmon1/in3_label": "NC",
        "hwmon1/in3_input": "0",
        "hwmon1/curr3_input": "0",
        "hwmon1/in7_label": "sum of shunt voltages",
        "hwmon1/in7_input": "9840",
    }.items():
        file = root / HWMON / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


def test_supplies_are_found_where_jetpack_5_and_6_have_them(orin: Path) -> None:
    folder = orin / HWMON / "hwmon1"
    whole, part = find_rails(LocalTransport(), root=str(orin))
    assert whole.name == "VDD_IN"
    assert whole.interval == pytest.approx(0.052)
    assert whole.files == (f"{folder}/in1_input", f"{folder}/curr1_input")
    assert whole.step == pytest.approx(0.040)  # 40 uV over 5 mOhm is 8 mA, at 5 V
    assert (part.name, part.step) == ("VDD_CPU_GPU_CV", None)
    assert input_rails([part, whole]) == (whole,)


def test_supplies_are_found_where_jetpack_4_had_them(tmp_path: Path) -> None:
    base = tmp_path / "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    base.mkdir(parents=True)
    for channel, (name, milliwatts) in enumerate([("POM_5V_IN", 2875), ("POM_5V_GPU", 40)]):
        (base / f"rail_name_{channel}").write_text(f"{name}\n")
        (base / f"in_power{channel}_input").write_text(f"{milliwatts}\n")
    (base / "rail_name_2").write_text("POM_5V_CPU\n")  # and its power cannot be read
    rails = find_rails(LocalTransport(), root=str(tmp_path))
    assert rails == (
        Rail("POM_5V_IN", (f"{base}/in_power0_input",)),
        Rail("POM_5V_GPU", (f"{base}/in_power1_input",)),
    )
    assert input_rails(rails) == rails[:1]


def test_without_an_input_all_supplies_are_added() -> None:
    rails = tuple(Rail(name, (name,)) for name in ("GPU", "CPU", "SOC", "SYS5V"))
    assert input_rails(rails) == rails


def test_a_board_without_a_meter_says_so(tmp_path: Path) -> None:
    assert find_rails(FakeTransport()) == ()
    assert rails_of({"/sys/class/hwmon/hwmon0/in1_label": "VDD_IN"}) == ()
    with (
        pytest.raises(MeasurementError, match="shows no power meter"),
        sampled(LocalTransport(), (), PurePosixPath(tmp_path)),
    ):
        pytest.fail("it was let through")


def test_a_meter_is_read_on_the_board_while_something_runs(orin: Path, tmp_path: Path) -> None:
    transport = LocalTransport()
    workspace = PurePosixPath(tmp_path / "work space")
    rails = find_rails(transport, root=str(orin))
    with sampled(transport, rails, workspace, pause=0.01, at_most=20) as meter:
        time.sleep(0.4)
        change = uptime(transport)
        (orin / HWMON / "hwmon1/curr1_input").write_text("3000\n")
        time.sleep(0.4)
        end = uptime(transport)
    assert len(meter.readings) > 10
    # Not in the moment of writing, in which the file is empty.
    before = between(meter.readings, 0.0, change - 0.05)
    after = between(meter.readings, change + 0.05, end)
    assert [reading.watts for reading in before] == pytest.approx([6.0] * len(before))
    assert [reading.watts for reading in after] == pytest.approx([16.0] * len(after))
    assert min(len(before), len(after)) > 5
    assert [path.name for path in Path(workspace).iterdir()] == ["sample_power.sh"]


def test_an_error_while_it_is_read_ends_the_reading(orin: Path, tmp_path: Path) -> None:
    transport = LocalTransport()
    rails = find_rails(transport, root=str(orin))
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        sampled(transport, rails, PurePosixPath(tmp_path), at_most=600),
    ):
        raise RuntimeError("in the middle")
    assert (tmp_path / "power.txt.stop").exists()


def test_a_meter_that_can_no_longer_be_read_is_told(orin: Path, tmp_path: Path) -> None:
    transport = LocalTransport()
    rails = find_rails(transport, root=str(orin))
    (orin / HWMON / "hwmon1/in1_input").unlink()
    with (
        pytest.raises(MeasurementError, match=r"could not be read \(VDD_IN, VDD_CPU_GPU_CV\)"),
        sampled(transport, rails, PurePosixPath(tmp_path), pause=0.01),
    ):
        time.sleep(0.05)


def test_lines_that_say_nothing_are_left_out() -> None:
    text = (
        "100.20 100.22 2875 5000 1000\n"
        "100.25 100.27 - 5000 1000\n"  # could not be read
        "100.30 100.29 2875 5000 1000\n"  # the clock went back
        "100.35 100.37 2875 nan 1000\n"
        "\n"
        "100.40 100.42 2900 5000 1"  # cut off, which looks as if it were whole
    )
    found = parse_readings(text, [1, 2])
    assert [reading.at for reading in found] == pytest.approx([100.21, 100.41])
    assert [reading.watts for reading in found] == pytest.approx([7.875, 2.905])


# Joules


def readings(
    watts: float,
    count: int,
    rng: random.Random,
    *,
    noise: float,
    step: float = 1e-6,
    every: float = 0.05,
) -> list[Reading]:
    """What a meter shows that knows steps, of a power that fluctuates."""
    return [
        Reading(every * index, round(rng.gauss(watts, noise) / step) * step)
        for index in range(count)
    ]


def test_the_idle_board_is_subtracted() -> None:
    rng = random.Random(0)
    busy, idle = (readings(watts, 400, rng, noise=0.05) for watts in (9.0, 4.0))
    found = joules_per_inference(busy, idle, inferences=500, seconds=20.0)
    assert found.joules == pytest.approx(5.0 * 20 / 500, rel=0.01)
    assert found.low < found.joules < found.high
    assert (found.busy, found.idle) == pytest.approx((9.0, 4.0), rel=0.01)
    assert found.problem is None


@pytest.mark.parametrize("step", [1e-6, 0.04])
def test_the_interval_holds_the_truth(step: float) -> None:
    rng = random.Random(1)
    held = 0
    for _ in range(400):
        lots = [readings(watts, 60, rng, noise=0.1, step=step) for watts in (6.0, 4.0)]
        found = joules_per_inference(*lots, inferences=100, seconds=3.0, step=step)
        held += found.low <= 2.0 * 0.03 <= found.high
    assert held >= 0.93 * 400  # 95 of 100, and chance


def test_readings_that_never_change_are_off_by_half_a_step_at_most() -> None:
    busy, idle = ([Reading(0.1 * i, watts) for i in range(100)] for watts in (5.04, 4.0))
    found = joules_per_inference(busy, idle, inferences=10, seconds=10.0, step=0.04)
    assert (found.low, found.high) == pytest.approx((1.0, 1.08))


def constant(watts: Sequence[float]) -> list[Reading]:
    return [Reading(0.1 * index, value) for index, value in enumerate(watts)]


@pytest.mark.parametrize(
    ("busy", "idle", "step", "interval", "words"),
    [
        ([5.0] * 12, [4.0] * 40, None, None, "made 12 readings .* 20 are needed"),
        # Read ten times a second, and made once in two.
        ([5.0] * 100, [4.0] * 100, None, 2.0, "made 6 readings"),
        ([4.03, 4.0] * 50, [4.0] * 100, 0.04, 0.1, "takes 15 mW more .* steps are 40 mW"),
        ([4.0, 6.0] * 50, [4.0, 5.9] * 30, None, None, "cannot be told from its fluctuations"),
    ],
)
def test_a_meter_that_is_too_coarse_says_so(
    busy: list[float], idle: list[float], step: float, interval: float, words: str
) -> None:
    rng = random.Random(0)
    rng.shuffle(busy)
    found = joules_per_inference(
        constant(busy), constant(idle), inferences=10, seconds=1.0, step=step, interval=interval
    )
    assert found.problem is not None
    assert found.problem.startswith("too coarse: ")
    assert re.search(words, found.problem), found.problem


def test_too_little_to_compute_anything_is_an_error() -> None:
    with pytest.raises(MeasurementError, match="read 1 times while the model ran and 0 times"):
        joules_per_inference(constant([5.0]), [], inferences=10, seconds=1.0)
    with pytest.raises(ValueError, match="cannot take"):
        joules_per_inference(constant([5.0]), [], inferences=0, seconds=1.0)
