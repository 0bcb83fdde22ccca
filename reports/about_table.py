"""What a page says of a lookup table: how right it is, what operators cost, where it is from."""

from __future__ import annotations

import pandas as pd

from ..profiler.calibration import BAR
from ..profiler.entry_verdict import ENTRY_ADVICE
from ..profiler.table_placement import outside_words
from .about import board_findings, board_text, conditions_grid, journal_frame
from .blocks import Finding, Grid, Part, Section, grid, plots_or_reason
from .frames import between_frame, operators_frame, percent_text, plain_text, size_text
from .plots_channels import convolution_plots, depthwise_plots
from .plots_table import (
    errors_plot,
    kinds_plot,
    reference_plot,
    spread_plot,
    validation_plot,
)
from .sources import TableSource

NOISY_SHARE = 0.05  # of the operators; fewer do not decide what a network costs


def table_section(source: TableSource) -> Section:
    """Everything that a page says of a table."""
    table, journal = source.table, source.journal
    operators, between = operators_frame(table), between_frame(table)
    board = board_text(table.conditions)
    space = plain_text(table.provenance.get("space", "an unnamed space"))
    validation = table.validation
    sentences = [
        f"A lookup table of {space} on {board}: {len(table.operators):,} operators were measured"
        + (
            ", and others are corrected from those of another table."
            if table.donor
            else ", and what lies between them is interpolated."
        )
    ]
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
        _findings(source),
        (
            Part("How right it is", tuple(judged)),
            Part(
                f"{size_text(1, 1)} convolutions over channels",
                plots_or_reason(
                    "Latency maps",
                    convolution_plots(between),
                    "the table has too few of one spatial size to draw a map",
                ),
                "Kernels work on several channels at once, so that time grows in steps. Times are "
                "those of one operator alone.",
            ),
            Part(
                "Depthwise convolutions over channels",
                plots_or_reason(
                    "Depthwise convolutions",
                    depthwise_plots(between),
                    "the table has too few of one spatial size to draw a line",
                ),
                "Times are those of one operator alone, by kernel and stride.",
                narrow=True,
            ),
            Part("Where the time goes, and how well it repeats",
                 (kinds_plot(table), spread_plot(operators), reference_plot(journal)), narrow=True),
            Part("Board and origin", (conditions_grid(table.conditions), _provenance(source))),
        ),
    )  # fmt: skip


def below_bar(source: TableSource) -> bool:
    """Whether a table fails its bar on held-out networks, or was not judged."""
    validation = source.table.validation
    return validation is None or validation.share_within(0.10) < BAR


def _findings(source: TableSource) -> tuple[Finding, ...]:
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
    noisy = source.table.noisy
    if len(noisy) > NOISY_SHARE * len(source.table.operators):
        why, _, advice = ENTRY_ADVICE["noisy"].partition(": ")
        findings.append(
            Finding(
                f"{len(noisy):,} of {len(source.table.operators):,} operators are noisy, as {why}.",
                f"{advice[:1].upper()}{advice[1:]}.",
            )
        )
    if source.table.outside:
        findings.append(
            Finding(
                outside_words(source.table),
                "Their prices are what they take there; a network that is to be the delegate's "
                "alone goes without them.",
            )
        )
    return (*findings, *board_findings(source.journal))


def _provenance(source: TableSource) -> Grid:
    table = source.table
    rows = [(str(n).replace("_", " "), plain_text(v)) for n, v in table.provenance.items()]
    roles = pd.Series([role for role, _, _ in table.networks.values()], dtype=object)
    rows.append(("operators", f"{len(table.operators):,}"))
    rows += [(f"{role} networks", f"{count:,}") for role, count in roles.value_counts().items()]
    frame = pd.DataFrame(rows, columns=["", "value"])
    journal = journal_frame(source.journal).set_axis(frame.columns, axis=1)
    return grid("How it was measured", pd.concat([frame, journal]))
