"""The worker's protocol, over a real process and over the simulated board, and a session's errors.

Contract tests speak the protocol itself; what a session makes of a broken worker is tried with
small programs that break it on purpose.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import pytest

from boardfit.devices.base import Channel, Description, Device
from boardfit.devices.board_entry import BoardEntry
from boardfit.devices.errors import DeviceLost, WorkerError
from boardfit.devices.fake import FakeTransport, Faults, ProgramExit
from boardfit.devices.local import LocalTransport
from boardfit.profiler.connect import connect, fake_device
from boardfit.profiler.emit_tflite import emit
from boardfit.profiler.layers import FloatArray, Network
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.run_litert import WorkerSession
from boardfit.profiler.simulated import simulated_seconds
from boardfit.profiler.visits import Model, Round, Visit
from boardfit.profiler.worker import PROTOCOL, resolution
from boardfit.profiler.worker_files import WORKER_FILE, WORKER_FILES, worker_digests, worker_folder

litert = pytest.importorskip("ai_edge_litert.interpreter")

FAKE = BoardEntry("fake", "fake", seed=0)


def network(filters: int) -> Network:
    builder = NetworkBuilder((8, 8, 3))
    x = builder.conv_2d(0, filters, kernel=3, stride=2, activation="relu")
    builder.fully_connected(builder.mean(x, keep_dimensions=False), 5)
    return builder.build()


SMALL, LARGE = emit(network(4)), emit(network(32))
MODELS = [Model("small", lambda: SMALL), Model("large", lambda: LARGE)]
DAMAGED = SMALL[: len(SMALL) // 2]


@pytest.fixture(params=["local", "fake"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    found = connect(request.param)
    yield found
    found.transport.close()


@pytest.fixture
def channel(device: Device) -> Iterator[Channel]:
    """The worker without a session; its hello is read."""
    remote = device.workspace / "worker.py"
    device.transport.push(WORKER_FILE, remote)
    assert device.python is not None
    opened = device.transport.open([device.python, str(remote)])
    assert json.loads(opened.receive(timeout=30))["hello"] == "boardfit worker"
    yield opened
    opened.close()


def ask(channel: Channel, request: object, answers: int = 1) -> list[dict[str, Any]]:
    channel.send(request if isinstance(request, bytes) else json.dumps(request).encode())
    return [json.loads(channel.receive(timeout=30)) for _ in range(answers)]


def load_request(key: str, data: bytes) -> dict[str, Any]:
    return {"do": "load", "model": key, "data": [base64.b64encode(data).decode()]}


def direct(model: bytes, image: FloatArray) -> FloatArray:
    interpreter: Any = litert.Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    output: FloatArray = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    only: FloatArray = output[0]
    return only


# The protocol


def test_hello_says_who_answers(device: Device) -> None:
    with WorkerSession(device) as session:
        hello = session.hello
    assert (hello["hello"], hello["protocol"], hello["threads"]) == ("boardfit worker", PROTOCOL, 1)
    assert hello["runtime"] == ("simulated" if device.kind == "fake" else "ai-edge-litert")
    assert hello["core"] == device.core
    assert {"version", "python", "numpy"} <= hello.keys()


def test_the_worker_travels_once_and_is_verified(tmp_path: Path) -> None:
    class Counting(LocalTransport):
        pushed: ClassVar[list[str]] = []

        def push(self, local: Path, remote: PurePosixPath) -> None:
            self.pushed.append(remote.name)
            super().push(local, remote)

    transport = Counting()
    device = replace(connect("local"), transport=transport, workspace=PurePosixPath(tmp_path))
    names = [file.name for file in WORKER_FILES]
    for _ in range(2):
        with WorkerSession(device) as session:
            assert session.hello["files"] == worker_digests()
        assert transport.pushed == names
    folder = tmp_path / worker_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    # Whatever somebody changed there does not run for long.
    with (folder / "worker_onnx.py").open("a") as file:
        file.write("# changed\n")
    with WorkerSession(device) as session:
        assert session.hello["files"] == worker_digests()
    assert transport.pushed == 2 * names


def test_measuring_gives_what_was_asked_in_the_order_asked(channel: Channel) -> None:
    for key, data in (("a", SMALL), ("b", LARGE)):
        (loaded,) = ask(channel, load_request(key, data))
        assert (loaded["loaded"], loaded["seconds"] > 0) == (key, True)
    visits = [["b", 2], ["a", 1], ["b", 3], ["b", 1]]
    request = {"do": "measure", "round": 7, "warmup": 3, "samples": 4, "visits": visits}
    *found, done = ask(channel, request, answers=5)
    assert [answer["visit"] for answer in found] == ["b", "a", "b", "b"]
    assert all((len(a["warmup"]), len(a["seconds"])) == (3, 4) for a in found)
    assert all(value > 0 for a in found for value in [*a["warmup"], *a["seconds"]])
    assert [a["at"] for a in found] == sorted(a["at"] for a in found)
    inside = sum(
        sum(a["warmup"]) + repeats * sum(a["seconds"])
        for a, (_, repeats) in zip(found, visits, strict=True)
    )
    assert (done["done"], done["inside"]) == (7, pytest.approx(inside))
    assert inside <= done["wall"] * (1 + 1e-9)


def test_no_visits_are_a_round_as_well(channel: Channel) -> None:
    request = {"do": "measure", "round": 1, "warmup": 1, "samples": 1, "visits": []}
    (done,) = ask(channel, request)
    assert (done["done"], done["inside"]) == (1, 0.0)


def test_predictions_are_those_of_the_runtime(channel: Channel) -> None:
    ask(channel, load_request("a", LARGE))
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    inputs = [base64.b64encode(image.tobytes()).decode() for image in images]
    (answer,) = ask(channel, {"do": "predict", "model": "a", "inputs": inputs})
    outputs = [np.frombuffer(base64.b64decode(text), np.float32) for text in answer["outputs"]]
    np.testing.assert_allclose(outputs, [direct(LARGE, image) for image in images], rtol=1e-6)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"do": "dance"}, "unknown request 'dance'"),
        ({}, "unknown request None"),
        (["do", "load"], "unknown request None"),
        (None, "unknown request None"),
        (b"\xff\xfe garbage", "a line that is not JSON ("),
        (b"", "a line that is not JSON ("),
        (b'{"do": "measure", "vis', "a line that is not JSON ("),
        (b"[" * 100_000, "a line that is not JSON ("),
        ({"do": "load"}, "KeyError: 'data'"),
        ({"do": "load", "model": "x", "data": ["%%%"]}, "Error"),
        (load_request("x", DAMAGED), "Error: "),
        (load_request("x", b"no model"), "Error: "),
        ({"do": "predict", "model": "x", "inputs": []}, "KeyError: 'x'"),
        ({"do": "predict", "model": "a", "inputs": ["AAAA"]}, "ValueError: "),
        ({"do": "measure"}, "KeyError: 'warmup'"),
        (
            {"do": "measure", "round": 0, "warmup": 1, "samples": 1, "visits": [["x", 1]]},
            "KeyError: 'x'",
        ),
        (
            {"do": "measure", "round": 0, "warmup": 1, "samples": 1, "visits": [["a", 0]]},
            "ZeroDivisionError",
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_cannot_be_done_is_answered_and_the_worker_lives_on(
    channel: Channel, request_: object, words: str
) -> None:
    ask(channel, load_request("a", SMALL))
    (answer,) = ask(channel, request_)
    assert words in answer["error"]
    asked = request_.get("model") if isinstance(request_, dict) else None
    assert answer["model"] == asked
    request = {"do": "measure", "round": 1, "warmup": 1, "samples": 1, "visits": [["a", 1]]}
    visit, done = ask(channel, request, answers=2)
    assert (visit["visit"], done["done"]) == ("a", 1)


def test_unloading_frees_all_models(channel: Channel) -> None:
    ask(channel, load_request("a", SMALL))
    ask(channel, load_request("b", SMALL))
    assert ask(channel, {"do": "unload"}) == [{"unloaded": 2}]
    (answer,) = ask(channel, {"do": "predict", "model": "a", "inputs": []})
    assert answer["error"] == "KeyError: 'a'"


def test_conditions_are_numbers(channel: Channel) -> None:
    (answer,) = ask(channel, {"do": "conditions"})
    state = answer["conditions"]
    others = {"uptime", "load", "frequency", "temperature", "resident"}
    told = {"at", "lived", "waited"}
    assert told <= state.keys() <= told | others
    assert all(isinstance(value, float) for value in answer["conditions"].values())


def test_a_worker_without_work_counts_the_seconds() -> None:
    with connect("local") as device, WorkerSession(device) as session:
        first = session.conditions()
        time.sleep(0.2)
        later = session.conditions()
    assert 0.2 <= later["waited"] - first["waited"] <= later["at"] - first["at"]


def test_the_worker_ends_when_told_to(channel: Channel) -> None:
    with pytest.raises(DeviceLost, match="ended with code 0"):
        ask(channel, {"do": "exit"})


def test_the_worker_ends_with_its_input() -> None:
    argv = [sys.executable, str(WORKER_FILE)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert json.loads(done.stdout)["hello"] == "boardfit worker"


def test_the_worker_needs_nothing_of_boardfit(tmp_path: Path) -> None:
    """On a board there is only this file."""
    (tmp_path / "alone.py").write_bytes(WORKER_FILE.read_bytes())
    code = (
        "import runpy, sys\n"
        "sys.argv = ['alone.py']\n"
        "try: runpy.run_path('alone.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert not [name for name in sys.modules if name.startswith('boardfit')]\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


# A session


def test_a_session_measures(device: Device) -> None:
    with WorkerSession(device) as session:
        assert list(session.load(MODELS)) == ["small", "large"]
        *visits, end = session.measure([("large", 2), ("small", 3)], warmup=2, samples=3)
    assert isinstance(end, Round)
    assert 0 < end.inside <= end.wall * (1 + 1e-9)
    for visit, (key, repeats) in zip(visits, [("large", 2), ("small", 3)], strict=True):
        assert isinstance(visit, Visit)
        assert (visit.key, visit.repeats) == (key, repeats)
        assert (len(visit.warmup), len(visit.seconds)) == (2, 3)


def test_a_session_predicts_in_batches(device: Device) -> None:
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)
    with WorkerSession(device) as session:
        assert list(session.load(MODELS[:1])) == ["small"]
        outputs = session.predict("small", images, batch=2)
    assert outputs.shape == (5, 5)
    np.testing.assert_allclose(outputs, [direct(SMALL, image) for image in images], rtol=1e-6)


def test_a_model_is_sent_once_until_it_is_unloaded(device: Device) -> None:
    sent = []

    def data() -> bytes:
        sent.append("small")
        return SMALL

    with WorkerSession(device) as session:
        for _ in range(2):
            assert list(session.load([Model("small", data)])) == ["small"]
        assert len(sent) == 1
        session.unload()
        with pytest.raises(WorkerError, match="cannot measure small on"):
            list(session.measure([("small", 1)]))
        assert list(session.load([Model("small", data)])) == ["small"]
        assert len(sent) == 2


@pytest.mark.parametrize("data", [DAMAGED, b"no model", b""], ids=["cut", "foreign", "empty"])
def test_a_damaged_model_is_refused_in_the_runtimes_words(device: Device, data: bytes) -> None:
    with WorkerSession(device) as session:
        with pytest.raises(WorkerError, match=rf"cannot load broken on {device.name}: \w+Error: "):
            list(session.load([Model("broken", lambda: data)]))
        assert list(session.load(MODELS)) == ["small", "large"]


def test_conditions_come_as_numbers(device: Device) -> None:
    with WorkerSession(device) as session:
        found = session.conditions()
    assert all(isinstance(value, float) for value in found.values())


def test_a_session_ends_its_process() -> None:
    board = connect("local")
    with WorkerSession(board):
        (pid,) = children()
    assert not children()
    assert not Path(f"/proc/{pid}").exists()
    board.transport.close()


def test_several_threads_are_not_pinned_to_one_core() -> None:
    board = connect("local")
    with WorkerSession(board, threads=2) as session:
        assert (session.hello["threads"], session.hello["core"]) == (2, None)
    board.transport.close()


@pytest.mark.parametrize(
    ("core", "runtime", "words"),
    [
        (100_000, "auto", "cannot start on local: "),
        (None, "no-such-runtime", "no runtime for TFLite models .*; install ai-edge-litert"),
    ],
)
def test_a_worker_that_cannot_start_says_why(core: int | None, runtime: str, words: str) -> None:
    board = connect("local")
    with pytest.raises(WorkerError, match=words):
        WorkerSession(replace(board, core=core), runtime=runtime)
    assert not children()
    board.transport.close()


def children() -> set[int]:
    """The processes that this one started and that have not been reaped.

    Without the tracker of `multiprocessing`, which other tests may have started: it stays.
    """
    found = set()
    for task in Path("/proc/self/task").iterdir():
        found |= set(map(int, (task / "children").read_text().split()))
    return {pid for pid in found if b"resource_tracker" not in _command_line(pid)}


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_killed_worker_is_lost_with_its_cause() -> None:
    board = connect("local")
    with WorkerSession(board) as session:
        list(session.load(MODELS))
        (pid,) = children()
        answers = session.measure([("large", 100)] * 10_000)
        next(answers)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(DeviceLost, match="was killed by SIGKILL"):
            list(answers)
        with pytest.raises(DeviceLost):
            session.conditions()
    board.transport.close()


# Workers that break the protocol

HELLO = {"hello": "boardfit worker", "protocol": PROTOCOL, "runtime": "broken"}
VISIT = {"visit": "m", "at": 1.0, "warmup": [1e-3], "seconds": [1e-3, 2e-3]}
DONE = {"done": 0, "wall": 1.0, "inside": 0.9, "conditions": {"at": 2.0}}


class Scripted:
    """A worker that says what it was told to, whatever it is asked."""

    def __init__(self, hello: object, answers: list[object]) -> None:
        self._hello = hello
        self._answers = answers

    def start(self) -> Iterator[bytes]:
        yield self._line(self._hello)

    def handle(self, line: bytes) -> Iterator[bytes]:
        yield from map(self._line, self._answers)

    def _line(self, answer: object) -> bytes:
        if isinstance(answer, ProgramExit):
            raise answer
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


def scripted(*answers: object, hello: object = HELLO) -> WorkerSession:
    transport = FakeTransport(programs={"python3": lambda: Scripted(hello, list(answers))})
    nothing = Description(None, None, None, None, None, None, None, None)
    board = Device("odd", "fake", transport, nothing, "python3", PurePosixPath("/boardfit"))
    return WorkerSession(board)


BROKE = "the worker on odd broke its protocol with the line .* run the same command again"


def test_a_worker_that_does_not_arrive_whole_is_refused() -> None:
    hello = {**HELLO, "files": {**worker_digests(), "worker.py": "0"}}
    with pytest.raises(WorkerError, match="did not arrive whole on odd: remove /boardfit/worker-"):
        scripted(hello=hello)


@pytest.mark.parametrize(
    ("hello", "words"),
    [
        (b"Welcome to BusyBox", BROKE),
        (b'{"hello": "boardfit wor', BROKE),
        (b"[" * 100_000, BROKE),
        (b"\xff\xfe", BROKE),
        ([1], BROKE),
        ({"greetings": 1}, BROKE),
        ({**HELLO, "protocol": 1}, "odd speaks protocol 1, this boardfit speaks 2; remove /boardf"),
        ({"hello": "boardfit worker"}, "speaks protocol None"),
        ({"error": "no runtime", "model": None}, "cannot start on odd: no runtime"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_foreign_hello_is_refused(hello: object, words: str) -> None:
    with pytest.raises(WorkerError, match=words):
        scripted(hello=hello)


def test_a_program_that_ends_at_once_is_lost_with_its_last_words() -> None:
    with pytest.raises(DeviceLost, match="code 1; its last words: No module named 'numpy'"):
        scripted(hello=ProgramExit(1, "No module named 'numpy'"))


def test_a_well_behaved_script_passes() -> None:
    visit, end = scripted(VISIT, DONE).measure([("m", 3)])
    assert visit == Visit("m", 1.0, (1e-3,), (1e-3, 2e-3), 3)
    assert end == Round(1.0, 0.9, {"at": 2.0})


@pytest.mark.parametrize(
    "answer",
    [
        b"Segmentation fault",
        b'{"visit": "m", "at": 1.0, "warm',
        b"\xff\x00",
        b"[" * 100_000,
        b"",
        [VISIT],
        {},
        {**VISIT, "visit": "other"},
        {**VISIT, "visit": None},
        {**VISIT, "seconds": [1e-3]},
        {**VISIT, "seconds": [1e-3] * 3},
        {**VISIT, "seconds": []},
        {**VISIT, "seconds": None},
        {**VISIT, "seconds": 1e-3},
        {**VISIT, "seconds": [1e-3, float("nan")]},
        {**VISIT, "seconds": [1e-3, float("inf")]},
        {**VISIT, "seconds": [1e-3, -1e-3]},
        {**VISIT, "seconds": [1e-3, 0.0]},
        {**VISIT, "seconds": [1e-3, 1e-300]},
        {**VISIT, "seconds": [1e-3, 1e10]},
        {**VISIT, "seconds": [1e-3, "1e-3"]},
        {**VISIT, "seconds": [1e-3, True]},
        {**VISIT, "seconds": [1e-3, None]},
        {**VISIT, "seconds": [1e-3, 10**400]},
        {**VISIT, "warmup": []},
        {**VISIT, "warmup": [float("nan")]},
        {**VISIT, "warmup": [-1.0]},
        {**VISIT, "warmup": [1e10]},
        {**VISIT, "at": float("nan")},
        {**VISIT, "at": "noon"},
        {name: value for name, value in VISIT.items() if name != "at"},
        {name: value for name, value in VISIT.items() if name != "warmup"},
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_visit_that_cannot_be_believed_is_refused(answer: object) -> None:
    with pytest.raises(WorkerError, match=BROKE):
        list(scripted(answer, DONE).measure([("m", 3)]))


@pytest.mark.parametrize(
    "answer",
    [
        VISIT,
        {"done": 0},
        {**DONE, "wall": "long"},
        {**DONE, "inside": float("nan")},
        {**DONE, "wall": None},
        b"}",
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_round_that_does_not_end_as_agreed_is_refused(answer: object) -> None:
    answers = scripted(VISIT, answer).measure([("m", 3)])
    assert isinstance(next(answers), Visit)
    with pytest.raises(WorkerError, match=BROKE):
        next(answers)


def text(values: FloatArray) -> str:
    return base64.b64encode(values.tobytes()).decode()


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        5,
        [],
        [text(np.ones(2, np.float32))],
        [text(np.ones(2, np.float32))] * 3,
        [text(np.ones(2, np.float32)), text(np.ones(3, np.float32))],
        ["A", "A"],
        ["AAAA", "AAAA"],
        [None, None],
    ],
    ids=lambda value: repr(value)[:40],
)
def test_outputs_that_do_not_fit_the_images_are_refused(outputs: object) -> None:
    with pytest.raises(WorkerError, match=BROKE):
        scripted({"outputs": outputs}).predict("m", np.ones((2, 3), np.float32))


@pytest.mark.parametrize(
    ("use", "answer"),
    [
        (lambda session: session.conditions(), {"conditions": None}),
        (lambda session: session.conditions(), {"conditions": [1]}),
        (lambda session: session.conditions(), {"conditions": {"load": "high"}}),
        (lambda session: session.conditions(), {"loaded": "m"}),
        (lambda session: list(session.load(MODELS)), {"unloaded": 1}),
    ],
)
def test_other_answers_than_agreed_are_refused(
    use: Callable[[WorkerSession], object], answer: object
) -> None:
    with pytest.raises(WorkerError, match=BROKE):
        use(scripted(answer))


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda session: list(session.measure([("m", 1)])), "cannot measure m on odd: too hot"),
        (lambda session: list(session.load(MODELS)), "cannot load small on odd: too hot"),
        (lambda session: session.conditions(), "cannot read the board's state on odd: too hot"),
        (
            lambda session: session.predict("m", np.ones((1, 3), np.float32)),
            "cannot run m on odd: too hot",
        ),
    ],
)
def test_an_error_of_the_worker_says_what_it_was_doing(
    use: Callable[[WorkerSession], object], words: str
) -> None:
    with pytest.raises(WorkerError, match=words):
        use(scripted({"error": "too hot", "model": None}))


def test_a_runtime_that_dies_of_a_model_names_the_model() -> None:
    session = scripted(ProgramExit(139, "Aborted"))
    with pytest.raises(WorkerError, match=r"ended while it loaded small .*Aborted"):
        list(session.load(MODELS))


# Faults of the link: lines are hello, two loads, then the visits


@pytest.mark.parametrize(
    ("faults", "error", "words"),
    [
        (Faults(hang=frozenset({4})), WorkerError, "has not answered for 60 s and was ended; what"),
        (Faults(garbage=frozenset({4})), WorkerError, "broke its protocol"),
        (Faults(truncate=frozenset({4})), WorkerError, "broke its protocol"),
        (Faults(lose=frozenset({4})), DeviceLost, "run the same command again"),
        (Faults(hang=frozenset({3})), WorkerError, "has not answered for 60 s"),
        (Faults(lose=frozenset({3})), WorkerError, "ended while it loaded large"),
        (Faults(hang=frozenset({1})), WorkerError, "has not answered for 60 s"),
    ],
    ids=str,
)
def test_each_fault_ends_in_one_named_error(
    faults: Faults, error: type[Exception], words: str
) -> None:
    board = fake_device(FAKE, faults=faults)

    def measure() -> None:
        with WorkerSession(board) as session:
            list(session.load(MODELS))
            list(session.measure([("small", 1), ("large", 1)]))

    with pytest.raises(error, match=words):
        measure()
    measure()  # a second attempt goes on


def test_a_slow_model_is_waited_for() -> None:
    """Seven inferences may take 20 s each; the worker answers once all are done."""
    with WorkerSession(fake_device(FAKE, faults=Faults(hang=frozenset({4})))) as session:
        list(session.load(MODELS))
        with pytest.raises(WorkerError, match=r"has not answered for 140 s .* 20 s an inference"):
            list(session.measure([("small", 1)], samples=6))


# The simulated board


def values(seed: int, number: int, before: int = 0, noise: float = 0.01) -> tuple[float, ...]:
    """The samples of one visit, after so many visits of another round."""
    board = fake_device(BoardEntry("fake", "fake", seed=seed), noise=noise)
    with WorkerSession(board) as session:
        list(session.load(MODELS))
        list(session.measure([("large", 3), ("small", 7)] * before, number=number + 1))
        visit, _ = session.measure([("small", 5)], number=number)
    assert isinstance(visit, Visit)
    return visit.seconds


def test_simulated_values_depend_on_seed_and_round_and_on_no_history() -> None:
    assert values(0, 3) == values(0, 3, before=10)
    assert values(0, 3) != values(1, 3)
    assert values(0, 3) != values(0, 4)


def test_simulated_values_lie_around_the_models_own_time() -> None:
    expected = simulated_seconds(SMALL)
    quiet = [min(values(0, number, noise=0.0)) for number in range(30)]
    fast = [value for value in quiet if value < 1.2 * expected]
    assert fast == pytest.approx([expected] * len(fast), rel=1e-4)
    assert 15 < len(fast) < 30  # the others met the slow state
    slow = [value for value in quiet if value > 1.2 * expected]
    assert slow == pytest.approx([1.4 * expected] * len(slow), rel=1e-4)


def test_simulated_kernels_work_on_eight_channels_at_once() -> None:
    def seconds(filters: int) -> float:
        builder = NetworkBuilder((16, 16, 64))
        builder.conv_2d(0, filters, kernel=3)
        return simulated_seconds(emit(builder.build()))

    assert seconds(9) == pytest.approx(seconds(16), rel=0.01)
    assert seconds(17) > 1.2 * seconds(16)


def test_the_step_of_a_clock_is_measured() -> None:
    steps = iter(np.cumsum([3e-6, 0.0] * 500).tolist())
    assert resolution(lambda: next(steps)) == pytest.approx(3e-6)
    assert resolution(lambda: 1.0) == 0.0
    assert 0 < resolution(time.perf_counter) < 1e-3
