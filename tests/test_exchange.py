"""Tables that go to other programs and come from them: nothing in a file is believed."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boardfit.devices.errors import (
    BoardfitError,
    ConditionsChanged,
    InputError,
    StorageError,
    TableFileError,
    TableNotValid,
)
from boardfit.profiler.build import build_table, extend_table
from boardfit.profiler.export_table import METADATA_KEY, export_frame, export_table
from boardfit.profiler.fragments import Fragment
from boardfit.profiler.import_table import import_table
from boardfit.profiler.layers import Layer, Network
from boardfit.profiler.merge_tables import merge_tables
from boardfit.profiler.network_builder import NetworkBuilder
from boardfit.profiler.plan import plan_transfer
from boardfit.profiler.public_tables import Unit, read_block, read_entries
from boardfit.profiler.store import Store
from boardfit.profiler.table import LookupTable
from boardfit.search import metrics
from boardfit.search.space import Choice, Coordinate, SearchSpace

from .small_board import QUICK, board, samples, small_network, small_plan

PIXEL = {"board": "Pixel 1", "runtime": "TensorFlow Lite", "threads": 1}
KEYS = {
    "Conv-input:32x32x3-output:16x16x32": 0.9,
    "expanded_conv-input:16x16x32-output:16x16x16-expand:1-kernel:3-stride:1-idskip:0": 0.4,
    "expanded_conv-input:16x16x16-output:8x8x24-expand:3-kernel:5-stride:2-idskip:0": 0.8,
    "expanded_conv-input:8x8x24-output:8x8x24-expand:6-kernel:7-stride:1-idskip:1": 0.7,
    "Conv_1-input:8x8x24-output:8x8x96": 0.35,
    "Logits-input:8x8x96-output:10": 0.2,
}
YAML = "".join(
    f"{key}:\n  count: 100.0\n  mean: {mean}\n  var: 0.0004\n" for key, mean in KEYS.items()
)
OFA_BLOCK = "expanded_conv-input:40x40x32-output:40x40x32-expand:96-kernel:5-stride:1-idskip:1"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> LookupTable:
    return build_table(tmp_path_factory.mktemp("t") / "t.boardfit", board(), small_plan(), QUICK)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> LookupTable:
    folder = tmp_path_factory.mktemp("b")
    (folder / "b.yaml").write_text(YAML)
    found = import_table(folder / "b.yaml", folder / "b.boardfit", unit="ms", conditions=PIXEL)
    return found.table


def proxyless() -> Network:
    """The network that is made of the sample's blocks."""
    builder = NetworkBuilder((32, 32, 3))
    x = builder.conv_2d(0, 32, kernel=3, stride=2, activation="relu6")
    x = builder.depthwise_conv_2d(x, kernel=3, activation="relu6")
    x = builder.conv_2d(x, 16)
    x = builder.conv_2d(x, 48, activation="relu6")
    x = builder.depthwise_conv_2d(x, kernel=5, stride=2, activation="relu6")
    x = begin = builder.conv_2d(x, 24)
    x = builder.conv_2d(x, 144, activation="relu6")
    x = builder.depthwise_conv_2d(x, kernel=7, activation="relu6")
    x = builder.add(builder.conv_2d(x, 24), begin)
    x = builder.conv_2d(x, 96, activation="relu6")
    builder.fully_connected(builder.mean(x, keep_dimensions=False), 10)
    return builder.build()


# Export


def read_back(path: Path, like: pandas.DataFrame) -> pandas.DataFrame:
    if path.suffix == ".csv":
        with path.open(newline="") as file:  # pandas' own reader rounds, as fast parsers do
            rows = list(csv.DictReader(file))
        kinds = {name: type(value) for name, value in like.iloc[0].to_dict().items()}
        return pandas.DataFrame([{n: kinds[n](v) for n, v in row.items()} for row in rows])
    if path.suffix == ".json":
        return pandas.DataFrame(json.loads(path.read_text())["operators"])
    return pandas.read_parquet(path)


@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet"])
def test_an_export_is_read_back_exactly(built: LookupTable, tmp_path: Path, ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / "new" / f"table{ending}"
    assert export_table(built, out) == len(built.operators)
    expected = built.frame()
    found = read_back(out, expected)
    pandas.testing.assert_frame_equal(found, expected, check_exact=True, check_dtype=False)


def test_units_and_conditions_travel_with_an_export(built: LookupTable, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export_table(built, tmp_path / "t.json")
    export_table(built, tmp_path / "t.parquet")
    metadata = parquet.read_schema(tmp_path / "t.parquet").metadata[METADATA_KEY]
    for about in (json.loads((tmp_path / "t.json").read_text()), json.loads(metadata)):
        assert (about["format"], about["version"]) == ("boardfit lookup table", 1)
        assert about["conditions"] == built.conditions
        assert about["provenance"] == built.provenance
        assert about["units"]["seconds"].startswith("s,")


def test_an_export_that_cannot_be_made_says_why(built: LookupTable, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"use \.csv, \.json or \.parquet"):
        export_table(built, tmp_path / "table.xlsx")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        export_table(built, tmp_path / "folder.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.csv"]


# There and back


def there_and_back(table: LookupTable, folder: Path) -> LookupTable:
    export_table(table, folder / "t.json")
    return import_table(folder / "t.json", folder / "back.boardfit").table


def test_what_was_exported_as_json_is_imported_as_it_was(
    built: LookupTable, tmp_path: Path
) -> None:
    back = there_and_back(built, tmp_path)
    assert back.conditions == built.conditions
    assert back.calibration == built.calibration
    assert back.provenance == {**built.provenance, "imported": "t.json"}
    assert list(back.operators) == list(built.operators)
    for key, operator in built.operators.items():
        assert back.operators[key].runs.tolist() == operator.runs.tolist()
    for key, (role, network, runs) in built.networks.items():
        assert back.networks[key][:2] == (role, network)
        assert back.networks[key][2].tolist() == runs.tolist()
        assert back.latency(network) == built.latency(network)
    assert back.validation is not None
    assert built.validation is not None
    assert back.validation.mape == built.validation.mape
    export_table(back, tmp_path / "again.json")
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("t.json", "again.json"))
    assert second["entries"] == first["entries"]
    # An export has one value of each run, without the visits that confirm it.
    assert second["operators"] == [{**row, "verdict": "unknown"} for row in first["operators"]]


def test_a_table_and_its_own_export_are_one_when_merged(built: LookupTable, tmp_path: Path) -> None:
    back = there_and_back(built, tmp_path)
    merged = merge_tables(tmp_path / "m", [back.path, built.path])
    assert merged.runs == built.runs
    assert len(samples(merged.path)) == len(samples(built.path))
    assert merged.latency(small_network(8)).seconds == built.latency(small_network(8)).seconds


def test_fragments_go_there_and_back(blocks: LookupTable, tmp_path: Path) -> None:
    back = there_and_back(blocks, tmp_path)
    assert back.latency(proxyless()) == blocks.latency(proxyless())
    assert export_table(back, tmp_path / "t.csv") == len(KEYS)
    assert len(export_frame(back)) == len(KEYS)
    pytest.importorskip("pyarrow")
    assert export_table(back, tmp_path / "t.parquet") == len(KEYS)


def document(table: LookupTable, folder: Path) -> dict[str, Any]:
    export_table(table, folder / "d.json")
    content: dict[str, Any] = json.loads((folder / "d.json").read_text())
    return content


DAMAGE: list[tuple[list[str | int], Any]] = [
    (["version"], 2),
    (["plan"], None),
    (["plan", "provenance"], 5),
    (["plan", "kind"], "profile"),
    (["result", "calibration"], {}),
    (["result", "runs"], "all"),
    (["conditions"], [1]),
    (["sessions"], []),
    (["sessions", 0, "run"], -1),
    (["sessions", 0, "at"], "soon"),
    (["entries"], {}),
    (["entries", 0, "role"], "reference"),
    (["entries", 0, "key"], "conv_2d 1x1x1>1x1x1 k1 s1 none float32"),
    (["entries", 0, "content", "inputs"], [[10**400, 1, 1]]),
    (["entries", 0, "content", "kernel"], "\x1b[2J"),
    (["entries", 0, "seconds_of_runs"], {"0": 0}),
    (["entries", 0, "seconds_of_runs"], {"0": 1e999}),
    (["entries", 0, "seconds_of_runs"], {"99999": 1e-6}),
    (["entries", 0, "seconds_of_runs"], {}),
    (["entries", 1], "same as 0"),
    (["plan", "provenance", "space"], "small\x1b]0;pwned\x07"),
]


@pytest.mark.parametrize(("place", "value"), DAMAGE, ids=lambda item: str(item)[:40])
def test_an_export_that_was_tampered_with_is_refused(
    built: LookupTable, tmp_path: Path, place: list[str | int], value: Any
) -> None:
    content = document(built, tmp_path)
    target: Any = content
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = target[0] if value == "same as 0" else value
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises((InputError, TableFileError)) as caught:
        import_table(tmp_path / "t.json", tmp_path / "out")
    assert str(caught.value).isprintable()
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".boardfit-*"))


def test_an_export_says_its_unit_and_conditions_itself(built: LookupTable, tmp_path: Path) -> None:
    document(built, tmp_path)
    with pytest.raises(InputError, match="says its unit and conditions itself"):
        import_table(tmp_path / "d.json", tmp_path / "out", conditions={"board": "mine"})


# Public tables


def test_blocks_price_the_network_that_is_made_of_them(blocks: LookupTable) -> None:
    assert blocks.latency(proxyless()).seconds == pytest.approx(sum(KEYS.values()) * 1e-3)
    assert (len(blocks.fragments), len(blocks.operators)) == (4, 2)
    assert {name: blocks.conditions[name] for name in PIXEL} == PIXEL
    assert blocks.conditions["governor"] is None  # what is not known stays unknown
    assert blocks.provenance["imported"] == "b.yaml"
    with pytest.raises(BoardfitError, match="has no price for"):
        blocks.latency(small_network(8))
    with pytest.raises(TableNotValid):
        blocks.check()


def test_what_the_file_says_of_an_entry_is_kept(blocks: LookupTable) -> None:
    with Store.open(blocks.path) as store:
        entries = list(store.entries().values())
        rows = store.samples()
    assert [entry.content["imported_key"] for entry in entries] == list(KEYS)
    assert entries[0].content["standard_deviation"] == pytest.approx(0.02e-3)
    assert {row[8] for row in rows} == {100}  # a mean of 100 inferences


@dataclass(frozen=True)
class Blocks:
    """A stage of a few inverted residuals, as the sample has them."""

    name: str

    @property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return (Coordinate(f"{self.name}.filters", "filters", (0, 1, 2)),)

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        for _ in range(choice[0]):
            y = builder.conv_2d(x, 144, activation="relu6")
            y = builder.depthwise_conv_2d(y, kernel=7, activation="relu6")
            x = builder.add(builder.conv_2d(y, 24), x)
        return x

    def canonical(self, choice: Choice) -> Choice:
        return choice


@dataclass(frozen=True)
class Ending:
    """The two last blocks of the sample."""

    name: str = "ending"
    coordinates: tuple[Coordinate, ...] = ()

    def append(self, builder: NetworkBuilder, x: int, choice: Choice) -> int:
        x = builder.conv_2d(x, 96, activation="relu6")
        return builder.fully_connected(builder.mean(x, keep_dimensions=False), 10)

    def canonical(self, choice: Choice) -> Choice:
        return choice


def test_a_space_is_priced_by_fragments_as_its_networks_are(blocks: LookupTable) -> None:
    space = SearchSpace("blocks", (8, 8, 24), 10, (Blocks("a"), Blocks("b"), Ending()))
    metric = metrics.latency(space, blocks)
    everything = [(a, b) for a in range(3) for b in range(3)]
    expected = [blocks.latency(space.network(a)).seconds for a in everything]
    np.testing.assert_allclose(metric(everything), expected, rtol=1e-9)
    assert expected[-1] == pytest.approx((4 * 0.7 + 0.35 + 0.2) * 1e-3)


ENDINGS = {
    "block.yaml": YAML,
    "flow.yml": "---\n# a comment\n"
    + "".join(
        f"'{key}': {{count: 100.0, mean: {mean},\n  var: 0.0004}}\n" for key, mean in KEYS.items()
    ),
    "bare.yaml": "".join(f"{key}: {mean}\n" for key, mean in KEYS.items()),
    "object.json": json.dumps({key: {"mean": mean, "count": 100} for key, mean in KEYS.items()}),
    "bare.json": json.dumps(KEYS),
    "columns.csv": "key,mean,count\n" + "".join(f"{k},{m},100\n" for k, m in KEYS.items()),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ENDINGS)
def test_all_forms_of_such_a_table_give_the_same(
    blocks: LookupTable, tmp_path: Path, name: str, packed: bool
) -> None:
    source = tmp_path / (name + ".gz" * packed)
    source.write_bytes(gzip.compress(ENDINGS[name].encode()) if packed else ENDINGS[name].encode())
    table = import_table(source, tmp_path / "t", unit="ms", conditions=PIXEL).table
    assert table.latency(proxyless()) == blocks.latency(proxyless())
    assert list(table.fragments) == list(blocks.fragments)


def test_the_unit_comes_from_the_file_or_from_the_caller(tmp_path: Path) -> None:
    text = "key,mean_us\n" + "".join(f"{key},{mean * 1e3}\n" for key, mean in KEYS.items())
    (tmp_path / "t.csv").write_text(text)
    table = import_table(tmp_path / "t.csv", tmp_path / "us").table
    assert table.latency(proxyless()).seconds == pytest.approx(sum(KEYS.values()) * 1e-3)
    with pytest.raises(InputError, match=r"says that its times are in us"):
        import_table(tmp_path / "t.csv", tmp_path / "x", unit="ms")
    (tmp_path / "t.yaml").write_text(YAML)
    with pytest.raises(InputError, match=r"does not say the unit .* --unit ms"):
        import_table(tmp_path / "t.yaml", tmp_path / "x")


@pytest.mark.parametrize(
    ("scale", "unit", "words"),
    [
        (1.0, "s", r"in s its blocks run at .* which no board does .* in ms or us it would"),
        (1e-6, "ms", r"in ms its blocks run at .* in s it would"),
        (1e12, "us", r"no board does \(1e\+07 to 2e\+13\): check --unit"),
    ],
)
def test_implausible_units_are_refused(tmp_path: Path, scale: float, unit: Any, words: str) -> None:
    (tmp_path / "t.json").write_text(json.dumps({k: m * scale for k, m in KEYS.items()}))
    with pytest.raises(InputError, match=words):
        import_table(tmp_path / "t.json", tmp_path / "x", unit=unit)


def test_a_single_impossible_entry_is_named(tmp_path: Path) -> None:
    content = {**KEYS, "Conv_1-input:8x8x24-output:8x8x96": 1e-11}
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"'Conv_1-input.* would run at"):
        import_table(tmp_path / "t.json", tmp_path / "x", unit="ms")


def test_the_blocks_of_once_for_all_have_gates_and_swishes() -> None:
    plain = read_block(OFA_BLOCK + "-se:0-hs:0", once_for_all=True)
    assert [layer.op for layer in plain.layers] == [
        "conv_2d", "depthwise_conv_2d", "conv_2d", "add",
    ]  # fmt: skip
    assert plain.layers[0].output == (40, 40, 96)  # a width, not a factor
    assert plain.layers[0].activation == "relu"
    full = read_block(OFA_BLOCK + "-se:1-hs:1", once_for_all=True)
    assert [layer.op for layer in full.layers] == [
        "conv_2d", "hard_swish", "depthwise_conv_2d", "hard_swish",
        "mean", "conv_2d", "conv_2d", "logistic", "mul", "conv_2d", "add",
    ]  # fmt: skip
    assert full.layers[5].output == (1, 1, 24)
    unexpanded = "expanded_conv-input:80x80x24-output:80x80x24-expand:24-kernel:3-stride:1-idskip:1"
    assert len(read_block(unexpanded + "-se:0-hs:0", once_for_all=True).layers) == 3
    logits = read_block("Logits-input:1x1x1536-output:1000", once_for_all=True)
    assert [layer.op for layer in logits.layers] == ["reshape", "fully_connected"]
    pool = read_block("AvgPool2D-input:7x7x1152-output:1x1x1152", once_for_all=True)
    assert pool == Fragment((Layer("mean", ((7, 7, 1152),), (1, 1, 1152)),))


HOSTILE = [
    "",
    "Conv",
    "expanded_conv",
    "Softmax-input:1x1x10-output:10",
    "Conv-input:0x0x0-output:0x0x0",
    "Conv-input:32x32x3-output:32x32x32",  # stride 2 gives 16x16
    "Conv-input:99999x99999x99999-output:49999x49999x32",
    "Conv-input:32x32x3-output:16x16x32-expand:3",
    "Conv-input:32x32-output:16x16",
    "Conv-input:\uff13\uff12x32x3-output:16x16x32",
    "Conv-input:32x32x3-output:16x16x32\n",
    "\x1b[2JConv-input:32x32x3-output:16x16x32",
    "expanded_conv-input:8x8x24-output:8x8x24-expand:6-kernel:4-stride:1-idskip:1",
    "expanded_conv-input:8x8x24-output:8x8x24-expand:6-kernel:7-stride:3-idskip:1",
    "expanded_conv-input:8x8x24-output:8x8x24-expand:0-kernel:7-stride:1-idskip:1",
    "expanded_conv-input:8x8x24-output:8x8x24-expand:99999999999-kernel:7-stride:1-idskip:1",
    "expanded_conv-input:8x8x24-output:8x8x32-expand:6-kernel:7-stride:1-idskip:1",
    "expanded_conv-input:8x8x24-output:8x8x24-expand:6-expand:6-kernel:7-stride:1-idskip:1",
    "expanded_conv-input:8x8x24-output:8x8x24-expand:6-kernel:7-stride:1-idskip:7",
    "expanded_conv-input:8x8x24-output:8x8x24-expand:6-kernel:7-stride:1-idskip:1-se:1",
    "x" * 100_000,
]


@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: ascii(key)[:50])
def test_a_key_that_names_no_block_is_refused_or_left_out(key: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({**KEYS, key: 1.0}))
    with pytest.raises(InputError, match=r"--skip-unknown|se") as caught:
        import_table(tmp_path / "t.json", tmp_path / "x", unit="ms")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
    if "-se:" not in key:  # which makes all others blocks of another family
        found = import_table(tmp_path / "t.json", tmp_path / "x", unit="ms", skip_unknown=True)
        assert found.skipped == (key,)
        assert len(found.table.fragments) == 4


FILES: list[tuple[str, str | bytes, str]] = [
    ("t.yaml", "", "holds no entries"),
    ("t.yaml", "a: &a 5\nb: *a\n", "is not a name with a number"),
    ("t.yaml", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "is not a name with a number"),
    ("t.yaml", "a: !!python/object/apply:os.system [ls]\n", "is not a name with a number"),
    ("t.yaml", "  a: 5\n", "belongs to no key"),
    ("t.yaml", "a: {mean: 5\nb: 3\n", "do not close"),
    ("t.yaml", "just words\n", "is not a name with a number"),
    ("t.yaml", "a: words\n", "has no mean"),
    ("t.yaml", "a: .nan\n", "has no mean"),
    ("t.yaml", "a: -1\n", "is no time"),
    ("t.yaml", "a: 1e999\n", "is no time"),
    ("t.yaml", "a: 1\na: 2\n", "a key twice"),
    ("t.yaml", b"\xff\xfe", "is not UTF-8"),
    ("t.json", "[" * 100_000, "cannot be read"),
    ("t.json", '{"a": ' * 50_000, "cannot be read"),
    ("t.json", "[1, 2]", "a key for each block"),
    ("t.json", '{"a": 1, "a": 2}', "a key twice"),
    ("t.json", '{"a": ' + "9" * 5000 + "}", "cannot be read"),
    ("t.json", '{"a": {"mean": true}}', "has no mean"),
    ("t.json", '{"a": {"mean": "5.0.0"}}', "has no mean"),
    ("t.json", '{"format": "boardfit lookup table"}', "cannot be read as an exported table"),
    ("t.csv", "a,b\n1,2\n", "columns called key and mean_ms"),
    ("t.csv", "key,mean_ms,mean_us\na,1,2\n", "columns called key"),
    ("t.csv", 'key,mean_ms\n"a,1\n', "cannot be read"),
    ("t.csv", "key,mean_ms\na," + "1" * 200_000 + "\n", "cannot be read"),
    ("t.csv.gz", b"not packed", "cannot read"),
    ("t.csv.gz", gzip.compress(b"key,mean_ms\n", mtime=0)[:-9], "cannot read"),
    ("t.pickle", b"", "the ending says the format"),
]


@pytest.mark.parametrize(("name", "content", "words"), FILES)
def test_files_that_are_no_tables_are_refused_by_name(
    name: str, content: str | bytes, words: str, tmp_path: Path
) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    unit: Unit | None = None if "boardfit" in str(content) else "ms"
    with pytest.raises(InputError, match=words) as caught:
        import_table(tmp_path / name, tmp_path / "x", unit=unit)
    assert name in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_what_is_no_file_and_what_unpacks_for_ever_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from boardfit.profiler import import_table as module

    for name in ("none.csv", "folder.csv"):
        (tmp_path / "folder.csv").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=r"does not exist|is not an ordinary file"):
            import_table(tmp_path / name, tmp_path / "x")
    monkeypatch.setattr(module, "SIZE_LIMIT", 1 << 20)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(bytes(8 << 20)))
    with pytest.raises(InputError, match="is larger than 1 MB"):
        import_table(tmp_path / "bomb.csv.gz", tmp_path / "x")


def test_a_table_is_never_written_over(built: LookupTable, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(YAML)
    before = built.path.read_bytes()
    with pytest.raises(TableFileError, match="exists; give another path"):
        import_table(tmp_path / "t.yaml", built.path, unit="ms")
    assert built.path.read_bytes() == before


def test_blocks_are_neither_extended_nor_lent(blocks: LookupTable) -> None:
    before = blocks.path.read_bytes()
    with pytest.raises(InputError, match=r"holds blocks of layers .* --space NAME"):
        extend_table(blocks.path, board(), small_plan().layers)
    with pytest.raises(InputError, match="block by block"):
        plan_transfer(blocks)
    assert blocks.path.read_bytes() == before


def test_tables_of_unknown_boards_are_not_merged(blocks: LookupTable, tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(YAML)
    unknown = import_table(tmp_path / "t.yaml", tmp_path / "u", unit="ms").table
    with pytest.raises(ConditionsChanged, match="without its board and runtime"):
        merge_tables(tmp_path / "m", [unknown.path, unknown.path])
    # The same file of the same board is the same measurement.
    again = import_table(tmp_path / "t.yaml", tmp_path / "a", unit="ms", conditions=PIXEL).table
    merged = merge_tables(tmp_path / "m", [again.path, blocks.path])
    assert merged.runs == 1
    assert merged.latency(proxyless()) == blocks.latency(proxyless())


@given(st.text(max_size=300))
@settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_is_a_table_or_a_named_error(text: str) -> None:
    for ending in (".yaml", ".json", ".csv"):
        for content in (text, YAML[:100] + text, "key,mean\n" + text):
            with contextlib.suppress(InputError):
                assert read_entries(content, ending, "file")[0]


@given(st.from_regex(r"[A-Za-z_]{1,13}-input:[0-9x]{1,12}-output:[0-9x]{1,12}(-[a-z]+:[0-9]+)*"))
@settings(deadline=None, max_examples=60)
def test_any_key_is_a_block_or_a_value_error(key: str) -> None:
    for family in (False, True):
        with contextlib.suppress(ValueError):
            assert read_block(key, once_for_all=family).layers


def test_the_published_table_of_the_pixel_1(tmp_path: Path) -> None:
    folder = os.environ.get("BOARDFIT_DATA")
    if not folder:
        pytest.skip("needs the folder BOARDFIT_DATA: the table in it is not ours to ship")
    source = Path(str(folder)) / "proxylessnas_pixel1_lut.csv.gz"
    found = import_table(source, tmp_path / "t", conditions=PIXEL)
    table = found.table
    assert (len(table.fragments), len(table.operators)) == (70, 2)
    assert 1e9 < found.speed < 1e10  # of one core of a phone
    with gzip.open(source, "rt") as file:
        rows = list(csv.DictReader(io.StringIO(file.read())))
    for row in rows:
        block = read_block(row["key"], once_for_all=False)
        expected = float(row["mean_ms"]) * 1e-3
        assert table.price_layers(block.layers) == pytest.approx(expected, rel=1e-9)
    by_key = {row["key"]: float(row["mean_ms"]) for row in rows}
    # Two blocks in a row, as a network has them.
    names = [
        "expanded_conv-input:56x56x24-output:56x56x24-expand:6-kernel:7-stride:1-idskip:1",
        "expanded_conv-input:56x56x24-output:28x28x40-expand:3-kernel:3-stride:2-idskip:0",
    ]
    both = [layer for name in names for layer in read_block(name, once_for_all=False).layers]
    assert table.price_layers(both) == pytest.approx(sum(by_key[n] for n in names) * 1e-3)
