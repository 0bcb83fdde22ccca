"""A report tells what was measured, in one page that needs nothing else, or says what is wrong."""

from __future__ import annotations

import json
import math
import re
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boardfit.devices.errors import (
    BoardfitError,
    InputError,
    ReportSourceError,
    RunFolderError,
    StorageError,
    TableFileError,
)
from boardfit.profiler.measurement import Interval
from boardfit.profiler.simulated import Throttling
from boardfit.profiler.table import LookupTable
from boardfit.reports.about_search import search_section
from boardfit.reports.blocks import Bar, Drawing, Missing, Plot
from boardfit.reports.frames import (
    bytes_text,
    count_text,
    finalists_frame,
    interval_text,
    median_network,
    operators_frame,
    pareto,
    percent_text,
    references_frame,
    samples_frame,
    three_digits,
    time_by_kind,
    time_text,
    trials_frame,
    validation_frame,
)
from boardfit.reports.page import figure_json, write_report
from boardfit.reports.plots import label
from boardfit.reports.plots_search import network_drawing, trade_off_plot
from boardfit.reports.sections import comparison, section
from boardfit.reports.sources import (
    ProfileSource,
    SearchSource,
    TableSource,
    open_source,
)
from boardfit.search.result import FILE_NAME, Int8File, SearchResult, write_result

from . import browser
from .conftest import missing
from .report_examples import make_profile, make_search, make_table

HOSTILE = '</script><script>window.hacked=1</script><a href="https://evil.example/">%{x}</a>'
LONG = "a-name-without-any-place-to-break-" * 4
MIXES = ["table", "profile", "search", "table profile", "search search", "profile search table"]


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A table, a profile and a run folder that no test changes."""
    folder = tmp_path_factory.mktemp("examples")
    make_table(folder / "pi5.boardfit")
    make_profile(folder / "model.boardfit")
    write_result(make_search(), folder / "run")
    return {
        "table": folder / "pi5.boardfit",
        "profile": folder / "model.boardfit",
        "search": folder / "run",
    }


def page_of(paths: list[Path], tmp_path: Path) -> str:
    out = tmp_path / "report.html"
    write_report(paths, out)
    return out.read_text()


def written(result: SearchResult, folder: Path) -> Path:
    write_result(result, folder)
    return folder


class Markup(HTMLParser):
    """The tags of a page with their attributes, and its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        kept = {"script": self.scripts, "style": self.styles}.get(self._inside, self.texts)
        kept.append(data)


# ---- one page about anything


@pytest.mark.parametrize("mix", MIXES)
def test_every_kind_and_every_mix_is_reported(
    mix: str, examples: dict[str, Path], tmp_path: Path
) -> None:
    kinds = mix.split()
    paths = [examples[kind] for kind in kinds]
    if len(kinds) != len(set(kinds)):
        paths[-1] = written(make_search(seed=5), tmp_path / "another")
    text = "\n".join(Markup(page_of(paths, tmp_path)).texts)
    names = {"table": "Lookup table", "profile": "Model profile", "search": "Search"}
    for kind in kinds:
        assert names[kind] in text
    assert ("side by side" in text) == (len(kinds) > 1)
    for path in paths:
        assert str(path) in text


def test_the_page_loads_nothing(examples: dict[str, Path], tmp_path: Path) -> None:
    page = page_of(list(examples.values()), tmp_path)
    markup = Markup(page)
    for tag, attributes in markup.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
        for name in ("src", "href", "srcset", "action", "poster", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert not re.search(r"url\(|@import", "".join(markup.styles))
    policy = [a["content"] for t, a in markup.tags if a.get("http-equiv")]
    assert policy == [
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src data: blob:"
    ]
    plotly = [script for script in markup.scripts if "plotly.js v" in script[:200]]
    assert len(plotly) == 1
    assert not any("http" in script for script in markup.scripts if script not in plotly)


def test_the_same_items_give_the_same_page(examples: dict[str, Path], tmp_path: Path) -> None:
    paths = list(examples.values())
    assert page_of(paths, tmp_path) == page_of(paths, tmp_path)


def test_reading_reports_does_not_need_torch() -> None:
    code = "import sys, boardfit.reports.page; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def hostile_search(name: str) -> SearchResult:
    result = make_search()
    coordinates = ((f"{name}.filters", "filters", 16), *result.coordinates[1:])
    finalists = {
        key: replace(finalist, verdict=name, file=name)
        for key, finalist in result.finalists.items()
    }
    trials = tuple(replace(trial, origin=name) for trial in result.trials)
    return replace(
        result,
        space=name, data=name, device=name, table=name, coordinates=coordinates, trials=trials,
        finalists={**finalists, name: finalists["found"]}, parts={name: 3.0},
        conditions={name: name, "board": name}, settings={name: {name: [name]}},
    )  # fmt: skip


def test_hostile_names_are_data(tmp_path: Path) -> None:
    page = page_of([written(hostile_search(HOSTILE), tmp_path / "run")], tmp_path)
    assert "<script>window.hacked" not in page
    assert "evil.example" in page
    markup = Markup(page)
    assert not any(tag == "a" for tag, _ in markup.tags)
    for script in markup.scripts:
        if "evil.example" in script:
            assert "<a " not in json.dumps(json.loads(script)["data"])


@given(st.text())
def test_a_name_in_a_figure_has_no_markup(name: str) -> None:
    assert not re.search(r"<|%\{", label(name))


@given(st.text())
def test_no_name_ends_the_script_that_holds_a_figure(name: str) -> None:
    figure = go.Figure([{"type": "scatter", "x": [1], "y": [1], "text": [name]}])
    text = figure_json(Plot("", figure, ""))
    assert not re.search("[<>&']", text)
    assert json.loads(text)["data"][0]["text"] == [name]


# ---- what it says


def test_a_table_says_how_right_it_is(examples: dict[str, Path]) -> None:
    source = open_source(examples["table"])
    assert isinstance(source, TableSource)
    validation = source.table.validation
    assert validation is not None
    words = " ".join(section(source).sentences)
    assert "predicts 20 held-out networks" in words
    for share in (validation.mape, validation.noise_floor):
        assert percent_text(share) in words


def test_a_table_without_held_out_networks_says_so(tmp_path: Path) -> None:
    make_table(tmp_path / "t.boardfit", validation=0)
    item = section(open_source(tmp_path / "t.boardfit"))
    assert any("without held-out networks" in finding.text for finding in item.findings)
    blocks = [block for part in item.parts for block in part.blocks]
    assert any(isinstance(b, Missing) and "held-out" in b.reason for b in blocks)


def test_the_staircase_is_drawn(examples: dict[str, Path]) -> None:
    item = section(open_source(examples["table"]))
    titles = [b.title for part in item.parts for b in part.blocks if isinstance(b, Plot)]
    times = "\N{MULTIPLICATION SIGN}"
    assert f"1{times}1 convolution on 4{times}4" in titles
    assert f"Depthwise convolution on 8{times}8" in titles


def test_a_poor_table_and_a_changed_board_are_told(examples: dict[str, Path]) -> None:
    source = open_source(examples["table"])
    assert isinstance(source, TableSource)
    assert section(source).findings == ()
    validation = source.table.validation
    assert validation is not None
    table = source.table
    poor = LookupTable(
        table.path, table.operators, table.networks, table.calibration,
        replace(validation, predicted=1.3 * validation.measured), table.provenance,
        table.conditions, table.runs,
    )  # fmt: skip
    (finding,) = section(replace(source, table=poor)).findings
    assert "below its bar" in finding.text
    assert finding.advice
    seen = source.journal.references
    slower = (*seen, *(replace(r, session=9, seconds=2 * r.seconds) for r in seen))
    changed = replace(source, journal=replace(source.journal, references=slower))
    assert any("changed its speed" in finding.text for finding in section(changed).findings)


def test_a_profile_says_whether_to_believe_it(examples: dict[str, Path]) -> None:
    source = open_source(examples["profile"])
    assert isinstance(source, ProfileSource)
    measurement = source.profile.measurement
    words = " ".join(section(source).sentences)
    assert time_text(measurement.median.seconds) in words
    assert measurement.verdict in words
    partial = replace(source.profile, measurement=replace(measurement, planned_runs=9))
    findings = section(replace(source, profile=partial)).findings
    assert any("3 of 9 runs" in finding.text for finding in findings)


def test_lasting_load_is_told_and_drawn(hot: Path) -> None:
    source = open_source(hot)
    assert isinstance(source, ProfileSource)
    load = source.profile.sustained
    assert load is not None
    item = section(source)
    assert any("the board lowered its clock: " in finding.text for finding in item.findings)
    (plot,) = [
        block
        for part in item.parts
        for block in part.blocks
        if isinstance(block, Plot) and block.title == "Latency under lasting load"
    ]
    medians, minima, cold, sustained, clock = plot.figure.data
    assert len(medians.x) == len(minima.x) == len(clock.x) == len(load.at)
    assert (medians.y >= minima.y).all()
    assert max(sustained.y) == pytest.approx(1.5 * max(cold.y), rel=0.1)
    short = replace(load, asked=load.lasted + 60)
    cut = section(replace(source, profile=replace(source.profile, sustained=short)))
    assert any("The lasting load ended after" in finding.text for finding in cut.findings)


def test_too_few_samples_make_no_histogram(tmp_path: Path) -> None:
    make_profile(tmp_path / "p.boardfit", rounds=2)
    source = open_source(tmp_path / "p.boardfit")
    assert isinstance(source, ProfileSource)
    measurement = source.profile.measurement
    few = replace(
        measurement,
        seconds=measurement.seconds[:2], run=measurement.run[:2], round=measurement.round[:2],
        companions=(), throttled=measurement.throttled[:2],
    )  # fmt: skip
    item = section(replace(source, profile=replace(source.profile, measurement=few)))
    reasons = [b.reason for part in item.parts for b in part.blocks if isinstance(b, Missing)]
    assert any("2 samples are too few" in reason for reason in reasons)
    assert any("one run only" in reason for reason in reasons)


def test_a_table_of_a_noisy_board_tells_how_many_values_nothing_confirms(tmp_path: Path) -> None:
    make_table(tmp_path / "t", validation=0, noise=0.5)
    source = open_source(tmp_path / "t")
    assert isinstance(source, TableSource)
    noisy, whole = len(source.table.noisy), len(source.table.operators)
    assert noisy > 0.05 * whole
    (finding,) = [f for f in section(source).findings if "no second run" in f.text]
    assert f"{noisy} of {whole} operators" in finding.text
    assert finding.advice == "End other work on the board and measure further runs."


def search_with(**changes: Any) -> SearchSource:
    result = make_search()
    found = replace(result.found, **changes)
    return SearchSource(
        Path("run"), replace(result, finalists={**result.finalists, "found": found})
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seconds": 1.2e-3}, "target is missed by 20.0 %"),
        ({"accuracies": (1.0,) * 799 + (0.0,) * 201, "accuracy": 0.799, "exported_accuracy": 0.799},
         "not shown to be better"),
        ({"verdict": "drifting"}, "is drifting"),
        ({"anchor_ratio": 1.3}, "now take 1.30 times as long"),
        ({"exported_accuracy": 0.5}, "disagree"),
        ({"int8": Int8File(0.83, 9e-4, None, "steady", "f", 1)}, "In int8 the found network loses"),
    ],
)  # fmt: skip
def test_a_search_tells_what_to_beware_of(changes: dict[str, Any], words: str) -> None:
    assert search_section(search_with()).findings == ()
    (finding,) = search_section(search_with(**changes)).findings
    assert words in finding.text
    assert finding.advice.endswith(".")


def test_a_search_says_its_verdict_and_its_latencies() -> None:
    source = search_with()
    words = " ".join(search_section(source).sentences)
    assert source.result.verdict[1:] in words
    for seconds in (source.result.found.predicted.seconds, source.result.found.seconds, 1e-3):
        assert time_text(seconds) in words


def test_the_trade_off_says_which_accuracies_compare() -> None:
    plot = trade_off_plot(make_search())
    assert isinstance(plot, Plot)
    names = {entry.name for entry in plot.legend}
    assert {"trial", "Pareto front of the trials", "descent, step by step", "target 1.00 ms",
            "found, trained alone (test)", "uniform, trained alone (test)"} == names  # fmt: skip
    assert "share" in plot.caption
    assert "test images" in plot.caption
    for entry in plot.legend:
        assert entry.number < len(plot.figure.data)


def test_a_search_without_trials_draws_no_trade_off(tmp_path: Path) -> None:
    page = page_of([written(make_search(trials=()), tmp_path / "run")], tmp_path)
    assert "Not drawn: the search scored no network." in page


def test_the_found_network_is_drawn_block_by_block(tmp_path: Path) -> None:
    result = make_search()
    drawing = network_drawing(result)
    assert isinstance(drawing, Drawing)
    assert {stage.name for stage in drawing.stages if stage.removed} == {"block4"}
    widths = {
        f"{stage.name}.{bar.label}": bar for stage in drawing.stages for bar in stage.bars
    }  # fmt: skip
    for (name, kind, full), kept, uniform in zip(
        result.coordinates, result.found.architecture, result.uniform.architecture, strict=True
    ):
        if kind == "kernel":
            continue
        assert widths[name].share == kept / full
        assert widths[name].mark == uniform / full
    page = page_of([written(result, tmp_path / "run")], tmp_path)
    assert page.count('<span class="gone">removed</span>') == 1


def test_a_bar_is_never_more_than_full() -> None:
    with pytest.raises(ValueError, match="filled"):
        Bar("x", 1.5, "")


def test_items_under_other_conditions_are_not_compared_silently(
    examples: dict[str, Path],
) -> None:
    sources = [open_source(examples["profile"]), search_with()]
    (finding,) = comparison(sources, [section(source) for source in sources]).findings
    assert "other conditions" in finding.text
    assert "Raspberry Pi 5" in finding.advice
    assert comparison(sources[1:] * 2, [section(sources[1])] * 2).findings == ()


def test_equal_names_are_told_apart(examples: dict[str, Path], tmp_path: Path) -> None:
    text = page_of([examples["search"], written(make_search(1), tmp_path / "b")], tmp_path)
    assert "mobilenetv3-32 for pi5 (1)" in text
    assert "mobilenetv3-32 for pi5 (2)" in text


# ---- frames: milliseconds, and laws


def test_frames_are_in_milliseconds(examples: dict[str, Path]) -> None:
    source = open_source(examples["table"])
    assert isinstance(source, TableSource)
    table = source.table
    frame = operators_frame(table).set_index("signature")
    for signature, operator in table.operators.items():
        assert frame.loc[signature, "alone_ms"] == pytest.approx(operator.seconds * 1e3)
    assert table.validation is not None
    judged = validation_frame(table.validation)
    np.testing.assert_allclose(judged["measured_ms"], table.validation.measured * 1e3)
    assert (judged["low_ms"] <= judged["high_ms"]).all()
    visits = references_frame(source.journal)
    np.testing.assert_allclose(visits["ms"], [r.seconds * 1e3 for r in source.journal.references])


def test_the_kinds_of_a_network_add_up_to_its_prediction(examples: dict[str, Path]) -> None:
    table = LookupTable.open(examples["table"])
    network = median_network(table)
    assert network is not None
    totals = time_by_kind(table, network)
    assert sum(totals.values()) == pytest.approx(table.latency(network).seconds * 1e3)
    assert list(totals.values()) == sorted(totals.values(), reverse=True)


def test_all_samples_are_shown_and_warm_up_is_apart(examples: dict[str, Path]) -> None:
    source = open_source(examples["profile"])
    assert isinstance(source, ProfileSource)
    frame = samples_frame(source.samples)
    measurement = source.profile.measurement
    timed = frame[~frame["warmup"]]
    np.testing.assert_allclose(timed["ms"], measurement.seconds * 1e3)
    np.testing.assert_array_equal(timed["run"], measurement.run)
    assert frame["warmup"].sum() == len(measurement.warmup)


def test_each_network_is_one_trial() -> None:
    result = make_search()
    frame = trials_frame(result)
    assert len(frame) == len({trial.architecture for trial in result.trials})
    assert frame["iterate"].sum() == sum(t.origin == "iterate" for t in result.trials)
    steps = frame[frame["iterate"]].sort_values("reached")["ms"]
    assert steps.is_monotonic_decreasing


def test_who_lost_a_race_is_in_no_front() -> None:
    result = make_search()
    before = trials_frame(result)
    best = result.trials[int(before[before["pareto"]].index[-1])]
    lucky = replace(best, architecture=(*best.architecture[:-1], 8), accuracy=1.0, images=64)
    frame = trials_frame(replace(result, trials=(*result.trials, lucky)))
    assert len(frame) == len(before) + 1
    assert not frame["whole"].iloc[-1]
    assert not frame["pareto"].iloc[-1]
    assert frame["pareto"].iloc[:-1].tolist() == before["pareto"].tolist()


def test_finalists_stand_side_by_side() -> None:
    result = make_search()
    frame = finalists_frame(result).set_index("")
    assert list(frame.columns) == ["Found", "Uniform"]
    assert frame.loc["Test accuracy (trained alone)", "Found"] == "86.0 %"
    assert frame.loc["Latency, measured (in the table's terms)", "Uniform"] == "980 µs"
    assert frame.loc["Predicted relative to measured", "Found"] == "+1.0 %"


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 8)).map(lambda p: (float(p[0]), float(p[1]))),
        max_size=25,
    )
)
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    cost, score = (np.array([p[i] for p in points], float) for i in (0, 1))
    front = pareto(cost, score)

    def beaten(i: int) -> bool:
        at_least = (cost <= cost[i]) & (score >= score[i])
        better = (cost < cost[i]) | (score > score[i]) | (np.arange(len(cost)) < i)
        return bool((at_least & better).any())

    assert front.tolist() == [not beaten(i) for i in range(len(points))]


@given(st.floats(1e-9, 100))
def test_times_are_read_back_within_half_a_per_cent(seconds: float) -> None:
    value, unit = time_text(seconds).split(" ")
    scale = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert float(value.replace(",", "")) * scale == pytest.approx(seconds, rel=5.01e-3)
    assert "e" not in value
    assert seconds < 1e-6 or 1 <= float(value) < 1000


@given(st.floats(-1e9, 1e9))
def test_three_digits_are_three_digits(value: float) -> None:
    assert float(three_digits(value).replace(",", "")) == pytest.approx(value, rel=5.01e-3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (time_text(0.0), "0 s"),
        (time_text(0.00099999), "1.00 ms"),
        (time_text(769.0), "12 min 49 s"),
        (time_text(11100.0), "3 h 5 min"),
        (three_digits(99.96), "100"),
        (count_text(951), "951"),
        (count_text(1_234_567), "1.23 M"),
        (bytes_text(1536), "1.50 KiB"),
        (percent_text(math.nan), "unknown"),
        (interval_text(0.0121, 0.0134), "12.1 to 13.4 ms"),
        (interval_text(0.00098, 0.0013), "980 µs to 1.30 ms"),
        (interval_text(0.001, 0.001), "1.00 ms"),
    ],
)
def test_numbers_read_as_people_write_them(text: str, expected: str) -> None:
    assert text == expected


# ---- what cannot be reported


def test_what_is_no_result_is_refused_with_what_is_accepted(
    examples: dict[str, Path], tmp_path: Path
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "none.boardfit").touch()
    for path in (text, tmp_path / "empty", tmp_path / "missing", tmp_path / "none.boardfit"):
        with pytest.raises(ReportSourceError, match=r"a report takes lookup tables") as caught:
            write_report([examples["table"], path], tmp_path / "out.html")
        assert str(path) in str(caught.value)
        assert not (tmp_path / "out.html").exists()
    assert issubclass(ReportSourceError, InputError)
    with pytest.raises(ReportSourceError, match="nothing to report"):
        write_report([], tmp_path / "out.html")


def test_a_model_or_a_result_file_is_told_what_to_name(
    examples: dict[str, Path], tmp_path: Path
) -> None:
    model = examples["profile"].with_name("reference.tflite")
    with pytest.raises(ReportSourceError, match="measure it with `boardfit profile"):
        open_source(model)
    with pytest.raises(ReportSourceError, match="name the folder it lies in"):
        open_source(examples["search"] / FILE_NAME)


def edited(path: Path, tmp_path: Path, *statements: str) -> Path:
    copy = tmp_path / f"edited{len(list(tmp_path.iterdir()))}.boardfit"
    shutil.copy(path, copy)
    with sqlite3.connect(copy) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return copy


def test_other_databases_are_refused(examples: dict[str, Path], tmp_path: Path) -> None:
    tied = edited(
        examples["table"], tmp_path,
        "UPDATE documents SET content = json_set(content, '$.kind', 'tie') WHERE name = 'plan'",
    )  # fmt: skip
    with pytest.raises(ReportSourceError, match="last measurement of a search"):
        open_source(tied)
    with pytest.raises(ReportSourceError, match="another kind"):
        open_source(edited(examples["table"], tmp_path, "DELETE FROM documents"))
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    with pytest.raises(TableFileError, match="not one of boardfit's"):
        open_source(foreign)


def test_an_unfinished_table_says_so(examples: dict[str, Path], tmp_path: Path) -> None:
    path = edited(examples["table"], tmp_path, "DELETE FROM documents WHERE name = 'result'")
    with pytest.raises(TableFileError, match="not finished"):
        open_source(path)


@pytest.mark.parametrize("kind", ["table", "profile"])
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM samples",
        "UPDATE samples SET seconds = 'soon'",
        "UPDATE samples SET seconds = -1.0 WHERE warmup = 0",
        'UPDATE evidence SET content = \'{"reference": "slow"}\'',
        "UPDATE documents SET content = json_remove(content, '$.schedule') WHERE name = 'plan'",
        "UPDATE documents SET content = json_set(content, '$.schedule.runs', 'x') "
        "WHERE name = 'plan'",
        "UPDATE entries SET content = '[]'",
        "UPDATE sessions SET conditions = '7'",
        "DROP TABLE samples",
    ],
)
def test_a_damaged_file_is_named(
    kind: str, statement: str, examples: dict[str, Path], tmp_path: Path
) -> None:
    path = edited(examples[kind], tmp_path, statement)
    with pytest.raises(TableFileError, match=re.escape(str(path))):
        write_report([path], tmp_path / "out.html")


def test_a_cut_file_is_damaged(examples: dict[str, Path], tmp_path: Path) -> None:
    data = examples["table"].read_bytes()
    path = tmp_path / "cut.boardfit"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(TableFileError):
        open_source(path)


def leaves(content: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to every value of a JSON document, containers included."""
    found = [path] if path else []
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items if isinstance(content, dict | list) else ():
        found += leaves(value, (*path, key)) if isinstance(value, dict | list) else [(*path, key)]
    return found


JUNK: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        "",
        "x",
        HOSTILE,
        -1,
        0,
        1.5,
        1e400,
        10**400,
        float("nan"),
        True,
        [],
        [[]],
        {},
        {"a": []},
    ]
)
RESULT_JSON = json.loads(json.dumps(asdict(make_search())))
RESULT_JSON["trials"] = RESULT_JSON["trials"][:3]
SOLID = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def problem(path: Path, kind: type[BoardfitError]) -> str | None:
    """What is said to be wrong with it, or None where it can be reported."""
    try:
        source = open_source(path)
    except kind as error:
        return str(error)
    section(source)
    return None


def damage(content: Any, way: tuple[str | int, ...], junk: Any) -> Any:
    content = json.loads(json.dumps(content))
    place = content
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = junk
    return content


@SOLID
@given(st.sampled_from(leaves(RESULT_JSON)), JUNK)
def test_a_damaged_search_is_reported_or_named(
    tmp_path: Path, way: tuple[str | int, ...], junk: Any
) -> None:
    folder = tmp_path / "run"
    folder.mkdir(exist_ok=True)
    content = {"format": "boardfit search result", "version": 1, **RESULT_JSON}
    (folder / FILE_NAME).write_text(json.dumps(damage(content, way, junk)))
    assert FILE_NAME in (problem(folder, RunFolderError) or FILE_NAME)


@SOLID
@given(st.data())
def test_a_damaged_table_is_reported_or_named(
    examples: dict[str, Path], tmp_path: Path, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["plan", "result"]))
    connection = sqlite3.connect(examples["table"])
    content = json.loads(
        connection.execute("SELECT content FROM documents WHERE name = ?", [name]).fetchone()[0]
    )
    connection.close()
    way = data.draw(st.sampled_from(leaves(content)))
    changed = damage(content, way, data.draw(JUNK))
    copy = tmp_path / "damaged.boardfit"
    shutil.copy(examples["table"], copy)
    connection = sqlite3.connect(copy)
    with connection:
        connection.execute(
            "UPDATE documents SET content = ? WHERE name = ?", [json.dumps(changed), name]
        )
    connection.close()
    assert str(copy) in (problem(copy, BoardfitError) or str(copy))


def test_an_unfinished_search_says_so(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(RunFolderError, match="not finished; run the command"):
        open_source(tmp_path / "run")
    (tmp_path / "run" / FILE_NAME).write_text("{")
    with pytest.raises(RunFolderError, match="damaged"):
        open_source(tmp_path / "run")


def test_a_report_never_replaces_what_it_reports(examples: dict[str, Path], tmp_path: Path) -> None:
    table = tmp_path / "t.boardfit"
    shutil.copy(examples["table"], table)
    before = table.read_bytes()
    with pytest.raises(ReportSourceError, match="--out"):
        write_report([table], table)
    assert table.read_bytes() == before
    with pytest.raises(StorageError):
        write_report([table], tmp_path)


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The profile of a board that lowers its clock under lasting load."""
    path = tmp_path_factory.mktemp("hot") / "hot.boardfit"
    make_profile(path, sustained=240.0, throttling=Throttling(60.0, 1.5, 30.0))
    return path


# ---- in a real browser


def wide_search() -> SearchResult:
    """Long names, and times of which one is far from the others."""
    result = make_search()
    slow = replace(result.uniform, measured=Interval(3.0, 2.0, 4.0))
    return replace(
        result,
        device=LONG, data=LONG, finalists={**result.finalists, "uniform": slow},
        conditions={"board": LONG, LONG: LONG},
    )  # fmt: skip


def needs_chromium() -> None:
    if not Path(browser.CHROMIUM).exists():
        missing("Chromium", "apt-get install chromium")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_drawn_in_full(width: int, examples: dict[str, Path], tmp_path: Path) -> None:
    needs_chromium()
    paths = [*examples.values(), written(wide_search(), tmp_path / "wide")]
    page = page_of([*paths, written(hostile_search(HOSTILE), tmp_path / "hostile")], tmp_path)
    report = browser.look(page, width)
    assert report["width"] == width
    assert report["content"] <= width
    assert report["wide"] == []
    assert report["problems"] == []
    assert report["loaded"] == []
    assert report["links"] == []
    assert not report["hacked"]
    assert len(report["plots"]) == page.count('class="plot"') > 15
    for plot in report["plots"]:
        assert plot["drawn"], plot
        assert plot["marks"] > 0, plot
        assert plot["cut"] == [], plot
        assert plot["clash"] == [], plot


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_draws_lasting_load(hot: Path, tmp_path: Path, width: int) -> None:
    needs_chromium()
    report = browser.look(page_of([hot], tmp_path), width)
    assert report["problems"] == []
    assert report["wide"] == []
    (plot,) = [plot for plot in report["plots"] if "lasting load" in plot["label"]]
    assert (plot["cut"], plot["clash"]) == ([], [])
    assert plot["marks"] > 100


def test_the_browser_test_sees_what_is_wrong(examples: dict[str, Path], tmp_path: Path) -> None:
    needs_chromium()
    page = page_of([examples["profile"]], tmp_path)
    bad = '<p style="width:2000px">wide</p><img src="https://example.invalid/x.png">'
    page = page.replace("<main>", f"<main>{bad}", 1).replace("Plotly.newPlot(", "Nothing(")
    report = browser.look(page, 390)
    assert report["content"] > 390
    assert report["wide"]
    assert any("Nothing" in problem for problem in report["problems"])
    assert any("example.invalid" in problem for problem in report["problems"])
    assert not any(plot["drawn"] for plot in report["plots"])
