"""Figures of what operators cost over their channels: measured ones, and those between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from .blocks import Legend, Plot
from .frames import size_text
from .plots import SERIES, dots, line, style, unit_of

MAPS = 3  # families for which a map is drawn
SMALLEST_MAP = 12  # entries; fewer make no map
HEAT = "Viridis"


def convolution_plots(operators: pd.DataFrame) -> list[Plot]:
    """Heat maps of 1x1 convolutions over input and output channels, for the families of which
    most were measured, and cuts through them at fixed inputs, in which the staircase is visible.

    `operators` is `frames.between_frame`.
    """
    chosen = operators[operators["op"] == "conv_2d"]
    counts = chosen[~chosen["interpolated"].astype(bool)].groupby("family").size()
    plots = []
    for name in counts.sort_values(ascending=False, kind="stable").index[:MAPS]:
        group = chosen[chosen["family"] == name]
        table = group.pivot(index="input_channels", columns="output_channels", values="alone_ms")
        if table.count().sum() < SMALLEST_MAP or min(table.shape) < 2:
            continue
        first = group.iloc[0]
        activation = name.split()[-2]
        size = size_text(int(first["height"]), int(first["width"]))
        with_activation = "" if activation == "none" else f" with {activation}"
        measured = group[~group["interpolated"].astype(bool)]
        title = f"{size_text(1, 1)} convolution on {size}{with_activation}"
        plots.append(_map(title, table, measured))
        plots.append(_cuts(f"… at fixed inputs, {size}", table, measured))
    return plots


def _map(title: str, table: pd.DataFrame, measured: pd.DataFrame) -> Plot:
    unit = unit_of(table.to_numpy()[table.notna().to_numpy()])
    heat = go.Heatmap(
        x=table.columns.to_numpy(),
        y=table.index.to_numpy(),
        z=table.to_numpy() * unit.per_ms,
        colorscale=HEAT,
        hoverongaps=False,
        colorbar={"title": {"text": unit.name, "side": "top"}, "thickness": 10, "outlinewidth": 0,
                  "xpad": 6, "nticks": 6},
        hovertemplate="%{y} in, %{x} out: %{z:.4g} " + unit.name + "<extra></extra>",
    )  # fmt: skip
    points = dots(
        measured["output_channels"], measured["input_channels"], "rgba(255,255,255,0.85)",
        size=4, hoverinfo="skip",
    )  # fmt: skip
    figure = style(
        go.Figure([heat, points]),
        "output channels",
        "input channels",
        x={"showgrid": False},
        y={"showgrid": False},
    )
    caption = "White dots: measured. Between them the table interpolates."
    return Plot(title, figure, caption, height=360)


def _cuts(title: str, table: pd.DataFrame, measured: pd.DataFrame) -> Plot:
    full = table.count(axis=1)
    candidates = table.index[full >= full.max() * 0.9]
    places = np.unique(np.linspace(0, len(candidates) - 1, min(4, len(candidates))).round())
    rows = [candidates[int(place)] for place in places]
    unit = unit_of(table.loc[rows].max().max())
    traces: list[Any] = []
    legend = []
    for number, channels in enumerate(rows):
        cut = table.loc[channels].dropna() * unit.per_ms
        color = SERIES[number % len(SERIES)]
        legend.append(Legend(f"{channels} in", color, "line", len(traces)))
        hover = f"{channels} in, %{{x}} out: %{{y:.4g}} {unit.name}<extra></extra>"
        traces.append(line(cut.index, cut, color, hovertemplate=hover))
        own = measured[measured["input_channels"] == channels]
        traces.append(_points(own["output_channels"], own["alone_ms"] * unit.per_ms, color))
    figure = style(
        go.Figure(traces), "output channels", f"latency ({unit.name})", y={"rangemode": "tozero"}
    )
    caption = (
        "Where a line is flat, more channels cost nothing; where it jumps, fewer pay. Dots were "
        "measured, lines are what the table says between them."
    )
    return Plot(title, figure, caption, tuple(legend), height=360)


def _points(x: Any, y: Any, color: str) -> Any:
    """What was measured, on a line of what the table says."""
    return dots(x, y, color, size=5, hoverinfo="skip")


def depthwise_plots(operators: pd.DataFrame) -> list[Plot]:
    """Depthwise convolutions over channels, a line for each kernel and stride.

    `operators` is `frames.between_frame`.
    """
    chosen = operators[operators["op"] == "depthwise_conv_2d"]
    kernels = sorted(set(chosen["kernel"]))
    plots = []
    for height, width in _frequent_sizes(chosen):
        group = chosen[(chosen["height"] == height) & (chosen["width"] == width)]
        unit = unit_of(group["alone_ms"])
        traces: list[Any] = []
        legend = []
        for kernel, stride in sorted(set(zip(group["kernel"], group["stride"], strict=True))):
            part = group[(group["kernel"] == kernel) & (group["stride"] == stride)]
            cut = part.groupby("input_channels")["alone_ms"].median() * unit.per_ms
            if len(cut) < 3:
                continue
            name = size_text(kernel, kernel) + (f", stride {stride}" if stride > 1 else "")
            color = SERIES[kernels.index(kernel) % len(SERIES)]
            legend.append(Legend(name, color, "dash" if stride > 1 else "line", len(traces)))
            traces.append(
                line(
                    cut.index, cut, color, dash="dot" if stride > 1 else "solid",
                    hovertemplate=f"{name}, %{{x}} channels: %{{y:.4g}} {unit.name}<extra></extra>",
                )
            )  # fmt: skip
            own = part[~part["interpolated"].astype(bool)]
            traces.append(_points(own["input_channels"], own["alone_ms"] * unit.per_ms, color))
        if not traces:
            continue
        title = f"Depthwise convolution on {size_text(height, width)}"
        figure = style(
            go.Figure(traces), "channels", f"latency ({unit.name})", y={"rangemode": "tozero"}
        )
        plots.append(Plot(title, figure, "", tuple(legend)))
    return plots


def _frequent_sizes(operators: pd.DataFrame) -> list[tuple[int, int]]:
    counts = operators.groupby(["height", "width"]).size().sort_values(ascending=False)
    return [(int(height), int(width)) for height, width in counts.index[:MAPS]]
