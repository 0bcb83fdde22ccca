"""The look that all figures share, and the figures of single models and of several items.

Axis titles are short and carry the unit; legends are no part of a figure, they stand below it as
text that wraps (`blocks.Legend`). Colours are readable on light and dark ground.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from ..profiler.profile_model import ModelProfile
from .blocks import Block, Legend, Missing, Plot
from .frames import MILLISECONDS, samples_frame, time_text
from .sources import Sample

BLUE, ORANGE, GREEN, PURPLE, RED, TEAL = (
    "#3d85c6", "#e0812b", "#3f9e63", "#8f6ac8", "#d0505f", "#2a9d9d",
)  # fmt: skip
GREY = "#8b919a"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, TEAL)
FAINT = "rgba(128,128,128,0.18)"


@dataclass(frozen=True)
class Unit:
    """A unit of time for an axis, and how many of it are in a millisecond."""

    name: str
    per_ms: float


def unit_of(milliseconds: Any) -> Unit:
    """The unit in which the largest of some times is easy to read."""
    largest = float(np.max(milliseconds)) if np.size(milliseconds) else 1.0
    for name, per_ms in (("µs", 1e3), ("ms", 1.0)):
        if largest * per_ms < 1000:
            return Unit(name, per_ms)
    return Unit("s", 1e-3)


def label(text: str) -> str:
    """A name for use inside a figure: Plotly reads a subset of HTML, a name is none."""
    return html.escape(text, quote=False).replace("%{", "%\u200b{")


def tick(text: str) -> str:
    """A name as the label of an axis: at most three short lines."""
    lines = textwrap.wrap(text, 20) or [""]
    return "<br>".join(label(part) for part in lines[:3]) + (" …" if len(lines) > 3 else "")


def style(
    figure: go.Figure, x_title: str, y_title: str, *, x: Any = None, y: Any = None
) -> go.Figure:
    """Give a figure the common look; `x` and `y` are further settings of its axes."""
    axis = {
        "gridcolor": FAINT,
        "zerolinecolor": FAINT,
        "linecolor": FAINT,
        "automargin": True,
        "ticks": "",
        "nticks": 7,
    }
    figure.update_layout(
        template="none",
        showlegend=False,
        margin={"l": 52, "r": 14, "t": 14, "b": 46},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12},
        hovermode="closest",
    )
    title = {"standoff": 8, "font": {"size": 12}}
    figure.update_xaxes({**axis, "title": {"text": x_title, **title}, **(x or {})})
    figure.update_yaxes({**axis, "title": {"text": y_title, **title}, **(y or {})})
    return figure


def dots(x: Any, y: Any, color: str, *, symbol: str = "circle", size: int = 6, **more: Any) -> Any:
    """A trace of points."""
    marker = {"color": color, "symbol": symbol, "size": size, **more.pop("marker", {})}
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, **more)


def line(x: Any, y: Any, color: str, *, dash: str = "solid", width: float = 2, **more: Any) -> Any:
    """A trace of joined points."""
    more.setdefault("mode", "lines")
    return go.Scatter(x=x, y=y, line={"color": color, "dash": dash, "width": width}, **more)


def logarithmic_if_wide(values: Any) -> dict[str, Any]:
    """The settings of a time axis: logarithmic, with ticks at 1, 2, 5, 10, ... written out, where
    outliers would press everything else into a line; plain otherwise."""
    if np.max(values) <= 4 * np.min(values):
        return {}
    decades = range(math.floor(math.log10(np.min(values))), math.ceil(math.log10(np.max(values))))
    ticks = [step * 10.0**decade for decade in decades for step in (1, 2, 5)]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def samples_plot(samples: Sequence[Sample]) -> Block:
    """Every sample in the order in which it was taken, coloured by run, warm-up apart."""
    title = "Every sample, in order"
    frame = samples_frame(samples)
    if frame.empty:
        return Missing(title, "there are no samples")
    unit = unit_of(frame["ms"][~frame["warmup"]])
    traces, legend = [], []
    warm = frame[frame["warmup"]]
    if len(warm):
        traces.append(
            dots(
                warm["number"], warm["ms"] * unit.per_ms, GREY, symbol="circle-open", size=5,
                hovertemplate=f"warm-up<br>sample %{{x}}: %{{y:.4g}} {unit.name}<extra></extra>",
            )
        )  # fmt: skip
        legend.append(Legend("warm-up", GREY, "ring", 0))
    for run, group in frame[~frame["warmup"]].groupby("run"):
        name, color = f"run {int(str(run)) + 1}", SERIES[int(str(run)) % len(SERIES)]
        legend.append(Legend(name, color, "dot", len(traces)))
        hover = f"{name}<br>sample %{{x}}: %{{y:.4g}} {unit.name}<extra></extra>"
        traces.append(
            dots(group["number"], group["ms"] * unit.per_ms, color, size=5, hovertemplate=hover)
        )
    settings = logarithmic_if_wide(frame["ms"] * unit.per_ms)
    caption = (
        "One point a sample. Warm-up is shown but never counted; points far above the others are "
        "outliers, counted and kept."
    )
    if settings:
        caption += " The time axis is logarithmic."
    figure = style(go.Figure(traces), "sample number", f"latency ({unit.name})", y=settings)
    return Plot(title, figure, caption, tuple(legend), wide=True)


def histogram_plot(profile: ModelProfile) -> Block:
    """How the samples are distributed, with median and 90th percentile."""
    title = "Distribution of the samples"
    seconds = profile.measurement.seconds
    if len(seconds) < 5:
        return Missing(title, f"{len(seconds)} samples are too few for a distribution")
    first, third = np.quantile(seconds, [0.25, 0.75])
    percentile = profile.measurement.percentile_90.seconds
    end = max(third + 3 * max(third - first, 0.01 * third), percentile)
    shown = seconds[seconds <= end]
    unit = unit_of(end * MILLISECONDS)
    scale = MILLISECONDS * unit.per_ms
    counts, edges = np.histogram(shown * scale, bins=min(40, max(8, len(shown) // 8)))
    bars = go.Bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=counts,
        width=np.diff(edges),
        marker={"color": BLUE, "line": {"width": 0}, "opacity": 0.75},
        hovertemplate=f"%{{x:.4g}} {unit.name}: %{{y}} samples<extra></extra>",
    )
    top = int(counts.max()) * 1.05
    traces, legend = [bars], [Legend("samples", BLUE, "square", 0)]
    for name, value, color, dash in (
        ("median", profile.measurement.median.seconds, ORANGE, "solid"),
        ("90th percentile", percentile, PURPLE, "dash"),
    ):
        legend.append(
            Legend(f"{name} {time_text(value)}", color, "dash" if dash == "dash" else "line",
                   len(traces))
        )  # fmt: skip
        traces.append(line([value * scale] * 2, [0, top], color, dash=dash, hoverinfo="skip"))
    caption = "All timed samples of all runs."
    if len(shown) < len(seconds):
        caption = (
            f"{len(seconds) - len(shown)} of {len(seconds)} samples lie above "
            f"{time_text(float(end))} and are not drawn here; the plot of every sample has them."
        )
    figure = style(
        go.Figure(traces), f"latency ({unit.name})", "samples", y={"rangemode": "tozero"}
    )
    figure.update_layout(bargap=0)
    return Plot(title, figure, caption, tuple(legend))


def runs_plot(profile: ModelProfile) -> Block:
    """The median and the quartiles of each run: whether fresh processes agree."""
    title = "Run by run"
    measurement = profile.measurement
    frame = pd.DataFrame({"run": measurement.run + 1, "ms": measurement.seconds * MILLISECONDS})
    summary = frame.groupby("run")["ms"].quantile(np.array([0.0, 0.25, 0.5, 0.75])).unstack()
    if len(summary) < 2:
        return Missing(title, "there is one run only, so that runs cannot be compared")
    unit = unit_of(summary.to_numpy())
    low, first, median, third = (summary[q] * unit.per_ms for q in (0.0, 0.25, 0.5, 0.75))
    names = [f"run {run}" for run in summary.index]
    traces = [
        dots(
            names, median, BLUE, size=10,
            error_y={"type": "data", "symmetric": False, "array": third - median,
                     "arrayminus": median - first, "color": BLUE, "thickness": 1.5},
            hovertemplate=f"%{{x}}: median %{{y:.4g}} {unit.name}<extra></extra>",
        ),
        dots(
            names, low, GREEN, symbol="line-ew-open", size=16, marker={"line": {"width": 2}},
            hovertemplate=f"%{{x}}: minimum %{{y:.4g}} {unit.name}<extra></extra>",
        ),
    ]  # fmt: skip
    legend = (
        Legend("median and quartiles", BLUE, "dot", 0),
        Legend("minimum", GREEN, "line", 1),
    )
    caption = "Each run is a fresh process; where they differ, a single run would have misled."
    figure = style(go.Figure(traces), "", f"latency ({unit.name})", x={"type": "category"})
    return Plot(title, figure, caption, legend)


@dataclass(frozen=True)
class Timed:
    """Something with a latency, for the common plot: seconds, with the interval's limits."""

    name: str
    group: str
    seconds: float
    low: float
    high: float


def latencies_plot(items: Sequence[Timed]) -> Block:
    """The latencies of several models and networks side by side."""
    title = "Latency side by side"
    if len(items) < 2:
        return Missing(title, "fewer than two models or trained networks are reported")
    unit = unit_of([item.high * MILLISECONDS for item in items])
    scale = MILLISECONDS * unit.per_ms
    colors = {group: SERIES[i % len(SERIES)] for i, group in
              enumerate(dict.fromkeys(item.group for item in items))}  # fmt: skip
    traces: list[Any] = []
    legend = []
    for group, color in colors.items():
        chosen = [item for item in items if item.group == group]
        seconds = np.array([item.seconds for item in chosen])
        legend.append(Legend(group, color, "dot", len(traces)))
        traces.append(
            dots(
                seconds * scale, [-items.index(item) for item in chosen], color, size=11,
                text=[label(item.name) for item in chosen],
                error_x={"type": "data", "symmetric": False, "color": color, "thickness": 1.5,
                         "array": (np.array([i.high for i in chosen]) - seconds) * scale,
                         "arrayminus": (seconds - np.array([i.low for i in chosen])) * scale},
                hovertemplate=f"%{{text}}: %{{x:.4g}} {unit.name}<extra></extra>",
            )
        )  # fmt: skip
    names = [tick(item.name) for item in items]
    figure = style(
        go.Figure(traces),
        f"measured latency ({unit.name})",
        "",
        x={"rangemode": "tozero"},
        y={
            "range": [0.6 - len(items), 0.6],
            "tickvals": [-i for i in range(len(items))],
            "ticktext": names,
        },
    )
    caption = (
        "Models: medians as they were taken. Networks of a search: in the terms of their table. "
        "Bars are 95 % intervals."
    )
    return Plot(title, figure, caption, tuple(legend), height=110 + 44 * len(names), wide=True)
