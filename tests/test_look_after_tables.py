"""Tables compared, united and verified, on simulated boards."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boardfit.devices.base import Device
from boardfit.devices.errors import (
    ConditionsChanged,
    DeviceLost,
    InputError,
    InUse,
    MeasurementError,
    TableFileError,
    TableNotValid,
    WorkerError,
)
from boardfit.devices.fake import FakeTransport, Faults
from boardfit.devices.files import exclusive
from boardfit.profiler.build import build_table
from boardfit.profiler.calibration import kind
from boardfit.profiler.diff_tables import diff_tables
from boardfit.profiler.judge import judge
from boardfit.profiler.layers import Layer
from boardfit.profiler.merge_tables import merge_tables, spaces_of
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.simulated import SimulatedWorker
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.profiler.table_result import describe_result
from boardfit.profiler.verify_table import sample_operators, verify_table

from .small_board import QUICK, board, large_plan, samples, small_network, small_plan
from .test_tie import slowed

Tables = dict[str, LookupTable]


def other_plan() -> TablePlan:
    """Another space: two networks of the small one, and two of its own."""
    networks = [small_network(filters, 3) for filters in (16, 32, 24, 40)]
    layers = tuple(layer for network in networks for layer in network.layers)
    return TablePlan(layers, tuple(networks[:2]), tuple(networks[2:]), {"space": "other"})


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("tables")

    def build(name: str, plan: TablePlan, device: Device) -> LookupTable:
        return build_table(folder / f"{name}.boardfit", device, plan, QUICK)

    return {
        "first": build("first", small_plan(), board()),
        "second": build("second", small_plan(calibration=8), board(seed=3)),
        "other": build("other", other_plan(), board(seed=4)),
        "slow": build("slow", small_plan(), slowed(1.5)),
        "threads": build("threads", small_plan(), board(governor="ondemand")),
        "large": build("large", large_plan(), board()),
    }


class Degraded:
    """The simulated worker on a board on which one kind of model has become slower."""

    def __init__(self, needle: str, factor: float) -> None:
        self._worker = SimulatedWorker(seed=5)
        self._needle = needle
        self._factor = factor

    def start(self) -> Iterator[bytes]:
        return self._worker.start()

    def handle(self, line: bytes) -> Iterator[bytes]:
        for answer in self._worker.handle(line):
            content = json.loads(answer)
            if self._needle in str(content.get("visit", "")):
                content["seconds"] = [s * self._factor for s in content["seconds"]]
            yield json.dumps(content).encode()


def degraded(needle: str, factor: float) -> Device:
    transport = FakeTransport(programs={"python3": lambda: Degraded(needle, factor)})
    return replace(board(), transport=transport)


# Differences


def test_a_table_does_not_differ_from_itself(tables: Tables) -> None:
    found = diff_tables(tables["large"], tables["large"])
    assert found.conditions == found.only_before == found.only_after == ()
    assert found.changed == ()
    assert found.common.value == 1.0
    assert all(operator.ratio == operator.beyond == 1.0 for operator in found.operators)
    assert len(found.operators) == len(tables["large"].operators)


def test_two_tables_of_one_board_hardly_differ(tables: Tables) -> None:
    found = diff_tables(tables["first"], tables["second"])
    assert found.conditions == ()
    assert found.common.low <= 1.0 <= found.common.high
    assert found.common.high - found.common.low < 0.02
    assert len(found.changed) <= 1
    assert 0 < found.spread < 0.02


def test_a_slower_board_is_slower_as_a_whole(tables: Tables) -> None:
    found = diff_tables(tables["first"], tables["slow"])
    assert found.common.low < 1.5 < found.common.high
    assert found.common.value == pytest.approx(1.5, rel=0.01)
    assert len(found.changed) <= 1
    assert all(change.ratio.value == pytest.approx(1.5, rel=0.03) for change in found.kinds)


def test_an_operator_that_changed_is_found_and_its_kind_counted(
    tables: Tables, tmp_path: Path
) -> None:
    changed = "conv_2d 16x16x8>16x16x16 k3"
    after = build_table(tmp_path / "t", degraded(changed, 1.2), small_plan(), QUICK)
    found = diff_tables(tables["first"], after)
    assert [operator.signature.startswith(changed) for operator in found.changed] == [True]
    assert found.operators[0] is found.changed[0]  # sorted by effect
    assert found.changed[0].beyond == pytest.approx(1.2, rel=0.03)
    assert found.changed[0].probability < 0.01
    kinds = {change.kind: (change.operators, change.changed) for change in found.kinds}
    assert kinds["conv_2d spatial"] == (3, 1)
    assert sum(count for count, _ in kinds.values()) == len(found.operators)


def test_what_differs_besides_the_times_is_named(tables: Tables) -> None:
    found = diff_tables(tables["first"], tables["threads"])
    assert found.conditions == ("governor: was 'performance', is 'ondemand'",)
    found = diff_tables(tables["first"], tables["other"])
    assert set(found.only_before) | {o.signature for o in found.operators} == set(
        tables["first"].operators
    )
    assert all(signature in tables["other"].operators for signature in found.only_after)
    assert found.only_after


def test_tables_without_a_common_operator_cannot_be_compared(
    tables: Tables, tmp_path: Path
) -> None:
    plan = TablePlan((Layer("relu", ((3, 3, 3),), (3, 3, 3)),), (), (), {})
    with pytest.raises(InputError, match="no operator in common"):
        diff_tables(tables["first"], build_table(tmp_path / "t", board(), plan, QUICK))


# Merging


def merged(out: Path, *parts: LookupTable) -> LookupTable:
    return merge_tables(out, [part.path for part in parts])


def values(table: LookupTable) -> dict[str, list[float]]:
    """The runs of everything in a table, in any order."""
    found = {key: sorted(o.runs.tolist()) for key, o in table.operators.items()}
    return found | {key: sorted(runs.tolist()) for key, (_, _, runs) in table.networks.items()}


def test_merging_unites_entries_and_runs(tables: Tables, tmp_path: Path) -> None:
    first, other = tables["first"], tables["other"]
    table = merged(tmp_path / "m", first, other)
    assert set(table.operators) == set(first.operators) | set(other.operators)
    assert set(table.networks) == set(first.networks) | set(other.networks)
    assert table.runs == first.runs + other.runs
    for key, found in values(table).items():
        assert found == sorted(values(first).get(key, []) + values(other).get(key, []))
    assert len(samples(table.path)) == len(samples(first.path)) + len(samples(other.path))
    table.check()
    for network in (small_network(16), small_network(40, 3)):
        assert table.latency(network).seconds > 0
    with Store.open(table.path) as store:
        assert len(store.evidence()) > 10
        assert len(store.sessions()) == table.runs


def test_a_network_that_judges_one_part_calibrates_none(tables: Tables, tmp_path: Path) -> None:
    parts = tables["first"], tables["second"], tables["other"]
    table = merged(tmp_path / "m", *parts)
    for key, (role, _, _) in table.networks.items():
        roles = {part.networks[key][0] for part in parts if key in part.networks}
        assert role == ("validation" if "validation" in roles else "calibration")
    assert table.validation is not None
    judged = [key for key, (role, _, _) in table.networks.items() if role == "validation"]
    assert len(table.validation.measured) == len(judged)
    assert table.validation.worst < 0.05


def test_the_order_does_not_matter_and_nothing_counts_twice(tables: Tables, tmp_path: Path) -> None:
    first, second, other = tables["first"], tables["second"], tables["other"]
    one = merged(tmp_path / "1", first, second, other)
    assert values(merged(tmp_path / "2", other, first, second)) == values(one)
    # The same file again, and a file that holds the other two already.
    again = merged(tmp_path / "3", one, first, second, first, other, one)
    assert values(again) == values(one)
    assert len(samples(again.path)) == len(samples(one.path))
    assert again.provenance == one.provenance
    assert again.latency(small_network(16)) == one.latency(small_network(16))
    alone = merged(tmp_path / "4", first)
    assert values(alone) == values(first)
    assert alone.calibration == first.calibration


def test_of_a_file_and_a_copy_that_holds_less_each_run_counts_once(
    tables: Tables, tmp_path: Path
) -> None:
    """As when a table was copied while it was measured further."""
    first = tables["first"]
    less = tmp_path / "less"
    less.write_bytes(first.path.read_bytes())
    connection = sqlite3.connect(less)
    connection.execute("DELETE FROM samples WHERE entry % 3 = 0 AND run = 1 AND round > 0")
    connection.commit()
    connection.close()
    table = merged(tmp_path / "m", LookupTable.open(less), first)
    assert values(table) == values(first)
    assert samples(table.path) == samples(first.path)


def test_a_run_that_was_only_begun_is_left_out(tables: Tables, tmp_path: Path) -> None:
    """As in a table below its bar whose further run was interrupted."""
    first = tables["first"]
    begun = tmp_path / "begun"
    begun.write_bytes(first.path.read_bytes())
    with Store.open(begun, write=True) as store:
        store.write_document("result", describe_result(judge(store, runs=1), runs=1))
    alone = merge_tables(tmp_path / "1", [begun])
    assert values(alone) == {
        key: [runs[0]]
        for key, runs in {
            **{key: operator.runs for key, operator in first.operators.items()},
            **{key: runs for key, (_, _, runs) in first.networks.items()},
        }.items()
    }
    assert values(merge_tables(tmp_path / "2", [begun, first.path])) == values(first)


def test_where_a_merged_table_comes_from_is_kept(tables: Tables, tmp_path: Path) -> None:
    first, other = tables["first"], tables["other"]
    table = merged(tmp_path / "m", first, other)
    assert table.provenance["space"] == "small + other"
    assert [part["table"] for part in table.provenance["parts"]] == [
        "first.boardfit",
        "other.boardfit",
    ]
    assert spaces_of(table.provenance) == [("small", {}), ("other", {})]
    same = merged(tmp_path / "n", first, tables["second"])
    assert same.provenance["space"] == "small"
    assert spaces_of(same.provenance) == spaces_of(first.provenance) == [("small", {})]
    assert spaces_of({}) == []


def test_other_conditions_are_never_mixed(tables: Tables, tmp_path: Path) -> None:
    with pytest.raises(ConditionsChanged, match="governor: was 'performance', is 'ondemand'"):
        merged(tmp_path / "m", tables["first"], tables["threads"])
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_merged_leaves_nothing_behind(tables: Tables, tmp_path: Path) -> None:
    first = tables["first"].path
    broken, begun, there = tmp_path / "broken", tmp_path / "begun", tmp_path / "there"
    broken.write_bytes(first.read_bytes()[:9000])
    with pytest.raises((DeviceLost, WorkerError)):
        build_table(
            begun, board(faults=Faults(lose=frozenset(range(99, 9999)))), small_plan(), QUICK
        )
    there.write_text("mine")
    for parts, out, error, words in (
        ([broken], tmp_path / "m", TableFileError, "damaged|not a table"),
        ([begun], tmp_path / "m", TableFileError, "is not finished"),
        ([tmp_path / "none"], tmp_path / "m", TableFileError, "there is no table"),
        ([], tmp_path / "m", InputError, "nothing to merge"),
        ([first], there, TableFileError, "there exists"),
    ):
        paths = [first, *parts] if parts else []
        with pytest.raises(error, match=words):
            merge_tables(out, paths)
    with exclusive(tmp_path / "m.lock"), pytest.raises(InUse, match="works on m"):
        merge_tables(tmp_path / "m", [first])
    assert there.read_text() == "mine"
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.glob(".boardfit-*"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE samples SET at = 'soon'",
        "UPDATE samples SET repeats = 'many'",
        "UPDATE samples SET session = 77",
        "UPDATE evidence SET content = '[]'",
        "UPDATE sessions SET conditions = '{'",
        "DELETE FROM sessions WHERE id = 2",
        "UPDATE documents SET content = json_set(content, '$.schedule', 5) WHERE name = 'plan'",
    ],
)
def test_a_part_whose_contents_contradict_is_refused(
    tables: Tables, tmp_path: Path, statement: str
) -> None:
    path = tmp_path / "copy"
    path.write_bytes(tables["first"].path.read_bytes())
    connection = sqlite3.connect(path)
    assert connection.execute(statement).rowcount > 0
    connection.commit()
    connection.close()
    with pytest.raises(TableFileError, match=r"damaged|cannot be read"):
        merge_tables(tmp_path / "m", [path, tables["first"].path])
    assert not (tmp_path / "m").exists()


KILLED = """
import sys
from pathlib import Path
from boardfit.profiler import merge_tables as module
from boardfit.profiler.store import Store

commit, count = Store.commit, 0

def slowly(self, *arguments, **keywords):
    global count
    commit(self, *arguments, **keywords)
    count += 1
    if count == int(sys.argv[1]):
        print("here", flush=True)
        sys.stdin.read()

Store.commit = slowly
module.merge_tables(Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
"""


@pytest.mark.parametrize("commits", [1, 6])
def test_a_merge_that_is_killed_makes_nothing_and_goes_through_afterwards(
    tables: Tables, tmp_path: Path, commits: int
) -> None:
    parts = [tables["first"].path, tables["other"].path]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(commits), str(tmp_path / "m"), *map(str, parts)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"here\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert not (tmp_path / "m").exists()
    assert list(tmp_path.glob(".boardfit-*"))
    assert set(values(merge_tables(tmp_path / "m", parts))) > set(values(tables["first"]))
    assert not list(tmp_path.glob(".boardfit-*"))


# Verification


def test_a_table_of_an_unchanged_board_holds(tables: Tables) -> None:
    found = verify_table(tables["large"], board(seed=8), sample=40, schedule=QUICK)
    assert found.holds
    found.check()
    assert found.again is not None
    assert len(found.again.operators) == 40
    assert len(found.again.measured) == 6
    assert len(found.again.changed) <= 1
    assert found.again.mape < 0.03
    assert found.again.ratio.low <= 1.0 <= found.again.ratio.high


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (lambda: slowed(1.3), r"the board is 30% slower than when the table was built\. End other"),
        (lambda: slowed(0.7), "the board is 30% faster"),
        (lambda: degraded("depthwise_conv_2d", 2.0), r"of 21 sampled operators changed by more"),
        (lambda: degraded("network", 1.4), "slower than when"),
        (lambda: board(governor="powersave"), r"governor: was 'performance'.*Restore the board"),
    ],
    ids=["slower", "faster", "operators", "networks", "conditions"],
)
def test_a_table_that_does_not_hold_says_why(
    tables: Tables, device: Callable[[], Device], words: str
) -> None:
    found = verify_table(tables["first"], device(), sample=30, schedule=QUICK)
    assert not found.holds
    with pytest.raises(TableNotValid, match=words):
        found.check()


def test_a_slightly_slower_board_is_corrected_by_its_anchors(tables: Tables) -> None:
    found = verify_table(tables["first"], slowed(1.06), sample=10, schedule=QUICK)
    assert found.holds
    assert found.again is not None
    assert found.again.anchor_ratio == pytest.approx(1.06, rel=0.02)
    assert found.again.mape < 0.03


def test_the_conditions_are_looked_at_before_anything_is_measured(
    tables: Tables, tmp_path: Path
) -> None:
    found = verify_table(tables["first"], board(kernel="7"), path=tmp_path / "v")
    assert found.again is None
    assert found.conditions == ("kernel: was '6.6.0-fake', is '7'",)
    assert not (tmp_path / "v").exists()


def test_an_interrupted_verification_goes_on(tables: Tables, tmp_path: Path) -> None:
    table = tables["first"]
    whole = verify_table(table, board(), sample=9, schedule=QUICK, path=tmp_path / "whole")
    for line in (60, 40):
        device = board(faults=Faults(lose=frozenset(range(line, 9999))))
        with pytest.raises((DeviceLost, WorkerError)):
            verify_table(table, device, sample=9, schedule=QUICK, path=tmp_path / "v")
    found = verify_table(table, board(), sample=9, schedule=QUICK, path=tmp_path / "v")
    assert samples(tmp_path / "v") == samples(tmp_path / "whole")
    assert found.again is not None
    assert whole.again is not None
    assert found.again.operators == whole.again.operators
    assert found.again.mape == whole.again.mape
    with pytest.raises(TableFileError, match="another plan"):
        verify_table(table, board(), sample=8, schedule=QUICK, path=tmp_path / "v")


@pytest.mark.parametrize("count", [0, 1, 3, 40, 10_000])
def test_the_sample_has_all_kinds_and_sizes(tables: Tables, count: int) -> None:
    table = tables["large"]
    chosen = sample_operators(table, count, np.random.default_rng(0))
    assert len(chosen) == len(set(chosen)) == min(count, len(table.operators))
    kinds = {kind(operator.layer) for operator in table.operators.values()}
    if count >= len(kinds):
        assert {kind(table.operators[signature].layer) for signature in chosen} == kinds
    if count == 40:
        seconds = sorted(table.operators[s].seconds for s in chosen)
        everything = sorted(operator.seconds for operator in table.operators.values())
        assert np.median(seconds) == pytest.approx(np.median(everything), rel=0.5)
        assert chosen == sample_operators(table, count, np.random.default_rng(0))
        assert chosen != sample_operators(table, count, np.random.default_rng(1))


def test_what_has_no_anchors_cannot_be_verified(tmp_path: Path) -> None:
    lone = build_table(tmp_path / "t", board(), replace(small_plan(), calibration=()), QUICK)
    with pytest.raises(MeasurementError, match="no calibration networks"):
        verify_table(lone, board(), schedule=QUICK)
    with pytest.raises(InputError, match="0 or more"):
        verify_table(lone, board(), sample=-1)


def test_a_table_without_held_out_networks_is_verified_by_its_operators(tmp_path: Path) -> None:
    plan = replace(small_plan(), validation=())
    table = build_table(tmp_path / "t", board(), plan, QUICK)
    found = verify_table(table, board(seed=2), sample=5, schedule=QUICK)
    assert found.holds
    assert found.again is not None
    assert np.isnan(found.again.mape)
