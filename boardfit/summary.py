"""Tables and searches in rows and sentences for the terminal; milliseconds and microseconds appear
here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from boardfit.board_summary import record_row, record_words
from boardfit.profiler.entry_verdict import ENTRY_ADVICE
from boardfit.profiler.measurement import seconds_text
from boardfit.profiler.table_placement import outside_words

if TYPE_CHECKING:
    from boardfit.profiler.compare_dtypes import DtypeComparison
    from boardfit.profiler.forecast import Forecast
    from boardfit.profiler.table import Estimate, LookupTable
    from boardfit.search.result import Finalist, SearchResult

Row = dict[str, Any]


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
    minutes = max(1, round(forecast.seconds / 60))
    words.append(
        f"{forecast.networks} whole networks calibrate and judge the table. All of it takes about "
        f"{'a minute' if minutes == 1 else f'{minutes} minutes'} of this board."
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
    if table.outside:
        row["outside"] = ", ".join(table.outside)
    if table.validation is not None:
        row |= {
            "mape_%": table.validation.mape * 100,
            "within_5_%": table.validation.share_within(0.05) * 100,
            "within_10_%": table.validation.share_within(0.10) * 100,
            "spearman": table.validation.spearman,
            "noise_floor_%": table.validation.noise_floor * 100,
        }
    return [row | record_row(table.record)]


def table_words(table: LookupTable) -> list[str]:
    """How right the table is, in sentences, and which of its values cannot be believed."""
    validation = table.validation
    remarks = [outside_words(table)] if table.outside else []
    if table.campaign:
        remarks.append(f"{table.campaign[:1].upper()}{table.campaign[1:]}.")
    remarks += record_words(table.record)
    if validation is None:
        words = ["The table was built without held-out networks: nobody knows how right it is."]
        return [*words, *remarks, *_noisy_words(table)]
    floor = validation.noise_floor
    noise = "" if math.isnan(floor) else f" Two runs of the same network differ by {floor:.1%}."
    words = [
        f"On {len(validation.measured)} networks that it has not seen the table is off by "
        f"{validation.mape:.1%} on average; {validation.share_within(0.10):.0%} are within 10 %, "
        f"the worst is off by {validation.worst:.1%}.{noise}"
    ]
    if not validation.passes:
        words.append("That is too far off to search with.")
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
    words += [*remarks, *_noisy_words(table)]
    return words


def _noisy_words(table: LookupTable) -> list[str]:
    """Which operators no second run confirms, the worst by name, and what to do."""
    noisy = table.noisy
    if not noisy:
        return []
    worst = ", ".join(f"{o.layer.signature} (+{o.spread:.0%} between runs)" for o in noisy[:3])
    why, _, advice = ENTRY_ADVICE["noisy"].partition(": ")
    return [
        f"{len(noisy):,} of {len(table.operators):,} operators are noisy, as {why}; "
        f"{'the worst are ' if len(noisy) > 3 else ''}{worst}. {advice[:1].upper()}{advice[1:]}: "
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
    """A row for the found network and one for the uniform baseline, and for their int8 forms."""
    rows: list[Row] = []
    for name, finalist in result.finalists.items():
        rows.append(_finalist_row(name, finalist))
        if (int8 := finalist.int8) is not None:
            rows.append(
                {
                    "network": f"{name} int8",
                    "file_accuracy_%": int8.accuracy * 100,
                    "measured_ms": int8.seconds * 1e3,
                    "file": int8.file,
                    "size_kB": int8.size / 1e3,
                }
            )
    return rows


def _finalist_row(name: str, finalist: Finalist) -> Row:
    return {
        "network": name,
        "test_accuracy_%": finalist.accuracy * 100,
        "file_accuracy_%": finalist.exported_accuracy * 100,
        **finalist.figures,
        "predicted_ms": finalist.predicted.seconds * 1e3,
        "measured_ms": finalist.seconds * 1e3,
        "off_%": finalist.prediction_error * 100,
        "macs_M": finalist.macs / 1e6,
        "parameters_k": finalist.parameters / 1e3,
        "file": finalist.file,
        "size_kB": finalist.size / 1e3,
    }


def search_words(result: SearchResult) -> list[str]:
    """Whether it was worth it, in sentences."""
    found = result.found
    target = seconds_text(result.target)
    share = result.target / result.full_seconds
    kept = "meets" if result.meets_target else "MISSES by more than 5 %"
    words = [
        f"{result.verdict[0].upper()}{result.verdict[1:]}, on {len(found.accuracies)} test images.",
        f"The found network {kept} the target of {target} ({share:.0%} of the full network's "
        f"{seconds_text(result.full_seconds)}): measured {seconds_text(found.seconds)}"
        f"{_limits('another session', found.limits)}, predicted "
        f"{seconds_text(found.predicted.seconds)}"
        f"{_limits('95 % of held-out networks', _ends(found.predicted))}.",
    ]
    if result.candidates:
        ratios = [c.reading.seconds / c.reading.predicted.seconds for c in result.candidates]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        words.append(
            f"{len(ratios)} candidates were measured on the board before it was chosen; they took "
            f"{mean:.3f} times what the table predicted (from {min(ratios):.3f} to "
            f"{max(ratios):.3f})."
        )
    if (int8 := found.int8) is not None:
        words.append(
            f"In int8 its file is right on {int8.accuracy:.1%} of the images (in float "
            f"{found.exported_accuracy:.1%}), takes {seconds_text(int8.seconds)}"
            f"{_limits('another session', int8.limits)} "
            f"({int8.seconds / found.seconds:.2f} times) and {int8.size / found.size:.0%} of the "
            "bytes."
        )
    return words


def _ends(estimate: Estimate) -> tuple[float, float] | None:
    """The limits of a prediction, where the table has networks to tell them from."""
    return None if estimate.low == estimate.high else (estimate.low, estimate.high)


def _limits(what: str, limits: tuple[float, float] | None) -> str:
    if limits is None:
        return ""
    low, high = map(seconds_text, limits)
    return f" ({what}: {low} to {high})"
