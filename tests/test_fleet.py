"""Several boards build one table: who measures what, who is believed, and what a loss costs."""

from __future__ import annotations

import contextlib
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boardfit.devices.base import Device
from boardfit.devices.errors import (
    BoardfitError,
    BoardQuarantined,
    BoardsDisagree,
    ConditionsChanged,
    DeviceError,
    DeviceLost,
    DeviceNotFound,
    DeviceTimeout,
    InputError,
    MeasurementError,
    WorkerError,
)
from boardfit.profiler.build import build_table
from boardfit.profiler.fleet import (
    REFERENCE_OPERATORS,
    SHARE_LIMIT,
    TRIALS,
    Agreement,
    Sighting,
    agree,
    deal,
    effort,
    reference_set,
)
from boardfit.profiler.fleet_build import FleetTable, build_fleet_table
from boardfit.profiler.fleet_dispatch import LOSSES, Boards, News
from boardfit.profiler.fleet_share import (
    Share,
    answer_share,
    read_measured,
    write_failure,
    write_share,
)
from boardfit.profiler.fleet_tls import TlsFiles, check_address
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.progress import Progress
from boardfit.profiler.schedule import PROBE_ROUND, Schedule
from boardfit.profiler.simulated import Throttling
from boardfit.profiler.store import Store

from .fleet_boards import BoardsHere
from .mutations import mutate_value
from .small_board import QUICK, board, large_plan, samples, small_plan

LARGE, SMALL = large_plan(), small_plan()
EQUAL = {"a": 0.0, "b": 0.0, "c": 0.0}


def slower(factor: float) -> Throttling:
    """A board that is slower from the beginning, and does not tell why."""
    return Throttling(after=-1.0, slowdown=factor, tells=False)


def build(
    path: Path,
    boards: BoardsHere,
    plan: TablePlan = SMALL,
    names: Sequence[str] = (),
    schedule: Schedule = QUICK,
    **options: Any,
) -> FleetTable:
    @contextlib.contextmanager
    def reach() -> Iterator[Boards]:
        yield boards

    return build_fleet_table(path, plan, names or list(boards.devices), reach, schedule, **options)


def equal_boards(count: int) -> dict[str, Device]:
    return {f"pi-{number}": board(seed=7) for number in range(count)}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The tables of both plans as one board builds them, by the number of layers."""
    folder = tmp_path_factory.mktemp("plain")
    found = {}
    for plan in (SMALL, LARGE):
        path = folder / f"{len(plan.layers)}"
        build_table(path, board(seed=7), plan, QUICK)
        found[len(plan.layers)] = path
    return found


def measured_by(path: Path) -> Counter[str]:
    """How many samples come from each board."""
    with Store.open(path) as store:
        name = {row["session"]: row["board"] for row in store.evidence() if "board" in row}
        return Counter(name[row[6]] for row in store.samples())


# Who measures what


@given(
    count=st.integers(0, 250), boards=st.integers(1, 7), run=st.integers(0, 3), seed=st.integers(0)
)
def test_every_entry_is_dealt_once(count: int, boards: int, run: int, seed: int) -> None:
    layers = {layer.signature: layer for layer in LARGE.layers}
    entries = replace(LARGE, layers=tuple(layers.values())).entries()[:count]
    shares = deal(entries, boards, Schedule(seed=seed), run=run)
    dealt = Counter(entry.key for share in shares for entry in share)
    assert dealt == Counter(entry.key for entry in entries)
    sizes = [len(share) for share in shares]
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert len(shares) == min(len(entries), boards * math.ceil(len(shares) / boards))
    work = [sum(map(effort, share)) for share in shares]
    if len(shares) < len(entries):  # else some would have to do nothing
        assert max(work) - min(work) <= max(map(effort, entries))


@pytest.mark.parametrize("count", [2 * SHARE_LIMIT, 2 * SHARE_LIMIT + 1, 7 * SHARE_LIMIT])
def test_little_is_lost_with_a_board(count: int) -> None:
    shares = deal([*LARGE.entries()][:1] * count, 2, QUICK, run=0)
    assert sum(map(len, shares)) == count
    assert max(map(len, shares)) <= SHARE_LIMIT
    assert len(shares) % 2 == 0


def test_each_run_is_dealt_anew_and_the_same_after_a_restart() -> None:
    entries = LARGE.entries()
    first, again, second = (deal(entries, 2, QUICK, run=run) for run in (0, 0, 1))
    assert first == again
    assert first != second


def test_the_reference_set_goes_from_the_smallest_to_the_largest() -> None:
    chosen = reference_set(LARGE.entries())
    operators = [effort(entry) for entry in chosen if entry.role == "operator"]
    every = [effort(entry) for entry in LARGE.entries() if entry.role == "operator"]
    assert len(operators) == REFERENCE_OPERATORS == len(chosen) - 1
    assert operators == sorted(operators)
    assert (operators[0], operators[-1]) == (min(every), max(every))
    assert reference_set([]) == ()


# Whether the boards agree


def sightings(levels: dict[str, float], *, spread: float, seed: int = 0) -> list[Sighting]:
    """Sessions of boards that are slower by so much, `spread` apart (relative)."""
    rng = np.random.default_rng(seed)
    return [
        Sighting(
            name,
            {
                key: base * (1 + level) * math.exp(shift + 0.001 * rng.normal())
                for key, base in (("small", 1e-6), ("large", 1e-3))
            },
        )
        for name, level in levels.items()
        for shift in spread * rng.normal(size=TRIALS)
    ]


def test_equal_boards_agree() -> None:
    found = [agree(sightings(EQUAL, spread=0.02, seed=seed)) for seed in range(200)]
    assert sum(bool(verdict.odd) for verdict in found) <= 2
    assert found[0].boards == tuple(EQUAL)


@pytest.mark.parametrize("level", [0.08, -0.08])
def test_the_odd_board_is_named_and_the_others_are_not(level: float) -> None:
    for seed in range(100):
        found = agree(sightings({"a": 0, "b": level, "c": 0, "d": 0}, spread=0.003, seed=seed))
        assert found.boards == ("a", "c", "d")
        assert list(found.odd) == ["b"]
        assert "b took " in found.odd["b"]


def test_of_two_boards_that_differ_both_are_named() -> None:
    found = agree(sightings({"a": 0, "b": 0.08}, spread=0.003))
    assert found.boards == ()
    assert list(found.odd) == ["a", "b"]


def test_what_sessions_of_one_board_differ_by_is_the_measure() -> None:
    """The same difference is odd among steady boards, and not among restless ones."""
    assert agree(sightings({"a": 0, "b": 0, "c": 0.04}, spread=0.003)).odd
    assert not agree(sightings({"a": 0, "b": 0, "c": 0.04}, spread=0.05)).odd


def test_less_than_a_percent_is_no_difference() -> None:
    assert not agree(sightings({"a": 0, "b": 0.008}, spread=0.0)).odd


def test_one_session_of_each_board_says_nothing() -> None:
    one = [s for s in sightings({"a": 0, "b": 0.5}, spread=0.0)][::TRIALS]
    assert Agreement.of(one).limit == math.inf


# The table


@pytest.mark.parametrize("plan", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_fleet_builds_the_table_of_one_board(
    tmp_path: Path, plain: dict[int, Path], plan: TablePlan, count: int
) -> None:
    boards = BoardsHere(equal_boards(count))
    built = build(tmp_path / "table", boards, plan)
    built.check()
    assert samples(tmp_path / "table") == samples(plain[len(plan.layers)])
    shares = measured_by(tmp_path / "table")
    assert shares.keys() == boards.devices.keys()
    assert (
        built.table.calibration
        == build_table(plain[len(plan.layers)], board(seed=7), plan, QUICK).calibration
    )


def test_a_fleet_grows_a_table_as_one_board_does(tmp_path: Path) -> None:
    plan = replace(LARGE, operators=100)
    build_table(tmp_path / "plain", board(seed=7), plan, QUICK)
    build(tmp_path / "table", BoardsHere(equal_boards(2)), plan)
    assert samples(tmp_path / "table") == samples(tmp_path / "plain")


def test_a_finished_table_asks_no_board(tmp_path: Path) -> None:
    build(tmp_path / "table", BoardsHere(equal_boards(2)))
    boards = BoardsHere(equal_boards(2))
    build(tmp_path / "table", boards)
    assert set(boards.answered.values()) == {0}


def test_the_odd_board_is_named_and_nothing_of_it_is_kept(
    tmp_path: Path, plain: dict[int, Path]
) -> None:
    devices = {**equal_boards(2), "odd": board(seed=7, throttling=slower(1.05))}
    built = build(tmp_path / "table", BoardsHere(devices))
    with pytest.raises(BoardsDisagree, match=r"odd took 5.0% more time than pi-0 and pi-1"):
        built.check()
    assert samples(tmp_path / "table") == samples(plain[len(SMALL.layers)])
    assert measured_by(tmp_path / "table").keys() == {"pi-0", "pi-1"}


def test_two_boards_that_differ_measure_nothing(tmp_path: Path) -> None:
    devices = {"one": board(seed=7), "two": board(seed=7, throttling=slower(1.05))}
    with pytest.raises(BoardsDisagree, match="which of one and two is odd"):
        build(tmp_path / "table", BoardsHere(devices))
    assert samples(tmp_path / "table") == []


def test_a_board_that_becomes_odd_is_left_out_from_there(tmp_path: Path) -> None:
    three = replace(QUICK, runs=3)
    build_table(tmp_path / "plain", board(seed=7), SMALL, three)
    devices = {**equal_boards(3), "hot": board(seed=7)}
    hot = board(seed=7, throttling=slower(1.1))
    count = iter(range(1000))

    def answer(text: str, device: Device) -> object:
        return answer_share(text, hot if next(count) > TRIALS + 1 else device)

    built = build(tmp_path / "table", BoardsHere(devices, answers={"hot": answer}), schedule=three)
    assert list(built.left_out) == ["hot"]
    assert samples(tmp_path / "table") == samples(tmp_path / "plain")
    with pytest.raises(BoardsDisagree, match=r"hot took .* more time"):
        built.check()


def test_one_bad_moment_is_forgiven(tmp_path: Path, plain: dict[int, Path]) -> None:
    hot = board(seed=7, throttling=slower(1.1))
    count = iter(range(1000))

    def answer(text: str, device: Device) -> object:
        return answer_share(text, hot if next(count) == TRIALS + 1 else device)

    built = build(tmp_path / "table", BoardsHere(equal_boards(2), answers={"pi-1": answer}))
    built.check()
    assert samples(tmp_path / "table") == samples(plain[len(SMALL.layers)])


def test_boards_in_different_states_are_never_mixed(tmp_path: Path) -> None:
    devices = {**equal_boards(2), "old": board(seed=7, kernel="5.10.0")}
    with pytest.raises(ConditionsChanged, match=r"old: kernel: was '6.6.0-fake', is '5.10.0'"):
        build(tmp_path / "table", BoardsHere(devices))
    assert samples(tmp_path / "table") == []


def test_a_board_whose_state_changes_is_left(tmp_path: Path, plain: dict[int, Path]) -> None:
    changed = board(seed=7, governor="powersave")
    count = iter(range(1000))

    def answer(text: str, device: Device) -> object:
        return answer_share(text, changed if next(count) >= TRIALS else device)

    told: list[Progress] = []
    boards = BoardsHere(equal_boards(2), answers={"pi-1": answer})
    build(tmp_path / "table", boards, report=told.append)
    assert samples(tmp_path / "table") == samples(plain[len(SMALL.layers)])
    assert measured_by(tmp_path / "table").keys() == {"pi-0"}
    assert any("pi-1 is not as it was: governor" in step.detail for step in told)


def test_a_board_that_nobody_offers_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFound, match="nobody offers pi-9"):
        build(tmp_path / "table", BoardsHere(equal_boards(2)), names=["pi-0", "pi-9"])


# Losses


@pytest.mark.parametrize("answers", [0, TRIALS - 1, TRIALS, TRIALS + 1])
def test_what_a_lost_board_was_asked_goes_to_others(
    tmp_path: Path, plain: dict[int, Path], answers: int
) -> None:
    devices = equal_boards(3)
    boards = BoardsHere(devices, lost={"pi-1": answers} if answers else {})
    if not answers:
        boards.silent = {"pi-1"}
    built = build(tmp_path / "table", boards, silence=0.2)
    built.check()
    assert samples(tmp_path / "table") == samples(plain[len(SMALL.layers)])
    assert "pi-1" in built.lost  # also where it had nothing to do when it was lost


class Chatty(BoardsHere):
    """A board that takes longer than silence is borne, and says that it is at work."""

    left = 4

    def wait(self, seconds: float) -> Sequence[News]:
        if self.left:
            self.left -= 1
            time.sleep(0.15)
            return [News("pi-0", 0.2)]
        return super().wait(seconds)


def test_a_board_that_says_that_it_is_at_work_is_not_silent(tmp_path: Path) -> None:
    build(tmp_path / "table", Chatty(equal_boards(1)), silence=0.4)


class Unsteady(BoardsHere):
    """A board that is lost each time that it is asked, and offered again each time."""

    asked = 0

    def start(self, board: str, text: str) -> None:
        self.asked += 1
        assert self.asked < 20, "it is asked for ever"

    def wait(self, seconds: float) -> Sequence[News]:
        return [News("pi-0", lost="the worker was killed")]


def test_a_board_that_is_lost_again_and_again_is_given_up(tmp_path: Path) -> None:
    boards = Unsteady(equal_boards(1))
    with pytest.raises(DeviceLost, match="the worker was killed"):
        build(tmp_path / "table", boards, patience=60.0)
    assert boards.asked == LOSSES + 1


def test_a_quarantined_board_is_left_out_and_named(tmp_path: Path, plain: dict[int, Path]) -> None:
    words = "pi-1 is left alone for 60 more minutes"
    told: list[Progress] = []
    boards = BoardsHere(
        equal_boards(2), {"pi-1": lambda text, device: write_failure(BoardQuarantined(words))}
    )
    built = build(tmp_path / "table", boards, report=told.append)
    built.check()
    assert built.lost == {"pi-1": f"pi-1: {words}"}
    assert any(words in step.detail for step in told)
    assert samples(tmp_path / "table") == samples(plain[len(SMALL.layers)])
    assert build(tmp_path / "table", boards).lost == {}  # it is finished, and nobody is asked


def test_a_silent_board_is_abandoned_in_time(tmp_path: Path) -> None:
    boards = BoardsHere(equal_boards(1), silent={"pi-0"})
    with pytest.raises(DeviceTimeout, match=r"no sign of life for 0 s.*same command"):
        build(tmp_path / "table", boards, silence=0.2)
    assert boards.abandoned == ["pi-0"]


def test_where_all_boards_are_lost_it_is_said_and_goes_on_later(
    tmp_path: Path, plain: dict[int, Path]
) -> None:
    path = tmp_path / "table"
    with pytest.raises(
        DeviceLost, match=r"no board of the fleet is left: pi-0 is not offered.*pi-1"
    ):
        build(path, BoardsHere(equal_boards(2), lost={"pi-0": 4, "pi-1": 4}))
    begun = samples(path)
    assert begun
    build(path, BoardsHere({"another": board(seed=7)}))
    assert samples(path) == samples(plain[len(SMALL.layers)])
    assert set(begun) <= set(samples(path))


@pytest.mark.parametrize("steps", [1, 6, 7, 8, 9])
def test_an_interrupted_host_goes_on_where_it_stopped(
    tmp_path: Path, plain: dict[int, Path], steps: int
) -> None:
    path = tmp_path / "table"
    left = iter(range(steps))

    def report(step: Progress) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(path, BoardsHere(equal_boards(2)), report=report)
    begun = samples(path)
    build(path, BoardsHere(equal_boards(2)))
    assert samples(path) == samples(plain[len(SMALL.layers)])
    assert set(begun) <= set(samples(path))


# What a board answers is checked


@pytest.fixture(scope="module")
def question() -> Share:
    entries = (*SMALL.entries()[:3], SMALL.entries()[-1])
    return Share(entries, QUICK, 1, 1, "auto", 2**30, "float32")


@pytest.fixture(scope="module")
def honest(question: Share) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(answer_share(write_share(question), board()))
    return answer


def visits(answer: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = answer["sessions"][0]["visits"]
    return found


def test_an_honest_answer_is_read(question: Share, honest: dict[str, Any]) -> None:
    found = read_measured(json.dumps(honest), question, "pi")
    assert found.smallest().keys() == {entry.key for entry in question.entries}
    assert min(found.smallest().values()) > 0


def test_hostile_answers_are_refused(question: Share, honest: dict[str, Any]) -> None:
    def spoil(**changes: Any) -> Iterator[dict[str, Any]]:
        for name, value in changes.items():
            answer = json.loads(json.dumps(honest))
            visits(answer)[0][name] = value
            yield answer

    def without(key: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(json.dumps(honest))
        answer["sessions"][0]["visits"] = [v for v in visits(answer) if v["visit"] != key]
        return answer

    twice = json.loads(json.dumps(honest))
    visits(twice).append(visits(twice)[0])
    evidence = json.loads(json.dumps(honest))
    evidence["sessions"][0]["evidence"].append({"batched": [1, 10**9]})
    timeless = json.loads(json.dumps(honest))
    timeless["sessions"][0]["evidence"].append({"reference": -1.0, "at": 0.0})
    mixed = json.loads(json.dumps(honest))
    mixed["sessions"].append({**mixed["sessions"][0], "conditions": {}, "visits": []})
    cases = [
        *("", "null", "[]", "{}", "[" * 100_000, "x", b"bytes", 7, None),
        *spoil(visit="another", at="now", warmup=[], seconds=[0.0], repeats=0, round=99),
        *spoil(visit=["x"], at=float("nan"), warmup=None, seconds=[1e30, 1e30], repeats=True),
        *spoil(round=PROBE_ROUND - 1, repeats=10**30),
        *(without(question.entries[0].key), twice, evidence, timeless, mixed),
        {**honest, "sessions": []},
        {**honest, "inside": float("inf")},
        {**honest, "restarts": ["x" * 1000]},
        {"error": "SystemExit", "message": "x"},
        {"error": "KeyboardInterrupt", "message": "x"},
        {"error": "BaseException", "message": "x"},
    ]
    for case in cases:
        text = json.dumps(case) if isinstance(case, dict) else case
        with pytest.raises((WorkerError, DeviceError), match="pi"):
            read_measured(text, question, "pi")


def test_spoilt_answers_end_in_named_errors(question: Share, honest: dict[str, Any]) -> None:
    for seed in range(300):
        answer = mutate_value(honest, random.Random(seed))
        with contextlib.suppress(DeviceError, MeasurementError):
            found = read_measured(json.dumps(answer), question, "pi")
            assert found.smallest().keys() == {entry.key for entry in question.entries}


def test_a_hostile_board_leaves_nothing_in_the_table(
    tmp_path: Path, plain: dict[int, Path]
) -> None:
    def answer(text: str, device: Device) -> object:
        found = json.loads(answer_share(text, device))
        visits(found).append({**visits(found)[0], "round": 2, "seconds": [1e-9, 1e-9]})
        return json.dumps(found)

    boards = BoardsHere(equal_boards(2), answers={"pi-1": answer})
    build(tmp_path / "table", boards)
    assert samples(tmp_path / "table") == samples(plain[len(SMALL.layers)])
    assert measured_by(tmp_path / "table").keys() == {"pi-0"}


def test_a_board_says_what_it_met(question: Share) -> None:
    with pytest.raises(WorkerError, match=r"^pi: the host .* another version"):
        read_measured(answer_share('{"format": 99}', board()), question, "pi")
    wrong = replace(question, runtime="onnxruntime")
    with pytest.raises(BoardfitError, match=r"^pi: fake runs models in simulated"):
        read_measured(answer_share(write_share(wrong), board()), wrong, "pi")


# Addresses and certificates


@pytest.mark.parametrize(
    "address",
    [
        *("tcp://192.0.2.7:8786", "tcp://lab:8786", "tcp://0.0.0.0:8786", "tcp://[::]:8786"),
        *("tls://192.0.2.7:8786", "tls://127.0.0.1:8786", "http://127.0.0.1:1", "127.0.0.1:8786"),
        *(
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:99999",
            "tcp://127.0.0.1.example:8786",
            "",
            "tcp://[",
        ),
        "tcp://127.0.0.1@192.0.2.7:8786",
    ],
)
def test_what_is_not_this_host_is_refused_without_certificates(address: str) -> None:
    with pytest.raises(InputError, match="--scheduler"):
        check_address(address, None)


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://localhost:1", "tcp://[::1]:8786"]
)
def test_loopback_is_taken(address: str) -> None:
    assert check_address(address, None) == address


def test_certificates_protect_other_addresses(tmp_path: Path) -> None:
    (tmp_path / "pem").write_text("x")
    files = TlsFiles(tmp_path / "pem", tmp_path / "pem", tmp_path / "pem")
    assert check_address("tls://192.0.2.7:8786", files)
    with pytest.raises(InputError, match="begins with tls"):
        check_address("tcp://192.0.2.7:8786", files)
    with pytest.raises(InputError, match=r"--tls-key .*none: cannot be read"):
        TlsFiles(tmp_path / "pem", tmp_path / "pem", tmp_path / "none")
