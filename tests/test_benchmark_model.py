"""Boards without Python: `benchmark_model` behind the same face as our worker, measuring for real.

The program is the stand-in of `stand_in_benchmark_model.py`, or a few lines of shell where one
fails.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from boardfit.devices.base import Device
from boardfit.devices.conditions import describe
from boardfit.devices.errors import (
    BoardfitError,
    DeviceError,
    InputError,
    PlacementError,
    StorageError,
    WorkerError,
    WorkerLost,
)
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.emit_tflite import emit, emit_layer
from boardfit.profiler.layers import Layer, Network
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.open_session import Session, open_session
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.profile_model import profile_model
from boardfit.profiler.program_file import check_architecture, read_program
from boardfit.profiler.run_benchmark_model import BenchmarkModelSession, delegate_of
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.profiler.visits import Model, Round, Visit

from .conftest import missing
from .hostile_input import TookTooLong, time_limit
from .small_board import small_network
from .stand_in_benchmark_model import write_program
from .transport_boards import ssh_board

SMALL = small_network(16)
LARGE = emit_layer(Layer("conv_2d", ((64, 64, 64),), (64, 64, 64), kernel=3))  # milliseconds
pytest.importorskip("ai_edge_litert")

FEW = Schedule(
    runs=1,
    minimum_rounds=2,
    maximum_rounds=2,
    samples=2,
    warmup_seconds=0.001,
    warmup_visits=2,
)

ONCE = replace(FEW, minimum_rounds=1, maximum_rounds=1)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Device]:
    """This machine as a board without Python; its workspace has an awkward name."""
    device = connect("local")
    workspace = PurePosixPath(tmp_path / "a board's $(folder) with 'quotes'")
    program = write_program(tmp_path / "stand_in")
    yield replace(device, python=None, workspace=workspace, benchmark_model=program)
    device.transport.close()


def with_script(board: Device, script: str) -> Device:
    """The board with a program of a few lines of shell."""
    path = Path(board.workspace).parent / "script"
    path.write_text(f"#!/bin/sh\n{script}\n")
    return replace(board, benchmark_model=path)


def visited(session: Session, repeats: int = 1, samples: int = 2) -> Visit:
    session.load_one(Model("m", lambda: emit(SMALL)))
    visit, end = session.measure([("m", repeats)], samples=samples)
    assert isinstance(visit, Visit)
    assert isinstance(end, Round)
    return visit


def test_a_board_without_python_is_measured_with_the_tool(board: Device) -> None:
    with open_session(board) as session:
        assert isinstance(session, BenchmarkModelSession)
        assert session.hello["runtime"] == "benchmark_model"
        assert session.hello["core"] == board.core
        models = [Model("short", lambda: emit(SMALL)), Model("long", lambda: LARGE)]
        assert list(session.load(models)) == ["short", "long"]
        short, long, end = session.measure([("short", 50), ("long", 1)], samples=4)
    assert isinstance(short, Visit)
    assert isinstance(long, Visit)
    assert isinstance(end, Round)
    # A short one is told by the mean of all; of a long one each inference is known, three of them.
    assert (len(short.seconds), short.repeats) == (1, 200)
    assert (len(long.seconds), long.repeats) == (3, 1)
    assert short.at <= long.at
    assert end.wall >= long.at - short.at
    assert end.inside >= sum(long.seconds)
    assert end.conditions["at"] > 0
    assert 0 <= end.conditions["waited"] <= 0.5 * end.wall + 0.1  # what comes next is there


def test_what_is_visited_is_what_another_runtime_measures(board: Device) -> None:
    tool: list[float] = []
    ours: list[float] = []
    with (
        open_session(board) as session,
        open_session(replace(board, python=sys.executable)) as worker,
    ):
        session.load_one(Model("long", lambda: LARGE))
        worker.load_one(Model("long", lambda: LARGE))
        for _ in range(20):  # in turns, until both have met a quiet moment
            for asked, seconds in ((session, tool), (worker, ours)):
                visits = [a for a in asked.measure([("long", 1)] * 2) if isinstance(a, Visit)]
                seconds += [second for visit in visits for second in visit.seconds]
            if 0.5 < min(tool) / min(ours) < 2:
                break
    # The same kernels on the same core, whatever else runs there.
    assert 0.5 < min(tool) / min(ours) < 2


def test_program_and_models_travel_once(board: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[str] = []
    push = board.transport.push

    def noted(local: Path, remote: PurePosixPath) -> None:
        pushed.append(remote.name)
        push(local, remote)

    monkeypatch.setattr(board.transport, "push", noted)
    with open_session(board) as session:
        session.load_one(Model("m", lambda: emit(SMALL)))
        program = next(Path(board.workspace).glob("benchmark-*/benchmark_model"))
    assert program.stat().st_mode & 0o777 == program.parent.stat().st_mode & 0o777 == 0o700
    assert "benchmark_model" in pushed
    pushed.clear()
    with open_session(board) as session:
        session.load_one(Model("other key", lambda: emit(SMALL)))
        assert session.loaded == {"other key"}
        assert [name for name in pushed if not name.endswith(".sh")] == []
        session.unload()
    assert list(Path(board.workspace / "models").iterdir()) == []
    program.write_bytes(b"#!/bin/sh\n# somebody else's\n")
    pushed.clear()
    with open_session(board):
        assert "benchmark_model" in pushed  # what lies there is not what it should be


def test_placement_and_operators_come_from_what_the_tool_prints(board: Device) -> None:
    int8 = emit_layer(Layer("hard_swish", ((8, 8, 8),), (8, 8, 8), dtype="int8"))
    with open_session(board) as session:
        session.load_one(Model("float", lambda: emit(SMALL)))
        assert session.placements(["float"])[0].outside == ()
        session.load_one(Model("int8", lambda: int8))
        assert session.placements(["int8"])[0].outside == ((0, "hard_swish"),)
        found = session.operators("float", 2)
    kinds = [operator.kind for operator in found.operators]
    assert kinds == ["conv_2d", "depthwise_conv_2d", "conv_2d", "mean", "fully_connected"]
    assert [operator.index for operator in found.operators] == [0, 1, 2, 3, 4]
    assert {operator.delegate for operator in found.operators} == {"xnnpack"}
    assert found.runs == 2


def test_a_profile_of_a_model(board: Device, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(emit(SMALL))
    found = profile_model(path, board, ONCE)
    assert found.conditions["runtime"] == "benchmark_model"
    assert found.placement.outside == ()
    assert 0 < found.measurement.minimum < 0.01
    int8 = Layer("hard_swish", ((8, 8, 8),), (8, 8, 8), dtype="int8")
    path.write_bytes(emit_layer(int8))
    with pytest.raises(PlacementError, match="hard_swish"):
        profile_model(path, board, ONCE)


def two_layers(filters: int) -> Network:
    """Large enough for single inferences to be told, a millisecond and more."""
    builder = NetworkBuilder((32, 32, 32))
    builder.conv_2d(builder.conv_2d(0, filters, kernel=3), 32, kernel=3)
    return builder.build()


PLAN = TablePlan(
    tuple(layer for filters in (48, 64) for layer in two_layers(filters).layers),
    (two_layers(48),),
    (two_layers(64),),
    {"space": "tiny"},
)
BUILD = """
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from boardfit.profiler.build import build_table
from boardfit.profiler.connect import connect
from tests.test_benchmark_model import ONCE, PLAN
folder = Path(sys.argv[1])
device = replace(
    connect("local"),
    python=None,
    workspace=PurePosixPath(folder / "board"),
    benchmark_model=folder / "stand_in",
)
build_table(folder / "table", device, PLAN, ONCE)
"""


def test_a_table_is_built_and_goes_on_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boardfit.profiler.build.FURTHER_RUNS", 0)
    write_program(tmp_path / "stand_in")
    command = [sys.executable, "-c", BUILD, str(tmp_path)]
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, root])}
    builder = subprocess.Popen(command, env=environment, start_new_session=True)
    path = tmp_path / "table"
    kept = 0
    deadline = time.monotonic() + 60
    while kept < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
        if path.exists():
            with Store.open(path) as store:
                kept = len(store.visits(probes=True).seconds)
    os.killpg(builder.pid, signal.SIGKILL)
    builder.wait(10)
    assert kept >= 3
    with Store.open(path) as store:
        before = store.samples()
    device = replace(
        connect("local"),
        python=None,
        workspace=PurePosixPath(tmp_path / "board"),
        benchmark_model=tmp_path / "stand_in",
    )
    table = build_table(path, device, PLAN, ONCE)
    assert table.runtime == "benchmark_model"
    assert table.validation is not None
    assert len(table.validation.measured) == 1
    assert {layer.signature for layer in PLAN.layers} <= set(table.operators)
    assert table.outside == {}
    with Store.open(path) as store:
        after = store.samples()
        visits = [(row[0], row[2], row[3]) for row in after if row[4] == 0]
    assert set(before) <= set(after)
    assert len(visits) == len(set(visits))  # nothing twice
    assert LookupTable.open(path).latency(two_layers(64)).seconds > 0


def test_a_session_that_ends_leaves_no_process(board: Device) -> None:
    marker = f"1000.{os.getpid()}{time.monotonic_ns()}"
    with open_session(with_script(board, f"sleep {marker}")) as session:
        session.load_one(Model("m", lambda: emit(SMALL)))
        with pytest.raises(TookTooLong), time_limit(2):  # as Ctrl-C does
            list(session.measure([("m", 1)]))
        assert marker in _processes()
    assert _soon(lambda: marker not in _processes())


def _soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def _processes() -> str:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("echo starting; kill -ILL $$", WorkerError, "instructions that this processor lacks"),
        ("echo 'ERROR: bad op' >&2; kill -SEGV $$", WorkerLost, "SIGSEGV.*ERROR: bad op"),
        ("kill -9 $$", WorkerLost, "SIGKILL"),
        (
            "echo 'INFO: Failed to load model m'; echo 'INFO: Benchmarking failed.'; exit 1",
            WorkerError,
            "cannot run m.*Failed to load model m",
        ),
        ("echo Could not create GPU delegate; exit 1", WorkerError, "Could not create GPU"),
        ("exit 0", WorkerError, "printed no timings"),
        ("printf 'count=1 curr=5'", WorkerError, "printed no timings"),
        ("printf '\\377\\376\\000\\033[31m'", WorkerError, "printed no timings"),
        ("exec /no/such/program", WorkerError, "cannot be run on local"),
        (
            "echo 'Unconsumed cmdline flags: --use_xnnpack=true'; echo 'count=1 curr=900'; echo "
            "'Inference timings in us: Init: 1, Inference (avg): 900'",
            WorkerError,
            "does not know --use_xnnpack",
        ),
        ("while :; do echo 'count=1 curr=1 curr=1 curr=1 curr=1'; done", WorkerError, "wrote more"),
    ],
)
def test_a_tool_that_fails_says_how(
    board: Device, script: str, error: type[BoardfitError], words: str
) -> None:
    with open_session(with_script(board, script)) as session:
        session.load_one(Model("m", lambda: emit(SMALL)))
        with pytest.raises(error, match=words) as caught:
            list(session.measure([("m", 1)]))
    assert len(str(caught.value)) < 2500
    assert "\033" not in str(caught.value)


def test_a_tool_that_hangs_is_killed(board: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boardfit.profiler.run_benchmark_model._SETUP_SECONDS", -158.5)
    begin = time.monotonic()
    with open_session(with_script(board, "sleep 100")) as session:
        session.load_one(Model("m", lambda: emit(SMALL)))
        with pytest.raises(WorkerLost, match="had not ended after 2 s and was killed"):
            list(session.measure([("m", 1)]))
    assert time.monotonic() - begin < 20


def test_visits_arrive_as_they_end(board: Device) -> None:
    script = (
        "echo count=1 curr=700; echo Inference timings in us: Init: 1, Inference \\(avg\\): 700\n"
        "test -e ../once && read -r _ _ _ shell _ </proc/$PPID/stat && kill -9 $shell; : >../once"
    )
    with open_session(with_script(board, script)) as session:
        session.load_one(Model("m", lambda: emit(SMALL)))
        seen: list[Visit | Round] = []
        with pytest.raises(DeviceError, match="sh"):
            seen.extend(session.measure([("m", 1)] * 5))
    assert len(seen) == 1


def test_a_full_disk_of_the_board_is_named(board: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(local: Path, remote: PurePosixPath) -> None:
        whole(local, remote)
        if remote.suffix == ".tflite":
            os.truncate(remote, 10)

    whole = board.transport.push
    with open_session(with_script(board, "exit 0")) as session:
        monkeypatch.setattr(board.transport, "push", half)
        with pytest.raises(StorageError, match="1 of 1 files did not arrive whole"):
            session.load_one(Model("m", lambda: emit(SMALL)))


def elf(machine: int, order: bytes = b"\1") -> bytes:
    number = machine.to_bytes(2, "little" if order == b"\1" else "big")
    return b"\x7fELF\2" + order + bytes(12) + number + bytes(100)


@pytest.mark.parametrize(
    ("data", "machine", "words"),
    [
        (elf(183), "x86_64", "built for aarch64, and phone is x86_64.*build for x86_64"),
        (elf(62), "aarch64", "built for x86_64, and phone is aarch64"),
        (elf(183), "armv7l", "built for aarch64"),
        (elf(9999), "aarch64", "built for machine 9999"),
        (b"PK\3\4 an app", "aarch64", "neither ELF nor a script"),
        (b"", None, "neither ELF nor a script"),
        (b"\x7fELF", "aarch64", "neither ELF nor a script"),
    ],
)
def test_a_program_for_another_processor_is_refused(
    data: bytes, machine: str | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        check_architecture(Path("tool"), data, machine, "phone")


@pytest.mark.parametrize(
    ("data", "machine"),
    [
        (elf(183), "aarch64"),
        (elf(40), "aarch64"),
        (elf(40), "armv7l"),
        (elf(62), "x86_64"),
        (elf(22, b"\2"), None),
        (b"#!/bin/sh\n", "aarch64"),
        (elf(183), "a new one"),
    ],
)
def test_a_program_that_may_fit_is_taken(data: bytes, machine: str | None) -> None:
    check_architecture(Path("tool"), data, machine, "phone")


def test_what_is_missing_is_named(board: Device, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Python for our worker: give --benchmark-model"):
        open_session(replace(board, benchmark_model=None))
    with pytest.raises(InputError, match="has no benchmark_model"):
        open_session(replace(board, benchmark_model=None), runtime="benchmark_model:gpu")
    with pytest.raises(InputError, match="onnxruntime needs: give --runtime benchmark_model"):
        open_session(board, runtime="onnxruntime")
    with pytest.raises(InputError, match="there is no program"):
        open_session(replace(board, benchmark_model=tmp_path / "nothing"))
    with pytest.raises(InputError, match="no delegate 'hexagon'"):
        delegate_of("benchmark_model:hexagon")
    with pytest.raises(InputError, match="there is no program"):
        read_program(tmp_path)


def test_a_delegate_that_the_platform_lacks_is_refused(board: Device) -> None:
    with open_session(board, runtime="benchmark_model:gpu") as session:
        assert session.hello["runtime"] == "benchmark_model:gpu"
        session.load_one(Model("m", lambda: emit(SMALL)))
        with pytest.raises(WorkerError, match="has no delegate gpu"):
            list(session.measure([("m", 1)]))


@pytest.mark.parametrize(("delegate", "name"), [("gpu", "GPU"), ("nnapi", "NNAPI")])
def test_a_delegate_is_asked_for_and_audited(
    board: Device, tmp_path: Path, delegate: str, name: str
) -> None:
    """With a few lines of shell, since no machine of ours has these delegates."""
    path = tmp_path / "model.tflite"
    path.write_bytes(emit(SMALL))
    timings = "Inference timings in us: Init: 1, First inference: 900, Warmup (avg): 900, Inference"

    def tool(says: str) -> Device:
        return with_script(
            board,
            f"echo \"$@\" >\"$0.args\"\necho '{says}'\necho 'count=1 curr=900'\n"
            f"echo '{timings} (avg): 900'",
        )

    whole = f"Explicitly applied {name} delegate, and the model graph will be completely executed"
    runtime = f"benchmark_model:{delegate}"
    found = profile_model(path, tool(f"{whole} by the delegate."), ONCE, runtime=runtime)
    assert found.conditions["runtime"] == runtime
    assert found.placement.outside == ()
    (arguments,) = Path(board.workspace).glob("benchmark-*/benchmark_model.args")
    assert f"--use_{delegate}=true" in arguments.read_text().split()
    nothing = f"Though {name} delegate is explicitly applied, the model graph will not be executed"
    with pytest.raises(WorkerError, match=f"the delegate {delegate} on local runs nothing of"):
        profile_model(path, tool(f"{nothing} by the delegate."), ONCE, runtime=runtime)


SYSTEMS = {  # what runs the script, and what has the few programs that it uses
    "Android's": ("mksh", "toybox"),
    "busybox": ("busybox", "busybox"),
    "Debian's": ("dash", None),
}
_USED = ("cat", "rm", "mkdir", "chmod", "find", "sha256sum", "taskset", "timeout", "sleep", "true")


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_script_runs_in_the_shells_that_boards_have(
    board: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    shell, programs = SYSTEMS[system]
    folder = tmp_path / "system"
    folder.mkdir()
    for name, program in (("sh", shell), *((name, programs or name) for name in _USED)):
        found = shutil.which(program)
        if found is None:
            missing(program, f"apt-get install {program}")
            return
        (folder / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    text = "count=1 curr=900; echo Inference timings in us: Init: 1, Inference \\(avg\\): 900"
    pinned = with_script(board, f"echo {text}")
    with open_session(pinned) as session:
        session.load_one(Model("m", lambda: emit(SMALL)))
        visits = [a for a in session.measure([("m", 1)] * 3) if isinstance(a, Visit)]
        session.unload()
    assert [visit.seconds for visit in visits] == [(900e-6,)] * 3
    assert visits[0].at <= visits[2].at
    assert list(Path(board.workspace / "models").iterdir()) == []
    monkeypatch.setattr("boardfit.profiler.run_benchmark_model._SETUP_SECONDS", -159.0)
    with open_session(with_script(board, "exec sleep 100")) as session:
        session.load_one(Model("m", lambda: emit(SMALL)))
        with pytest.raises(WorkerLost, match="had not ended after 1 s and was killed"):
            list(session.measure([("m", 1)]))


def test_over_a_real_sshd(tmp_path: Path) -> None:
    with ssh_board(tmp_path) as found:
        device = Device(
            "pi",
            "ssh",
            found.transport,
            describe(found.transport),
            None,
            found.root / "a board's $(folder)",
            benchmark_model=write_program(tmp_path / "stand_in"),
        )
        with open_session(device) as session:
            session.load_one(Model("long", lambda: LARGE))
            *visits, end = session.measure([("long", 1)] * 5)
            assert session.placements(["long"])[0].outside == ()
            session.unload()
    assert [len(visit.seconds) for visit in visits if isinstance(visit, Visit)] == [2] * 5
    assert isinstance(end, Round)
    assert end.conditions["waited"] <= 0.2 * end.wall  # a bundle costs one round trip


def test_a_core_that_cannot_be_had_is_named(board: Device) -> None:
    absent = replace(with_script(board, "exit 0"), core=1023)
    with pytest.raises(WorkerError, match="did not pin a program to core 1023"):
        open_session(absent)
