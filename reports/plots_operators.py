"""The figure of a model's operators: which of them the time goes into, and who runs them."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from ..profiler.profile_model import ModelProfile
from .blocks import Block, Legend, Missing, Plot
from .frames import count_text, operator_times_frame, time_text
from .plots import BLUE, ORANGE, label, style, unit_of

SHOWN = 24  # bars at most; the others are summed up


def operators_plot(profile: ModelProfile) -> Block:
    """The operators that take longest, as bars, coloured by whether the delegate runs them."""
    title = "Time of each operator"
    timed = profile.operators
    if timed is None:
        reason = profile.problem or "measure with `boardfit profile MODEL --operators` to have it"
        return Missing(title, f"the operators were not timed; {reason}")
    frame = operator_times_frame(profile)
    shown, rest = frame.head(SHOWN), frame.iloc[SHOWN:]
    unit = unit_of(frame["ms"])
    names = [label(name) for name in shown["operator"]]
    traces: list[Any] = []
    legend = []
    for name, color, chosen in (
        (f"run by {profile.runner}", BLUE, ~shown["outside"]),
        (f"outside of {profile.runner}", ORANGE, shown["outside"]),
    ):
        if not chosen.any():
            continue
        legend.append(Legend(name, color, "square", len(traces)))
        bars = shown[chosen]
        ran = [label(text) for text in bars["ran_as"]]
        traces.append(
            go.Bar(
                x=bars["ms"] * unit.per_ms,
                y=[names[i] for i in range(len(shown)) if chosen.iloc[i]],
                orientation="h",
                marker={"color": color, "opacity": 0.85},
                text=[f"{share:.0f} %" if share >= 1 else "< 1 %" for share in bars["percent"]],
                textposition="outside",
                cliponaxis=False,
                customdata=ran,
                hovertemplate=f"%{{y}}: %{{x:.4g}} {unit.name}<br>ran as %{{customdata}}"
                "<extra></extra>",
            )
        )
    longest = float(shown["ms"].max()) * unit.per_ms
    figure = style(
        go.Figure(traces),
        f"median of {count_text(timed.runs)} runs ({unit.name})",
        "",
        x={"range": [0, max(longest, unit.per_ms * 1e-3) * 1.18]},
        y={"categoryorder": "array", "categoryarray": names[::-1], "nticks": 0, "dtick": 1},
    )
    figure.update_layout(barmode="overlay")
    caption = (
        "Each operator inside of the whole model, with its position in it and the share of the "
        "operators' time. The profiler drops what is below a microsecond, up to 1 µs an operator."
    )
    if len(rest):
        together = time_text(float(rest["ms"].sum()) / 1e3)
        caption += f" {len(rest)} others take {together} together."
    return Plot(
        title, figure, caption, tuple(legend), height=110 + 24 * max(len(shown), 4), wide=True
    )
