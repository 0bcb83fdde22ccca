"""Figures of a lookup table: how right it is, where the time goes, and how it repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ..devices.errors import MissingEntry
from ..profiler.calibration import Validation
from ..profiler.table import LookupTable
from .blocks import Block, Legend, Missing, Plot
from .frames import (
    MILLISECONDS,
    median_network,
    percent_text,
    references_frame,
    time_by_kind,
    time_text,
    validation_frame,
)
from .plots import (
    BLUE,
    FAINT,
    GREY,
    RED,
    SERIES,
    dots,
    label,
    line,
    logarithmic_if_wide,
    style,
    unit_of,
)
from .sources import Journal


def validation_plot(validation: Validation) -> Block:
    """Predicted against measured latency of networks that the calibration has not seen."""
    frame = validation_frame(validation)
    unit = unit_of(frame[["measured_ms", "predicted_ms"]].to_numpy())
    measured, predicted = frame["measured_ms"] * unit.per_ms, frame["predicted_ms"] * unit.per_ms
    ends = np.array([0.0, 1.06 * max(measured.max(), predicted.max())])
    traces = [_band(ends, 0.10, "rgba(128,128,128,0.13)"), _band(ends, 0.05, FAINT)]
    traces.append(line(ends, ends, GREY, width=1, hoverinfo="skip"))
    far = np.abs(frame["error_percent"]) > 10
    hover = (
        f"measured %{{x:.4g}} {unit.name}<br>predicted %{{y:.4g}} {unit.name}"
        "<br>error %{customdata:+.1f} %<extra></extra>"
    )
    for chosen, color, symbol in ((~far, BLUE, "circle"), (far, RED, "diamond")):
        traces.append(
            dots(
                measured[chosen], predicted[chosen], color, symbol=symbol, size=7,
                customdata=frame["error_percent"][chosen], hovertemplate=hover,
            )
        )  # fmt: skip
    legend = [
        Legend("held-out network", BLUE, "dot", 3),
        *([Legend("more than 10 % off", RED, "diamond", 4)] if far.any() else []),
        Legend("predicted = measured", GREY, "line", 2),
        Legend("± 5 % and ± 10 %", "rgba(128,128,128,0.4)", "square", 1),
    ]
    noise = validation.noise_floor
    caption = (
        f"{len(frame)} networks that the calibration has not seen. Mean error "
        f"{percent_text(validation.mape)}, worst {percent_text(validation.worst)}. "
    )
    caption += (
        "With a single run the measurement's own noise is not known."
        if np.isnan(noise)
        else f"Two runs of the measurement itself differ by {percent_text(noise)} on average: no "
        "prediction can be better than that."
    )
    figure = style(
        go.Figure(traces),
        f"measured ({unit.name})",
        f"predicted ({unit.name})",
        x={"range": ends.tolist()},
        y={"range": ends.tolist()},
    )
    return Plot("Predicted against measured", figure, caption, tuple(legend), height=400)


def _band(ends: Any, limit: float, color: str) -> Any:
    x = [ends[0], ends[1], ends[1], ends[0]]
    y = [ends[0], ends[1] * (1 + limit), ends[1] * (1 - limit), ends[0]]
    return go.Scatter(
        x=x, y=y, mode="lines", line={"width": 0}, fill="toself", fillcolor=color, hoverinfo="skip"
    )


def errors_plot(validation: Validation) -> Block:
    """The distribution of the relative errors on held-out networks."""
    errors = validation.errors * 100
    if len(errors) < 5:
        return Missing("Errors", f"{len(errors)} held-out networks are too few for a distribution")
    reach = max(12.0, float(np.ceil(np.abs(errors).max())))
    counts, edges = np.histogram(errors, bins=np.arange(-reach, reach + 1, max(1.0, reach // 15)))
    middle = (edges[:-1] + edges[1:]) / 2
    colors = [RED if abs(value) > 10 else BLUE for value in middle]
    bars = go.Bar(
        x=middle, y=counts, width=np.diff(edges), marker={"color": colors, "opacity": 0.8},
        hovertemplate="about %{x:+.1f} %: %{y} networks<extra></extra>",
    )  # fmt: skip
    figure = style(go.Figure([bars]), "error (%)", "networks", x={"ticksuffix": " "})
    caption = "Left of zero the table predicts too little, right of it too much; red: beyond 10 %."
    return Plot("Errors on held-out networks", figure, caption, height=400)


def kinds_plot(table: LookupTable) -> Block:
    """Where the time of a network of median size goes, by kind of operator."""
    title = "Where the time goes"
    network = median_network(table)
    if network is None:
        return Missing(title, "no whole networks were measured with this table")
    try:
        totals = time_by_kind(table, network)
    except MissingEntry as error:
        return Missing(title, f"the median network cannot be priced: {error}")
    whole = sum(totals.values())
    shares = {label(name): ms / whole * 100 for name, ms in totals.items() if ms >= whole / 100}
    if rest := sum(ms < whole / 100 for ms in totals.values()):
        shares[f"{rest} others"] = 100 - sum(shares.values())
    bars = go.Bar(
        x=list(shares.values()),
        y=list(shares),
        orientation="h",
        marker={"color": BLUE, "opacity": 0.85},
        text=[f"{share:.0f} %" if share >= 1 else "< 1 %" for share in shares.values()],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
    )
    figure = style(
        go.Figure([bars]),
        "share of the latency (%)",
        "",
        x={"range": [0, max(shares.values()) * 1.18]},
        y={"autorange": "reversed", "nticks": 0, "dtick": 1},
    )
    caption = (
        f"The network of median latency among those measured ({time_text(whole / MILLISECONDS)} "
        "predicted), by kind of operator."
    )
    return Plot(title, figure, caption, height=max(340, 110 + 24 * len(shares)))


def spread_plot(operators: pd.DataFrame) -> Block:
    """How far the runs' values of one operator lie apart."""
    title = "Spread between runs"
    if len(operators) < 5 or operators["runs"].max() < 2:
        return Missing(title, "it takes two runs and a few operators to show one")
    spread = operators["spread_percent"].to_numpy(float)
    end = max(float(np.quantile(spread, 0.99)), 1.0)
    counts, edges = np.histogram(spread[spread <= end], bins=30)
    bars = go.Bar(
        x=(edges[:-1] + edges[1:]) / 2, y=counts, width=np.diff(edges),
        marker={"color": BLUE, "opacity": 0.75},
        hovertemplate="about %{x:.1f} %: %{y} operators<extra></extra>",
    )  # fmt: skip
    figure = style(go.Figure([bars]), "largest over smallest run (%)", "operators")
    caption = (
        f"Half of the operators repeat within {np.median(spread):.1f} %, nineteen of twenty within "
        f"{np.quantile(spread, 0.95):.1f} %; the worst differs by {spread.max():.0f} %."
    )
    return Plot(title, figure, caption)


def reference_plot(journal: Journal) -> Block:
    """The reference model's time over the whole measurement: whether the board kept its speed."""
    title = "Reference model over time"
    frame = references_frame(journal)
    if len(frame) < 3:
        return Missing(title, "the reference model was visited fewer than three times")
    unit = unit_of(frame["ms"])
    traces: list[Any] = []
    legend = []
    for session, group in frame.groupby("session"):
        name, color = f"session {session}", SERIES[len(traces) % len(SERIES)]
        legend.append(Legend(name, color, "dot", len(traces)))
        hover = f"{name}, visit %{{x}}: %{{y:.4g}} {unit.name}<extra></extra>"
        traces.append(
            dots(group["visit"], group["ms"] * unit.per_ms, color, size=5, hovertemplate=hover)
        )
    slow = frame[frame["slow"].astype(bool)]
    if len(slow):
        legend.append(Legend("slow state", RED, "diamond", len(traces)))
        traces.append(
            dots(
                slow["visit"], slow["ms"] * unit.per_ms, RED, symbol="diamond-open", size=9,
                hoverinfo="skip",
            )
        )  # fmt: skip
    middle = float(frame["ms"].median()) * unit.per_ms
    ends = [1, len(frame)]
    traces.append(line(ends, [middle, middle], GREY, dash="dash", width=1.5, hoverinfo="skip"))
    legend.append(Legend("median", GREY, "dash", len(traces) - 1))
    settings = logarithmic_if_wide(frame["ms"] * unit.per_ms)
    figure = style(go.Figure(traces), "visit", f"latency ({unit.name})", y=settings)
    caption = "One fixed model is visited between all others; a steady board gives a level row."
    if len(slow):
        caption += (
            f" {percent_text(journal.drift.slow_share, 0)} of the time the board was in a slow "
            "state; what was measured then was measured again."
        )
    return Plot(title, figure, caption, tuple(legend))
