"""What changed between two tables: two boards, two dates, two numbers of threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..devices.conditions import mismatch
from ..devices.errors import InputError
from .calibration import kind
from .changes import Changes, Ratio, common_ratio, find_changes
from .fragments import ROLE
from .table import LookupTable
from .table_values import representative


@dataclass(frozen=True)
class OperatorChange:
    """One operator (or fragment) in both tables.

    `before` and `after` are its times alone in seconds, `beyond` is their ratio relative to that
    of all operators. `probability` is how often chance alone would do that, corrected for the
    number of operators; NaN where no operator was measured in two runs.
    """

    signature: str
    kind: str
    before: float
    after: float
    beyond: float
    probability: float
    changed: bool

    @property
    def ratio(self) -> float:
        """After relative to before."""
        return self.after / self.before


@dataclass(frozen=True)
class KindChange:
    """All operators of one kind: the ratio that half of them exceed, and how many changed
    otherwise than the table as a whole."""

    kind: str
    operators: int
    ratio: Ratio
    changed: int


@dataclass(frozen=True)
class TableDifference:
    """What changed from table `before` to table `after`.

    `conditions` says in words which conditions differ; `operators` are sorted by effect, largest
    first; `spread` is the relative standard deviation between runs of one table.
    """

    before: LookupTable
    after: LookupTable
    conditions: tuple[str, ...]
    common: Ratio
    spread: float
    kinds: tuple[KindChange, ...]
    operators: tuple[OperatorChange, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]

    @property
    def changed(self) -> tuple[OperatorChange, ...]:
        """The operators that changed otherwise than the table as a whole."""
        return tuple(operator for operator in self.operators if operator.changed)


def diff_tables(before: LookupTable, after: LookupTable) -> TableDifference:
    """Compare the operators that two tables share.

    Raises `InputError` where they share none.
    """
    old, new = _values(before), _values(after)
    shared = [signature for signature in old if signature in new]
    if not shared:
        raise InputError(
            f"{before.path} and {after.path} have no operator in common, so nothing can be "
            "compared; they were built for different spaces or input sizes"
        )
    kinds = [old[signature][0] for signature in shared]
    first = [old[signature][1] for signature in shared]
    second = [new[signature][1] for signature in shared]
    changes = find_changes(first, second)
    operators = describe_changes(shared, kinds, first, second, changes)
    return TableDifference(
        before,
        after,
        tuple(mismatch(before.conditions, after.conditions)),
        changes.common,
        changes.deviation,
        _by_kind(kinds, first, second, changes),
        operators,
        tuple(signature for signature in old if signature not in new),
        tuple(signature for signature in new if signature not in old),
    )


def describe_changes(
    signatures: Sequence[str],
    kinds: Sequence[str],
    before: Sequence[NDArray[np.float64]],
    after: Sequence[NDArray[np.float64]],
    changes: Changes,
) -> tuple[OperatorChange, ...]:
    """What became of each operator, the largest effect first."""
    changed = changes.changed
    found = [
        OperatorChange(
            signature,
            kinds[i],
            representative(before[i]),
            representative(after[i]),
            float(changes.beyond[i]),
            float(changes.probability[i]),
            bool(changed[i]),
        )
        for i, signature in enumerate(signatures)
    ]
    return tuple(sorted(found, key=lambda change: (-abs(np.log(change.beyond)), change.signature)))


def _values(table: LookupTable) -> dict[str, tuple[str, NDArray[np.float64]]]:
    """Kind and the values of all runs, by signature."""
    found = {s: (kind(operator.layer), operator.runs) for s, operator in table.operators.items()}
    return found | {s: (ROLE, fragment.runs) for s, fragment in table.fragments.items()}


def _by_kind(
    kinds: Sequence[str],
    before: Sequence[NDArray[np.float64]],
    after: Sequence[NDArray[np.float64]],
    changes: Changes,
) -> tuple[KindChange, ...]:
    found = []
    for name in sorted(set(kinds)):
        members = [i for i, other in enumerate(kinds) if other == name]
        ratio = common_ratio([before[i] for i in members], [after[i] for i in members])
        found.append(KindChange(name, len(members), ratio, int(changes.changed[members].sum())))
    return tuple(found)
