"""A whole search for a network that estimates depths, on the simulated board."""

from __future__ import annotations

from pathlib import Path

import pytest

from boardfit.api import build_table
from boardfit.profiler.connect import connect
from boardfit.profiler.schedule import Schedule
from boardfit.search.data import open_dataset
from boardfit.search.pipeline import search
from boardfit.search.recipe import Recipe
from boardfit.search.result import read_result
from boardfit.search.settings import SearchSettings
from boardfit.search.spaces import open_space
from boardfit.summary import search_rows, search_words

OPTIONS = {"width_factor": 0.25, "input_size": 32}
TINY = Recipe(steps=8, batch_size=16)


def test_a_depth_network_is_found_trained_exported_and_measured(tmp_path: Path) -> None:
    space = open_space("fastdepth-64", **OPTIONS)
    quick = Schedule(runs=2, minimum_rounds=2, maximum_rounds=2)
    device = connect("fake")
    table = build_table(
        "fastdepth-64",
        device,
        tmp_path / "table.boardfit",
        options=OPTIONS,
        validation=10,
        schedule=quick,
    )
    dataset = open_dataset("scenes:100", input_shape=space.input_shape, classes=1, seed=0)
    settings = SearchSettings(
        target="60%", evaluations=10, holdout_images=40, supernet=TINY, final=TINY
    )
    folder = tmp_path / "run"
    result = search(space, table, device, dataset, settings, folder, allow_invalid_table=True)
    assert read_result(folder) == result
    for finalist in result.finalists.values():
        assert finalist.difference < 1e-4  # the file computes the map that PyTorch does
        assert finalist.exported_accuracy == pytest.approx(finalist.accuracy, abs=0.001)
        assert len(finalist.accuracies) == len(dataset.test)
        assert 0 < finalist.figures["rmse"] < 20
    row = search_rows(result)[0]
    assert row["rmse"] == result.found.figures["rmse"]
    assert any("on 100 test images" in words for words in search_words(result))
