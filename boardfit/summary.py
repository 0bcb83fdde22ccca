"""Results in rows and sentences for the terminal; milliseconds and microseconds appear here."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from boardfit.profiler.measurement import ADVICE, seconds_text

if TYPE_CHECKING:
    from boardfit.profiler.profile_model import ModelProfile
    from boardfit.profiler.table import Estimate, LookupTable
    from boardfit.search.result import SearchResult

Row = dict[str, Any]


def profile_rows(profile: ModelProfile) -> list[Row]:
    """One row about a model's latency."""
    measured = profile.measurement
    return [
        {
            "model": profile.name,
            "median_ms": measured.median.seconds * 1e3,
            "low_ms": measured.median.low * 1e3,
            "high_ms": measured.median.high * 1e3,
            "p90_ms": measured.percentile_90.seconds * 1e3,
            "minimum_ms": measured.minimum * 1e3,
            "verdict": measured.verdict,
            "samples": len(measured.seconds),
            "outliers": measured.outliers,
            "size_kb": profile.model.size / 1e3,
            "parameters": profile.model.parameters,
            "operators": sum(profile.model.operator_counts.values()),
        }
    ]


def profile_words(profile: ModelProfile) -> list[str]:
    """What the numbers are worth, and what the model consists of."""
    measured = profile.measurement
    operators = ", ".join(f"{n} {name}" for name, n in profile.model.operator_counts.items())
    return [
        f"{measured.verdict}: {ADVICE[measured.verdict]} "
        f"(runs differ by {measured.spread_between_runs:.1%}).",
        f"Operators: {operators}.",
    ]


def table_rows(table: LookupTable) -> list[Row]:
    """One row about a table and its validation."""
    row: Row = {
        "table": str(table.path),
        "space": table.provenance.get("space"),
        "operators": len(table.operators),
        "networks": len(table.networks),
    }
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
    """How right the table is, in a sentence."""
    validation = table.validation
    if validation is None:
        return ["The table was built without held-out networks: nobody knows how right it is."]
    floor = validation.noise_floor
    noise = "" if math.isnan(floor) else f" Two runs of the same network differ by {floor:.1%}."
    words = [
        f"On {len(validation.measured)} networks that it has not seen the table is off by "
        f"{validation.mape:.1%} on average; {validation.share_within(0.10):.0%} are within 10 %, "
        f"the worst is off by {validation.worst:.1%}.{noise}"
    ]
    if not validation.passes:
        words.append(
            "That is too far off to search with: end other work on the board, and build it again."
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
