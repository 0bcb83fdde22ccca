"""Where int8 does not pay: a float table and an int8 table of one board, side by side.

A runtime's fast kernels need not have an operator in int8; what they refuse runs elsewhere and may
take many times as long as in float.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..devices.conditions import mismatch
from ..devices.errors import ConditionsChanged, InputError
from .calibration import kind
from .description import network_key
from .table import LookupTable
from .table_values import representative

Verdict = Literal["slower", "faster", "equal"]


@dataclass(frozen=True)
class DtypePair:
    """An operator or network in both dtypes: the smallest sample of each run, in seconds.

    `name` is the float signature, or the key of the float network; `kind` is the group of
    operators (`calibration.kind`), or "network".
    """

    name: str
    kind: str
    float_runs: NDArray[np.float64]
    int8_runs: NDArray[np.float64]

    @property
    def ratio(self) -> float:
        """The time in int8 relative to float; above 1 int8 is slower."""
        return representative(self.int8_runs) / representative(self.float_runs)

    @property
    def verdict(self) -> Verdict:
        """Slower or faster only where every run says so: the runs of both do not overlap."""
        if self.int8_runs.min() > self.float_runs.max():
            return "slower"
        if self.int8_runs.max() < self.float_runs.min():
            return "faster"
        return "equal"


@dataclass(frozen=True)
class KindComparison:
    """A group of operators: how many, how many of them are slower in int8, the median ratio."""

    kind: str
    operators: int
    slower: int
    ratio: float


@dataclass(frozen=True)
class DtypeComparison:
    """All pairs, the slowest in int8 first."""

    operators: tuple[DtypePair, ...]
    networks: tuple[DtypePair, ...]

    @property
    def slower(self) -> tuple[DtypePair, ...]:
        """The operators that are slower in int8 beyond the spread between runs."""
        return tuple(pair for pair in self.operators if pair.verdict == "slower")

    @property
    def kinds(self) -> tuple[KindComparison, ...]:
        """The groups of operators, the slowest in int8 first."""
        groups: dict[str, list[DtypePair]] = {}
        for pair in self.operators:
            groups.setdefault(pair.kind, []).append(pair)
        found = [
            KindComparison(
                name,
                len(pairs),
                sum(pair.verdict == "slower" for pair in pairs),
                statistics.median(pair.ratio for pair in pairs),
            )
            for name, pairs in groups.items()
        ]
        return tuple(sorted(found, key=lambda group: -group.ratio))

    @property
    def network_ratio(self) -> float | None:
        """The median ratio of the whole networks that both tables measured; None without any."""
        return statistics.median(x.ratio for x in self.networks) if self.networks else None


def compare_dtypes(in_float: LookupTable, in_int8: LookupTable) -> DtypeComparison:
    """Match the operators and networks of two tables.

    Raises `InputError` where they are not a float and an int8 table with operators in common,
    `ConditionsChanged` where they were measured under different conditions.
    """
    if (in_float.dtype, in_int8.dtype) != ("float32", "int8"):
        raise InputError(
            f"{in_float.path} is a table of {in_float.dtype}, {in_int8.path} of {in_int8.dtype}; "
            "give a float table first, then one of the same space built with --dtype int8"
        )
    own = {"dtype": None}
    if differences := mismatch({**in_float.conditions, **own}, {**in_int8.conditions, **own}):
        raise ConditionsChanged(
            f"{in_float.path} and {in_int8.path} were measured under different conditions: "
            f"{'; '.join(differences)}. Build both on one board in one state"
        )
    operators = []
    for operator in in_int8.operators.values():
        signature = operator.layer.as_dtype("float32").signature
        if (other := in_float.operators.get(signature)) is not None:
            operators.append(DtypePair(signature, kind(operator.layer), other.runs, operator.runs))
    if not operators:
        raise InputError(
            f"{in_float.path} and {in_int8.path} have no operator in common; build both for the "
            "same space"
        )
    networks = []
    for _, network, runs in in_int8.networks.values():
        key = network_key(network.as_dtype("float32"))
        if key in in_float.networks:
            networks.append(DtypePair(key, "network", in_float.networks[key][2], runs))
    return DtypeComparison(_slowest_first(operators), _slowest_first(networks))


def _slowest_first(pairs: Iterable[DtypePair]) -> tuple[DtypePair, ...]:
    return tuple(sorted(pairs, key=lambda pair: -pair.ratio))
