"""Figures of a search: the trade-off that it walked down, and what it found."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from ..search.result import SearchResult
from ..search.space import Architecture
from .blocks import Bar, Bars, Block, Drawing, Legend, Missing, Plot, Stage
from .frames import MILLISECONDS, percent_text, size_text, time_text, trials_frame
from .plots import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, dots, label, line, style, tick, unit_of

FINALISTS = {"found": (ORANGE, "star", 15), "uniform": (GREEN, "square", 10)}


def trade_off_plot(result: SearchResult) -> Block:
    """All scored networks as latency against accuracy, the descent, the Pareto front, the target,
    and the trained networks."""
    title = "Latency against accuracy"
    frame = trials_frame(result)
    if frame.empty:
        return Missing(title, "the search scored no network")
    measured = [finalist.seconds * MILLISECONDS for finalist in result.finalists.values()]
    unit = unit_of([frame["ms"].max(), result.target * MILLISECONDS, *measured])
    frame["x"] = frame["ms"] * unit.per_ms
    hover = (
        f"trial %{{customdata[0]}} (%{{customdata[1]}})<br>%{{x:.4g}} {unit.name} predicted"
        "<br>%{y:.1f} % on the search holdout<extra></extra>"
    )
    origins = [label(str(origin)) for origin in frame["origin"]]
    custom = np.array([frame["number"].astype(str), origins], dtype=object).T
    traces = [
        dots(frame["x"], frame["accuracy_percent"], GREY, size=6, customdata=custom,
             hovertemplate=hover, marker={"opacity": 0.55}),
    ]  # fmt: skip
    legend = [Legend("trial", GREY, "dot", 0)]
    front = frame[frame["pareto"]].sort_values("x")
    legend.append(Legend("Pareto front of the trials", PURPLE, "dash", len(traces)))
    traces.append(
        line(front["x"], front["accuracy_percent"], PURPLE, dash="dot", width=1.5,
             hoverinfo="skip", **{"line_shape": "hv"})
    )  # fmt: skip
    iterates = frame[frame["iterate"]].sort_values("reached")
    if len(iterates) > 1:
        legend.append(Legend("descent, step by step", BLUE, "line", len(traces)))
        traces.append(
            line(iterates["x"], iterates["accuracy_percent"], BLUE, mode="lines+markers",
                 marker={"size": 8}, customdata=custom[iterates.index.to_numpy()],
                 hovertemplate=hover)
        )  # fmt: skip
    for name, finalist in result.finalists.items():
        color, symbol, size = FINALISTS.get(name, (PURPLE, "diamond", 11))
        accuracy = finalist.accuracy * 100
        x = finalist.seconds * MILLISECONDS * unit.per_ms
        legend.append(
            Legend(f"{name}, trained alone (test)", color,
                   "star" if symbol == "star" else "square", len(traces))
        )  # fmt: skip
        traces.append(
            dots(
                [x], [accuracy], color, symbol=symbol, size=size,
                marker={"line": {"width": 1.5, "color": "white"}},
                hovertemplate=f"{label(name)}: %{{x:.4g}} {unit.name} measured"
                "<br>%{y:.1f} % on the test images<extra></extra>",
            )
        )  # fmt: skip
    values = [*frame["accuracy_percent"], *(f.accuracy * 100 for f in result.finalists.values())]
    room = 0.06 * (max(values) - min(values) + 1)
    ends = [min(values) - room, max(values) + room]
    target = result.target * MILLISECONDS * unit.per_ms
    legend.append(Legend(f"target {time_text(result.target)}", RED, "dash", len(traces)))
    traces.append(line([target] * 2, ends, RED, dash="dash", width=1.5, hoverinfo="skip"))
    figure = style(go.Figure(traces), f"latency ({unit.name})", "accuracy (%)", y={"range": ends})
    caption = (
        "Grey, blue and purple are trials: predicted latency, and accuracy on the search holdout "
        "under weights that all networks share. The large marks are the networks trained on their "
        "own: measured latency, and accuracy on the test images. Only these two compare with each "
        "other; trials compare with trials."
    )
    return Plot(title, figure, caption, tuple(legend), height=440, wide=True)


def prediction_plot(result: SearchResult) -> Block:
    """Predicted and measured latency of the trained networks, with the target."""
    rows = list(result.finalists.items())
    highs = [max(f.predicted.high, f.seconds * f.measured.high / f.measured.seconds)
             for _, f in rows]  # fmt: skip
    unit = unit_of(np.array([*highs, result.target]) * MILLISECONDS)
    scale = MILLISECONDS * unit.per_ms
    traces, legend = [], []
    for number, (name, color) in enumerate((("predicted", BLUE), ("measured", ORANGE))):
        x, low, high = [], [], []
        for _, finalist in rows:
            if name == "predicted":
                interval = finalist.predicted
                values = (interval.seconds, interval.low, interval.high)
            else:  # the interval as taken, moved into the table's terms
                ratio = finalist.seconds / finalist.measured.seconds
                values = (
                    finalist.seconds,
                    min(finalist.measured.low * ratio, finalist.seconds),
                    max(finalist.measured.high * ratio, finalist.seconds),
                )
            x.append(values[0] * scale)
            low.append((values[0] - values[1]) * scale)
            high.append((values[2] - values[0]) * scale)
        legend.append(Legend(name, color, "dot", number))
        shift = 0.12 if name == "predicted" else -0.12
        traces.append(
            dots(
                x, [len(rows) - 1 - i + shift for i in range(len(rows))], color, size=10,
                error_x={"type": "data", "symmetric": False, "array": high, "arrayminus": low,
                         "color": color, "thickness": 1.5},
                hovertemplate=f"{name}: %{{x:.4g}} {unit.name}<extra></extra>",
            )
        )  # fmt: skip
    target = result.target * scale
    ends = [-0.6, len(rows) - 0.4]
    legend.append(Legend(f"target {time_text(result.target)}", RED, "dash", len(traces)))
    traces.append(line([target] * 2, ends, RED, dash="dash", width=1.5, hoverinfo="skip"))
    names = [tick(name) for name, _ in rows][::-1]
    figure = style(
        go.Figure(traces),
        f"latency ({unit.name})",
        "",
        y={"range": ends, "tickvals": list(range(len(rows))), "ticktext": names,
           "showgrid": False},
    )  # fmt: skip
    caption = (
        "Measured is in the table's terms: what was taken, divided by the board's slowness that "
        "day. Bars are 95 % limits."
    )
    return Plot(
        "Predicted against measured", figure, caption, tuple(legend), height=120 + 60 * len(rows)
    )


def parts_bars(result: SearchResult) -> Block:
    """How long each part of the search took."""
    title = "Time of each part"
    whole = sum(result.parts.values())
    if whole <= 0:
        return Missing(title, "the run folder does not say how long the parts took")
    longest = max(result.parts.values())
    bars = tuple(
        Bar(name, seconds / longest, f"{time_text(seconds)} · {percent_text(seconds / whole, 0)}")
        for name, seconds in result.parts.items()
    )
    return Bars(title, bars, f"{time_text(whole)} in all, without what a killed process did.")


def network_drawing(result: SearchResult) -> Drawing:
    """The found network block by block: what was kept of the full one, next to the uniform."""
    stages: dict[str, list[int]] = {}
    for i, (name, _, _) in enumerate(result.coordinates):
        stages.setdefault(name.rpartition(".")[0] or name, []).append(i)
    drawn = tuple(_stage(name, places, result) for name, places in stages.items())
    removed = sum(stage.removed for stage in drawn)
    words = {0: "No block was removed", 1: "One block was removed"}
    caption = (
        f"{words.get(removed, f'{removed} blocks were removed')}. Bars show how much of the full "
        "network's width was kept; the tick is the uniform network's."
    )
    return Drawing("The found network, block by block", drawn, caption)


def _stage(name: str, places: list[int], result: SearchResult) -> Stage:
    found: Architecture = result.found.architecture
    bars, label_text, removed = [], "", False
    for i in places:
        coordinate, kind, full = result.coordinates[i]
        if kind == "kernel":
            label_text = size_text(found[i], found[i])
            continue
        if kind == "operator":
            label_text = f"{coordinate.rpartition('.')[2]} {found[i]}"
            continue
        removed = removed or (kind == "filters" and found[i] == 0)
        uniform = result.uniform.architecture[i]
        what = coordinate.rpartition(".")[2]
        bars.append(
            Bar(what, min(1.0, found[i] / max(full, 1)), f"{found[i]} / {full}",
                min(1.0, uniform / max(full, 1)))
        )  # fmt: skip
    return Stage(name, tuple(bars), label_text, removed)
