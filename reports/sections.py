"""What a page says of each item: sentences, what to beware of and what to do, and the parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..devices.conditions import mismatch
from ..profiler.measurement import ADVICE
from ..profiler.table import BAR
from .blocks import Finding, Grid, Part, Section, grid, plots_or_reason
from .frames import (
    bytes_text,
    conditions_frame,
    count_text,
    finalists_frame,
    interval_text,
    model_operators_frame,
    operators_frame,
    percent_text,
    plain_text,
    reference_drift,
    three_digits,
    time_text,
)
from .plots import Timed, histogram_plot, latencies_plot, runs_plot, samples_plot
from .plots_search import network_drawing, parts_bars, prediction_plot, trade_off_plot
from .plots_table import (
    convolution_plots,
    depthwise_plots,
    errors_plot,
    kinds_plot,
    reference_plot,
    spread_plot,
    validation_plot,
)
from .sources import Journal, ProfileSource, SearchSource, Source, TableSource

FAR_FROM_ONE = 0.10  # of the anchor ratio: the board was this much faster or slower
DRIFT = 0.05  # of the reference model between sessions


def section(source: Source) -> Section:
    """Everything that a page says of one item."""
    if isinstance(source, TableSource):
        return _table_section(source)
    if isinstance(source, ProfileSource):
        return _profile_section(source)
    return _search_section(source)


def _table_section(source: TableSource) -> Section:
    table, journal = source.table, source.journal
    operators = operators_frame(table)
    board = board_text(table.conditions)
    space = plain_text(table.provenance.get("space", "an unnamed space"))
    validation = table.validation
    sentences = [f"A lookup table of {len(table.operators):,} operators of {space} on {board}."]
    if validation is not None:
        noise = percent_text(validation.noise_floor)
        sentences.append(
            f"It predicts {len(validation.measured)} held-out networks with a mean error (MAPE) of "
            f"{percent_text(validation.mape)}, {percent_text(validation.share_within(0.10), 0)} of "
            f"them within 10 %; the measurement's own noise floor is {noise}."
        )
    judged = (
        (validation_plot(validation), errors_plot(validation))
        if validation is not None
        else plots_or_reason(
            "Predicted against measured", (), "the table was built without held-out networks"
        )
    )
    return Section(
        "Lookup table",
        space,
        str(source.path),
        tuple(sentences),
        _table_findings(source),
        (
            Part("How right it is", tuple(judged)),
            Part(
                "1×1 convolutions over channels",
                plots_or_reason(
                    "Latency maps",
                    convolution_plots(operators),
                    "the table has too few 1×1 convolutions of one size to draw a map",
                ),
                "Kernels work on several channels at once, so that time grows in steps.",
            ),
            Part(
                "Depthwise convolutions over channels",
                plots_or_reason(
                    "Depthwise convolutions",
                    depthwise_plots(operators),
                    "the table has too few depthwise convolutions of one size",
                ),
            ),
            Part("Where the time goes, and how well it repeats",
                 (kinds_plot(table), spread_plot(operators), reference_plot(journal))),
            Part("Board and origin", (_conditions(table.conditions), _provenance(source))),
        ),
    )  # fmt: skip


def _table_findings(source: TableSource) -> tuple[Finding, ...]:
    validation = source.table.validation
    findings = []
    if validation is None:
        findings.append(
            Finding(
                "Nobody knows how right this table is: it was built without held-out networks.",
                "Build it again with some before a search relies on it.",
            )
        )
    elif validation.share_within(0.10) < BAR:
        findings.append(
            Finding(
                f"The table is below its bar: {percent_text(validation.share_within(0.10), 0)} of "
                f"the held-out networks are predicted within 10 %, {percent_text(BAR, 0)} are "
                "needed.",
                "End other work on the board, let it cool down, and build the table again.",
            )
        )
    return (*findings, *_drift_findings(source.journal))


def _drift_findings(journal: Journal) -> tuple[Finding, ...]:
    drift = reference_drift(journal)
    if drift <= DRIFT:
        return ()
    return (
        Finding(
            f"The board changed its speed: the reference model's medians differ by "
            f"{percent_text(drift)} between sessions.",
            "End other work on it, hold the clock (governor performance) where the board allows, "
            "and measure again where a few per cent matter.",
        ),
    )


def _profile_section(source: ProfileSource) -> Section:
    profile, measurement = source.profile, source.profile.measurement
    median, percentile = measurement.median, measurement.percentile_90
    runs = len(measurement.run_minima)
    sentences = (
        f"{profile.name} takes {time_text(median.seconds)} (95 % interval "
        f"{interval_text(median.low, median.high)}) on {board_text(profile.conditions)}.",
        f"The verdict on its {len(measurement.seconds):,} samples in {runs} "
        f"run{'s' if runs != 1 else ''} is {measurement.verdict}: {ADVICE[measurement.verdict]}.",
    )
    findings = list(_drift_findings(source.journal))
    if measurement.verdict != "steady":
        advice = ADVICE[measurement.verdict].partition(": ")[2]
        finding = Finding(
            f"The numbers are {measurement.verdict}: {_why(source)}.",
            f"{advice[:1].upper()}{advice[1:]}.",
        )
        findings.insert(0, finding)
    figures = pd.DataFrame(
        [
            ("Median", time_text(median.seconds)),
            ("… 95 % interval", interval_text(median.low, median.high)),
            ("90th percentile", time_text(percentile.seconds)),
            ("… 95 % interval", interval_text(percentile.low, percentile.high)),
            ("Minimum", time_text(measurement.minimum)),
            ("Verdict", measurement.verdict),
            ("Spread between runs", percent_text(measurement.spread_between_runs)),
            ("Drift, last third to first", f"{measurement.drift * 100:+.1f} %"),
            ("Outliers", f"{measurement.outliers:,} of {len(measurement.seconds):,} samples"),
            ("Warm-up samples, apart", f"{len(measurement.warmup):,}"),
        ],
        columns=["figure", "value"],
    )
    model = profile.model
    tensors = [
        ("Input" if i < len(model.inputs) else "Output",
         f"{tensor.name}: {'×'.join(map(str, tensor.shape))} {tensor.dtype}")
        for i, tensor in enumerate((*model.inputs, *model.outputs))
    ]  # fmt: skip
    about = pd.DataFrame(
        [
            *tensors,
            ("Operators", f"{len(model.operators):,}"),
            ("Parameters", count_text(model.parameters)),
            ("File size", bytes_text(model.size)),
            ("SHA-256", model.digest[:16]),
        ],
        columns=["property", "value"],
    )
    kinds = model_operators_frame(profile)
    kinds["parameters"] = [count_text(count) for count in kinds["parameters"]]
    return Section(
        "Model profile",
        profile.name,
        str(source.path),
        sentences,
        tuple(findings),
        (
            Part("Latency", (grid("In figures", figures), histogram_plot(profile),
                             samples_plot(source.samples), runs_plot(profile))),
            Part("The model", (grid("What it is", about), grid("Its operators", kinds))),
            Part("Board and origin",
                 (_conditions(profile.conditions),
                  grid("How it was measured", _journal_frame(source.journal)))),
        ),
    )  # fmt: skip


def _why(source: ProfileSource) -> str:
    measurement = source.profile.measurement
    if measurement.verdict == "partial":
        return f"{len(measurement.run_minima)} of {measurement.planned_runs} runs were measured"
    if measurement.verdict == "drifting":
        return f"the last third is {measurement.drift * 100:+.1f} % against the first"
    return (
        f"the runs lie {percent_text(measurement.spread_between_runs)} apart, the median's interval "
        f"is ± {percent_text(measurement.median.half_width)}"
    )


def _search_section(source: SearchSource) -> Section:
    result = source.result
    found = result.found
    change = found.seconds / result.full_seconds
    verdict = result.verdict
    sentences = (
        f"{verdict[:1].upper()}{verdict[1:]}.",
        f"The found network was predicted to take {time_text(found.predicted.seconds)} and takes "
        f"{time_text(found.seconds)} (target {time_text(result.target)}; the full network "
        f"{time_text(result.full_seconds)}, so {percent_text(change, 0)} of it), and is right on "
        f"{percent_text(found.accuracy)} of the test images.",
        f"Searched in {result.space} with {result.data} for {result.device} "
        f"({board_text(result.conditions)}).",
    )
    settings = pd.DataFrame(
        [
            ("data", result.data),
            ("device", result.device),
            ("table", result.table),
            ("networks scored", f"{len({t.architecture for t in result.trials}):,}"),
            *((name.replace("_", " "), plain_text(value))
              for name, value in result.settings.items()),
        ],
        columns=["setting", "value"],
    )  # fmt: skip
    return Section(
        "Search",
        f"{result.space} for {result.device}",
        str(source.path),
        sentences,
        _search_findings(source),
        (
            Part("The trade-off", (trade_off_plot(result),)),
            Part(
                "Found against uniform",
                (grid("Both trained alone, exported and measured", finalists_frame(result)),
                 prediction_plot(result)),
                "The uniform network is the full one with all widths narrowed alike to the same "
                "latency, trained in the same way.",
            ),
            Part("The found network", (network_drawing(result),)),
            Part("Board, time and settings",
                 (_conditions(result.conditions), parts_bars(result),
                  grid("Settings", settings))),
        ),
    )  # fmt: skip


def _search_findings(source: SearchSource) -> tuple[Finding, ...]:
    result, found = source.result, source.result.found
    findings = []
    if not result.meets_target:
        findings.append(
            Finding(
                f"The target is missed by {percent_text(found.seconds / result.target - 1)}: "
                f"{time_text(found.seconds)} measured, {time_text(result.target)} wanted.",
                "See whether predicted and measured agree below; build the table again on a quiet "
                "board, or search with a target that much smaller.",
            )
        )
    if result.gain < 2 * result.gain_error:
        findings.append(
            Finding(
                "The found network is not shown to be better than one that is narrowed uniformly: "
                f"{result.gain * 100:+.1f} points with a standard error of "
                f"{result.gain_error * 100:.1f}.",
                "Train longer, score more networks (evaluations), or choose a smaller target, "
                "where the shape of a network matters more.",
            )
        )
    for name, finalist in result.finalists.items():
        if finalist.verdict != "steady":
            advice = ADVICE.get(finalist.verdict, "measure again")  # type: ignore[call-overload]
            findings.append(
                Finding(
                    f"The measurement of the {name} network is {finalist.verdict}.",
                    f"{advice[:1].upper()}{advice[1:]}.",
                )
            )
        if abs(finalist.accuracy - finalist.exported_accuracy) > 0.01:
            findings.append(
                Finding(
                    f"The exported {name} file and the trained network disagree: "
                    f"{percent_text(finalist.exported_accuracy)} against "
                    f"{percent_text(finalist.accuracy)} on the test images.",
                    "Do not deploy it before the cause is known; please report it.",
                )
            )
    ratio = found.anchor_ratio
    if abs(ratio - 1) > FAR_FROM_ONE:
        findings.append(
            Finding(
                f"The board is not as it was when the table was built: the same networks now take "
                f"{three_digits(ratio)} times as long.",
                "Latencies in the table's terms allow for it; where absolute times matter, end "
                "other work on the board and build the table again.",
            )
        )
    return tuple(findings)


def _conditions(conditions: Mapping[str, object]) -> Grid:
    return grid("The board and its conditions", conditions_frame(conditions))


def _provenance(source: TableSource) -> Grid:
    table = source.table
    rows = [(str(n).replace("_", " "), plain_text(v)) for n, v in table.provenance.items()]
    roles = pd.Series([role for role, _, _ in table.networks.values()], dtype=object)
    rows.append(("operators", f"{len(table.operators):,}"))
    rows += [(f"{role} networks", f"{count:,}") for role, count in roles.value_counts().items()]
    frame = pd.DataFrame(rows, columns=["", "value"])
    journal = _journal_frame(source.journal).set_axis(frame.columns, axis=1)
    return grid("How it was measured", pd.concat([frame, journal]))


def _journal_frame(journal: Journal) -> pd.DataFrame:
    rows = [
        ("samples", f"{journal.samples:,}"),
        ("sessions", f"{len(journal.sessions):,}"),
        ("begun (UTC)", str(journal.sessions[0][2]) if journal.sessions else "not known"),
        ("time measuring", time_text(journal.wall_seconds)),
        ("… in timed inferences", time_text(journal.inference_seconds)),
        ("schedule", plain_text(journal.schedule).replace("_", " ")),
    ]
    return pd.DataFrame(rows, columns=["", "value"])


def board_text(conditions: Mapping[str, object]) -> str:
    """A board in a few words: its name, runtime and threads, as far as they are known."""
    board = conditions.get("board") or conditions.get("machine") or "an unnamed board"
    words = [plain_text(board)]
    if runtime := conditions.get("runtime"):
        words.append(f"{plain_text(runtime)} {plain_text(conditions.get('runtime_version', ''))}")
    if threads := conditions.get("threads"):
        words.append(f"{plain_text(threads)} thread{'s' if threads != 1 else ''}")
    return ", ".join(word.strip() for word in words)


def conditions_of(source: Source) -> Mapping[str, object]:
    """The conditions under which an item was measured."""
    if isinstance(source, SearchSource):
        return source.result.conditions
    return (source.table if isinstance(source, TableSource) else source.profile).conditions


def comparison(sources: Sequence[Source], sections: Sequence[Section]) -> Section:
    """Several items next to each other: a table, and one plot of all latencies."""
    rows, timed = [], []
    for source, item in zip(sources, sections, strict=True):
        if isinstance(source, TableSource):
            validation = source.table.validation
            figures = (
                "not validated"
                if validation is None
                else f"MAPE {percent_text(validation.mape)}, "
                f"{percent_text(validation.share_within(0.10), 0)} within 10 %"
            )
            accuracy, verdict = "–", "valid" if not _below_bar(source) else "below its bar"
        elif isinstance(source, ProfileSource):
            median = source.profile.measurement.median
            figures, accuracy = time_text(median.seconds), "–"
            verdict = source.profile.measurement.verdict
            timed.append(Timed(item.title, item.kind, median.seconds, median.low, median.high))
        else:
            found = source.result.found
            figures, accuracy = time_text(found.measured.seconds), percent_text(found.accuracy)
            verdict = "meets the target" if source.result.meets_target else "misses the target"
            timed += [
                Timed(f"{name}, {item.title}", item.kind, f.measured.seconds, f.measured.low,
                      f.measured.high)
                for name, f in source.result.finalists.items()
            ]  # fmt: skip
        board = board_text(conditions_of(source))
        rows.append((item.title, item.kind, board, figures, accuracy, verdict))
    columns = ["Item", "Kind", "Board", "Latency or error", "Test accuracy", "Verdict"]
    frame = pd.DataFrame(rows, columns=columns)
    return Section(
        "Comparison",
        f"{len(sources)} items side by side",
        "",
        (),
        _condition_findings(sources, sections),
        (Part("", (grid("At a glance", frame), latencies_plot(timed))),),
    )


def _below_bar(source: TableSource) -> bool:
    validation = source.table.validation
    return validation is None or validation.share_within(0.10) < BAR


def _condition_findings(
    sources: Sequence[Source], sections: Sequence[Section]
) -> tuple[Finding, ...]:
    first = conditions_of(sources[0])
    findings = []
    for source, item in zip(sources[1:], sections[1:], strict=True):
        if differences := mismatch(first, conditions_of(source)):
            findings.append(
                Finding(
                    f"{item.title} was measured under other conditions than {sections[0].title} "
                    f"({'; '.join(differences)}).",
                    "Read their latencies as two boards' figures, not as a comparison of models.",
                )
            )
    return tuple(findings)
