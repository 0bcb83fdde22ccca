"""What hangs on a board from an earlier job is ended by the next one, and nothing else is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from boardfit.devices.base import Device
from boardfit.devices.leftovers import end_leftovers
from boardfit.devices.occupy import occupied
from boardfit.profiler.connect import connect

SHELLS = [shell for shell in ("dash", "bash", "mksh", "busybox") if shutil.which(shell)]
pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Device]:
    """This machine as if it were far away; its workspace has an awkward name."""
    workspace = PurePosixPath(tmp_path / "a board's [work] $(space)")
    with connect("local") as device:
        yield replace(device, kind="ssh", workspace=workspace)


def hanging(board: Device, *parts: str) -> subprocess.Popen[bytes]:
    """A program of the board that does not notice anything any more."""
    path = Path(board.workspace, *parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("import sys, time; print(1, flush=True); time.sleep(60)\n")
    process = subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    os.kill(process.pid, signal.SIGSTOP)
    return process


def is_gone(process: subprocess.Popen[bytes]) -> bool:
    try:
        return process.wait(2.0) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        return False
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("shell", SHELLS)
def test_what_hangs_is_ended_and_others_are_not(
    board: Device, tmp_path: Path, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shutil.which(shell)
    assert found is not None
    (tmp_path / "sh").symlink_to(found)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    ours = [
        hanging(board, "worker-0123456789abcdef", "worker.py"),
        hanging(board, "driver-0123456789abcdef.sh"),
        hanging(board, "benchmark-0123456789abcdef", "benchmark_model"),
    ]
    watchdog = hanging(board, "settings", "put_back.sh")
    another = hanging(replace(board, workspace=PurePosixPath(tmp_path / "other")), "worker-1", "w")
    end_leftovers(board)
    assert all(map(is_gone, ours))
    assert not is_gone(watchdog)
    assert not is_gone(another)


def test_a_job_begins_with_it(board: Device) -> None:
    worker = hanging(board, "worker-0123456789abcdef", "worker.py")
    with occupied(board, "a job"):
        assert is_gone(worker)


def test_this_machine_is_left_alone(board: Device) -> None:
    worker = hanging(board, "worker-0123456789abcdef", "worker.py")
    end_leftovers(replace(board, kind="local"))
    assert not is_gone(worker)
