"""Which kinds of a table's operators run outside of the delegate: found once, kept, and said."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from boardfit.devices.errors import DeviceLost, TableFileError, WorkerLost
from boardfit.devices.fake import Faults
from boardfit.profiler.build import build_table, extend_table, sources
from boardfit.profiler.connect import connect
from boardfit.profiler.export_table import export_table
from boardfit.profiler.import_table import import_table
from boardfit.profiler.layers import Dtype, Layer
from boardfit.profiler.merge_tables import merge_tables
from boardfit.profiler.plan import TablePlan, operator_entry
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.profiler.table_placement import outside_kinds, outside_words, united
from boardfit.profiler.table_result import Outside
from boardfit.reports.about_table import table_section
from boardfit.reports.sources import TableSource, open_source
from boardfit.summary import table_rows, table_words

from .small_board import QUICK, board, samples, small_plan

SWISH = Layer("hard_swish", ((16, 16, 64),), (16, 16, 64))
SMALL_SWISH = Layer("hard_swish", ((8, 8, 8),), (8, 8, 8))
RESIZE = Layer("resize_bilinear", ((4, 4, 8),), (8, 8, 8))
SENTENCE = "hard_swish in int8 runs outside of the delegate."


def plan(dtype: Dtype, *layers: Layer) -> TablePlan:
    found = small_plan()
    return replace(
        found,
        layers=tuple(layer.as_dtype(dtype) for layer in (*found.layers, *layers)),
        calibration=tuple(network.as_dtype(dtype) for network in found.calibration),
        validation=tuple(network.as_dtype(dtype) for network in found.validation),
        provenance={**found.provenance, "dtype": dtype},
    )


@pytest.fixture(scope="module")
def swishing(tmp_path_factory: pytest.TempPathFactory) -> LookupTable:
    path = tmp_path_factory.mktemp("tables") / "int8"
    return build_table(path, board(), plan("int8", SWISH, SMALL_SWISH), QUICK)


def test_a_table_names_the_kinds_outside_of_the_delegate(swishing: LookupTable) -> None:
    assert swishing.outside == {"hard_swish": ("hard_swish",)}
    assert SENTENCE in table_words(swishing)
    assert table_rows(swishing)[0]["outside"] == "hard_swish"
    source = open_source(swishing.path)
    assert isinstance(source, TableSource)
    assert SENTENCE in [finding.text for finding in table_section(source).findings]


def test_a_table_of_the_delegate_alone_says_nothing(tmp_path: Path) -> None:
    table = build_table(tmp_path / "t", board(), plan("float32", SWISH), QUICK)
    assert table.outside == {}
    assert outside_words(table) == ""
    assert "outside" not in table_rows(table)[0]
    assert not any("outside of the delegate" in words for words in table_words(table))
    source = open_source(table.path)
    assert isinstance(source, TableSource)
    assert not any("delegate" in finding.text for finding in table_section(source).findings)
    extended = extend_table(table.path, board(), [RESIZE])
    assert extended.outside == {"resize_bilinear": ("resize_bilinear",)}
    assert outside_words(extended) == "resize_bilinear in float runs outside of the delegate."


def test_it_is_merged_exported_and_imported_with_the_table(
    swishing: LookupTable, tmp_path: Path
) -> None:
    other = build_table(tmp_path / "other", board(), plan("int8"), QUICK)
    assert merge_tables(tmp_path / "both", [other.path, swishing.path]).outside == swishing.outside
    renamed: Outside = {kind: ("logistic",) for kind in swishing.outside or {}}
    other.outside, before = renamed, other.outside
    found = united([other, swishing])
    assert found is not None
    assert all({"logistic"} < set(names) for names in found.values())
    other.outside = before
    forget(other.path)
    merged = merge_tables(tmp_path / "unknown", [other.path, swishing.path])
    assert merged.outside is None
    export_table(swishing, tmp_path / "t.json")
    imported = import_table(tmp_path / "t.json", tmp_path / "imported").table
    assert imported.outside == swishing.outside


def forget(path: Path) -> None:
    """Make the result of a table as older ones have it."""
    change_result(path, {})


def change_result(path: Path, said: dict[str, Any]) -> None:
    with Store.open(path, write=True) as store:
        result = dict(store.document("result") or {})
        result.pop("outside", None)
        store.write_document("result", {**result, **said})


def test_what_a_table_does_not_say_is_not_known(tmp_path: Path) -> None:
    path = build_table(tmp_path / "t", board(), plan("int8"), QUICK).path
    forget(path)
    table = LookupTable.open(path)
    assert table.outside is None
    assert outside_words(table) == ""


@pytest.mark.parametrize(
    "damaged", [["hard_swish"], {"hard_swish": "hard_swish"}, {"hard_swish": []}, 7]
)
def test_a_damaged_list_is_refused(swishing: LookupTable, tmp_path: Path, damaged: Any) -> None:
    path = tmp_path / "t"
    path.write_bytes(swishing.path.read_bytes())
    change_result(path, {"outside": damaged})
    with pytest.raises(TableFileError, match="damaged"):
        LookupTable.open(path)


def test_a_build_that_loses_the_board_at_its_end_goes_on(
    swishing: LookupTable, tmp_path: Path
) -> None:
    path = tmp_path / "t"
    path.write_bytes(swishing.path.read_bytes())
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM documents WHERE name = 'result'")
    before, asked = samples(path), plan("int8", SWISH, SMALL_SWISH)
    with pytest.raises((DeviceLost, WorkerLost)):
        build_table(path, board(faults=Faults(lose=frozenset(range(4, 40)))), asked, QUICK)
    with pytest.raises(TableFileError, match="not finished"):
        LookupTable.open(path)
    assert build_table(path, board(), asked, QUICK).outside == swishing.outside
    assert samples(path) == before


def test_litert_is_asked_about_one_operator_of_each_kind() -> None:
    """The second pooling would be found outside as well, and is not loaded."""
    entries = [
        operator_entry(layer)
        for layer in (
            Layer("conv_2d", ((4, 4, 8),), (4, 4, 8)),
            SMALL_SWISH,
            Layer("average_pool_2d", ((8, 8, 8),), (4, 4, 8), kernel=1, stride=2),
            Layer("average_pool_2d", ((4, 4, 8),), (2, 2, 8), kernel=1, stride=2),
        )
    ]
    asked = sources(entries[:3])  # without the last
    machine = connect("local")
    try:
        found = outside_kinds(machine, entries, asked)
        in_int8 = [operator_entry(SMALL_SWISH.as_dtype("int8"))]
        swish = outside_kinds(machine, in_int8, sources(in_int8))
    finally:
        machine.transport.close()
    assert found == {"average_pool_2d": ("average_pool_2d",)}
    assert swish == {"hard_swish": ("hard_swish",)}
