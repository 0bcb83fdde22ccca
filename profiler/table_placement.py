"""Which kinds of a table's operators a delegate leaves to other kernels; it explains their prices.

The operators of a kind differ in their sizes, and a delegate takes or leaves them alike as a rule:
the first of each kind is asked about, so that a thousand operators cost a few models.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..devices.base import Device
from ..devices.errors import WorkerError, WorkerLost
from .calibration import kind
from .description import read_layer
from .one_run import Source
from .open_session import open_session
from .operators import runner_of
from .store import Entry
from .table import LookupTable
from .table_result import Outside
from .visits import Model


def outside_kinds(
    device: Device,
    entries: Iterable[Entry],
    sources: Mapping[str, Source],
    *,
    threads: int = 1,
    runtime: str = "auto",
) -> Outside | None:
    """For each kind of operator that runs outside of the delegate what of it does (the runtime's
    names); None where the runtime does not tell of every kind.

    `sources` gives the model of each entry by its key. Raises what the board raises where it is
    lost.
    """
    first: dict[str, str] = {}
    for entry in entries:
        if entry.role == "operator":
            first.setdefault(kind(read_layer(entry.content)), entry.key)
    found: Outside = {}
    with open_session(device, threads=threads, runtime=runtime) as session:
        for _ in session.load(Model(key, sources[key].emit) for key in first.values()):
            pass
        try:
            placements = session.placements([*first.values()])
        except WorkerLost:
            raise
        except WorkerError:  # a graph that cannot be followed: the table stands without it
            return None
        for name, placement in zip(first, placements, strict=True):
            if placement.outside is None:
                return None
            if placement.outside:
                found[name] = tuple(sorted({operator for _, operator in placement.outside}))
    return found


def united(parts: Iterable[LookupTable]) -> Outside | None:
    """What is known of several tables together; None where one of them does not know."""
    found: Outside = {}
    for part in parts:
        if part.outside is None:
            return None
        for name, operators in part.outside.items():
            found[name] = tuple(sorted({*found.get(name, ()), *operators}))
    return found


def outside_words(table: LookupTable) -> str:
    """Which kinds of operators run outside of the delegate, in a sentence; "" where none is known
    to."""
    if not table.outside:
        return ""
    *others, last = table.outside
    kinds = f"{', '.join(others)} and {last}" if others else last
    verb = "run" if others else "runs"
    dtype = "float" if table.dtype == "float32" else table.dtype
    runner = runner_of(str(table.conditions.get("runtime")))
    return f"{kinds} in {dtype} {verb} outside of {runner}."
