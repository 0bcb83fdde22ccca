"""What was committed stays, nothing is doubled, and no file whatever is read as a table."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boardfit.devices.errors import (
    BoardfitError,
    ConditionsChanged,
    InUse,
    StorageError,
    TableFileError,
)
from boardfit.profiler.schedule import PROBE_ROUND
from boardfit.profiler.store import Entry, Store
from boardfit.profiler.store_file import APPLICATION_ID, VERSION
from boardfit.profiler.visits import Visit

CONDITIONS = {"board": "Pi", "governor": "performance", "threads": 1}
ENTRIES = [Entry("a", "operator", {"op": "relu"}), Entry("b", "validation", {"nodes": [1, 2]})]


def visit(key: str, *seconds: float, repeats: int = 2) -> Visit:
    return Visit(key, 1.5, (9.0,), seconds, repeats)


def fill(store: Store, rounds: int = 3) -> int:
    """Two entries, a probe round and a few others; the session's number."""
    store.begin(ENTRIES, {"kind": "table", "floats": [0.1, 1e-300]})
    session = store.begin_session(0, "2024-01-01T00:00:00+00:00", CONDITIONS)
    for number in range(PROBE_ROUND, rounds):
        visits = [(1, visit("a", 3.0 + number, 5.0)), (2, visit("b", 7.0, 6.0 + number))]
        evidence = [{"round": number, "load": 0.5}]
        store.commit(visits, session=session, run=0, round_number=number, evidence=evidence)
    return session


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with samples, at rest."""
    with Store.create(tmp_path / "t.boardfit") as store:
        fill(store)
    return tmp_path / "t.boardfit"


@pytest.fixture
def memory() -> Iterator[Store]:
    with Store.create(None) as store:
        fill(store)
        yield store


# What goes in comes out


def test_everything_comes_back_as_it_was(path: Path) -> None:
    with Store.open(path) as store:
        assert store.entries() == dict(enumerate(ENTRIES, start=1))
        assert store.document("plan") == {"kind": "table", "floats": [0.1, 1e-300]}
        assert store.document("result") is None
        assert store.conditions() == CONDITIONS
        assert store.sessions() == [(1, 0, "2024-01-01T00:00:00+00:00")]
        assert store.evidence()[0] == {"session": 1, "run": 0, "round": PROBE_ROUND, "load": 0.5}
        assert len(store.evidence()) == 4


def test_a_visit_is_its_smallest_sample_and_probes_are_apart(memory: Store) -> None:
    found = memory.visits()
    assert found.entry.tolist() == [1, 1, 1, 2, 2, 2]
    assert found.round.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.seconds.tolist() == [3.0, 4.0, 5.0, 6.0, 7.0, 7.0]
    assert set(found.run.tolist()) == {0}
    probes = memory.visits(0, probes=True)
    assert probes.round.tolist() == [-1, 0, 1, 2] * 2
    assert probes.seconds.tolist() == [2.0, 3.0, 4.0, 5.0, 5.0, 6.0, 7.0, 7.0]
    assert len(memory.visits(1).entry) == 0


def test_no_warm_up_inference_is_taken_for_a_probe() -> None:
    with Store.create(None) as store:
        store.begin(ENTRIES, {})
        session = store.begin_session(0, "now", CONDITIONS)
        probe = Visit("a", 0.0, (9.0, 1.0, 1.0), (5.0, 6.0), 1)
        store.commit([(1, probe)], session=session, run=0, round_number=PROBE_ROUND)
        assert store.visits(0, probes=True).seconds.tolist() == [5.0]
        assert len(store.visits().seconds) == 0
        assert [bool(row[5]) for row in store.samples()] == [True] * 5


def test_samples_keep_every_value_in_its_place(memory: Store) -> None:
    rows = memory.samples("a")
    assert rows[:3] == [
        ("a", "operator", 0, PROBE_ROUND, 0, 1, 1, 1.5, 1, 9.0),
        ("a", "operator", 0, PROBE_ROUND, 1, 2, 1, 1.5, 2, 2.0),
        ("a", "operator", 0, PROBE_ROUND, 2, 2, 1, 1.5, 2, 5.0),
    ]
    assert rows[3:6] == [
        ("a", "operator", 0, 0, 0, 1, 1, 1.5, 1, 9.0),
        ("a", "operator", 0, 0, 1, 0, 1, 1.5, 2, 3.0),
        ("a", "operator", 0, 0, 2, 0, 1, 1.5, 2, 5.0),
    ]
    assert len(rows) == 4 * 3
    assert len(memory.samples()) == 2 * 4 * 3


def test_board_seconds_count_what_was_before(memory: Store) -> None:
    # The probe round: warm-ups 2 * 9, samples 2 * (2 + 5) + 2 * (7 + 5).
    assert memory.board_seconds(0) == 0
    assert memory.board_seconds(1) > 18 + 14 + 24


def test_documents_are_replaced(memory: Store) -> None:
    memory.write_document("result", {"a": 1})
    memory.write_document("result", {"a": 2})
    assert memory.document("result") == {"a": 2}


def test_values_are_kept_bit_for_bit(tmp_path: Path) -> None:
    seconds = tuple(np.random.default_rng(0).random(50).tolist())
    with Store.create(tmp_path / "t") as store:
        store.begin(ENTRIES, {})
        session = store.begin_session(0, "now", CONDITIONS)
        store.commit([(1, visit("a", *seconds))], session=session, run=0, round_number=0)
    with Store.open(tmp_path / "t") as store:
        assert tuple(row[9] for row in store.samples() if not row[5]) == seconds


# One file, one writer, one copy of each sample


def test_at_rest_it_is_one_file(path: Path) -> None:
    assert sorted(p.name for p in path.parent.glob("t*")) == ["t.boardfit", "t.boardfit.lock"]
    assert (path.parent / "t.boardfit.lock").read_bytes() == b""
    with Store.open(path, write=True) as store:
        store.write_document("x", {})
        store.close()
        store.close()
    with Store.open(path):
        pass
    assert sorted(p.name for p in path.parent.glob("t*")) == ["t.boardfit", "t.boardfit.lock"]


def test_one_copy_of_the_file_is_the_table(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "copy")
    with Store.open(path) as store, Store.open(tmp_path / "copy") as copy:
        assert copy.samples() == store.samples()


def test_a_second_writer_is_kept_out_and_a_reader_is_not(path: Path) -> None:
    with Store.open(path, write=True) as writer:
        with pytest.raises(InUse, match=r"works on t\.boardfit; wait for it to end"):
            Store.open(path, write=True)
        with Store.open(path) as reader:
            before = len(reader.samples())
            new = [(1, visit("a", 1.0, 2.0))]
            writer.commit(new, session=1, run=1, round_number=0)
            assert len(reader.samples()) == before + 3
        with pytest.raises(InUse):
            Store.create(path)
    with Store.open(path, write=True) as store:
        assert len(store.samples()) == before + 3


def test_a_reader_that_takes_its_time_does_not_hinder_a_writer(path: Path) -> None:
    with Store.open(path, write=True) as writer:
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        count = "SELECT count(*) FROM samples"
        before = reader.execute(count).fetchone()
        begin = time.monotonic()
        writer.commit([(1, visit("a", 1.0))], session=1, run=1, round_number=0)
        assert time.monotonic() - begin < 3  # SQLite waits for five seconds where it must
        assert reader.execute(count).fetchone() == before
        reader.close()


def test_a_reader_does_not_hinder_the_end_of_a_writer(path: Path) -> None:
    with Store.open(path) as reader:
        reader.samples()
        with Store.open(path, write=True) as writer:
            writer.write_document("x", {"y": 1})
    with Store.open(path) as store:
        assert store.document("x") == {"y": 1}


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Go on as a user who is not root, where we are; others are already."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_in_a_folder_that_we_may_not_write_a_whole_file_is_read(path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # tmp_path is closed to other users
        copy = Path(name) / "t.boardfit"
        shutil.copyfile(path, copy)
        with sqlite3.connect(copy) as connection:  # as a writer leaves it that was killed
            connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        Path(name).chmod(0o555)
        with without_privileges():
            assert opens(copy)
        # What was not yet written into the file itself would be missed without a word.
        Path(name).chmod(0o755)
        copy.with_name("t.boardfit-wal").write_bytes(b"x" * 40)
        Path(name).chmod(0o555)
        with without_privileges():
            assert not opens(copy)
        Path(name).chmod(0o755)


def test_a_reader_cannot_write(path: Path) -> None:
    with Store.open(path) as reader, pytest.raises(StorageError, match="readonly"):
        reader.write_document("x", {})


def test_a_sample_cannot_be_committed_twice(memory: Store) -> None:
    before = memory.samples()
    later = Visit("a", 99.0, (8.0,), (1.0,), 7)
    with pytest.raises(BoardfitError, match="UNIQUE constraint failed"):
        memory.commit([(1, later)], session=1, run=0, round_number=0)
    with pytest.raises(BoardfitError, match="UNIQUE constraint failed"):
        memory.commit([(2, visit("b", 1.0)), (2, later)], session=1, run=5, round_number=0)
    assert memory.samples() == before  # not even the first of a transaction stays


def test_what_exists_is_not_made_anew(path: Path) -> None:
    with pytest.raises(TableFileError, match=r"t\.boardfit exists; give another path"):
        Store.create(path)
    with Store.open(path) as store:
        assert len(store.samples()) == 24


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({**CONDITIONS, "governor": "ondemand"}, "governor: was 'performance', is 'ondemand'"),
        ({**CONDITIONS, "threads": 4, "board": "Jetson"}, "board: was 'Pi'.*threads: was 1, is 4"),
        ({"board": "Pi", "governor": "performance"}, "threads: was 1, is not recorded now"),
    ],
)
def test_other_conditions_are_refused_by_name(
    memory: Store, now: dict[str, object], words: str
) -> None:
    with pytest.raises(ConditionsChanged, match=words):
        memory.begin_session(1, "later", now)
    assert len(memory.sessions()) == 1
    assert memory.begin_session(1, "later", CONDITIONS) == 2


# Files that are something else


def expect_refusal(path: Path, words: str) -> None:
    for write in (False, True):
        with pytest.raises(TableFileError, match=words):
            Store.open(path, write=write)
    other = [p.name for p in path.parent.iterdir() if p.name.endswith(("-wal", "-shm", ".new"))]
    assert other == []


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    expect_refusal(tmp_path / "none", "there is no table .*none; build one with `boardfit profile")
    expect_refusal(tmp_path, "there is no table")
    assert list(tmp_path.glob("none*")) == []


def test_a_foreign_database_is_told_apart(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "bookmarks.db")
    connection.execute("CREATE TABLE bookmarks (url)")
    connection.close()
    before = (tmp_path / "bookmarks.db").read_bytes()
    expect_refusal(tmp_path / "bookmarks.db", "is a database, but not one of boardfit's")
    assert (tmp_path / "bookmarks.db").read_bytes() == before


@pytest.mark.parametrize("version", [0, VERSION + 1])
def test_another_version_is_named(path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.close()
    expect_refusal(path, f"has format version {version}, this boardfit reads {VERSION}; use the")


@pytest.mark.parametrize(
    "content", [b"", b"latency,1.5\n" * 500, bytes(5000), b"SQLite format 3\0" * 400]
)
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    expect_refusal(tmp_path / "t", "not a table of boardfit's|not one of boardfit's")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DROP TABLE samples", "no such table: samples"),
        ("ALTER TABLE samples RENAME COLUMN seconds TO minutes", "no such column"),
        ("UPDATE samples SET seconds = 'soon'", "a sample in it cannot be read"),
        ("UPDATE samples SET seconds = -1.0", "no inference takes as long"),
        ("UPDATE samples SET seconds = 9e999", "no inference takes as long"),
        ("UPDATE samples SET seconds = 1e200", "no inference takes as long"),
        ("UPDATE samples SET at = 'noon'", "no number that can be"),
        ("UPDATE samples SET at = -9e999", "no number that can be"),
        ("UPDATE samples SET entry = entry + 76", "does not name"),
        ("UPDATE samples SET session = 77 WHERE round = 0", "does not name"),
        ("UPDATE samples SET session = '{}'", "does not name"),
        ("DELETE FROM sessions", "does not name"),
        ("UPDATE samples SET run = 'last' WHERE number = 1", "a sample in it cannot be read"),
        ("UPDATE entries SET content = '[1]'", "a document in it cannot be read"),
        ("UPDATE entries SET content = '{'", "a document in it cannot be read"),
        ("UPDATE entries SET content = x'ff'", "a document in it cannot be read"),
        ("UPDATE entries SET content = CAST(x'fffe' AS TEXT)", "decode"),
        ("UPDATE sessions SET conditions = 'null'", "a document in it cannot be read"),
        ("UPDATE documents SET content = 'NaN'", "a document in it cannot be read"),
        ("UPDATE evidence SET content = 5", "a document in it cannot be read"),
    ],
)
def test_a_table_with_other_contents_is_refused_when_they_are_read(
    path: Path, statement: str, words: str
) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()
    with pytest.raises(TableFileError, match=words), Store.open(path) as store:
        read_all(store)


def read_all(store: Store) -> list[Any]:
    return [
        store.entries(),
        store.document("plan"),
        store.conditions(),
        store.sessions(),
        store.evidence(),
        store.visits(),
        store.visits(0, probes=True),
        store.visit_times(0),
        store.board_seconds(5),
        store.samples("a"),
        store.samples(),
    ]


def opens(path: Path) -> bool:
    """Whether a file is read as a table; anything but a refusal by name is raised."""
    try:
        with Store.open(path) as store:
            read_all(store)
    except TableFileError as error:
        words = str(error)
    else:
        return True
    assert str(path) in words
    return False


@pytest.mark.parametrize(
    "evidence",
    [
        {"reference": 1e-6},
        {"reference": 0.0, "at": 1.0},
        {"reference": [[1]], "at": 1.0},
        {"reference": 1e-6, "at": "x" * 10_000},
        {"best": float("nan")},
        {"wall": None},
        {"inside": True},
    ],
)
def test_a_time_in_the_evidence_that_is_none_is_refused(
    path: Path, evidence: dict[str, Any]
) -> None:
    """Visits are judged by it: whoever goes on with the file must hear of it."""
    with Store.open(path, write=True) as store:
        store.commit([], session=1, run=0, round_number=9, evidence=[evidence])
    with (
        Store.open(path) as store,
        pytest.raises(TableFileError, match=r"seen of the board is .*; build it again") as error,
    ):
        store.evidence()
    assert len(str(error.value)) < len(str(path)) + 200


@pytest.mark.parametrize("batched", [5, None, [], [1], [1, "x"], [1, 2.5], [True, 2], [[1], 2]])
def test_entries_that_cannot_have_come_together_are_refused(path: Path, batched: Any) -> None:
    """A run that goes on batches its entries as they came."""
    with Store.open(path, write=True) as store:
        store.commit([], session=1, run=0, round_number=9, evidence=[{"batched": batched}])
    with Store.open(path) as store, pytest.raises(TableFileError, match="came together"):
        store.evidence()


@pytest.mark.parametrize("run", ["x", -2, 2**40, 0.5])
def test_a_run_that_cannot_be_is_refused(path: Path, run: object) -> None:
    """As many runs are measured as a file has begun: a wrong number would never end."""
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE OR IGNORE sessions SET run = ?", (run,))
    connection.close()
    with Store.open(path) as store, pytest.raises(TableFileError, match="session of the run"):
        store.sessions()


def test_a_file_cut_short_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 509):
        path.write_bytes(whole[:length])
        assert not opens(path)


def test_damaged_bytes_never_surprise(path: Path) -> None:
    whole = path.read_bytes()
    rng = random.Random(0)
    opened = 0
    begin = time.monotonic()
    for _ in range(1500):
        data = bytearray(whole)
        used = [i for i in (rng.randrange(len(data)) for _ in range(40)) if data[i]]
        for at in rng.sample(used, min(len(used), rng.choice([1, 1, 2, 8]))):
            data[at] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
        if rng.random() < 0.3:  # the header and the schema, which say how to read the rest
            data[rng.randrange(600)] = rng.randrange(256)
        path.write_bytes(data)
        opened += opens(path)
    assert 20 < opened < 1480
    assert time.monotonic() - begin < 60


def test_the_header_is_what_the_file_command_knows(path: Path) -> None:
    assert APPLICATION_ID.to_bytes(4, "big") == b"bfit" == path.read_bytes()[68:72]


# Killed, and no space left


def test_a_writer_that_was_killed_leaves_what_it_committed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from boardfit.profiler.visits import Visit\n"
        "from boardfit.profiler.store import Entry, Store\n"
        "store = Store.create(Path('t'))\n"
        "store.begin([Entry('a', 'operator', {})], {})\n"
        "session = store.begin_session(0, 'now', {})\n"
        "visit = Visit('a', 0.0, (1.0,), (1.0, 2.0), 1)\n"
        "for number in range(50):\n"
        "    store.commit([(1, visit)], session=session, run=0, round_number=number)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(argv, cwd=tmp_path, timeout=60, check=False).returncode == -9
    with Store.open(tmp_path / "t", write=True) as store:
        assert store.visits().round.tolist() == list(range(50))
    assert sorted(p.name for p in tmp_path.glob("t*")) == ["t", "t.lock"]


def test_a_full_disk_is_named_and_what_was_committed_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from boardfit.devices.errors import StorageError\n"
        "from boardfit.profiler.visits import Visit\n"
        "from boardfit.profiler.store import Entry, Store\n"
        "path = Path('disk/t')\n"
        "committed = 0\n"
        "try:\n"
        "    with Store.create(path) as store:\n"
        "        store.begin([Entry('a', 'operator', {})], {})\n"
        "        session = store.begin_session(0, 'now', {})\n"
        "        visit = Visit('a', 0.0, (1.0,), (1.0,) * 100, 1)\n"
        "        for number in range(10_000):\n"
        "            store.commit([(1, visit)], session=session, run=0, round_number=number)\n"
        "            committed += 1\n"
        "except StorageError as error:\n"
        "    print(error)\n"
        "with Store.open(path) as store:\n"
        "    assert store.visits().round.tolist() == list(range(committed)), committed\n"
        "    assert committed > 10\n"
        "try:\n"
        "    Store.create(Path('disk/second'))\n"
        "except StorageError:\n"
        "    print('second')\n"
        "Path('disk/filler').unlink()\n"
        "with Store.open(path, write=True) as store:\n"
        "    assert len(store.samples()) == 101 * committed\n"
        "    store.commit([(1, visit)], session=session, run=1, round_number=0)\n"
        "assert not Path('disk/t-wal').exists()\n"
        "assert not Path('disk/second').exists()\n"
        "print('went on')\n"
    )
    shell = (
        "mount -t tmpfs -o size=2m none disk && head -c 1000000 /dev/zero > disk/filler"
        ' || exit 77; exec "$PYTHON" -c "$CODE"'
    )
    try:
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell],
            cwd=tmp_path,
            env={**os.environ, "PYTHON": sys.executable, "CODE": code},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("needs unshare to make a small disk")
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("this machine lets nobody make a small disk")
    assert done.stdout.startswith("no space left while writing disk/t; free some"), done.stderr
    assert done.stdout.endswith("second\nwent on\n"), (done.stdout, done.stderr)


@pytest.mark.parametrize("place", ["file/below", "folder", "n" * 256])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    with pytest.raises((StorageError, TableFileError), match=r"cannot write|exists"):
        Store.create(tmp_path / place)
