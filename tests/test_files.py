"""Files that arrive whole or not at all, and locks that keep second writers out."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.errors import CommandFailed, InputError, InUse, StorageError
from boardfit.devices.files import exclusive, open_source, write_atomically, write_whole


class Torn(io.BytesIO):
    """A stream that breaks off after its first bytes."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 0:
            raise ConnectionError("torn")
        return super().read(3)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=3))
def test_the_last_write_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    for content in contents:
        write_atomically(folder / "file", content)
        assert (folder / "file").read_bytes() == content
    assert names(folder) == ["file"]


def test_folders_are_made_on_the_way(tmp_path: Path) -> None:
    write_whole(io.BytesIO(b"1"), tmp_path / "new" / "folder" / "file")
    assert (tmp_path / "new" / "folder" / "file").read_bytes() == b"1"


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("n" * 255), b"1")
    assert names(tmp_path) == ["n" * 255]


def test_a_source_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"old")
    source: BinaryIO = Torn(b"new content")
    with pytest.raises(ConnectionError):
        write_whole(source, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_reader_keeps_the_file_it_opened(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"old")
    with (tmp_path / "file").open("rb") as reader:
        write_atomically(tmp_path / "file", b"new content")
        assert reader.read() == b"old"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("file/below", "file is a file, not a folder"),
        ("folder", "cannot write .*folder: Is a directory"),
        ("n" * 256, "File name too long"),
    ],
    ids=["below a file", "a folder", "a long name"],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str, words: str) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=words):
        write_atomically(tmp_path / place, b"2")
    assert names(tmp_path) == ["file", "folder"]
    with pytest.raises(StorageError, match=words), exclusive(tmp_path / place):
        pass
    assert names(tmp_path) == ["file", "folder"]


def test_a_source_that_cannot_be_read_is_the_callers_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    with open_source(tmp_path / "file", InputError) as source:
        assert source.read() == b"1"
    with pytest.raises(InputError, match="none: it does not exist; check the name"):
        open_source(tmp_path / "none", InputError)
    with pytest.raises(CommandFailed, match="it is not an ordinary file"):
        open_source(tmp_path, CommandFailed)


# Locks


def hold(lock: Path) -> subprocess.Popen[str]:
    """Another process that holds a lock until its input ends."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from boardfit.devices.files import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", code, str(lock)]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_writer_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "table.lock"
    with hold(lock) as child:
        words = rf"another boardfit \(process {child.pid}\) works on table; wait for it"
        with pytest.raises(InUse, match=words), exclusive(lock):
            pass
        child.communicate("", timeout=30)
    with exclusive(lock):
        assert lock.read_text() == str(os.getpid())
    assert lock.read_bytes() == b""


def test_a_killed_process_frees_its_lock(tmp_path: Path) -> None:
    lock = tmp_path / "table.lock"
    with hold(lock) as child:
        child.kill()
        child.communicate(timeout=30)
    with exclusive(lock):
        pass


def test_an_error_frees_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "lock"):
        raise ZeroDivisionError
    with exclusive(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_bytes() == b""


def test_the_same_process_is_kept_out_as_well(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock"):
        with pytest.raises(InUse), exclusive(tmp_path / "lock"):
            pass
        assert (tmp_path / "lock").read_text() == str(os.getpid())
