"""Results in rows and sentences for the terminal; milliseconds and microseconds appear here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from boardfit.profiler.entry_verdict import ENTRY_ADVICE
from boardfit.profiler.measurement import ADVICE, seconds_text
from boardfit.profiler.operators import RESOLUTION

if TYPE_CHECKING:
    from boardfit.profiler.compare_dtypes import DtypeComparison
    from boardfit.profiler.forecast import Forecast
    from boardfit.profiler.profile_model import ModelProfile
    from boardfit.profiler.sustained import SustainedLoad
    from boardfit.profiler.table import Estimate, LookupTable
    from boardfit.search.result import SearchResult

Row = dict[str, Any]


def profile_rows(profile: ModelProfile) -> list[Row]:
    """One row about a model's latency."""
    measured, session = profile.measurement, profile.measurement.another_session
    load = profile.sustained
    sustained: Row = {}
    if load is not None:
        sustained = {
            "sustained_ms": load.latency * 1e3,
            "sustained_to_cold": load.ratio,
            "sustained_for_s": load.lasted,
            "settled_after_s": load.settled_after,
        }
    return [
        {
            "model": profile.name,
            "median_ms": measured.median.seconds * 1e3,
            "low_ms": measured.median.low * 1e3,
            "high_ms": measured.median.high * 1e3,
            "p90_ms": measured.percentile_90.seconds * 1e3,
            "minimum_ms": measured.minimum * 1e3,
            "session_low_ms": None if session is None else session.low * 1e3,
            "session_high_ms": None if session is None else session.high * 1e3,
            **sustained,
            "verdict": measured.verdict,
            "sessions": len(measured.run_minima),
            "samples": len(measured.seconds),
            "outliers": measured.outliers,
            "size_kb": profile.model.size / 1e3,
            "parameters": profile.model.parameters,
            "operators": sum(profile.model.operator_counts.values()),
        }
    ]


def operator_rows(profile: ModelProfile) -> list[Row]:
    """A row for each operator that was timed, the longest first."""
    timed = profile.operators
    if timed is None:
        return []
    shapes = dict(zip(timed.operators, timed.output_shapes(profile.model), strict=True))
    return [
        {
            "operator": operator.label,
            "index": operator.index if operator.index >= 0 else None,
            "output": shapes[operator],
            "share_%": timed.share(operator) * 100,
            "median_us": operator.median * 1e6,
            "quartiles_us": [seconds * 1e6 for seconds in operator.quartiles],
            "delegate": operator.delegate,
            "ran_as": operator.name,
        }
        for operator in timed.by_time
    ]


def operator_table(profile: ModelProfile) -> list[Row]:
    """`operator_rows` as a narrow table; those that the profiler saw take no time are counted."""
    rows = operator_rows(profile)
    seen = [row for row in rows if row["median_us"] > 0]
    table = [
        {
            "operator": " ".join(str(row[k]) for k in ("operator", "index") if row[k] is not None),
            "output": "x".join(map(str, row["output"] or ())),
            "us": f"{row['median_us']:.4g}",
            "quartiles": "-".join(f"{value:.4g}" for value in row["quartiles_us"]),
            "share": f"{row['share_%']:.1f} %",
            "ran as": row["ran_as"] + ("" if row["delegate"] else " (no delegate)"),
        }
        for row in seen
    ]
    if len(seen) < len(rows):
        others = {"operator": f"{len(rows) - len(seen)} others", "us": "< 1"}
        table.append({**dict.fromkeys(table[0] if table else ["output"], ""), **others})
    return table


def profile_content(profile: ModelProfile) -> list[Row]:
    """All that is known, for programs: the row of the model, with its operators in it."""
    (row,) = profile_rows(profile)
    outside = profile.placement.outside
    row["outside_of_the_delegate"] = None if outside is None else [list(pair) for pair in outside]
    row["operator_times"] = None
    timed = profile.operators
    if timed is not None:
        row["operator_times"] = {
            "runs": timed.runs,
            "whole_us": timed.total * 1e6,
            "in_operators_us": timed.in_operators * 1e6,
            "residual_us": timed.residual * 1e6,
            "profiling_adds_us": timed.overhead * 1e6,
            "operators": operator_rows(profile),
        }
    return [row]


def profile_words(profile: ModelProfile) -> list[str]:
    """What the numbers are worth, and what the model consists of."""
    measured = profile.measurement
    operators = ", ".join(f"{n} {name}" for name, n in profile.model.operator_counts.items())
    words = [f"{measured.verdict}: {ADVICE[measured.verdict]} ({measured.reason})."]
    if (session := measured.another_session) is not None:
        words.append(
            f"The smallest time of another session will fall between {seconds_text(session.low)} "
            f"and {seconds_text(session.high)} (95 %, from {len(measured.run_minima)} sessions "
            f"with {measured.spread.degrees:.1f} degrees of freedom)."
        )
    if profile.sustained is not None:
        words.append(sustained_words(profile.sustained))
    return [*words, f"Operators: {operators}.", *_operator_words(profile)]


def sustained_words(load: SustainedLoad) -> str:
    """What lasting load does to a model, in a sentence or two."""
    words = (
        f"Under load for {seconds_text(load.lasted)} it takes {seconds_text(load.latency)}, "
        f"{load.ratio:.2f} times the cold median"
    )
    if load.settled_after is None:
        words += "; it has not settled, so a longer load will tell more"
    elif load.settled_after:
        words += f", from {seconds_text(load.settled_after)} on"
    if load.throttled:
        words += "; the board lowered its clock"
    if not load.complete:
        words += (
            f". It was interrupted before {seconds_text(load.asked)}: the same command begins the "
            "load anew"
        )
    return words + "."


def _operator_words(profile: ModelProfile) -> list[str]:
    """Which operators the delegate took, and how much of the time they account for."""
    placement, timed = profile.placement, profile.operators
    if placement.outside is None:
        words = ["The runtime does not tell which operators a delegate runs."]
    elif not placement.outside:
        words = ["The delegate runs all operators."]
    else:
        share = "" if timed is None else f" ({timed.share(*timed.outside):.1%} of their time)"
        words = [f"Outside of the delegate run: {placement.words}{share}."]
    if timed is not None:
        words.append(
            f"The whole takes {seconds_text(timed.total)} (median of {timed.runs} runs), its "
            f"operators {seconds_text(timed.in_operators)}; {_signed(timed.residual)} "
            f"({timed.residual / timed.total:.1%}) belong to none of them. The profiler drops what "
            f"is below a microsecond, up to {seconds_text(RESOLUTION)} an operator, and adds "
            f"{_signed(timed.overhead)} ({timed.overhead / timed.total:.1%}) to a run."
        )
    return words


def _signed(seconds: float) -> str:
    return f"-{seconds_text(-seconds)}" if seconds < 0 else seconds_text(seconds)


def forecast_rows(forecast: Forecast) -> list[Row]:
    """One row about what a table will measure."""
    return [
        {
            "operators_to_price": forecast.priced,
            "families": forecast.families,
            "measured_in_any_case": forecast.ends,
            "measured_at_most": forecast.measured,
            "whole_networks": forecast.networks,
            "minutes": forecast.seconds / 60,
        }
    ]


def forecast_words(forecast: Forecast) -> list[str]:
    """Why these operators are measured, in sentences."""
    kinds = ", ".join(f"{count:,} {name}" for name, count in forecast.kinds.items())
    words = [f"To be priced: {kinds}."]
    if forecast.ends == forecast.priced:
        words.append("All of them are measured; nothing is interpolated.")
    else:
        words.append(
            f"Measured in any case: the ends of each of {forecast.families} families (operators "
            "that differ in nothing but channels), so that nothing is extrapolated. Then, in "
            "batches, those that take most uncertainty out of the space's networks, until "
            f"{forecast.measured:,} are measured or more of them change nothing."
        )
    words.append(
        f"{forecast.networks} whole networks calibrate and judge the table. All of it takes about "
        f"{max(1, round(forecast.seconds / 60))} minutes of this board."
    )
    return words


def table_rows(table: LookupTable) -> list[Row]:
    """One row about a table and its validation."""
    row: Row = {
        "table": str(table.path),
        "space": table.provenance.get("space"),
        "operators": len(table.operators),
        "networks": len(table.networks),
    }
    if table.fragments:
        row["fragments"] = len(table.fragments)
    if table.validation is not None:
        row |= {
            "mape_%": table.validation.mape * 100,
            "within_5_%": table.validation.share_within(0.05) * 100,
            "within_10_%": table.validation.share_within(0.10) * 100,
            "spearman": table.validation.spearman,
            "noise_floor_%": table.validation.noise_floor * 100,
        }
    return [row]


def table_words(table: LookupTable) -> list[str]:
    """How right the table is, in sentences, and which of its values cannot be believed."""
    validation = table.validation
    if validation is None:
        words = ["The table was built without held-out networks: nobody knows how right it is."]
        return [*words, *_noisy_words(table)]
    floor = validation.noise_floor
    noise = "" if math.isnan(floor) else f" Two runs of the same network differ by {floor:.1%}."
    words = [
        f"On {len(validation.measured)} networks that it has not seen the table is off by "
        f"{validation.mape:.1%} on average; {validation.share_within(0.10):.0%} are within 10 %, "
        f"the worst is off by {validation.worst:.1%}.{noise}"
    ]
    share = interpolated_share(table)
    if share:
        words.append(
            f"{len(table.operators):,} operators were measured; of a network's operators "
            f"{share:.0%} are interpolated between these."
        )
    if table.donor is not None:
        words.append(
            f"Prices of {len(table.donor.operators):,} operators were lent by another table and "
            "corrected by those that were measured here."
        )
    words += _noisy_words(table)
    if not validation.passes:
        words.append(
            "That is too far off to search with: end other work on the board, and build it again."
        )
    return words


def _noisy_words(table: LookupTable) -> list[str]:
    """Which operators no second run confirms, the worst by name, and what to do."""
    noisy = table.noisy
    if not noisy:
        return []
    worst = ", ".join(f"{o.layer.signature} (+{o.spread:.0%} between runs)" for o in noisy[:3])
    return [
        f"{len(noisy):,} of {len(table.operators):,} operators are noisy "
        f"({'the worst: ' if len(noisy) > 3 else ''}{worst}): {ENTRY_ADVICE['noisy']}. "
        "`boardfit table merge` adds those of a second table."
    ]


def interpolated_share(table: LookupTable) -> float:
    """Which share of the operators of the table's own networks was interpolated."""
    networks = [network for _, network, _ in table.networks.values()]
    layers = sum(len(network.layers) for network in networks)
    return sum(table.latency(network).interpolated for network in networks) / max(1, layers)


def dtype_rows(comparison: DtypeComparison, *, operators: bool) -> list[Row]:
    """A row for each kind of operator, or for each operator that is slower in int8."""
    if not operators:
        return [
            {
                "kind": group.kind,
                "operators": group.operators,
                "slower_in_int8": group.slower,
                "median_ratio": group.ratio,
            }
            for group in comparison.kinds
        ]
    return [
        {
            "operator": pair.name,
            "float_us": float(pair.float_runs.min()) * 1e6,
            "int8_us": float(pair.int8_runs.min()) * 1e6,
            "ratio": pair.ratio,
        }
        for pair in comparison.slower
    ]


def dtype_words(comparison: DtypeComparison) -> list[str]:
    """Which operators do not pay in int8, and what that makes of whole networks."""
    words = [
        f"{len(comparison.slower)} of {len(comparison.operators)} operators are slower in int8 "
        "than in float, in every run."
    ]
    if (ratio := comparison.network_ratio) is not None:
        words.append(
            f"{len(comparison.networks)} whole networks take {ratio:.2f} times as long in int8 "
            "(median)."
        )
    return words


def search_rows(result: SearchResult) -> list[Row]:
    """A row for the found network and one for the uniform baseline."""
    return [
        {
            "network": name,
            "test_accuracy_%": finalist.accuracy * 100,
            "file_accuracy_%": finalist.exported_accuracy * 100,
            "predicted_ms": finalist.predicted.seconds * 1e3,
            "measured_ms": finalist.seconds * 1e3,
            "off_%": finalist.prediction_error * 100,
            "macs_M": finalist.macs / 1e6,
            "parameters_k": finalist.parameters / 1e3,
            "file": finalist.file,
        }
        for name, finalist in result.finalists.items()
    ]


def search_words(result: SearchResult) -> list[str]:
    """Whether it was worth it, in sentences."""
    found = result.found
    target = seconds_text(result.target)
    share = result.target / result.full_seconds
    kept = "meets" if result.meets_target else "MISSES by more than 5 %"
    return [
        f"{result.verdict[0].upper()}{result.verdict[1:]}, on {len(found.right)} test images.",
        f"The found network {kept} the target of {target} ({share:.0%} of the full network's "
        f"{seconds_text(result.full_seconds)}): measured {seconds_text(found.seconds)}, "
        f"predicted {seconds_text(found.predicted.seconds)}{_limits(found.predicted)}.",
    ]


def _limits(estimate: Estimate) -> str:
    """The limits of a prediction, where the table has networks to tell them from."""
    if estimate.low == estimate.high:
        return ""
    low, high = seconds_text(estimate.low), seconds_text(estimate.high)
    return f" (95 % of held-out networks: {low} to {high})"
