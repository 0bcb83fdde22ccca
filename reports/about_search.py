"""What a page says of a search: what it found, against what, and how it got there."""

from __future__ import annotations

import pandas as pd

from ..search.result import SearchResult
from .about import board_text, conditions_grid
from .blocks import Finding, Part, Section, grid
from .frames import (
    candidates_frame,
    finalists_frame,
    percent_text,
    plain_text,
    three_digits,
    time_text,
)
from .plots_search import network_drawing, parts_bars, prediction_plot, trade_off_plot
from .sources import SearchSource

INT8_LOSS = 0.02  # of the accuracy, which int8 should not cost
FAR_FROM_ONE = 0.10  # of the anchor ratio: the board was this much faster or slower


def search_section(source: SearchSource) -> Section:
    """Everything that a page says of a search."""
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
        _findings(source),
        (
            Part("The trade-off", (trade_off_plot(result),)),
            Part(
                "Found against uniform",
                (grid("Both trained alone, exported and measured", finalists_frame(result)),
                 prediction_plot(result)),
                "The uniform network is the full one with all widths narrowed alike to the same "
                "latency, trained in the same way.",
            ),
            *_candidates(result),
            Part("The found network", (network_drawing(result),)),
            Part("Board, time and settings",
                 (conditions_grid(result.conditions), parts_bars(result),
                  grid("Settings", settings))),
        ),
    )  # fmt: skip


def _candidates(result: SearchResult) -> tuple[Part, ...]:
    if not result.candidates:
        return ()
    return (
        Part(
            "Measured before it was chosen",
            (
                grid(
                    "Candidates in the order in which they were measured", candidates_frame(result)
                ),
            ),
            "Latencies are in the table's terms. What was measured corrects what is expected of "
            "the next ones.",
        ),
    )


def _findings(source: SearchSource) -> tuple[Finding, ...]:
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
    if not result.is_better:
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
            findings.append(
                Finding(
                    f"The measurement of the {name} network is {finalist.verdict}.",
                    "End other work on the board and let it cool down, remove result.json and "
                    "measured.boardfit from the run folder, and run the same command again: only "
                    "the measurement is done anew.",
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
        lost = finalist.exported_accuracy - (finalist.int8 or finalist).accuracy
        if finalist.int8 is not None and lost > INT8_LOSS:
            findings.append(
                Finding(
                    f"In int8 the {name} network loses {lost * 100:.1f} points of accuracy: "
                    f"{percent_text(finalist.int8.accuracy)} against "
                    f"{percent_text(finalist.exported_accuracy)}.",
                    "Deploy the float file, or train longer: the better a network knows its "
                    "classes apart, the less the rounding costs.",
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
