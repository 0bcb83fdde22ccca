"""A lookup table: built once, priced by hand, refused where it cannot be believed."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from boardfit.devices.errors import (
    ConditionsChanged,
    MissingEntry,
    TableFileError,
    TableNotValid,
    WorkerError,
)
from boardfit.devices.fake import FakeTransport, Faults
from boardfit.profiler.build import build_table, sources
from boardfit.profiler.calibration import Validation
from boardfit.profiler.description import read_layer, read_network
from boardfit.profiler.judge import Judged
from boardfit.profiler.layers import Layer
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.plan import TablePlan
from boardfit.profiler.progress import Progress
from boardfit.profiler.schedule import PROBE_ROUND
from boardfit.profiler.simulated import SimulatedWorker
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.profiler.table_result import describe_result
from boardfit.summary import table_words

from .small_board import QUICK, board, samples, small_network, small_plan


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> LookupTable:
    return build_table(tmp_path_factory.mktemp("t") / "t.boardfit", board(), small_plan(), QUICK)


@pytest.fixture
def path(built: LookupTable, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    (tmp_path / "copy.boardfit").write_bytes(built.path.read_bytes())
    return tmp_path / "copy.boardfit"


# What a table knows


def test_a_finished_table_opens_with_all_that_was_planned(built: LookupTable) -> None:
    table = LookupTable.open(built.path)
    plan = small_plan()
    assert set(table.operators) == {layer.signature for layer in plan.layers}
    roles = [role for role, _, _ in table.networks.values()]
    assert (roles.count("calibration"), roles.count("validation")) == (6, 6)
    assert all(len(operator.runs) == QUICK.runs for operator in table.operators.values())
    assert table.provenance == {"space": "small"}
    assert table.conditions["board"] == "Fake board, simulated by boardfit"
    assert (table.conditions["runtime"], table.conditions["dtype"]) == ("simulated", "float32")


def test_the_latency_is_the_sum_of_its_layers_prices(built: LookupTable) -> None:
    network = small_network(16, 3)
    expected = built.calibration.constant
    for layer in network.layers:
        alone = float(built.operators[layer.signature].runs.min())
        expected += built.calibration.price(layer, alone)
    estimate = built.latency(network)
    assert estimate.seconds == pytest.approx(expected)
    assert estimate.interpolated == 0
    assert estimate.low < estimate.seconds < estimate.high
    assert estimate.low * estimate.high == pytest.approx(estimate.seconds**2)


def test_the_table_predicts_networks_that_it_has_not_seen(built: LookupTable) -> None:
    assert built.validation is not None
    assert built.validation.worst < 0.05
    built.check()
    for role, network, runs in built.networks.values():
        if role == "validation":
            assert built.latency(network).seconds == pytest.approx(float(runs.min()), rel=0.05)


def test_the_price_does_not_depend_on_where_a_slice_begins(tmp_path: Path) -> None:
    layers = tuple(Layer("slice", ((4, 4, 8),), (4, 4, 4), offset=at) for at in (0, 4))
    table = build_table(tmp_path / "t", board(), TablePlan(layers, (), (), {}), QUICK)
    assert len(table.operators) == 1
    assert table.price(layers[0]) == table.price(layers[1]) > 0


def test_a_layer_without_a_price_is_named_with_the_next_step(built: LookupTable) -> None:
    builder = NetworkBuilder((16, 16, 8))
    builder.conv_2d(0, 9)
    words = (
        r"no price for 'conv_2d 16x16x8>16x16x9 k1 s1 none float32': .* nothing is extrapolated"
        r"\. It was built for small: measure what is missing with `boardfit table extend"
    )
    with pytest.raises(MissingEntry, match=words):
        built.latency(builder.build())


def test_the_frame_has_a_row_for_each_operator(built: LookupTable) -> None:
    frame = built.frame()
    assert len(frame) == len(built.operators)
    row = frame.set_index("signature").loc["conv_2d 16x16x8>16x16x16 k3 s1 relu float32"]
    assert (row.op, row.height, row.width, row.kernel, row.stride) == ("conv_2d", 16, 16, 3, 1)
    assert (row.input_channels, row.output_channels, row.runs) == (8, 16, 2)
    assert row.macs == 16 * 16 * 16 * 9 * 8
    assert row.seconds_alone > row.seconds - 1e-6 > 0


# Which values can be believed


def test_on_a_quiet_board_hardly_an_operator_is_noisy(built: LookupTable) -> None:
    verdicts = [operator.verdict for operator in built.operators.values()]
    assert verdicts.count("steady") >= 0.9 * len(verdicts)
    assert list(built.frame()["verdict"]) == verdicts


def test_an_operator_is_noisy_where_no_second_run_repeats_its_value(path: Path) -> None:
    """Its verdict is that of its visits, and a further run that was begun is no part of it."""
    signature, other = list(LookupTable.open(path).operators)[:2]
    connection = sqlite3.connect(path)
    slower = "UPDATE samples SET seconds = seconds * 1.08 WHERE run = 1 AND entry = {}"
    number = "(SELECT id FROM entries WHERE role = 'operator' AND key = ?)"
    assert connection.execute(slower.format(number), (signature,)).rowcount > 0
    connection.execute(
        "INSERT INTO samples SELECT entry, 7, round, number, warmup, session, at, repeats, "
        "seconds / 10 FROM samples WHERE run = 0"
    )
    connection.commit()
    connection.close()
    table = LookupTable.open(path)
    assert table.operators[signature].verdict == "noisy"
    assert table.operators[other].verdict == "steady"
    assert table.noisy[0] == table.operators[signature]
    words = " ".join(table_words(table))
    assert (
        f"of {len(table.operators)} operators are noisy, as no second run confirms the value; "
        in words
    )
    assert f"{signature} (+" in words
    assert "End other work on the board and measure further runs" in words


def test_a_noisy_board_says_so_and_names_the_worst(tmp_path: Path) -> None:
    table = build_table(tmp_path / "t", board(noise=0.5), small_plan(), QUICK)
    noisy = table.noisy
    assert len(noisy) > 0.5 * len(table.operators)
    spreads = [operator.spread for operator in noisy]
    assert spreads == sorted(spreads, reverse=True)
    (words,) = [words for words in table_words(table) if "no second run" in words]
    assert words.startswith(f"{len(noisy)} of {len(table.operators)} operators are noisy")
    assert "; the worst are " in words
    assert [operator.layer.signature in words for operator in noisy[:4]] == [True] * 3 + [False]
    without = replace(small_plan(), validation=())
    unjudged = build_table(tmp_path / "u", board(noise=0.5), without, QUICK)
    assert any("no second run" in words for words in table_words(unjudged))


# Building


def test_building_again_returns_the_same_without_the_board(built: LookupTable) -> None:
    gone = board()
    gone.transport.close()
    again = build_table(built.path, gone, small_plan(), QUICK)
    assert again.calibration == built.calibration
    assert again.latency(small_network(8)) == built.latency(small_network(8))


class Watched:
    """The simulated worker, and how many models it held at once."""

    def __init__(self, held: list[int]) -> None:
        self._worker = SimulatedWorker()
        self._held = held

    def start(self) -> Iterator[bytes]:
        self._held.append(0)
        return self._worker.start()

    def handle(self, line: bytes) -> Iterator[bytes]:
        asked = json.loads(line)["do"]
        self._held.append(0 if asked == "unload" else self._held[-1] + (asked == "load"))
        return self._worker.handle(line)


def test_little_memory_on_the_board_changes_no_value(built: LookupTable, tmp_path: Path) -> None:
    held: list[int] = []
    transport = FakeTransport(programs={"python3": lambda: Watched(held)})
    device = replace(board(), transport=transport)
    cap = 6_000_000
    build_table(tmp_path / "t", device, small_plan(), QUICK, memory_cap=cap)
    assert samples(tmp_path / "t") == samples(built.path)
    smallest = min(source.memory for source in sources(small_plan().entries()).values())
    assert 5 < max(held) <= cap // smallest + 1  # and the reference model


def test_samples_repeat_until_they_fill_the_clock(built: LookupTable) -> None:
    probes: dict[str, float] = {}
    checked = 0
    for key, _, run, number, _, warmup, _, seconds in samples(built.path):
        if number == PROBE_ROUND and warmup == 2:  # a sample of the probe, not its warm-up
            probes[f"{key} {run}"] = min(seconds, probes.get(f"{key} {run}", seconds))
    for key, _, run, _, _, warmup, repeats, _ in samples(built.path):
        if not warmup:
            assert repeats == math.ceil(QUICK.sample_seconds / probes[f"{key} {run}"])
            checked += repeats > 1
    assert checked > 100


def test_progress_only_grows_and_ends_at_its_total(tmp_path: Path) -> None:
    told: list[Progress] = []
    restless = replace(QUICK, precision=1e-6, maximum_rounds=6)
    build_table(tmp_path / "t", board(), small_plan(), restless, report=told.append)
    done = [progress.done for progress in told]
    assert done == sorted(done)
    assert told[-1].done == told[-1].total == 33 * QUICK.runs * (QUICK.minimum_rounds + 1)
    assert {progress.total for progress in told} == {told[-1].total}
    assert any(progress.detail == "loading models, 33 of 33" for progress in told)


def test_a_table_tells_how_measuring_went(tmp_path: Path) -> None:
    quiet = build_table(tmp_path / "quiet", board(), small_plan(), QUICK)
    lost = board(faults=Faults(lose=frozenset({60})))
    table = build_table(tmp_path / "lost", lost, small_plan(), QUICK)
    assert "1 worker was lost and replaced" in table.campaign
    assert any("1 worker was lost and replaced." in words for words in table_words(table))
    assert not any("lost" in words for words in table_words(quiet))


def test_the_budget_ends_a_build_after_the_minimum_of_rounds(tmp_path: Path) -> None:
    restless = replace(QUICK, precision=1e-6, maximum_rounds=8)
    build_table(tmp_path / "long", board(), small_plan(), restless)
    build_table(tmp_path / "short", board(), small_plan(), replace(restless, budget_seconds=1e-3))
    rounds = {name: max(row[3] for row in samples(tmp_path / name)) for name in ("long", "short")}
    assert rounds == {"long": 7, "short": QUICK.minimum_rounds - 1}


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A table whose build was interrupted in its second run."""
    with pytest.raises(WorkerError):
        build_table(
            tmp_path / "begun", board(faults=Faults(garbage=frozenset({340}))), small_plan(), QUICK
        )
    assert {row[2] for row in samples(tmp_path / "begun")} == {0, 1}
    return tmp_path / "begun"


def test_an_unfinished_table_says_how_to_go_on(begun: Path) -> None:
    with pytest.raises(TableFileError, match="is not finished; run the command that builds it"):
        LookupTable.open(begun)
    build_table(begun, board(), small_plan(), QUICK)
    LookupTable.open(begun)


def test_another_board_does_not_go_on_with_it(begun: Path) -> None:
    before = samples(begun)
    with pytest.raises(ConditionsChanged, match="governor: was 'performance', is 'powersave'"):
        build_table(begun, board(governor="powersave"), small_plan(), QUICK)
    with pytest.raises(ConditionsChanged, match=r"kernel: was '6\.6\.0-fake', is None"):
        build_table(begun, board(kernel=None), small_plan(), QUICK)
    assert samples(begun) == before


@pytest.mark.parametrize(
    ("plan", "schedule", "words"),
    [
        (small_plan(space="other"), QUICK, r"another plan \(provenance differ\); give another"),
        (small_plan(), replace(QUICK, samples=3), r"another plan \(schedule differ\)"),
        (replace(small_plan(), calibration=()), QUICK, r"another plan \(entries differ\)"),
        (small_plan(calibration=5), QUICK, r"another plan \(entries differ\)"),
    ],
    ids=["provenance", "schedule", "fewer", "roles"],
)
def test_another_plan_is_refused_by_name(
    path: Path, plan: TablePlan, schedule: object, words: str
) -> None:
    assert isinstance(schedule, type(QUICK))
    before = samples(path)
    with pytest.raises(TableFileError, match=words):
        build_table(path, board(), plan, schedule)
    assert samples(path) == before


def test_provenance_survives_the_file(tmp_path: Path) -> None:
    plan = TablePlan(small_network(8).layers, (), (), {"sizes": (1, 2), "nothing": None})
    for _ in range(2):
        table = build_table(tmp_path / "t", board(), plan, QUICK)
    assert table.provenance == {"sizes": [1, 2], "nothing": None}


def test_a_plan_prices_every_layer_of_its_networks() -> None:
    layers = tuple(layer for layer in small_network(8).layers if layer.op != "mean")
    with pytest.raises(ValueError, match=r"a network needs 'mean .*', which is not planned"):
        TablePlan(layers, (), (small_network(8),), {})


# The bar


def with_validation(path: Path, validation: Validation | None) -> LookupTable:
    table = LookupTable.open(path)
    judged = Judged(table.times, table.calibration, validation, table.entries)
    with Store.open(path, write=True) as store:
        store.write_document("result", describe_result(judged, runs=QUICK.runs))
    return LookupTable.open(path)


def test_a_table_below_its_bar_is_not_valid(path: Path) -> None:
    measured = np.full(10, 1e-3)
    predicted = measured * np.array([1.0] * 8 + [1.11, 0.8])
    table = with_validation(
        path, Validation(predicted, measured, measured[:, None], np.full(10, 0.02))
    )
    words = (
        r"predicts only 80% of its held-out networks within 10 % .*MAPE 3\.1%\)\. .*build it again"
    )
    with pytest.raises(TableNotValid, match=words):
        table.check()
    predicted[8] = 1.1e-3 * (1 - 1e-9)
    with_validation(
        path, Validation(predicted, measured, measured[:, None], np.full(10, 0.02))
    ).check()


def test_a_table_without_held_out_networks_is_not_valid(path: Path) -> None:
    table = with_validation(path, None)
    with pytest.raises(TableNotValid, match="built without held-out networks"):
        table.check()
    estimate = table.latency(small_network(8))
    assert estimate.low < estimate.seconds < estimate.high  # as far as the fit itself can tell


# Files that are something else


def test_a_file_without_a_table_is_told_apart(tmp_path: Path) -> None:
    with Store.create(tmp_path / "t") as store:
        store.begin([], {"kind": "profile"})
    with pytest.raises(TableFileError, match="holds measurements, but no lookup table"):
        LookupTable.open(tmp_path / "t")
    with Store.create(tmp_path / "empty"):
        pass
    with pytest.raises(TableFileError, match="no lookup table"):
        LookupTable.open(tmp_path / "empty")
    with pytest.raises(TableFileError, match="there is no table"):
        LookupTable.open(str(tmp_path / "none"))


def test_a_build_killed_before_its_plan_was_written_goes_on(tmp_path: Path) -> None:
    with Store.create(tmp_path / "t"):
        pass
    build_table(tmp_path / "t", board(), small_plan(), QUICK)
    LookupTable.open(tmp_path / "t").check()


SET = "UPDATE documents SET content = json_set(content, {}) WHERE name = 'result'"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE documents SET content = '{}' WHERE name = 'result'",
        "UPDATE documents SET content = '{\"kind\": \"table\"}' WHERE name = 'plan'",
        SET.format("'$.calibration', 5"),
        SET.format("'$.calibration.factors', json('[1]')"),
        SET.format("'$.calibration.factors', json('{\"conv_2d\": [1]}')"),
        SET.format("'$.calibration.constant', 'small'"),
        SET.format("'$.calibration.constant', null"),
        SET.format("'$.calibration.factors', json('{\"conv_2d\": 1e200}')"),
        SET.format("'$.validation', 5"),
        SET.format("'$.validation.predicted', json('[1, [2]]')"),
        SET.format("'$.validation.predicted', json('[1]')"),
        SET.format("'$.validation.runs', json('[1, 1, 1, 1, 1, 1]')"),
        SET.format("'$.validation.measured[0]', 0.0"),
        "DELETE FROM samples WHERE entry = 3",
        "DELETE FROM entries",
        SET.format("'$.entries', -1"),
        "UPDATE samples SET seconds = 'soon' WHERE entry = 3",
        "UPDATE entries SET content = '{}' WHERE id = 1",
        "UPDATE entries SET content = json_set(content, '$.op', 'conv_9d') WHERE id = 1",
        "UPDATE entries SET content = json_set(content, '$.inputs', json('[]')) WHERE id = 1",
        "UPDATE entries SET content = json_set(content, '$.inputs', 5) WHERE id = 1",
        "UPDATE entries SET content = json_set(content, '$.output', json('[1e999]')) WHERE id = 1",
        "UPDATE entries SET content = json_set(content, '$.activation', 5) WHERE id = 1",
        "UPDATE entries SET content = json_set(content, '$.nodes', 5) WHERE role = 'validation'",
        "UPDATE entries SET content = json_set(content, '$.nodes[0].reads', json('[7]'))"
        " WHERE role = 'validation'",
    ],
)
def test_a_table_whose_contents_contradict_is_refused(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute(statement).rowcount > 0
    connection.commit()
    connection.close()
    with pytest.raises(TableFileError, match=r"cannot be read|damaged"):
        LookupTable.open(path)


def test_descriptions_are_read_strictly() -> None:
    for content in ({}, {"op": "relu"}, {"op": "relu", "inputs": [[1]], "output": [float("inf")]}):
        with pytest.raises(TableFileError, match="a layer in the table cannot be read"):
            read_layer({"kernel": 1, "stride": 1, "activation": "none", "offset": 0, **content})
        with pytest.raises(TableFileError):
            read_network({"input": [1], "nodes": [content]})
