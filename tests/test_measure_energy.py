"""What an inference costs, on a made-up meter whose supply really follows the load."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from boardfit.board_summary import energy_row, energy_words
from boardfit.devices.base import Device
from boardfit.devices.energy import Energy
from boardfit.devices.errors import MeasurementError
from boardfit.profiler import measure_energy as measuring
from boardfit.profiler.connect import connect
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.measure_energy import ModelEnergy, energy_text, measure_energy, read_energy
from boardfit.profiler.profile_model import open_profile, profile_model
from boardfit.profiler.visits import Model
from boardfit.reports.page import write_report

from .small_board import QUICK, small_network
from .small_board import board as fake_board

FOUND = ModelEnergy(Energy(0.0123, 0.0119, 0.0127, 7.1, 4.9), ("VDD_IN",), 3000, 16.8)
HWMON = "sys/class/hwmon/hwmon1"
IDLE, BUSY = 4.0, 9.0  # watts


class Meter:
    """The files of an INA3221, whose current follows the processor time of the worker in the folder
    beside them."""

    def __init__(self, root: Path, *, interval: int = 1, current: str | None = None) -> None:
        self.root = root
        self._worker = str(root.parent).encode()
        (root / HWMON).mkdir(parents=True)
        (root / "proc").mkdir()
        (root / "proc/uptime").symlink_to("/proc/uptime")
        for name, text in {
            "name": "ina3221",
            "update_interval": f"{interval}",
            "in1_label": "VDD_IN",
            "in1_input": "5000",
            "shunt1_resistor": "5000",
            "curr1_input": current or "800",
        }.items():
            (root / HWMON / name).write_text(f"{text}\n")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow)
        if current is None:
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        """Write the current that a board would take, twenty times a second."""
        before = _ticks(self._worker)
        while not self._stop.wait(0.05):
            now = _ticks(self._worker)
            watts = BUSY if now - before >= 2 else IDLE
            before = now
            part = self.root / HWMON / "part"
            part.write_text(f"{watts / 5 * 1000:.0f}\n")
            part.replace(self.root / HWMON / "curr1_input")


def _ticks(worker: bytes) -> int:
    """The processor time of a worker in a folder, in hundredths of a second."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = (stat.parent / "cmdline").read_bytes()
            if worker in words and b"worker.py" in words:
                fields = stat.read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        except (OSError, IndexError):
            continue
    return ticks


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setattr(measuring, "BUSY_SECONDS", 2.5)
    monkeypatch.setattr(measuring, "REST_SECONDS", 1.5)
    with replace(connect("local"), workspace=PurePosixPath(tmp_path / "work")) as found:
        yield found


MODEL = Model("m", lambda: emit(small_network(16)))


def test_the_energy_of_an_inference(device: Device, tmp_path: Path) -> None:
    meter = Meter(tmp_path / "root")
    try:
        found = measure_energy(
            device, MODEL, 20e-6, threads=1, runtime="auto", root=str(meter.root), tell=print
        )
    finally:
        meter.close()
    assert found is not None
    assert found.rails == ("VDD_IN",)
    assert found.inferences > 10_000
    energy = found.energy
    each = found.seconds / found.inferences
    assert energy.idle == pytest.approx(IDLE, abs=1)
    # Where others work on this machine, too, the worker does not always run.
    assert IDLE + 1 < energy.busy <= BUSY
    assert energy.low < energy.joules < energy.high
    assert energy.joules == pytest.approx((energy.busy - energy.idle) * each)


def test_a_board_without_a_meter_has_no_energy(device: Device, tmp_path: Path) -> None:
    how = {"threads": 1, "runtime": "auto", "root": str(tmp_path), "tell": print}
    assert measure_energy(device, MODEL, 1e-3, **how) is None  # type: ignore[arg-type]


def test_a_meter_that_takes_minutes_for_a_reading_is_refused(
    device: Device, tmp_path: Path
) -> None:
    meter = Meter(tmp_path / "root", interval=30_000, current="800")
    with pytest.raises(MeasurementError, match="one reading in 30 s, which takes too long"):
        measure_energy(
            device, MODEL, 1e-3, threads=1, runtime="auto", root=str(meter.root), tell=print
        )


def test_energy_that_is_asked_for_on_a_board_without_a_meter_is_a_problem(tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    model.write_bytes(MODEL.emit())
    assert profile_model(model, fake_board(), QUICK).problem == ""
    found = profile_model(model, fake_board(), QUICK, energy=True, out=tmp_path / "p")
    assert re.search(r"shows no power meter .* go without --energy", found.problem)
    assert found.energy is None
    assert profile_model(model, fake_board(), QUICK, energy=False, out=tmp_path / "p").problem == ""


def test_an_energy_stands_in_the_file_and_in_the_report(tmp_path: Path) -> None:
    from boardfit.profiler.store import Store

    model = tmp_path / "m.tflite"
    model.write_bytes(MODEL.emit())
    profile_model(model, fake_board(), QUICK, out=tmp_path / "p")
    with Store.open(tmp_path / "p", write=True) as store:
        store.write_document("energy", FOUND.content())
    assert open_profile(tmp_path / "p").energy == FOUND
    write_report([tmp_path / "p"], tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "12.3 mJ" in page
    assert "7.10 W busy, 4.90 W idle" in page


def test_what_is_said_of_an_energy() -> None:
    assert energy_words(FOUND) == [
        "An inference costs 12.3 mJ beyond an idle board (95 %: 11.9 mJ to 12.7 mJ; VDD_IN: 7.10 W "
        "while it runs, 4.90 W idle; 3,000 in a row)."
    ]
    assert energy_row(FOUND)["energy_mj"] == pytest.approx(12.3)
    coarse = replace(FOUND, energy=replace(FOUND.energy, problem="too coarse: steps of 40 mW"))
    assert energy_words(coarse) == [
        "Its energy is not known (VDD_IN: 7.10 W while it runs, 4.90 W idle), too coarse: steps of "
        "40 mW."
    ]
    assert energy_words(None) == []
    assert energy_row(None) == {}
    assert [energy_text(joules) for joules in (2.5, 0.02, 3e-5, -3e-5)] == [
        *("2.5 J", "20 mJ", "30 uJ", "-30 uJ")
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"inferences": 0},
        {"seconds": 0.0},
        {"seconds": float("nan")},
        {"energy": {}},
        {"energy": None},
        {"rails": None},
    ],
)
def test_a_damaged_energy_is_refused(change: dict[str, object]) -> None:
    assert read_energy(json.loads(json.dumps(FOUND.content()))) == FOUND
    assert read_energy(None) is None
    with pytest.raises((ValueError, TypeError, KeyError)):
        read_energy({**FOUND.content(), **change})
