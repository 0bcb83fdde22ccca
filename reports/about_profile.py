"""What a page says of a model's profile: its latency, whether to believe it, and what it holds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..profiler.measure_energy import ModelEnergy, energy_text
from ..profiler.measurement import ADVICE
from ..profiler.operators import RESOLUTION, OperatorProfile
from ..profiler.profile_model import ModelProfile
from ..profiler.sustained import SustainedLoad
from .about import advice, board_findings, board_text, conditions_grid, journal_frame
from .blocks import Block, Finding, Part, Section, grid
from .frames import (
    MILLISECONDS,
    bytes_text,
    count_text,
    interval_text,
    model_operators_frame,
    operator_times_frame,
    percent_text,
    plain_text,
    size_text,
    time_text,
)
from .plots import histogram_plot, runs_plot, samples_plot
from .plots_operators import operators_plot
from .plots_sustained import sustained_plot
from .plots_table import reference_plot
from .sources import ProfileSource

SLOWER = 1.1  # than cold, from which on lasting load is worth a warning


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
    findings = [*_placement_findings(profile), *board_findings(source.journal)]
    if measurement.verdict != "steady":
        finding = Finding(
            f"The numbers are {measurement.verdict}: {measurement.reason}.",
            advice(measurement.verdict),
        )
        findings.insert(0, finding)
    load, session = profile.sustained, measurement.another_session
    if load is not None:
        findings += _sustained(load)
    figures = pd.DataFrame(
        [
            ("Median", time_text(median.seconds)),
            ("… 95 % interval", interval_text(median.low, median.high)),
            ("90th percentile", time_text(percentile.seconds)),
            ("… 95 % interval", interval_text(percentile.low, percentile.high)),
            ("Minimum", time_text(measurement.minimum)),
            (
                "… of another session (95 %)",
                "one run does not tell"
                if session is None
                else interval_text(session.low, session.high),
            ),
            ("Verdict", measurement.verdict),
            ("Spread between runs", percent_text(measurement.spread_between_runs)),
            ("Drift, last third to first", f"{measurement.drift * 100:+.1f} %"),
            ("… within the runs", f"{measurement.trend.change * 100:+.1f} %"),
            ("Outliers", f"{measurement.outliers:,} of {len(measurement.seconds):,} samples"),
            ("Warm-up samples, apart", f"{len(measurement.warmup):,}"),
            ("Samples while throttled", percent_text(measurement.throttled_share)),
            *([] if load is None else _sustained_rows(load)),
            *([] if profile.energy is None else _energy_rows(profile.energy)),
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
            *([] if load is None else [Part("Under lasting load", (sustained_plot(load),))]),
            Part("The operators", _operators(profile)),
            Part("The model", (grid("What it is", about), grid("Its operators", kinds))),
            Part("Board and origin",
                 (conditions_grid(profile.conditions),
                  grid("How it was measured", journal_frame(source.journal)))),
        ),
    )  # fmt: skip


def _sustained(load: SustainedLoad) -> tuple[Finding, ...]:
    """What to know of lasting load."""
    findings = []
    if load.ratio > SLOWER or load.throttled or load.slowed_by:
        what = f"Under lasting load it takes {load.ratio:.2f} times as long as cold"
        if load.throttled:
            what += ", and the board lowered its clock"
        if load.slowed_by:
            what += f" ({plain_text(', '.join(load.slowed_by))})"
        findings.append(
            Finding(
                f"{what}: {time_text(load.latency)} instead of {time_text(load.cold)}.",
                "Plan with the sustained latency where the model runs without a pause, or cool the "
                "board better.",
            )
        )
    if not load.complete:
        findings.append(
            Finding(
                f"The lasting load ended after {time_text(load.lasted)} of "
                f"{time_text(load.asked)}.",
                "Run the same command again: it begins the load anew.",
            )
        )
    return tuple(findings)


def _energy_rows(found: ModelEnergy) -> list[tuple[str, str]]:
    energy = found.energy
    rows = [
        ("Energy of an inference", energy_text(energy.joules)),
        ("… 95 % interval", f"{energy_text(energy.low)} to {energy_text(energy.high)}"),
        (f"… {plain_text(' and '.join(found.rails))}",
         f"{energy.busy:.2f} W busy, {energy.idle:.2f} W idle"),
    ]  # fmt: skip
    if energy.problem is not None:
        rows[0] = (rows[0][0], f"not known, {plain_text(energy.problem)}")
    return rows


def _sustained_rows(load: SustainedLoad) -> list[tuple[str, str]]:
    settled = load.settled_after
    rows = [
        ("Sustained latency", time_text(load.latency)),
        ("… relative to cold", f"{load.ratio:.2f}"),
        ("… load lasted", time_text(load.lasted)),
        ("… settled after", "never" if settled is None else time_text(settled)),
    ]
    for name, values, scale, unit in (
        ("Clock", load.frequency, 1e9, "GHz"),
        ("Temperature", load.temperature, 1.0, "°C"),
    ):
        known = values[~np.isnan(values)]
        if len(known):
            begin, end = known[0] / scale, known[-1] / scale
            rows.append((f"… {name.lower()}", f"{begin:.3g} to {end:.3g} {unit}"))
    return rows


def _operators(profile: ModelProfile) -> tuple[Block, ...]:
    """Where the time goes: all operators as bars, by kind, and what belongs to none of them."""
    plot, timed = operators_plot(profile), profile.operators
    if timed is None:
        return (plot,)
    kinds = operator_times_frame(profile).groupby("kind", sort=False)
    rows = [
        (kind, str(len(group)), *_kind_texts(group["ms"].sum() / MILLISECONDS, len(group), timed))
        for kind, group in kinds
    ]
    by_kind = pd.DataFrame(rows, columns=["kind", "count", "time", "share"])
    whole, runner = timed.total, profile.runner
    left = profile.timed_outside
    figures = pd.DataFrame(
        [
            ("Runs of the whole model", count_text(timed.runs)),
            ("The whole, without the profiler", time_text(whole)),
            ("… inside of operators", time_text(timed.in_operators)),
            ("… more than the whole" if timed.exceeds else "… in none of them",
             f"{time_text(abs(timed.residual))} ({percent_text(abs(timed.residual) / whole)})"),
            ("What profiling adds", f"{time_text(timed.overhead)} "
                                    f"({percent_text(timed.overhead / whole)})"),
            (f"Operators outside of {runner}", str(len(left))),
            ("… share of the operators' time", percent_text(timed.share(*left))),
        ],
        columns=["figure", "value"],
    )  # fmt: skip
    caption = "Operators that take less than a microsecond each are counted as zero in the sums."
    rough = (
        "The profiler makes operators longer, the short ones most: with it they add up to more "
        "than the whole takes without it, and their times and shares are rough."
        if timed.exceeds
        else ""
    )
    return (
        plot,
        grid("By kind", by_kind, caption),
        grid("The operators and the whole", figures, rough),
    )


def _kind_texts(seconds: float, count: int, timed: OperatorProfile) -> tuple[str, str]:
    """Time and share of a kind of operator; limits where the profiler saw no time."""
    below = "" if seconds else "< "
    seconds = seconds or count * RESOLUTION
    share = seconds / max(timed.in_operators, RESOLUTION)
    return below + time_text(seconds), below + percent_text(min(share, 1.0))


def _placement_findings(profile: ModelProfile) -> tuple[Finding, ...]:
    placement, runner = profile.placement, profile.runner
    if not placement.outside:
        return ()
    count, timed = len(placement.outside), profile.operators
    share = "" if timed is None else (
        f"; they take {percent_text(timed.share(*profile.timed_outside))} of the operators' time"
    )  # fmt: skip
    return (
        Finding(
            f"{count} of {len(profile.model.operators)} operators run outside of {runner}: "
            f"{placement.words}{share}.",
            f"Give the model operators that {runner} takes; until then its latency is not "
            f"{runner}'s.",
        ),
    )
