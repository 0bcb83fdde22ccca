"""Results as data frames and as text: here seconds become milliseconds.

Frames have one row for each thing; columns that end in `ms` are milliseconds, those that end in
`percent` per cent.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from ..profiler.calibration import Validation, kind
from ..profiler.families import by_family, channels
from ..profiler.layers import Network
from ..profiler.profile_model import ModelProfile
from ..profiler.table import LookupTable
from ..search.result import Finalist, Int8File, SearchResult
from .sources import Journal, Sample

MILLISECONDS = 1e3  # in a second
GRID = 40  # places along an axis of channels for which a price is drawn
CROWDING = "crowded caches"  # what layers lose to each other, called so in a plot
NETWORK_ITSELF = "network itself"  # what the calibration's constant is called in a plot


def time_text(seconds: float) -> str:
    """A time as people read it, three digits: `1.23 s`, `12.3 ms`, `123 µs`; from two minutes on
    `12 min 49 s` or `3 h 5 min`."""
    if not seconds:
        return "0 s"
    for scale, unit, end in ((1e-6, "µs", 1000), (1e-3, "ms", 1000), (1.0, "s", 120)):
        if float(f"{abs(seconds) / scale:.3g}") < end:
            return f"{three_digits(seconds / scale)} {unit}"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def three_digits(value: float) -> str:
    """A number with three significant digits and no exponent, e.g. `0.0123`, `12.3`, `1,230`."""
    if not value:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def percent_text(share: float, digits: int = 1) -> str:
    """A share as per cent, e.g. `12.3 %`."""
    return "unknown" if math.isnan(share) else f"{share * 100:.{digits}f} %"


def size_text(*sizes: int) -> str:
    """Sizes along several axes, e.g. `16 x 16` written with a multiplication sign."""
    return "\N{MULTIPLICATION SIGN}".join(str(size) for size in sizes)


def count_text(count: float) -> str:
    """A count with a thousand's prefix, three digits: `951`, `1.23 k`, `45.6 M`, `7.89 G`."""
    for scale, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= scale:
            return f"{three_digits(count / scale)}{prefix}"
    return f"{count:,.0f}"


def bytes_text(count: float) -> str:
    """A size in bytes, three digits: `951 B`, `1.23 KiB`, `4.56 MiB`."""
    for scale, prefix in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= scale:
            return f"{three_digits(count / scale)} {prefix}"
    return f"{count:,.0f} B"


def interval_text(low: float, high: float) -> str:
    """The limits of an interval in seconds, with one unit: `12.1 to 13.4 ms`."""
    bottom, top = time_text(low), time_text(high)
    if bottom == top:
        return top
    value, _, unit = bottom.rpartition(" ")
    return f"{value} to {top}" if top.endswith(f" {unit}") else f"{bottom} to {top}"


def conditions_frame(conditions: Mapping[str, object]) -> pd.DataFrame:
    """What a board was and how it ran: name and value in words; what is unknown is said."""
    rows = [
        (str(name).replace("_", " "), "not known" if value is None else plain_text(value))
        for name, value in conditions.items()
    ]
    return pd.DataFrame(rows, columns=["condition", "value"])


def plain_text(value: object) -> str:
    """A JSON value in words: lists and objects flattened to one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {plain_text(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(plain_text(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def operators_frame(table: LookupTable) -> pd.DataFrame:
    """The operators of a table (`LookupTable.frame`), times in milliseconds."""
    frame = table.frame()
    frame["alone_ms"] = frame.pop("seconds_alone") * MILLISECONDS
    frame["in_network_ms"] = frame.pop("seconds") * MILLISECONDS
    frame["spread_percent"] = frame.pop("spread_between_runs") * 100
    return frame


def between_frame(table: LookupTable) -> pd.DataFrame:
    """1x1 and depthwise convolutions on images as a table prices them, for drawing: those that
    were measured and, `interpolated`, those between them; times alone in milliseconds."""
    rows = []
    measured = by_family(operator.layer for operator in table.operators.values())
    for group, layers in measured.items():
        first = layers[0]
        pointwise = first.op == "conv_2d" and first.kernel == 1
        if not (pointwise or first.op == "depthwise_conv_2d") or first.inputs[0][:2] == (1, 1):
            continue
        own = {channels(layer) for layer in layers}
        for counts in sorted(own | set(_grid(np.array(sorted(own))))):
            height, width, _ = first.inputs[0]
            layer = replace(
                first,
                inputs=((height, width, counts[0]),),
                output=(*first.output[:2], counts[-1]),
            )
            rows.append(
                {
                    "family": group.name,
                    "op": layer.op,
                    "height": height,
                    "width": width,
                    "kernel": layer.kernel,
                    "stride": layer.stride,
                    "input_channels": counts[0],
                    "output_channels": counts[-1],
                    "alone_ms": table.alone(layer).seconds * MILLISECONDS,
                    "interpolated": counts not in own,
                }
            )
    names = ["family", "op", "height", "width", "kernel", "stride", "input_channels"]
    return pd.DataFrame(rows, columns=[*names, "output_channels", "alone_ms", "interpolated"])


def _grid(places: np.ndarray) -> list[tuple[int, ...]]:
    """Channel counts between those that occur, at most `GRID` along each axis."""
    axes = []
    for counts in places.T:
        step = int(np.gcd.reduce(counts))
        low, high = int(counts.min()) // step, int(counts.max()) // step
        axes.append(np.unique(np.linspace(low, high, min(GRID, high - low + 1)).round()) * step)
    return [tuple(int(count) for count in point) for point in itertools.product(*axes)]


def validation_frame(validation: Validation) -> pd.DataFrame:
    """Held-out networks: predicted and measured milliseconds, the error, the runs' extremes."""
    return pd.DataFrame(
        {
            "predicted_ms": validation.predicted * MILLISECONDS,
            "measured_ms": validation.measured * MILLISECONDS,
            "low_ms": validation.runs.min(axis=1) * MILLISECONDS,
            "high_ms": validation.runs.max(axis=1) * MILLISECONDS,
            "error_percent": validation.errors * 100,
        }
    )


def time_by_kind(table: LookupTable, network: Network) -> dict[str, float]:
    """Predicted milliseconds of each kind of operator in a network, the largest first.

    Raises `MissingEntry` where the table lacks a price.
    """
    totals: defaultdict[str, float] = defaultdict(float)
    for layer in network.layers:
        totals[kind(layer)] += table.price(layer) * MILLISECONDS
    totals[CROWDING] += table.crowding(*table.footprint(network.layers)) * MILLISECONDS
    totals[NETWORK_ITSELF] += table.constant * MILLISECONDS
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def median_network(table: LookupTable) -> Network | None:
    """Of the networks measured with the table, the one of median latency; None without any."""
    ordered = sorted(table.networks.values(), key=lambda item: float(np.median(item[2])))
    return ordered[len(ordered) // 2][1] if ordered else None


def references_frame(journal: Journal) -> pd.DataFrame:
    """Each visit to the reference model in order: number, session, whether the board was in a slow
    state, milliseconds."""
    rows = [(r.session, r.slow, r.seconds) for r in journal.references]
    frame = pd.DataFrame(rows, columns=["session", "slow", "seconds"])
    frame["visit"] = np.arange(1, len(frame) + 1)
    frame["ms"] = frame.pop("seconds") * MILLISECONDS
    return frame


def reference_drift(journal: Journal) -> float:
    """How far the sessions' median reference times lie apart, relative to the smallest."""
    frame = references_frame(journal)
    medians = frame.groupby("session")["ms"].median()
    return float(medians.max() / medians.min() - 1) if len(medians) else 0.0


def samples_frame(samples: Iterable[Sample]) -> pd.DataFrame:
    """Every sample in order: number, run, whether it is warm-up, milliseconds."""
    rows = [(s.run, s.round, s.warmup, s.seconds * MILLISECONDS) for s in samples]
    frame = pd.DataFrame(rows, columns=["run", "round", "warmup", "ms"])
    frame.insert(0, "number", np.arange(1, len(frame) + 1))
    return frame


def model_operators_frame(profile: ModelProfile) -> pd.DataFrame:
    """The kinds of operators of a model: how often each occurs, and its parameters."""
    model = profile.model
    rows = [
        (name, count, sum(o.parameters for o in model.operators if o.name == name))
        for name, count in model.operator_counts.items()
    ]
    return pd.DataFrame(rows, columns=["operator", "count", "parameters"])


def operator_times_frame(profile: ModelProfile) -> pd.DataFrame:
    """The operators that were timed, the longest first: name with position, kind, output shape,
    milliseconds, share, delegate, whether it was left out, and what the runtime ran. Empty where
    none was timed."""
    columns = ["operator", "kind", "output", "ms", "percent", "delegate", "outside", "ran_as"]
    timed = profile.operators
    if timed is None:
        return pd.DataFrame(columns=columns)
    rows = [
        (
            o.label if o.index < 0 else f"{o.label} ({o.index})",
            o.label,
            "" if shape is None else size_text(*shape),
            o.median * MILLISECONDS,
            timed.share(o) * 100,
            o.delegate,
            profile.runs_outside(o),
            o.name,
        )
        for o, shape in zip(timed.operators, timed.output_shapes(profile.model), strict=True)
    ]
    frame = pd.DataFrame(rows, columns=columns).astype({"delegate": object})
    return frame.sort_values("ms", ascending=False, kind="stable", ignore_index=True)


def trials_frame(result: SearchResult) -> pd.DataFrame:
    """The networks that a search scored, each once: milliseconds, accuracy, origin, Pareto.

    `whole` says that a network was scored on the whole holdout; those that a race left behind are
    in no Pareto front. An optimiser names its iterates again when it goes on from them; such a row
    is `iterate`.
    """
    rows: dict[tuple[int, ...], dict[str, object]] = {}
    for order, trial in enumerate(result.trials):
        row = rows.setdefault(
            trial.architecture,
            {
                "number": trial.number,
                "ms": trial.metric * MILLISECONDS,
                "accuracy_percent": trial.accuracy * 100,
                "origin": trial.origin,
                "whole": trial.images is None,
                "iterate": False,
                "reached": order,
            },
        )
        if trial.origin == "iterate" and not row["iterate"]:
            row.update(iterate=True, reached=order)
    columns = ["number", "ms", "accuracy_percent", "origin", "whole", "iterate", "reached"]
    frame = pd.DataFrame(list(rows.values()), columns=columns).astype({"whole": bool})
    whole = frame[frame["whole"]]
    frame["pareto"] = False
    frame.loc[whole.index, "pareto"] = pareto(
        whole["ms"].to_numpy(float), whole["accuracy_percent"].to_numpy(float)
    )
    return frame


def pareto(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Which points no other beats: none is at most as costly and scores at least as high,
    unless it is equal in both (then the first stands for all)."""
    order = np.lexsort((np.arange(len(cost)), -score, cost))
    front = np.zeros(len(cost), bool)
    best = -math.inf
    for i in order.tolist():
        if score[i] > best:
            front[i] = True
            best = float(score[i])
    return front


def candidates_frame(result: SearchResult) -> pd.DataFrame:
    """The networks that were measured during a search, in order, in words."""
    rows = []
    for number, candidate in enumerate(result.candidates, 1):
        reading = candidate.reading
        chosen = candidate.architecture == result.found.architecture
        rows.append(
            {
                "": f"{number} (found)" if chosen else f"{number}",
                "Predicted": time_text(reading.predicted.seconds),
                "Expected, after those before": time_text(candidate.expected),
                "Measured": time_text(reading.seconds),
                "Another session": _limits(reading.limits),
                "Against the target": f"{(reading.seconds / result.target - 1) * 100:+.1f} %",
                "Verdict": reading.verdict,
            }
        )
    return pd.DataFrame(rows)


INT8_PROPERTIES: dict[str, Callable[[Int8File], str]] = {
    "the file's test accuracy": lambda i: percent_text(i.accuracy),
    "latency, measured": lambda i: time_text(i.seconds),
    "… where another session falls": lambda i: _limits(i.limits),
    "… verdict on the samples": lambda i: i.verdict,
    "file size": lambda i: bytes_text(i.size),
    "file": lambda i: i.file,
}


def _of_int8(get: Callable[[Int8File], str], finalist: Finalist) -> str:
    return "" if finalist.int8 is None else get(finalist.int8)


def _limits(limits: tuple[float, float] | None) -> str:
    return "not known" if limits is None else interval_text(*limits)


def finalists_frame(result: SearchResult) -> pd.DataFrame:
    """The comparison of the trained networks: a row a property, a column a network, in words."""
    properties: dict[str, Callable[[Finalist], str]] = {
        "Test accuracy (trained alone)": lambda f: percent_text(f.accuracy),
        "The exported file's test accuracy": lambda f: percent_text(f.exported_accuracy),
        "Latency, predicted": lambda f: time_text(f.predicted.seconds),
        "… 95 % limits": lambda f: interval_text(f.predicted.low, f.predicted.high),
        "Latency, measured (in the table's terms)": lambda f: time_text(f.seconds),
        "… as taken (median)": lambda f: time_text(f.measured.seconds),
        "… 95 % interval": lambda f: interval_text(f.measured.low, f.measured.high),
        "… where another session falls (in the table's terms)": lambda f: _limits(f.limits),
        "… verdict on the samples": lambda f: f.verdict,
        "Predicted relative to measured": lambda f: f"{f.prediction_error * 100:+.1f} %",
        "Board's slowness now relative to the table's": lambda f: three_digits(f.anchor_ratio),
        "Multiply-accumulates": lambda f: count_text(f.macs),
        "Parameters": lambda f: count_text(f.parameters),
        "Peak memory (activations)": lambda f: bytes_text(f.peak_memory),
        "File size": lambda f: bytes_text(f.size),
        "File": lambda f: f.file,
    }
    if any(finalist.int8 for finalist in result.finalists.values()):
        properties |= {
            f"int8: {what}": partial(_of_int8, get) for what, get in INT8_PROPERTIES.items()
        }
    columns = {"": list(properties)}
    for name, finalist in result.finalists.items():
        columns[name.capitalize()] = [get(finalist) for get in properties.values()]
    return pd.DataFrame(columns)
