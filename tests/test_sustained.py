"""Lasting load, throttling, precision, conditions: what a profile says beyond the cold number."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from boardfit.devices.errors import DeviceLost, InputError, TableFileError
from boardfit.devices.fake import Faults
from boardfit.profile_summary import profile_rows, sustained_words
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.export_table import export_samples
from boardfit.profiler.profile_model import Precision, open_profile, profile_model
from boardfit.profiler.simulated import Throttling
from boardfit.profiler.store import Store
from boardfit.profiler.sustained import SustainedLoad, parse_duration

from .small_board import QUICK, board, small_network

SCHEDULE = replace(QUICK, runs=3, minimum_rounds=12, maximum_rounds=12, warmup=2, samples=3)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.tflite"
    path.write_bytes(emit(small_network(32)))
    return path


# Throttling


def test_a_board_that_lowers_its_clock_is_throttled(model: Path) -> None:
    hot = Throttling(after=0.7, slowdown=1.5)  # of the 0.85 s of a session
    measured = profile_model(model, board(throttling=hot), SCHEDULE).measurement
    assert measured.verdict == "throttled"
    assert 0.05 < measured.throttled_share < 1.0


def test_a_board_that_hides_its_clock_is_seen_to_drift(model: Path) -> None:
    hidden = Throttling(after=0.7, slowdown=1.2, ramp=0.8, tells=False)
    longer = replace(SCHEDULE, minimum_rounds=20, maximum_rounds=20)
    measured = profile_model(model, board(throttling=hidden), longer).measurement
    assert measured.verdict == "drifting"
    assert "slower" in measured.reason


def test_a_quiet_board_is_steady(model: Path) -> None:
    profile = profile_model(model, board(), SCHEDULE, sustained=20.0)
    assert profile.measurement.verdict == "steady"
    assert profile.measurement.throttled_share == 0.0
    load = profile.sustained
    assert load is not None
    assert (load.complete, load.throttled, load.settled_after) == (True, False, 0.0)
    assert load.ratio == pytest.approx(1.0, abs=0.1)


# Lasting load


def test_the_curve_shows_when_and_how_much_slower_a_board_becomes(model: Path) -> None:
    hot = Throttling(after=10.0, slowdown=1.4, ramp=5.0)
    load = profile_model(model, board(throttling=hot), SCHEDULE, sustained=60.0).sustained
    assert load is not None
    assert load.complete
    assert load.ratio == pytest.approx(1.4, rel=0.1)
    assert load.throttled
    assert load.settled_after is not None
    assert 11 < load.settled_after < 18
    assert 45 < len(load.at) < 75  # windows of about a second
    assert (np.diff(load.at) > 0).all()
    assert (load.minimum <= load.median).all()
    assert load.temperature[-1] > load.temperature[0]
    assert "lowered its clock" in sustained_words(load)


def test_a_board_that_is_still_becoming_slower_has_not_settled(model: Path) -> None:
    rising = Throttling(after=0.0, slowdown=3.0, ramp=30.0, tells=False)
    load = profile_model(model, board(throttling=rising), SCHEDULE, sustained=30.0).sustained
    assert load is not None
    assert load.settled_after is None
    assert "has not settled" in sustained_words(load)


def test_what_is_interrupted_is_kept_and_begun_anew(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    cold = profile_model(model, board(), SCHEDULE, out=out)
    assert cold.sustained is None
    with pytest.raises(DeviceLost):
        profile_model(
            model, board(faults=Faults(lose=frozenset({20}))), SCHEDULE, out=out, sustained=30.0
        )
    part = open_profile(out)
    assert part.sustained is not None
    assert not part.sustained.complete
    assert 2 <= len(part.sustained.at) < 10
    assert part.measurement.seconds.tolist() == cold.measurement.seconds.tolist()
    assert "interrupted before 30 s" in sustained_words(part.sustained)
    whole = profile_model(model, board(), SCHEDULE, out=out, sustained=30.0)
    assert whole.sustained is not None
    assert whole.sustained.complete
    gone = board()
    gone.transport.close()
    again = profile_model(model, gone, SCHEDULE, out=out, sustained=30.0)
    assert profile_rows(again) == profile_rows(whole) == profile_rows(open_profile(out))
    assert profile_rows(whole)[0]["sustained_to_cold"] == whole.sustained.ratio


def load_of(median: list[float], **changes: object) -> SustainedLoad:
    values = np.array(median)
    unknown = np.full(len(values), np.nan)
    load = SustainedLoad(
        asked=float(len(values)),
        cold=1.0,
        lasted=float(len(values)),
        at=np.arange(len(values), dtype=float),
        median=values,
        minimum=values,
        frequency=unknown,
        temperature=unknown,
    )
    return replace(load, **changes)  # type: ignore[arg-type]


def test_a_short_disturbance_does_not_unsettle() -> None:
    quiet = [1.0] * 40
    quiet[20:22] = [3.0, 3.0]
    assert load_of(quiet).settled_after == 0.0
    assert load_of([1.0] * 10 + [2.0] * 30).settled_after == 10.0
    assert load_of([1.0] * 10 + [2.0] * 30).latency == 2.0
    assert load_of([1.0] * 7).settled_after is None


def test_the_clock_is_compared_with_its_highest() -> None:
    clock = np.array([2e9] * 20 + [1.7e9] * 20)
    assert load_of([1.0] * 40, frequency=clock).throttled
    assert not load_of([1.0] * 40, frequency=clock[::-1]).throttled
    assert not load_of([1.0] * 40).throttled


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("10m", 600.0), ("1h", 3600.0), ("1.5 m", 90.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-5s", "0.5s", "1e3s", "999999h", "10 minutes"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="write 30s, 10m or 1h"):
        parse_duration(text)


# Precision


def runs_of(model: Path, precision: Precision, *, noise: float = 0.01) -> tuple[int, str]:
    measured = profile_model(model, board(noise=noise), SCHEDULE, precision=precision).measurement
    assert measured.precision == precision.half_width
    return len(measured.run_minima), measured.verdict


def test_further_runs_are_measured_until_it_is_precise(model: Path) -> None:
    assert runs_of(model, Precision(0.2)) == (3, "steady")
    runs, verdict = runs_of(model, Precision(0.01), noise=0.1)
    assert 3 < runs < 10
    assert verdict == "steady"


def test_the_end_of_the_budget_is_said(model: Path) -> None:
    assert runs_of(model, Precision(1e-6, budget_seconds=1e-3)) == (3, "imprecise")


def test_a_precision_beyond_the_board_is_given_up(model: Path) -> None:
    assert runs_of(model, Precision(1e-6)) == (10, "imprecise")


def test_a_file_goes_on_to_a_higher_precision(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    first = profile_model(model, board(), SCHEDULE, out=out)
    poor = profile_model(model, board(), SCHEDULE, out=out, precision=Precision(1e-6, 1e-3))
    assert poor.measurement.verdict == open_profile(out).measurement.verdict == "imprecise"
    more = profile_model(model, board(), SCHEDULE, out=out, precision=Precision(1e-6))
    assert len(more.measurement.run_minima) == 10
    kept = len(first.measurement.seconds)
    assert more.measurement.seconds[:kept].tolist() == first.measurement.seconds.tolist()


def test_the_board_rests_between_sessions(model: Path) -> None:
    device = board()
    profile_model(model, device, replace(SCHEDULE, pause_seconds=7.0))
    assert device.transport.clock.now() == pytest.approx(14.0, abs=0.1)  # type: ignore[attr-defined]


# Every sample with its conditions


def read_json(path: Path) -> pd.DataFrame:
    return pd.DataFrame(json.loads(path.read_text()))


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "csv": pd.read_csv,
    "json": read_json,
    "parquet": pd.read_parquet,
}


@pytest.mark.parametrize("ending", READERS)
def test_samples_are_written_with_the_states_around_them(
    model: Path, tmp_path: Path, ending: str
) -> None:
    hot = Throttling(after=0.7, slowdown=1.5)  # of the 0.85 s of a session
    profile = profile_model(model, board(throttling=hot), SCHEDULE, out=tmp_path / "p")
    out = tmp_path / f"samples.{ending}"
    rows = export_samples(tmp_path / "p", out)
    frame = READERS[ending](out)
    timed = frame[frame["warmup"] == "no"]
    assert len(frame) == rows
    assert timed["seconds"].tolist() == profile.measurement.seconds.tolist()
    assert timed["throttled"].mean() == pytest.approx(profile.measurement.throttled_share)
    falls = timed[timed["frequency_before"] > timed["frequency_after"]]
    assert 0 < len(falls) < len(timed)
    assert falls["throttled"].all()
    assert set(timed["session"]) == {1, 2, 3}


def test_what_cannot_be_exported_is_refused(model: Path, tmp_path: Path) -> None:
    profile_model(model, board(), QUICK, out=tmp_path / "p")
    with pytest.raises(InputError, match="the ending says the format"):
        export_samples(tmp_path / "p", tmp_path / "x.txt")
    with Store.create(tmp_path / "empty"):
        pass
    with pytest.raises(TableFileError, match="holds no samples yet"):
        export_samples(tmp_path / "empty", tmp_path / "x.csv")


@pytest.mark.parametrize(
    "content",
    [
        '{"window": "soon"}',
        '{"window": 0.0, "lasted": 1e999, "median": 1.0, "minimum": 1.0}',
        '{"window": 0.0, "lasted": 1e9, "median": 0.0, "minimum": 1.0}',
        '{"window": -1.0, "lasted": 1e9, "median": 1.0, "minimum": 1.0}',
        '{"window": 0.0, "lasted": 1e9, "median": [], "minimum": 1.0}',
        '{"window": 0.0, "lasted": 1e9}',
        '{"reference": "fast"}',
        '{"reference": 0}',
        '{"at": "noon"}',
        '{"at": 1.0, "frequency": "high"}',
        '{"at": 1.0, "frequency": 1e999}',
    ],
)
def test_damaged_evidence_is_named(model: Path, tmp_path: Path, content: str) -> None:
    profile_model(model, board(), QUICK, out=tmp_path / "p", sustained=3.0)
    connection = sqlite3.connect(tmp_path / "p")
    connection.execute("INSERT INTO evidence VALUES (1, ?)", (content,))
    connection.commit()
    connection.close()
    with pytest.raises(TableFileError):
        open_profile(tmp_path / "p")
