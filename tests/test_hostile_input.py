"""A few hundred spoilt files and lines; `make bench-measure PART=mutations` and `make bench-boards
PART=parsers` try many more."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from boardfit.devices.base import Channel
from boardfit.devices.errors import DeviceLost, DeviceTimeout, TableFileError
from boardfit.profiler.store import Store

from .hostile_input import SUBJECTS, Watch, prepare, real_worker, requests, time_limit, try_cases
from .mutations import mutate_line

WATCH = Watch()
CASES = {"table files": 80, "profile files": 80, "campaigns": 5}
CASES |= dict.fromkeys(["adb servers", "adb shells", "adb files"], 1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("hostile")
    prepare(made)
    return made


@pytest.mark.parametrize("subject", SUBJECTS)
def test_spoilt_input_ends_in_named_errors(folder: Path, subject: str) -> None:
    tally, wrong = try_cases(subject, range(CASES.get(subject, 300)), folder, WATCH)
    assert wrong == []
    assert len(tally.endings) > 1  # some are refused by name, or not understood


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE samples; CREATE VIEW samples AS WITH RECURSIVE n(i) AS "
        "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS entry, 0 AS run, i AS round FROM n",
        "ALTER TABLE documents ADD COLUMN more AS (hex(zeroblob(100000000)))",
        "CREATE TRIGGER t AFTER INSERT ON sessions BEGIN DELETE FROM samples; END",
    ],
)
def test_a_file_that_brings_what_runs_is_refused(
    folder: Path, tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "t"
    path.write_bytes((folder / "table").read_bytes())
    with sqlite3.connect(path) as connection:
        connection.executescript(statement)
    connection.close()
    with time_limit(), pytest.raises(TableFileError, match="which boardfit did not write"):
        Store.open(path)


def test_a_real_worker_lives_on_after_spoilt_requests_or_ends() -> None:
    rng = random.Random(0)
    lines = requests()
    with time_limit(60), real_worker() as channel:
        for _ in range(60):
            channel.send(mutate_line(rng.choice(lines[1:]), rng))
        with pytest.raises((DeviceTimeout, DeviceLost)) as reason:
            _receive_for_ever(channel)
        assert "Traceback" not in str(reason.value)


def _receive_for_ever(channel: Channel) -> None:
    while True:
        assert channel.receive(timeout=1).startswith(b"{")
