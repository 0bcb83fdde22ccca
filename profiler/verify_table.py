"""Whether a table still holds: a sample of it measured again, and compared.

Operators from all kinds and sizes and some of the held-out networks are measured interleaved with
anchors (see `tie.py`), which tell the board's speed now from its speed then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..devices.base import Device
from ..devices.conditions import mismatch
from ..devices.errors import InputError, TableNotValid
from ..devices.occupy import occupied
from .build import sources
from .calibration import BAR, kind
from .campaign import conditions_of
from .changes import Ratio, common_ratio, find_changes
from .description import describe_layer, describe_network
from .diff_tables import OperatorChange, describe_changes
from .one_run import Source
from .open_session import open_session
from .progress import Report, silent, telling
from .schedule import Schedule
from .store import Entry
from .table import LookupTable
from .tie import measure_with_anchors, spread

SPEED_LIMIT = 0.10  # how much faster or slower the board may have become
CHANGED_LIMIT = 0.10  # share of the sampled operators that may have changed by so much


@dataclass(frozen=True)
class Remeasured:
    """What was measured again.

    `anchor_ratio` is the board's speed now relative to when the table was built (above 1: slower),
    `ratio` that of all networks measured again, with its interval. `predicted` and `measured` are
    seconds of held-out networks in the table's terms; `operators` are sorted by effect, `spread`
    is the relative standard deviation between their runs.
    """

    anchor_ratio: float
    ratio: Ratio
    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]
    operators: tuple[OperatorChange, ...]
    spread: float

    @property
    def errors(self) -> NDArray[np.float64]:
        """Predicted relative to measured, minus one, of each held-out network."""
        return self.predicted / self.measured - 1

    @property
    def mape(self) -> float:
        """The mean absolute relative error; NaN without held-out networks."""
        return float(np.abs(self.errors).mean()) if len(self.errors) else math.nan

    @property
    def within(self) -> float:
        """The share of held-out networks predicted within 10 %; NaN without any."""
        return float((np.abs(self.errors) <= 0.10).mean()) if len(self.errors) else math.nan

    @property
    def changed(self) -> tuple[OperatorChange, ...]:
        """The operators that changed otherwise than the board as a whole."""
        return tuple(operator for operator in self.operators if operator.changed)

    @property
    def far_off(self) -> tuple[OperatorChange, ...]:
        """Those of them that changed by more than `CHANGED_LIMIT`."""
        limit = math.log1p(CHANGED_LIMIT)
        return tuple(found for found in self.changed if abs(math.log(found.beyond)) > limit)


@dataclass(frozen=True)
class Verification:
    """Whether a table still holds.

    `conditions` says in words which conditions differ from the table's; where any does, nothing
    was measured.
    """

    table: LookupTable
    conditions: tuple[str, ...]
    again: Remeasured | None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the table does not hold, in words; empty where it does."""
        if self.again is None:
            return (f"the board is not as it was: {'; '.join(self.conditions)}",)
        again, found = self.again, []
        if abs(math.log(again.anchor_ratio)) > math.log1p(SPEED_LIMIT):
            word = "slower" if again.anchor_ratio > 1 else "faster"
            share = abs(again.anchor_ratio - 1)
            found.append(f"the board is {share:.0%} {word} than when the table was built")
        if again.within < BAR:
            found.append(
                f"only {again.within:.0%} of the held-out networks are predicted within 10 % "
                f"(at least {BAR:.0%} are needed)"
            )
        if len(again.far_off) > CHANGED_LIMIT * len(again.operators):
            found.append(
                f"{len(again.far_off)} of {len(again.operators)} sampled operators changed by "
                f"more than {CHANGED_LIMIT:.0%}"
            )
        return tuple(found)

    @property
    def holds(self) -> bool:
        """Whether searches may go on with the table."""
        return not self.reasons

    def check(self) -> None:
        """Raise `TableNotValid` where the table does not hold; the message says what to do."""
        if self.holds:
            return
        what = "Restore the board, or build a new table"
        if self.again is not None:
            what = (
                "End other work on the board, let it cool down and verify again (with another "
                "--out, where samples are kept); where that does not help, build a new table"
            )
        raise TableNotValid(f"{self.table.path} does not hold: {'; '.join(self.reasons)}. {what}")


def verify_table(
    table: LookupTable,
    device: Device,
    *,
    sample: int = 60,
    networks: int = 10,
    anchors: int = 5,
    seed: int = 0,
    schedule: Schedule | None = None,
    path: Path | None = None,
    report: Report = silent,
) -> Verification:
    """Measure `sample` operators and `networks` held-out networks of a table again.

    `seed` draws the operators; `path` keeps the samples, so that an interrupted verification goes
    on. Raises `MeasurementError` where the table has no calibration networks, and what measuring
    raises. Conditions that differ raise nothing: they are the answer.
    """
    if min(sample, networks) < 0:
        raise InputError(f"cannot measure {min(sample, networks)} of something; give 0 or more")
    runtime = table.runtime
    with (
        occupied(device, f"verify {table.path.name}", tell=telling(report)),
        open_session(device, threads=table.threads, runtime=runtime) as session,
    ):
        differences = mismatch(table.conditions, conditions_of(device, session, table.dtype))
    if differences:
        return Verification(table, tuple(differences), None)
    held_out = {
        key: float(runs.min())
        for key, (role, _, runs) in table.networks.items()
        if role == "validation"
    }
    chosen = spread(sorted(held_out, key=held_out.__getitem__), networks)
    operators = sample_operators(table, sample, np.random.default_rng(seed))
    entries = [Entry(key, "network", describe_network(table.networks[key][1])) for key in chosen]
    entries += [
        Entry(signature, "operator", describe_layer(table.operators[signature].layer))
        for signature in operators
    ]
    models: Mapping[str, Source] = sources(entries, runtime)
    anchor_ratio, measured = measure_with_anchors(
        table,
        device,
        [(entry, models[entry.key]) for entry in entries],
        anchors=anchors,
        schedule=schedule or Schedule(),  # the table's own: more visits would find smaller minima
        path=path,
        document={"kind": "verification", "entries": len(entries)},
        stage="measure a sample again",
        report=report,
    )
    now = {key: found.run_minima for key, found in measured.items()}
    whole = [key for key in now if key in table.networks]
    then = [table.networks[key][2] for key in whole]
    before = [table.operators[signature].runs for signature in operators]
    after = [now[signature] for signature in operators]
    changes: tuple[OperatorChange, ...] = ()
    deviation = math.nan
    if operators:
        compared = find_changes(before, after)
        kinds = [kind(table.operators[signature].layer) for signature in operators]
        changes = describe_changes(operators, kinds, before, after, compared)
        deviation = compared.deviation
    return Verification(
        table,
        (),
        Remeasured(
            anchor_ratio,
            common_ratio(then, [now[key] for key in whole]),
            np.array([table.latency(table.networks[key][1]).seconds for key in chosen]),
            np.array([now[key].min() / anchor_ratio for key in chosen]),
            changes,
            deviation,
        ),
    )


def sample_operators(table: LookupTable, count: int, rng: np.random.Generator) -> list[str]:
    """Signatures of all kinds, as many of each as its share, and of all sizes within a kind."""
    groups: dict[str, list[str]] = {}
    ordered = sorted(table.operators, key=lambda s: (table.operators[s].seconds, s))
    for signature in ordered:
        groups.setdefault(kind(table.operators[signature].layer), []).append(signature)
    count = min(count, len(ordered))
    # One of each kind as far as they go, the large kinds first; then one by one to the kind that
    # is furthest below its share.
    names = sorted(groups, key=lambda name: (-len(groups[name]), name))
    taken = {name: int(position < count) for position, name in enumerate(names)}
    for _ in range(count - sum(taken.values())):
        open_ones = [name for name in names if taken[name] < len(groups[name])]
        taken[max(open_ones, key=lambda name: len(groups[name]) / (taken[name] + 1))] += 1
    found = []
    for name in names:
        for members in np.array_split(np.array(groups[name], object), max(1, taken[name])):
            if taken[name]:
                found.append(str(members[rng.integers(len(members))]))
    return found
