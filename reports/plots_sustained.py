"""The figure of lasting load: latency over minutes, beside the cold number."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from ..profiler.sustained import SustainedLoad
from .blocks import Block, Legend, Missing, Plot
from .frames import MILLISECONDS, time_text
from .plots import BLUE, GREEN, GREY, ORANGE, RED, dots, line, style, unit_of


def sustained_plot(load: SustainedLoad) -> Block:
    """Each window's median and minimum over time, with the cold and the sustained latency; where
    the board tells its clock frequency, that too."""
    title = "Latency under lasting load"
    if len(load.at) < 2:
        return Missing(title, "it lasted for less than two windows")
    minutes = load.at[-1] > 180
    x, name = (load.at / 60, "min") if minutes else (load.at, "s")
    unit = unit_of(load.median * MILLISECONDS)
    scale = MILLISECONDS * unit.per_ms
    low, high = min(load.minimum.min(), load.cold), max(load.median.max(), load.cold)
    hover = f"after %{{x:.3g}} {name}: %{{y:.4g}} {unit.name}<extra></extra>"
    ends = [float(x[0]), float(x[-1])]
    traces = [
        dots(x, load.median * scale, BLUE, size=4, hovertemplate=f"median {hover}"),
        line(x, load.minimum * scale, GREEN, width=1, hovertemplate=f"minimum {hover}"),
        line(ends, [load.cold * scale] * 2, GREY, dash="dash", hoverinfo="skip"),
        line(ends, [load.latency * scale] * 2, ORANGE, hoverinfo="skip"),
    ]
    legend = [
        Legend("median of a window", BLUE, "dot", 0),
        Legend("its minimum", GREEN, "line", 1),
        Legend(f"cold median {time_text(load.cold)}", GREY, "dash", 2),
        Legend(f"sustained {time_text(load.latency)}", ORANGE, "line", 3),
    ]
    caption = "One point a window of about a second, without a pause between windows."
    figure = style(
        go.Figure(traces), f"time under load ({name})", f"latency ({unit.name})",
        y={"range": [0.9 * low * scale, 1.05 * high * scale]},
    )  # fmt: skip
    if not np.isnan(load.frequency).all():
        legend.append(Legend("clock frequency", RED, "dash", len(traces)))
        figure.add_trace(
            line(
                x, load.frequency / 1e9, RED, dash="dot", width=1, yaxis="y2",
                hovertemplate=f"after %{{x:.3g}} {name}: %{{y:.3g}} GHz<extra></extra>",
            )
        )  # fmt: skip
        figure.update_layout(
            margin={"r": 60},
            yaxis2={
                "overlaying": "y", "side": "right", "rangemode": "tozero", "showgrid": False,
                "automargin": True, "nticks": 7, "tickmode": "auto",
                "title": {"text": "clock (GHz)", "standoff": 8, "font": {"size": 12}},
            },
        )  # fmt: skip
        caption += " The clock is the worker's core's, on the right."
    return Plot(title, figure, caption, tuple(legend), wide=True)
