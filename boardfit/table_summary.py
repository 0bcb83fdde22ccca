"""What happened to tables, in rows and sentences; milliseconds and microseconds appear here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from boardfit.profiler.calibration import BAR
from boardfit.profiler.changes import FALSE_DISCOVERIES, Ratio

if TYPE_CHECKING:
    from boardfit.profiler.diff_tables import OperatorChange, TableDifference
    from boardfit.profiler.import_table import Imported
    from boardfit.profiler.table import LookupTable
    from boardfit.profiler.verify_table import Verification

Row = dict[str, Any]


def condition_words(difference: TableDifference) -> list[str]:
    """Under which conditions the two tables were measured, as far as these differ."""
    if not difference.conditions:
        return ["Both were measured under equal conditions."]
    return [f"Conditions differ: {'; '.join(difference.conditions)}."]


def validation_rows(difference: TableDifference) -> list[Row]:
    """A row for each of the two tables, with how right it is."""
    return [_validation_row(table) for table in (difference.before, difference.after)]


def _validation_row(table: LookupTable) -> Row:
    checked = table.validation
    return {
        "table": str(table.path),
        "operators": len(table.operators) + len(table.fragments),
        "runs": table.runs,
        "mape_%": checked and checked.mape * 100,
        "within_10_%": checked and checked.share_within(0.10) * 100,
        "noise_floor_%": checked and checked.noise_floor * 100,
    }


def kind_rows(difference: TableDifference) -> list[Row]:
    """A row for each kind of operator, and one for all."""
    total = {
        "kind": "all",
        "shared": len(difference.operators),
        **_ratio_row(difference.common),
        "changed": len(difference.changed),
    }
    return [
        *(
            {
                "kind": found.kind,
                "shared": found.operators,
                **_ratio_row(found.ratio),
                "changed": found.changed,
            }
            for found in difference.kinds
        ),
        total,
    ]


def changed_rows(difference: TableDifference, limit: int) -> list[Row]:
    """The operators that changed otherwise than the table as a whole, the largest effect first."""
    return _operator_rows(difference.changed[:limit])


def difference_words(difference: TableDifference, limit: int) -> list[str]:
    """What changed, in sentences."""
    common = difference.common
    words = [f"The second table's times are {ratio_text(common)} those of the first."]
    shared, changed = len(difference.operators), len(difference.changed)
    if math.isnan(difference.spread):
        words.append(
            "Each was measured in one run only, so that nobody knows what runs differ by: which "
            "operators changed cannot be told."
        )
    else:
        words.append(
            f"Beyond that {changed} of {shared} operators changed (false discoveries held at "
            f"{FALSE_DISCOVERIES:.0%}; runs of one table differ by {difference.spread:.1%})"
            + (f", the first {limit} are listed." if changed > limit else ".")
        )
    first, second = len(difference.only_before), len(difference.only_after)
    if first or second:
        words.append(
            f"Not compared: {first} operators that only the first has and {second} that only the "
            "second has (--unshared names them)."
        )
    return words


def unshared_words(difference: TableDifference) -> list[str]:
    """The operators that only one of the tables has."""
    return [
        *(f"only in {difference.before.path}: {key}" for key in difference.only_before),
        *(f"only in {difference.after.path}: {key}" for key in difference.only_after),
    ]


def difference_json(difference: TableDifference, unshared: bool) -> Row:
    """All of a comparison as one object for programs."""
    found: Row = {
        "tables": validation_rows(difference),
        "conditions": list(difference.conditions),
        **_ratio_row(difference.common),
        "spread_between_runs": difference.spread,
        "kinds": kind_rows(difference)[:-1],
        "operators": _operator_rows(difference.operators),
        "only_before": len(difference.only_before),
        "only_after": len(difference.only_after),
    }
    if unshared:
        found |= {
            "only_before": list(difference.only_before),
            "only_after": list(difference.only_after),
        }
    return found


def verification_rows(verification: Verification) -> list[Row]:
    """One row about a table that was measured again."""
    row: Row = {"table": str(verification.table.path), "holds": verification.holds}
    again = verification.again
    if again is None:
        return [row | {"conditions": "; ".join(verification.conditions)}]
    return [
        row
        | _ratio_row(again.ratio)
        | {
            "anchor_ratio": again.anchor_ratio,
            "networks": len(again.measured),
            "mape_%": again.mape * 100,
            "within_10_%": again.within * 100,
            "operators": len(again.operators),
            "changed": len(again.changed),
            "changed_by_over_10_%": len(again.far_off),
            "spread_between_runs_%": again.spread * 100,
        }
    ]


def verification_words(verification: Verification) -> list[str]:
    """What was found, in sentences; why the table does not hold is the error's to say."""
    again = verification.again
    if again is None:
        return []
    words = [f"Networks take {ratio_text(again.ratio)} as long as when the table was built."]
    if len(again.measured):
        words.append(
            f"Corrected by {again.anchor_ratio:.3f} (the anchors), the table is off by "
            f"{again.mape:.1%} on {len(again.measured)} held-out networks; {again.within:.0%} are "
            f"within 10 % (at least {BAR:.0%} are needed)."
        )
    if again.operators:
        words.append(
            f"{len(again.changed)} of {len(again.operators)} sampled operators changed otherwise "
            f"than the board as a whole, {len(again.far_off)} of them by more than 10 %."
        )
        words += [f"  {change.beyond:.2f}x  {change.signature}" for change in again.changed[:10]]
    return [*words, "The table holds."] if verification.holds else words


def import_words(imported: Imported) -> list[str]:
    """What came of an imported file, in sentences."""
    table = imported.table
    words = [
        f"Imported {len(table.fragments)} fragments and {len(table.operators)} operators to "
        f"{table.path}."
    ]
    if not math.isnan(imported.speed):
        words.append(
            f"They imply {imported.speed / 1e9:.3g} billion multiply-accumulates a second "
            "(median); if the board is nowhere near that, the unit is wrong."
        )
    if imported.skipped:
        # As Python writes them: a stranger's text may hold what a terminal obeys.
        keys = ", ".join(f"{key!r:.120}" for key in imported.skipped[:5])
        more = ", ..." if len(imported.skipped) > 5 else ""
        words.append(f"Left out, {len(imported.skipped)}: {keys}{more}")
    return words


def ratio_text(ratio: Ratio) -> str:
    """A ratio with its interval, e.g. `1.03 times (95 %: 1.01 to 1.05)`."""
    return f"{ratio.value:.3f} times (95 %: {ratio.low:.3f} to {ratio.high:.3f})"


def _ratio_row(ratio: Ratio) -> Row:
    return {"ratio": ratio.value, "low": ratio.low, "high": ratio.high}


def _operator_rows(changes: Sequence[OperatorChange]) -> list[Row]:
    return [
        {
            "operator": change.signature,
            "before_us": change.before * 1e6,
            "after_us": change.after * 1e6,
            "ratio": change.ratio,
            "beyond_all": change.beyond,
            "probability": change.probability,
            "changed": change.changed,
        }
        for change in changes
    ]
