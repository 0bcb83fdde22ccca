"""The whole search on the fake board: what it leaves, and that no kill changes it."""

import itertools
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from boardfit.api import build_table
from boardfit.devices.errors import (
    ConstraintNotMet,
    InputError,
    InUse,
    RunFolderError,
    TableNotValid,
)
from boardfit.devices.files import exclusive
from boardfit.profiler.connect import connect
from boardfit.profiler.progress import silent
from boardfit.profiler.read_tflite import inspect
from boardfit.profiler.schedule import Schedule
from boardfit.profiler.simulated import simulated_seconds
from boardfit.profiler.table import LookupTable
from boardfit.reports.frames import candidates_frame, finalists_frame
from boardfit.search.baseline import uniform_baseline
from boardfit.search.checkpoint import read_checkpoint
from boardfit.search.compute import Compute
from boardfit.search.data import Dataset, open_dataset
from boardfit.search.finalists import prove_finalists, train_finalist
from boardfit.search.metrics import latency, measured
from boardfit.search.network_module import NetworkModule
from boardfit.search.pipeline import search, search_targets
from boardfit.search.recipe import Recipe
from boardfit.search.result import SearchResult, read_result, write_result
from boardfit.search.settings import SearchSettings, parse_target
from boardfit.search.spaces import open_space
from boardfit.search.supernet import SuperNetwork
from boardfit.summary import search_rows, search_words

from .report_examples import make_search

OPTIONS = {"width_factor": 0.25}
SPACE = open_space("mobilenetv3-32", **OPTIONS)
TINY = Recipe(steps=8, batch_size=16)
SETTINGS = SearchSettings(
    target="60%", evaluations=12, holdout_images=40, supernet=TINY, final=TINY, measure_candidates=4
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LookupTable:
    path = tmp_path_factory.mktemp("tables") / "table.boardfit"
    quick = Schedule(runs=2, minimum_rounds=2, maximum_rounds=2)
    return build_table(
        "mobilenetv3-32", connect("fake"), path, options=OPTIONS, validation=10, schedule=quick
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return open_dataset("shapes:200", input_shape=SPACE.input_shape, classes=12, seed=0)


@pytest.fixture(scope="module")
def finished(
    table: LookupTable, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SearchResult, Path]:
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return search(SPACE, table, connect("fake"), dataset, SETTINGS, folder), folder


def test_the_found_network_keeps_the_target_and_is_proven(
    finished: tuple[SearchResult, Path], table: LookupTable
) -> None:
    result, folder = finished
    full = table.latency(SPACE.network(SPACE.full)).seconds
    assert result.target == pytest.approx(0.6 * full)
    for finalist in result.finalists.values():
        network = SPACE.network(finalist.architecture)
        assert finalist.predicted.seconds == pytest.approx(table.latency(network).seconds)
        assert finalist.seconds == pytest.approx(finalist.predicted.seconds, rel=0.05)
        assert finalist.difference < 1e-4
        assert finalist.exported_accuracy == pytest.approx(finalist.accuracy, abs=0.01)
        assert (finalist.macs, finalist.parameters) == (network.macs, network.parameters)
        model = inspect((folder / finalist.file).read_bytes())
        assert model.size == finalist.size
        assert model.parameters >= network.parameters  # the shapes of slices count, too
    assert result.found.predicted.seconds <= result.target
    assert result.found.architecture in {trial.architecture for trial in result.trials}
    assert result.meets_target


def test_the_verdict_says_what_the_accuracies_say(finished: tuple[SearchResult, Path]) -> None:
    result, _ = finished
    images = len(result.found.accuracies)
    better = replace(
        result.found, accuracy=0.9, accuracies=(1.0,) * (images * 9 // 10) + (0.0,) * 4
    )
    better = replace(better, accuracies=((1.0,) * 36 + (0.0,) * 4) * 5, accuracy=0.9)
    worse = replace(better, accuracies=((1.0,) * 20 + (0.0,) * 20) * 5, accuracy=0.5)

    def verdict(found: object, uniform: object) -> str:
        return replace(result, finalists={"found": found, "uniform": uniform}).verdict  # type: ignore[dict-item]

    assert "40.0 points better" in verdict(better, worse)
    assert "NOT better: 40.0 points below" in verdict(worse, better)
    assert "no difference shown" in verdict(better, better)


def test_one_descent_answers_several_latencies(
    table: LookupTable, dataset: Dataset, tmp_path: Path
) -> None:
    settings = replace(
        SETTINGS, target="50%", more_targets=("80%",), measure_candidates=0, race_images=20
    )
    found = search_targets(SPACE, table, connect("fake"), dataset, settings, tmp_path)
    full = latency(SPACE, table)([SPACE.full])[0]
    assert [r.target / full for r in found] == pytest.approx([0.5, 0.8])
    assert [r.settings["target"] for r in found] == ["50%", "80%"]
    assert all(r.found.predicted.seconds <= r.target for r in found)
    assert found[0].trials == found[1].trials
    assert len({t.architecture for t in found[0].trials}) <= settings.evaluations
    assert any(t.images == 20 for t in found[0].trials)
    for result, name in zip(found, ("50%", "80%"), strict=True):
        assert read_result(tmp_path / name) == result
        assert (tmp_path / name / "found.tflite").exists()
    assert not (tmp_path / "result.json").exists()
    # The first is lost: it alone is made again.
    (tmp_path / "50%" / "result.json").unlink()
    before = (tmp_path / "history.jsonl").read_bytes()
    again = search_targets(SPACE, table, connect("fake"), dataset, settings, tmp_path)
    assert again[0].trials == found[0].trials
    assert again[1] == found[1]
    assert (tmp_path / "history.jsonl").read_bytes() == before


def test_limits_and_the_margin_are_kept(
    table: LookupTable, dataset: Dataset, tmp_path: Path
) -> None:
    settings = replace(
        SETTINGS, target="70%", measure_candidates=0, limits=("macs=50%", "memory=90%"), margin=True
    )
    result = search(SPACE, table, connect("fake"), dataset, settings, tmp_path)
    network = SPACE.network(result.found.architecture)
    full = SPACE.network(SPACE.full)
    assert latency(SPACE, table, high=True)([result.found.architecture])[0] <= result.target
    assert network.macs <= 0.5 * full.macs
    assert network.peak_memory <= 0.9 * full.peak_memory
    assert result.full_seconds == pytest.approx(table.latency(full).seconds)
    by_network = {t.architecture: t.metric for t in result.trials}
    found = by_network[result.found.architecture]
    assert found == pytest.approx(table.latency(network).seconds)  # and no other limit's share


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"more_targets": ("fast",)}, "is not a latency"),
        ({"limits": ("power=3",)}, "is not a limit"),
        ({"limits": ("macs=3M",), "more_targets": ("30%",)}, "not both"),
        ({"more_targets": ("30%", "20%"), "evaluations": 5}, "too few"),
        ({"race_images": 40}, "is none"),
        ({"race_images": 1}, "is none"),
        ({"optimizer": "magic"}, "nsga"),
    ],
)
def test_other_settings_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(SETTINGS, **wrong)


def test_a_finished_run_is_read_back_without_work(
    finished: tuple[SearchResult, Path], table: LookupTable, dataset: Dataset
) -> None:
    result, folder = finished
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert search(SPACE, table, connect("fake"), dataset, SETTINGS, folder) == result
    assert read_result(folder) == result
    after = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {p: t for p, t in after.items() if p.name != ".lock"} == {
        p: t for p, t in before.items() if p.name != ".lock"
    }


@pytest.mark.parametrize("keep", [0, 10, 500])
def test_a_damaged_result_is_named(
    keep: int, finished: tuple[SearchResult, Path], tmp_path: Path
) -> None:
    data = (finished[1] / "result.json").read_bytes()
    (tmp_path / "result.json").write_bytes(data[:keep])
    with pytest.raises(RunFolderError, match=r"result\.json"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(RunFolderError, match="not a search result"):
        read_result(tmp_path)


def test_a_folder_belongs_to_one_run(
    finished: tuple[SearchResult, Path], table: LookupTable, dataset: Dataset
) -> None:
    with pytest.raises(RunFolderError, match="begun with another settings"):
        search(SPACE, table, connect("fake"), dataset, replace(SETTINGS, seed=9), finished[1])


def test_a_second_process_is_kept_out(table: LookupTable, dataset: Dataset, tmp_path: Path) -> None:
    with exclusive(tmp_path / ".lock"), pytest.raises(InUse, match="another boardfit"):
        search(SPACE, table, connect("fake"), dataset, SETTINGS, tmp_path)


def test_a_table_below_its_bar_is_refused_unless_allowed(
    table: LookupTable, dataset: Dataset, tmp_path: Path
) -> None:
    assert table.validation is not None
    wrong = replace(table.validation, predicted=table.validation.predicted * 1.2)
    bad = LookupTable(
        table.path, table.operators, table.networks, table.calibration, wrong,
        table.provenance, table.conditions, table.runs,
    )  # fmt: skip
    with pytest.raises(TableNotValid, match="--allow-invalid-table"):
        search(SPACE, bad, connect("fake"), dataset, SETTINGS, tmp_path)


def test_a_target_out_of_reach_says_the_smallest_latency(
    table: LookupTable, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ConstraintNotMet, match=r"the smallest value found is [0-9.]+ us"):
        search(SPACE, table, connect("fake"), dataset, replace(SETTINGS, target="1us"), tmp_path)


def test_measured_latency_is_a_metric_like_the_others(table: LookupTable) -> None:
    quick = Schedule(runs=1, minimum_rounds=2, maximum_rounds=2)
    metric = measured(SPACE, table, connect("fake"), quick)
    architectures = [SPACE.full, SPACE.narrowed(0.5), SPACE.smallest]
    np.testing.assert_allclose(
        metric(architectures), latency(SPACE, table)(architectures), rtol=0.05
    )
    assert metric([]).shape == (0,)


def test_the_high_end_of_a_compiled_latency_is_the_tables(table: LookupTable) -> None:
    rng = np.random.default_rng(0)
    some = [SPACE.random(rng) for _ in range(30)]
    highs = [table.latency(SPACE.network(a)).high for a in some]
    # Operators that occur in several stages count as independent, which is a little less.
    found = latency(SPACE, table, high=True)(some)
    np.testing.assert_allclose(found, highs, rtol=0.01)
    assert (found <= np.array(highs) * (1 + 1e-9)).all()
    assert (found > latency(SPACE, table)(some)).all()


def test_the_uniform_baseline_is_the_largest_within_the_target(table: LookupTable) -> None:
    metric = latency(SPACE, table)
    full = metric([SPACE.full])[0]
    for share in (0.5, 0.7, 0.9):
        chosen = uniform_baseline(SPACE, metric, share * full)
        others = [SPACE.narrowed(scale) for scale in np.linspace(0, 1, 500)]
        within = [s for s in metric(others) if s <= share * full]
        assert max(within) * (1 - 1e-9) <= metric([chosen])[0] <= share * full
        # Every width lies at or between two neighbouring steps of uniform narrowing.
        steps = list(itertools.pairwise(others))
        assert any(
            all(x <= value <= y for x, value, y in zip(low, chosen, high, strict=True))
            for low, high in steps
        )
    # Where narrowing alone does not suffice, it is the narrowest.
    assert uniform_baseline(SPACE, metric, 1e-9) == SPACE.narrowed(0.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3ms", (0.003, False)), ("450us", (450e-6, False)), ("0.5 s", (0.5, False)),
     ("50%", (0.5, True)), (" .5ms ", (0.0005, False))],
)  # fmt: skip
def test_targets_are_read(text: str, value: tuple[float, bool]) -> None:
    seconds, is_share = parse_target(text)
    assert seconds == pytest.approx(value[0])
    assert is_share == value[1]


@pytest.mark.parametrize("text", ["", "3", "ms", "-3ms", "0%", "3 minutes", "1e-3s", "nan%"])
def test_other_targets_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a latency"):
        parse_target(text)


@pytest.mark.parametrize("inherit", [False, True])
def test_a_final_training_begins_at_random_or_with_the_super_networks_weights(
    dataset: Dataset, inherit: bool
) -> None:
    supernet = SuperNetwork(SPACE, torch.Generator().manual_seed(7))
    architecture = SPACE.narrowed(0.5)
    standing = replace(TINY, steps=1, learning_rate=1e-12, inherit=inherit)
    module = train_finalist(
        "found", SPACE, architecture, dataset, replace(SETTINGS, final=standing), None, supernet,
        Compute(), silent,
    )  # fmt: skip
    trained, inherited = module.state_dict(), supernet.slice(architecture).state_dict()
    same = [torch.allclose(trained[n], inherited[n], atol=1e-6) for n in trained if "weight" in n]
    assert all(same) is inherit


def test_candidates_are_measured_before_one_is_chosen(
    finished: tuple[SearchResult, Path], table: LookupTable
) -> None:
    result, folder = finished
    assert 1 <= len(result.candidates) <= SETTINGS.measure_candidates
    assert (folder / "candidates-1.boardfit").exists()
    for candidate in result.candidates:
        reading = candidate.reading
        network = SPACE.network(candidate.architecture)
        assert reading.predicted.seconds == pytest.approx(table.latency(network).seconds)
        assert reading.seconds == pytest.approx(reading.predicted.seconds, rel=0.05)
        assert candidate.expected == pytest.approx(reading.seconds, rel=0.05)
    (chosen,) = [c for c in result.candidates if c.architecture == result.found.architecture]
    assert chosen.reading.seconds <= result.target
    assert "candidates were measured on the board" in " ".join(search_words(result))
    frame = candidates_frame(result)
    assert len(frame) == len(result.candidates)
    assert sum("(found)" in name for name in frame[""]) == 1


def test_int8_files_are_judged_and_measured_beside_the_float_ones(
    table: LookupTable, dataset: Dataset, tmp_path: Path
) -> None:
    architectures = {"found": SPACE.narrowed(0.6), "uniform": SPACE.narrowed(0.5)}
    generator = torch.Generator().manual_seed(0)
    modules = {
        name: NetworkModule(SPACE.network(architecture), generator)
        for name, architecture in architectures.items()
    }
    proven = prove_finalists(
        SPACE, architectures, modules, table, connect("fake"), dataset, tmp_path, silent, int8=True
    )
    for name, finalist in proven.items():
        int8 = finalist.int8
        assert int8 is not None
        assert (finalist.file, int8.file) == (f"{name}.tflite", f"{name}.int8.tflite")
        data = (tmp_path / int8.file).read_bytes()
        assert int8.size == len(data) < finalist.size
        assert int8.seconds == pytest.approx(simulated_seconds(data), rel=0.05)
        assert finalist.seconds == pytest.approx(finalist.predicted.seconds, rel=0.05)
        for seconds, limits in ((finalist.seconds, finalist.limits), (int8.seconds, int8.limits)):
            assert limits is not None
            assert limits[0] < seconds * 1.01 < limits[1] * 1.02
        assert abs(int8.accuracy - finalist.exported_accuracy) < 0.1
    result = make_search(finalists=proven)
    write_result(result, tmp_path)
    assert read_result(tmp_path) == result
    rows = {row["network"]: row for row in search_rows(result)}
    assert list(rows) == ["found", "found int8", "uniform", "uniform int8"]
    assert rows["found int8"]["file"] == "found.int8.tflite"
    assert "In int8 its file is right on" in " ".join(search_words(result))
    assert "int8: the file's test accuracy" in set(finalists_frame(result)[""])


def test_an_int8_search_needs_a_runtime_of_tflite(
    table: LookupTable, dataset: Dataset, tmp_path: Path
) -> None:
    other = LookupTable(
        table.path, table.operators, table.networks, table.calibration, table.validation,
        table.provenance, {**table.conditions, "runtime": "onnxruntime"}, table.runs,
    )  # fmt: skip
    with pytest.raises(InputError, match="not for onnxruntime"):
        search(SPACE, other, connect("fake"), dataset, replace(SETTINGS, int8=True), tmp_path)


KILLED = """
import sys
from pathlib import Path
from boardfit.profiler.connect import connect
from boardfit.profiler.table import LookupTable
from boardfit.search.compute import Compute
from boardfit.search.data import open_dataset
from boardfit.search.spaces import open_space
from boardfit.search.pipeline import search
from boardfit.search.settings import SearchSettings
from boardfit.search.recipe import Recipe
space = open_space("mobilenetv3-32", width_factor=0.25)
data = open_dataset("shapes:200", input_shape=space.input_shape, classes=12, seed=0)
tiny = Recipe(steps=8, batch_size=16)
settings = SearchSettings(
    target="60%", evaluations=12, holdout_images=40, supernet=tiny, final=tiny, measure_candidates=4
)
print("ready", flush=True)
search(
    space, LookupTable.open(sys.argv[1]), connect("fake"), data, settings, Path(sys.argv[2]),
    compute=Compute(checkpoint_seconds=0.05),
)
"""


def test_five_kills_change_neither_trajectory_nor_weights(
    finished: tuple[SearchResult, Path], table: LookupTable, tmp_path: Path
) -> None:
    expected, undisturbed = finished
    folder = tmp_path / "killed"
    rng = np.random.default_rng(0)
    kills = 0
    while True:
        argv = [sys.executable, "-c", KILLED, str(table.path), str(folder)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        if kills < 5:
            time.sleep(rng.uniform(0.05, 1.0))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
        process.stdout.close()
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert kills == 5
    found = read_result(folder)
    assert found is not None
    assert found.trials == expected.trials
    assert found.candidates == expected.candidates
    assert found.found.architecture == expected.found.architecture
    assert (folder / "history.jsonl").read_text() == (undisturbed / "history.jsonl").read_text()
    for name in ("supernet.pt", "found.pt", "uniform.pt"):
        ours = read_checkpoint(folder / name)["module"]
        theirs = read_checkpoint(undisturbed / name)["module"]
        assert all(torch.equal(ours[field], value) for field, value in theirs.items())
    for name in ("found.tflite", "uniform.tflite"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()
