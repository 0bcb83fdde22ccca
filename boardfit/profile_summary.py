"""A model's profile in rows and sentences for the terminal; milliseconds and microseconds appear
here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from boardfit.board_summary import energy_row, energy_words, record_row, record_words
from boardfit.console import number_text
from boardfit.profiler.measurement import ADVICE, seconds_text
from boardfit.profiler.operators import RESOLUTION

if TYPE_CHECKING:
    from boardfit.profiler.profile_model import ModelProfile
    from boardfit.profiler.sustained import SustainedLoad

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
            "sustained_slowed_by": ", ".join(load.slowed_by) or None,
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
            **energy_row(profile.energy),
            "verdict": measured.verdict,
            "sessions": len(measured.run_minima),
            "samples": len(measured.seconds),
            "outliers": measured.outliers,
            **record_row(profile.record),
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
            "outside": profile.runs_outside(operator),
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
            "us": number_text(row["median_us"]),
            "quartiles": "-".join(map(number_text, row["quartiles_us"])),
            "share": f"{row['share_%']:.1f} %",
            "ran as": row["ran_as"] + (_elsewhere(row) if row["outside"] else ""),
        }
        for row in seen
    ]
    if len(seen) < len(rows):
        others = {"operator": f"{len(rows) - len(seen)} others", "us": "< 1"}
        table.append({**dict.fromkeys(table[0] if table else ["output"], ""), **others})
    return table


def _elsewhere(row: Row) -> str:
    """Who runs an operator that was left out by what should run all of them."""
    return f" ({row['delegate']})" if row["delegate"] else " (no delegate)"


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
    words += [*energy_words(profile.energy), *record_words(profile.record)]
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
    if load.slowed_by:
        words += f"; the board said that it was slowed ({', '.join(load.slowed_by)})"
    if not load.complete:
        words += (
            f". It was interrupted before {seconds_text(load.asked)}: the same command begins the "
            "load anew"
        )
    return words + "."


def _operator_words(profile: ModelProfile) -> list[str]:
    """Which operators the delegate took, and how much of the time they account for."""
    placement, timed, runner = profile.placement, profile.operators, profile.runner
    if placement.outside is None:
        words = ["The runtime does not tell which operators a delegate runs."]
    elif not placement.outside:
        words = [f"{runner[0].upper()}{runner[1:]} runs all operators."]
    else:
        left = profile.timed_outside
        share = "" if timed is None else f" ({timed.share(*left):.1%} of their time)"
        words = [f"Outside of {runner} run: {placement.words}{share}."]
    if timed is not None:
        whole, inside = seconds_text(timed.total), seconds_text(timed.in_operators)
        runs = f"median of {timed.runs} runs"
        adds = f"{_signed(timed.overhead)} ({timed.overhead / timed.total:.1%})"
        lost = f"up to {seconds_text(RESOLUTION)} an operator"
        if timed.exceeds:
            words.append(
                f"Without the profiler the whole takes {whole} ({runs}); with it the operators add "
                f"up to {inside}, {-timed.residual / timed.total:.1%} more. It makes operators "
                "longer, the short ones most, so that times and shares are rough. It drops what is "
                f"below a microsecond, {lost}, and adds {adds} to a run."
            )
        else:
            words.append(
                f"The whole takes {whole} ({runs}), its operators {inside}; "
                f"{seconds_text(timed.residual)} ({timed.residual / timed.total:.1%}) belong to "
                f"none of them. The profiler drops what is below a microsecond, {lost}, and adds "
                f"{adds} to a run."
            )
    return words


def _signed(seconds: float) -> str:
    return f"-{seconds_text(-seconds)}" if seconds < 0 else seconds_text(seconds)
