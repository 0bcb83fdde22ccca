"""What a page says of a model's profile: its latency, whether to believe it, and what it holds."""

from __future__ import annotations

import pandas as pd

from ..profiler.measurement import ADVICE
from .about import advice, board_text, conditions_grid, drift_findings, journal_frame
from .blocks import Finding, Part, Section, grid
from .frames import (
    bytes_text,
    count_text,
    interval_text,
    model_operators_frame,
    percent_text,
    size_text,
    time_text,
)
from .plots import histogram_plot, runs_plot, samples_plot
from .plots_table import reference_plot
from .sources import ProfileSource


def profile_section(source: ProfileSource) -> Section:
    """Everything that a page says of a profile."""
    profile, measurement = source.profile, source.profile.measurement
    median, percentile = measurement.median, measurement.percentile_90
    runs = len(measurement.run_minima)
    sentences = (
        f"{profile.name} takes {time_text(median.seconds)} (95 % interval "
        f"{interval_text(median.low, median.high)}) on {board_text(profile.conditions)}.",
        f"The verdict on its {len(measurement.seconds):,} samples in {runs} "
        f"run{'s' if runs != 1 else ''} is {measurement.verdict}"
        + (f": {ADVICE['steady']}." if measurement.verdict == "steady" else "."),
    )
    findings = list(drift_findings(source.journal))
    if measurement.verdict != "steady":
        finding = Finding(
            f"The numbers are {measurement.verdict}: {_why(source)}.", advice(measurement.verdict)
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
         f"{tensor.name}: {size_text(*tensor.shape)} {tensor.dtype}")
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
                             samples_plot(source.samples), runs_plot(profile),
                             reference_plot(source.journal))),
            Part("The model", (grid("What it is", about), grid("Its operators", kinds))),
            Part("Board and origin",
                 (conditions_grid(profile.conditions),
                  grid("How it was measured", journal_frame(source.journal)))),
        ),
    )  # fmt: skip


def _why(source: ProfileSource) -> str:
    measurement = source.profile.measurement
    if measurement.verdict == "partial":
        return f"{len(measurement.run_minima)} of {measurement.planned_runs} runs were measured"
    if measurement.verdict == "drifting":
        return f"the last third is {measurement.drift * 100:+.1f} % against the first"
    return (
        f"the runs lie {percent_text(measurement.spread_between_runs)} apart, the interval of the "
        f"median is ± {percent_text(measurement.median.half_width)}"
    )
