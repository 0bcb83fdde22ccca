"""What was measured of operators and networks, read from a table's samples.

One value stands for a run, one for all runs; operators that were not measured follow from these
(see `pricing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .description import read_layer, read_network
from .entry_verdict import EntryVerdict, starts
from .fragments import ROLE, PricedFragment, read_fragment
from .interpolation import Scales
from .layers import Layer, Network
from .pricing import Alone, OperatorTimes
from .sessions import SpreadBySize
from .store import Entry, Store, Visits
from .transfer import Donor, transferred

UNKNOWN_DEVIATION = 0.01  # relative; of a value that one session alone has seen


@dataclass(frozen=True)
class Operator:
    """An entry of the table: the layer, its smallest sample of each run in seconds, and whether
    that value can be believed (see `entry_verdict.py`)."""

    layer: Layer
    runs: NDArray[np.float64]
    verdict: EntryVerdict = "unknown"

    @property
    def seconds(self) -> float:
        """The operator's time alone."""
        return representative(self.runs)

    @property
    def spread(self) -> float:
        """How far its runs lie apart: the largest relative to the smallest, minus one."""
        return float(self.runs.max() / self.runs.min() - 1)


def representative(runs: NDArray[np.float64]) -> float:
    """The table's statistic: the smallest sample of all runs.

    Whatever disturbs a board makes it slower, never faster, and its slow states last for seconds:
    the smallest of visits that are spread over time and over processes repeats better than their
    median (`make bench-table` prints both).
    """
    return float(runs.min())


def in_common(groups: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The values of as many runs as all networks have, `[networks, runs]`.

    Those of a merged table were not all measured in the same runs.
    """
    shortest = min(len(values) for values in groups)
    return np.array([values[:shortest] for values in groups])


def run_values(store: Store, *, runs: int) -> dict[int, NDArray[np.float64]]:
    """The smallest sample of each of the first `runs` runs, by entry."""
    return smallest_of_runs(store.visits().before(runs))


def smallest_of_runs(visits: Visits) -> dict[int, NDArray[np.float64]]:
    """The smallest sample of each run, by entry; visits come in the order of entry and run."""
    if not len(visits.entry):
        return {}
    first = starts(visits.entry, visits.run)
    minima = np.minimum.reduceat(visits.seconds, first)
    entries = visits.entry[first]
    parts = starts(entries)
    return dict(zip(entries[parts].tolist(), np.split(minima, parts[1:]), strict=True))


def split_entries(
    entries: Mapping[int, Entry],
    values: Mapping[int, NDArray[np.float64]],
    verdicts: Mapping[int, EntryVerdict] | None = None,
) -> tuple[dict[str, Operator], dict[str, tuple[str, Network, NDArray[np.float64]]]]:
    """Operators by signature and networks by key, each with the values of its runs, and operators
    with their verdict where it is given.

    Raises KeyError for an entry without values, `TableFileError` for one that cannot be read.
    """
    operators: dict[str, Operator] = {}
    networks: dict[str, tuple[str, Network, NDArray[np.float64]]] = {}
    for number, entry in entries.items():
        if entry.role == "operator":
            layer = read_layer(entry.content)
            operators[layer.signature] = Operator(
                layer, values[number], verdicts[number] if verdicts else "unknown"
            )
        elif entry.role != ROLE:
            network = read_network(entry.content)
            networks[entry.key] = (entry.role, network, values[number])
    return operators, networks


def read_fragments(
    entries: Mapping[int, Entry], values: Mapping[int, NDArray[np.float64]]
) -> dict[str, PricedFragment]:
    """Fragments by signature, each with the values of its runs. Raises as `split_entries` does."""
    found = {n: read_fragment(entry.content) for n, entry in entries.items() if entry.role == ROLE}
    return {f.signature: PricedFragment(f, values[number]) for number, f in found.items()}


def spread_of(operators: Mapping[str, Operator]) -> SpreadBySize:
    """How operators' values differ between runs, by their size."""
    return SpreadBySize.of([operator.runs for operator in operators.values()])


def operator_times(
    operators: Mapping[str, Operator],
    scales: Mapping[str, Scales] | None = None,
    donor: Donor | None = None,
) -> OperatorTimes:
    """The times of measured operators, of those that a donor lends, and of those between them."""
    spread = spread_of(operators)

    def deviation(operator: Operator) -> float:
        found = spread(operator.seconds)
        return found.deviation if found.degrees else UNKNOWN_DEVIATION

    measured = [(o.layer, Alone(o.seconds, deviation(o))) for o in operators.values()]
    lent = transferred(donor, measured) if donor else []
    return OperatorTimes([*measured, *lent], scales=scales)
