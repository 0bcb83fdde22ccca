"""Times of operators inside of a whole model, and which of them a delegate left out.

The real LiteRT tells of real models; what a worker may answer and what a file may hold is tried
with made-up ones.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.base import Device
from boardfit.devices.errors import PlacementError, TableFileError, WorkerError
from boardfit.devices.fake import ProgramExit
from boardfit.profile_summary import profile_words
from boardfit.profiler import worker_operators
from boardfit.profiler.connect import connect
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.layers import Network
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.operators import (
    OperatorProfile,
    OperatorTime,
    Placement,
    read_operators,
    read_placement,
)
from boardfit.profiler.profile_model import ModelProfile, open_profile, profile_model
from boardfit.profiler.read_tflite import inspect
from boardfit.profiler.run_litert import WorkerSession
from boardfit.profiler.store import Store
from boardfit.profiler.visits import Model
from boardfit.profiler.worker import LitertRuntime, Worker
from boardfit.profiler.worker_files import WORKER_FILES
from boardfit.reports.about_profile import profile_section
from boardfit.reports.blocks import Grid, Missing, Plot
from boardfit.reports.sources import ProfileSource, open_source
from boardfit.search.spaces import open_space

from .small_board import QUICK, board, small_network
from .test_cli import run
from .test_worker import BROKE, scripted

litert = pytest.importorskip("ai_edge_litert.interpreter")


def network_with_pooling() -> Network:
    """XNNPACK refuses a pooling of single pixels with a stride; LiteRT does not."""
    builder = NetworkBuilder((16, 16, 8))
    x = builder.conv_2d(0, 16, kernel=3, activation="relu")
    x = builder.average_pool_2d(x, kernel=1, stride=2)
    x = builder.conv_2d(x, 16, kernel=3)
    x = builder.add(x, builder.elementwise("hard_swish", x), activation="relu6")
    x = builder.average_pool_2d(x, kernel=1, stride=2)
    builder.fully_connected(builder.mean(x, keep_dimensions=False), 10)
    return builder.build()


POOLED = emit(network_with_pooling())
POOLINGS = ((1, "average_pool_2d"), (5, "average_pool_2d"))
ONE_RUN = replace(QUICK, runs=1)
SPACE = open_space("mobilenetv3-32")
LARGE = emit(SPACE.network(SPACE.narrowed(0.5)))


def resizing_network() -> Network:
    """The simulated board's delegate refuses to resize."""
    builder = NetworkBuilder((8, 8, 4))
    builder.conv_2d(builder.resize_bilinear(builder.conv_2d(0, 8), 16, 16), 4)
    return builder.build()


@pytest.fixture
def machine() -> Iterator[Device]:
    device = connect("local")
    yield device
    device.transport.close()


def timed(device: Device, data: bytes, runs: int) -> OperatorProfile:
    with WorkerSession(device) as session:
        list(session.load([Model("m", lambda: data)]))
        return session.operators("m", runs)


def placed(device: Device, data: bytes) -> Placement:
    with WorkerSession(device) as session:
        list(session.load([Model("m", lambda: data)]))
        return session.placements(["m"])[0]


# The real LiteRT


def test_every_operator_of_a_network_is_timed_once(machine: Device) -> None:
    found, model = timed(machine, LARGE, 7), inspect(LARGE)
    assert [o.index for o in found.operators] == list(range(len(model.operators)))
    assert [o.kind for o in found.operators] == [o.name for o in model.operators]
    assert {o.delegate for o in found.operators} == {"xnnpack"}
    assert found.output_shapes(model) == tuple(o.outputs[0] for o in model.operators)
    names = {o.kind: o.name for o in found.operators}
    assert names["hard_swish"].startswith("HardSwish (NC")
    assert names["depthwise_conv_2d"].startswith("Convolution (NHWC, F32)")


def test_operators_and_the_rest_are_the_whole(machine: Device) -> None:
    found = timed(machine, LARGE, 7)
    assert found.in_operators + found.residual == pytest.approx(found.total)
    times = np.array([o.seconds for o in found.operators])
    assert times.shape[1] == found.runs == 7
    # Operators lie inside of their run, one after the other, and most of its time is theirs.
    assert (times.sum(axis=0) <= found.profiled).all()
    assert found.in_operators > 0.3 * found.total


def test_operators_outside_of_the_delegate_are_found(machine: Device) -> None:
    assert placed(machine, POOLED).outside == POOLINGS
    assert placed(machine, LARGE).outside == ()
    found = timed(machine, POOLED, 3)
    assert tuple((o.index, o.kind) for o in found.outside) == POOLINGS
    assert [o.kind for o in found.operators] == [o.name for o in inspect(POOLED).operators]
    names = [o.name for o in found.operators]
    assert names[4] == "Add (ND) + Clamp (NC)"  # the activation runs as an operator of its own
    assert names[5] == "AVERAGE_POOL_2D"


def test_a_model_that_the_delegate_takes_nothing_of_is_all_outside(machine: Device) -> None:
    builder = NetworkBuilder((8, 8, 4))
    builder.average_pool_2d(builder.average_pool_2d(0, kernel=1, stride=2), kernel=1, stride=2)
    data = emit(builder.build())
    assert placed(machine, data).outside == ((0, "average_pool_2d"), (1, "average_pool_2d"))
    assert [o.delegate for o in timed(machine, data, 3).operators] == [None, None]


def test_falling_back_is_an_error_unless_it_is_allowed(machine: Device, tmp_path: Path) -> None:
    path, out = tmp_path / "pooled.tflite", tmp_path / "p"
    path.write_bytes(POOLED)
    words = r"2 of the 8 operators of pooled\.tflite: average_pool_2d \(1\), .*--allow-fallback"
    for _ in range(2):
        with pytest.raises(PlacementError, match=words) as raised:
            profile_model(path, machine, ONE_RUN, out=out)
    assert raised.value.exit_code == 4
    profile = profile_model(path, machine, ONE_RUN, out=out, allow_fallback=True, operators=True)
    assert profile.placement.outside == POOLINGS
    assert profile.operators is not None
    assert 0 < profile.operators.share(*profile.operators.outside) < 1
    assert open_profile(out).operators == profile.operators


def test_an_int8_network_runs_in_part_outside_of_the_delegate(
    machine: Device, tmp_path: Path
) -> None:
    builder = NetworkBuilder((8, 8, 8))
    x = builder.elementwise("hard_swish", builder.conv_2d(0, 16, kernel=3))
    builder.fully_connected(builder.mean(x, keep_dimensions=False), 10)
    path = tmp_path / "int8.tflite"
    path.write_bytes(emit(builder.build().as_dtype("int8")))
    words = r"1 of the 4 operators of int8\.tflite: hard_swish \(1\)"
    with pytest.raises(PlacementError, match=words):
        profile_model(path, machine, ONE_RUN)
    profile = profile_model(path, machine, ONE_RUN, allow_fallback=True, operators=True)
    assert profile.placement.outside == ((1, "hard_swish"),)
    assert profile.operators is not None
    delegates = {o.kind: o.delegate for o in profile.operators.operators}
    assert delegates["hard_swish"] is None
    assert delegates["conv_2d"] == delegates["fully_connected"] == "xnnpack"


def answer(runtime: LitertRuntime, request: Mapping[str, Any]) -> dict[str, Any]:
    worker = Worker(runtime, lambda: 0.0, 1, None)
    worker._models["m"] = runtime.load(POOLED, 1)
    (found,) = worker.answers({"model": "m", **request})
    return found


@pytest.mark.parametrize("version", ["2.1.0", "2.4.0", "unknown"])
def test_another_release_is_not_called(version: str) -> None:
    runtime = LitertRuntime("auto")
    runtime.version = version
    error = answer(runtime, {"do": "operators", "runs": 3})["error"]
    assert f"cannot tell the times of operators: ai-edge-litert {version} is none of" in error
    assert answer(runtime, {"do": "placement"})["outside"] == [list(pair) for pair in POOLINGS]


def test_the_predecessor_cannot_tell() -> None:
    runtime = LitertRuntime("auto")
    runtime.name = "tflite-runtime"
    error = answer(runtime, {"do": "operators", "runs": 3})["error"]
    assert "this runtime cannot tell the times of operators: tflite-runtime has no" in error


def test_a_runtime_without_its_private_list_does_not_know_the_placement() -> None:
    runtime = LitertRuntime("auto")
    model = runtime.load(POOLED, 1)
    del model._interpreter  # whatever it lacks
    worker = Worker(runtime, lambda: 0.0, 1, None)
    worker._models["m"] = model
    assert list(worker.answers({"do": "placement", "model": "m"})) == [{"outside": None}]


@pytest.mark.parametrize("runs", [0, -1, "x"])
def test_runs_that_are_none_are_refused(runs: object) -> None:
    assert "ValueError" in answer(LitertRuntime("auto"), {"do": "operators", "runs": runs})["error"]


def test_the_worker_works_from_a_folder_with_nothing_else(tmp_path: Path) -> None:
    for file in WORKER_FILES:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    code = (
        "import sys; sys.path.remove(sys.path[0]); sys.path.insert(0, 'other')\n"
        "import importlib.util as u; s = u.spec_from_file_location('worker', 'worker.py')\n"
        "w = u.module_from_spec(s); s.loader.exec_module(w)\n"
        "m = w.LitertRuntime('auto').load(open('m.tflite', 'rb').read(), 1)\n"
        "print(m.placement(), len(m.operators(3, w.time.perf_counter)['operators']))\n"
        "assert not [name for name in sys.modules if name.startswith('boardfit')]\n"
    )
    (tmp_path / "m.tflite").write_bytes(POOLED)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == f"{[list(pair) for pair in POOLINGS]} 8"


# Which operators the delegate took


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.randoms())
def test_what_lies_between_a_delegates_tensors_is_its_own(
    taken: list[bool], rng: random.Random
) -> None:
    """Operators in a row, some with a skip connection and weights, in delegates of neighbours."""
    nodes: list[dict[str, Any]] = []
    groups: list[list[int]] = []
    weights = 1000
    for index, inside in enumerate(taken):
        inputs = [index, weights + index]
        if index > 1 and rng.random() < 0.4:
            inputs.append(rng.randrange(index))
        if rng.random() < 0.1:
            inputs.append(-1)
        nodes.append({"index": index, "op_name": "ADD", "inputs": inputs, "outputs": [index + 1]})
        if inside and index and taken[index - 1]:
            groups[-1].append(index)
        elif inside:
            groups.append([index])
    last = len(taken)
    for group in groups:
        made = {nodes[i]["outputs"][0] for i in group}
        others = [n for n in nodes if n["index"] not in group]
        read = {t for n in others for t in n["inputs"]} | {last}
        given = {t for i in group for t in nodes[i]["inputs"]} - made - {-1}
        nodes.append(
            {
                "index": len(nodes),
                "op_name": "DELEGATE",
                "inputs": sorted(given),
                "outputs": sorted(made & read),
            }
        )
    assert worker_operators.partitions(nodes) == groups
    expected = [[i, "add"] for i, inside in enumerate(taken) if not inside]
    assert worker_operators.outside(nodes, [last]) == expected


def test_a_delegate_that_cannot_be_followed_is_not_guessed_at() -> None:
    node = {"index": 0, "op_name": "DELEGATE", "inputs": [0], "outputs": [7]}
    with pytest.raises(ValueError, match="makes tensor 7 from nothing"):
        worker_operators.outside([node], [7])


# Which of the model's operators the delegate's are

LOWERED = {  # as XNNPACK was seen to run them
    "conv_2d": [
        ["Convolution (NHWC, F32) IGEMM"],
        ["Fully Connected (NC, F32) GEMM"],
        ["Convert (NC, F32, QD8)", "Convolution (NHWC, QD8, F32, QC8W) IGEMM"],
    ],
    "depthwise_conv_2d": [["Convolution (NHWC, F32) DWConv"]],
    "add": [["Add (ND)"], ["Add (ND)", "Clamp (NC)"]],
    "mean": [["Mean (ND) Reduce2"], ["Mean (ND) Reduce2", "Static Reshape (NC)"]],
    "hard_swish": [["HardSwish (NC)"]],
    "mul": [["Multiply (ND)"], ["Multiply (ND)", "Clamp (NC)"]],
    "concatenation": [["Copy (NC)"] * 2, ["Copy (NC)"] * 3],
    "softmax": [["Softmax (NC, F32)"]],
    "some_new_thing": [["Novelty (NC)"]],
    "pad": [["Constant Pad (ND, X32)"], []],
    "relu6": [["Clamp (NC)"], []],
    "reshape": [["Static Reshape (NC)"], []],
}


@given(
    st.lists(
        st.sampled_from(sorted(LOWERED)).flatmap(
            lambda kind: st.tuples(st.just(kind), st.sampled_from(LOWERED[kind]))
        ),
        max_size=20,
    )
)
def test_operators_of_the_delegate_are_told_to_be_the_models(
    parts: list[tuple[str, list[str]]],
) -> None:
    kinds = [kind for kind, _ in parts]
    names = [name for _, names in parts for name in names]
    found = worker_operators.assign(kinds, names)
    assert found is not None
    assert found == sorted(found)  # the delegate keeps the order
    heads = ("Convolution", "Fully", "Add", "Mean", "HardSwish", "Multiply", "Softmax")
    owners = [i for i, (_, names) in enumerate(parts) for _ in names]
    for name, position, owner in zip(names, found, owners, strict=True):
        if name.startswith(heads):  # a helper may be its neighbour's as well
            assert kinds[position] == kinds[owner] or kinds[position] == "some_new_thing"


def test_the_plainest_reading_is_taken() -> None:
    def read(kinds: str, *names: str) -> list[int] | None:
        return worker_operators.assign(kinds.split(), names)

    assert read("add relu6", "Add (ND)", "Clamp (NC)") == [0, 1]
    assert read("add mul", "Add (ND)", "Clamp (NC)", "Multiply (ND)") == [0, 0, 1]
    assert read("pad conv_2d", "Convolution (NHWC, F32) IGEMM") == [1]
    assert read("mean reshape mul", "Mean (ND)", "Static Reshape (NC)", "Multiply (ND)") == [
        0,
        1,
        2,
    ]
    assert read("quantize conv_2d", "Convert (NC)", "Convolution (NHWC)") == [0, 1]
    assert read("", *[]) == []


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        ("conv_2d", []),
        ("conv_2d conv_2d", ["Convolution (NHWC)"]),
        ("conv_2d", ["Convolution (NHWC)", "Sigmoid (NC)"]),
        ("mul conv_2d", ["Convolution (NHWC)", "Multiply (ND)"]),
        ("", ["Clamp (NC)"]),
    ],
)
def test_what_cannot_be_read_is_not_guessed(kinds: str, names: list[str]) -> None:
    assert worker_operators.assign(kinds.split(), names) is None


def test_what_cannot_be_read_keeps_the_delegates_names() -> None:
    events = [(8, "Sigmoid (NC)", 0), (8, "Mystery", 1), (2, "PAD", 1)]
    found = worker_operators._named(["mul", "pad"], [[0]], events, [[1e-6], [2e-6], [3e-6]])
    assert [(o["kind"], o["index"], o["name"], o["delegate"]) for o in found] == [
        ("", -1, "Sigmoid (NC)", "xnnpack"),
        ("", -1, "Mystery", "xnnpack"),
        ("pad", 1, "PAD", None),
    ]
    profile = read_operators({"operators": found, "profiled": [1e-5], "plain": [1e-5]})
    assert [operator.label for operator in profile.by_time] == ["pad", "Mystery", "Sigmoid (NC)"]


@pytest.mark.parametrize(
    ("events", "groups", "words"),
    [
        ([], [[0]], "saw no operator"),
        ([(8, "Multiply", 1)], [[0]], "lost operators of the delegate"),
        ([(8, "Multiply", 0), (8, "Add", 2)], [[0]], "lost operators of the delegate"),
        ([(8, "Multiply", 0), (8, "Add", 0)], [[0]], "places operators in another way"),
        ([(2, "MUL", 0)], [[0]], "places operators in another way"),
        ([(2, "MUL", 0)], [], None),
    ],
)
def test_events_that_contradict_the_placement_are_refused(
    events: list[tuple[int, str, int]], groups: list[list[int]], words: str | None
) -> None:
    times = [[1e-6]] * len(events)
    if words is None:
        assert worker_operators._named(["mul"], groups, events, times)[0]["kind"] == "mul"
        return
    with pytest.raises(RuntimeError, match=words):
        worker_operators._named(["mul"], groups, events, times)


# What a worker may answer

ROW = {
    "name": "Add (ND)",
    "kind": "add",
    "index": 0,
    "delegate": "xnnpack",
    "seconds": [1e-6, 2e-6],
}
TIMES = {"operators": [ROW], "profiled": [2e-5, 2e-5], "plain": [1e-5, 2e-5]}


def test_a_well_formed_answer_is_taken() -> None:
    found = scripted(TIMES).operators("m", 2)
    assert found.operators == (OperatorTime("Add (ND)", "add", 0, "xnnpack", (1e-6, 2e-6)),)
    assert (found.total, found.in_operators) == pytest.approx((1.5e-5, 1.5e-6))
    assert (found.residual, found.overhead) == pytest.approx((1.35e-5, 0.5e-5))
    assert read_operators(json.loads(json.dumps(found.content()))) == found


def with_row(**changes: object) -> dict[str, object]:
    return {**TIMES, "operators": [{**ROW, **changes}]}


@pytest.mark.parametrize(
    "line",
    [
        {**TIMES, "operators": []},
        {**TIMES, "operators": None},
        {**TIMES, "operators": "ab"},
        {**TIMES, "operators": [ROW, ROW]},
        {**TIMES, "operators": [[]]},
        {**TIMES, "operators": [{}]},
        {**TIMES, "profiled": [1e-5]},
        {**TIMES, "profiled": [1e-5, 0.0]},
        {**TIMES, "plain": [1e-5, -1e-5]},
        {**TIMES, "plain": []},
        {**TIMES, "plain": None},
        {"operators": [ROW]},
        with_row(seconds=[1e-6]),
        with_row(seconds=[1e-6, -1e-6]),
        with_row(seconds=[1e-6, float("nan")]),
        with_row(seconds=[1e-6, float("inf")]),
        with_row(seconds=[1e-6, "1"]),
        with_row(seconds=[1e-6, True]),
        with_row(seconds=[1e-6, 10**400]),
        with_row(seconds=5),
        with_row(index=-2),
        with_row(index=0.0),
        with_row(index=True),
        with_row(kind=None),
        with_row(name=5),
        with_row(delegate=False),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_times_that_cannot_be_believed_are_refused(line: object) -> None:
    with pytest.raises(WorkerError, match=BROKE):
        scripted(line).operators("m", 2)


def test_other_runs_than_asked_for_are_refused() -> None:
    with pytest.raises(WorkerError, match=BROKE):
        scripted(TIMES).operators("m", 3)


ODD = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
ODD_LIST = ODD | st.lists(ODD, max_size=2)
ODD_ROW = ODD | st.fixed_dictionaries({}, optional=dict.fromkeys(ROW, ODD_LIST))
ODD_TIMES = dict.fromkeys(["profiled", "plain"], ODD_LIST)


@given(st.fixed_dictionaries({"operators": ODD_LIST | st.lists(ODD_ROW, max_size=2), **ODD_TIMES}))
def test_anything_else_ends_in_one_error(content: Any) -> None:
    tries: list[tuple[Callable[[Any], object], Any]] = [
        (read_operators, content),
        *((read_placement, part) for part in content.values()),
    ]
    for read, part in tries:
        try:
            found = read(part)
        except ValueError:
            continue
        assert isinstance(found, OperatorProfile | Placement)


@pytest.mark.parametrize(
    "outside",
    [5, "x", {}, [1], [[1]], [[1, "add", 2]], [["add", 1]], [[-1, "add"]], [[True, "add"]],
     [[1, None]], [[1, "add"], [1, "add"]], [[2, "add"], [1, "add"]]],
    ids=repr,
)  # fmt: skip
def test_a_placement_that_is_none_is_refused(outside: object) -> None:
    with pytest.raises(WorkerError, match=BROKE):
        scripted({"outside": outside}).placements(["m"])[0]


def test_a_placement_that_is_not_known_stays_so() -> None:
    found = scripted({"outside": None}).placements(["m"])[0]
    found.check("m.tflite", 5, "odd")
    assert found == Placement(None)


def test_many_operators_are_not_all_listed() -> None:
    outside = tuple((index, "add") for index in range(30))
    with pytest.raises(PlacementError, match=r"30 of the 40 .*add \(7\) and 22 more\. They"):
        Placement(outside).check("m.tflite", 40, "odd")


def test_a_library_that_crashes_is_an_error_of_the_worker() -> None:
    session = scripted(ProgramExit(139, "Segmentation fault"))
    words = r"ended while it timed the operators of m .*Segmentation fault.*without --operators"
    with pytest.raises(WorkerError, match=words):
        session.operators("m", 2)


# In a profile


@pytest.fixture
def resizing(tmp_path: Path) -> Path:
    path = tmp_path / "resizing.tflite"
    path.write_bytes(emit(resizing_network()))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.tflite"
    path.write_bytes(emit(small_network(16)))
    return path


def test_times_are_kept_and_read_back_without_the_board(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    profile = profile_model(small, board(), QUICK, out=out, operators=True)
    found = profile.operators
    assert found is not None
    assert [o.kind for o in found.operators] == [o.name for o in profile.model.operators]
    assert found.in_operators + found.residual == pytest.approx(found.total)
    assert found.overhead > 0
    assert found.share(*found.operators) == pytest.approx(1.0)
    gone = board()
    gone.transport.close()
    again = profile_model(small, gone, QUICK, out=out, operators=True)
    assert (again.operators, again.placement) == (found, Placement(()))
    assert open_profile(out).operators == found


def test_times_may_be_asked_for_later(small: Path, tmp_path: Path) -> None:
    first = profile_model(small, board(), QUICK, out=tmp_path / "p")
    assert first.operators is None
    then = profile_model(small, board(), QUICK, out=tmp_path / "p", operators=True)
    assert then.operators is not None
    assert then.measurement.seconds.tolist() == first.measurement.seconds.tolist()


def test_where_the_operators_cannot_be_timed_the_rest_stands(
    small: Path, machine: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The worker's library gives no times: it is another release's, by its metadata."""
    info = tmp_path / "site" / "ai_edge_litert-9.9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ai-edge-litert\nVersion: 9.9.9\n")
    monkeypatch.setenv("PYTHONPATH", str(info.parent))
    profile = profile_model(small, machine, ONE_RUN, operators=True)
    assert profile.operators is None
    assert "ai-edge-litert 9.9.9 is none of" in profile.problem
    assert profile.measurement.minimum > 0


def test_how_often_operators_are_timed_depends_on_the_model(small: Path) -> None:
    profile = profile_model(small, board(), QUICK, operators=True)
    assert profile.operators is not None
    assert profile.operators.runs == 100


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("operators", "{}"),
        ("operators", '{"operators": []}'),
        ("operators", json.dumps({**TIMES, "plain": [1e-5, 0.0]})),
        ("operators", json.dumps(with_row(seconds=["soon", 1e-6]))),
        ("operators", "[]"),
        ("placement", '{"outside": 5}'),
        ("placement", '{"outside": [["add", 1]]}'),
        ("placement", "5"),
    ],
)
def test_damaged_times_are_refused(small: Path, tmp_path: Path, name: str, content: str) -> None:
    out = tmp_path / "p"
    profile_model(small, board(), QUICK, out=out, operators=True)
    connection = sqlite3.connect(out)
    statement = "UPDATE documents SET content = ? WHERE name = ?"
    assert connection.execute(statement, (content, name)).rowcount == 1
    connection.commit()
    connection.close()
    with pytest.raises(TableFileError, match="damaged"):
        open_profile(out)
    with pytest.raises(TableFileError, match="damaged"):
        profile_model(small, board(), QUICK, out=out)


def test_an_operator_of_another_graph_has_no_shape(small: Path) -> None:
    model = inspect(small.read_bytes())
    names = ["Conv", "Relu"]
    rows = [{**ROW, "kind": kind, "index": i} for i, kind in enumerate(names)]
    found = read_operators({**TIMES, "operators": rows})
    assert found.output_shapes(model) == (None, None)


# On the command line and on a page


def test_the_command_line_names_what_falls_back(resizing: Path, tmp_path: Path) -> None:
    asked: list[str | Path] = ["profile", "--device", "fake", resizing, "--operators"]
    failed = run(asked, tmp_path, code=4)
    assert "1 of the 3 operators of resizing.tflite: resize_bilinear (1)." in failed.stderr
    assert failed.stdout == ""
    shown = run([*asked, "--allow-fallback"], tmp_path).stdout
    words = " ".join(shown.split())
    assert "Outside of the delegate run: resize_bilinear (1) (" in words
    assert "belong to none of them" in words
    rows = [line.split() for line in shown.splitlines() if "(no delegate)" in line]
    assert [(row[0], row[1], row[2]) for row in rows] == [("resize_bilinear", "1", "1x16x16x8")]
    (row,) = json.loads(run([*asked, "--allow-fallback", "--json"], tmp_path).stdout)
    assert row["outside_of_the_delegate"] == [[1, "resize_bilinear"]]
    times = row["operator_times"]
    medians = [operator["median_us"] for operator in times["operators"]]
    assert medians == sorted(medians, reverse=True)
    assert sum(medians) + times["residual_us"] == pytest.approx(times["whole_us"])
    assert sum(operator["share_%"] for operator in times["operators"]) == pytest.approx(100)


def test_a_table_takes_no_operators(tmp_path: Path) -> None:
    asked = ["profile", "--device", "fake", "--space", "mobilenetv3-32", "--operators"]
    assert "are for a single model" in run(asked, tmp_path, code=2).stderr


def page_of(profile: Path) -> tuple[ModelProfile, Any]:
    source = open_source(profile)
    assert isinstance(source, ProfileSource)
    return source.profile, profile_section(source)


def test_a_page_shows_the_operators_and_who_runs_them(resizing: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    profile_model(resizing, board(), QUICK, out=out, operators=True, allow_fallback=True)
    profile, item = page_of(out)
    assert profile.operators is not None
    (finding,) = [f for f in item.findings if "outside of the delegate" in f.text]
    assert "1 of 3 operators" in finding.text
    assert "resize_bilinear (1)" in finding.text
    (plot,) = [b for p in item.parts for b in p.blocks if b.title == "Time of each operator"]
    assert isinstance(plot, Plot)
    assert [legend.name for legend in plot.legend] == [
        "run by the delegate",
        "outside of the delegate",
    ]
    drawn = [x for trace in plot.figure.data for x in trace.x]
    assert sorted(drawn) == pytest.approx(
        sorted(o.median * 1e6 for o in profile.operators.operators)
    )


def test_operators_that_exceed_the_whole_are_not_called_a_share_of_it(
    small: Path, tmp_path: Path
) -> None:
    """ONNX Runtime's profiler makes short operators longer."""
    out = tmp_path / "p"
    found = profile_model(small, board(), QUICK, out=out, operators=True)
    assert found.operators is not None
    assert not found.operators.exceeds
    timed = found.operators.operators
    longer = [replace(o, seconds=tuple(s + 1e-4 for s in o.seconds)) for o in timed]
    exceeding = replace(found.operators, operators=tuple(longer))
    assert exceeding.exceeds
    with Store.open(out, write=True) as store:
        store.write_document("operators", exceeding.content())
    profile, item = page_of(out)
    (words,) = [w for w in profile_words(profile) if "profiler" in w]
    assert "more. It makes operators longer" in words
    assert "times and shares are rough" in words
    assert "none of them" not in words
    (figures,) = [
        b for p in item.parts for b in p.blocks if b.title == "The operators and the whole"
    ]
    assert isinstance(figures, Grid)
    assert "rough" in figures.caption
    assert "… more than the whole" in [row[0] for row in figures.rows]
    assert not any(value.startswith("-") for _, value in figures.rows[:4])


def test_a_page_without_times_says_how_to_get_them(small: Path, tmp_path: Path) -> None:
    profile_model(small, board(), QUICK, out=tmp_path / "p")
    _, item = page_of(tmp_path / "p")
    (missing,) = [b for p in item.parts for b in p.blocks if b.title == "Time of each operator"]
    assert isinstance(missing, Missing)
    assert "--operators" in missing.reason
