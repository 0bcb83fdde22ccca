"""The sections of a page: one an item, and one that compares them where there are several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from ..devices.conditions import mismatch
from .about import board_text
from .about_profile import profile_section
from .about_search import search_section
from .about_table import below_bar, table_section
from .blocks import Finding, Part, Section, grid
from .frames import percent_text, time_text
from .plots import Timed, latencies_plot
from .sources import ProfileSource, SearchSource, Source, TableSource


def section(source: Source) -> Section:
    """Everything that a page says of one item."""
    if isinstance(source, TableSource):
        return table_section(source)
    if isinstance(source, ProfileSource):
        return profile_section(source)
    return search_section(source)


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
            accuracy, verdict = "n/a", "valid" if not below_bar(source) else "below its bar"
        elif isinstance(source, ProfileSource):
            median = source.profile.measurement.median
            figures, accuracy = time_text(median.seconds), "n/a"
            verdict = source.profile.measurement.verdict
            timed.append(Timed(item.title, item.kind, median.seconds, median.low, median.high))
        else:
            found = source.result.found
            figures, accuracy = time_text(found.seconds), percent_text(found.accuracy)
            verdict = "meets the target" if source.result.meets_target else "misses the target"
            timed += [
                Timed(
                    f"{name}, {item.title}",
                    item.kind,
                    f.seconds,
                    f.seconds * f.measured.low / f.measured.seconds,
                    f.seconds * f.measured.high / f.measured.seconds,
                )
                for name, f in source.result.finalists.items()
            ]
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


def _condition_findings(
    sources: Sequence[Source], sections: Sequence[Section]
) -> tuple[Finding, ...]:
    first = conditions_of(sources[0])
    findings = []
    for source, item in zip(sources[1:], sections[1:], strict=True):
        if differences := mismatch(first, conditions_of(source)):
            findings.append(
                Finding(
                    f"{item.title} was measured under other conditions than {sections[0].title}.",
                    "Read their latencies as those of two boards, not as a comparison of models. "
                    f"What differs: {'; '.join(differences)}.",
                )
            )
    return tuple(findings)
