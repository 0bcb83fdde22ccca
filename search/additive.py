"""A latency model from whole networks alone: each choice adds its share.

For boards of which only networks were measured, no operators, as in the published tables of
NAS-Bench-201. seconds = constant + sum over the coordinates of a share for the value chosen there.
"""

from __future__ import annotations

import numpy as np

from .metrics import Architectures, Metric, Rows, Values, as_rows
from .space import SearchSpace


def fit_additive(space: SearchSpace, architectures: Architectures, seconds: Values) -> Metric:
    """The metric that fits measured networks best (least squares; of equal fits the smallest).

    `seconds` is float64 [n]. Networks are priced in the canonical form, so that what costs
    nothing is given no share. Raises ValueError for fewer than two networks, or where the numbers
    of networks and of seconds differ.
    """
    rows = _canonical(space, architectures)
    if len(rows) < 2 or seconds.shape != (len(rows),):
        raise ValueError(f"{len(rows)} networks and {seconds.shape} seconds fit no model")
    mean = float(seconds.mean())
    features = _features(space, rows)
    centre = features.mean(axis=0)
    shares = np.linalg.lstsq(features - centre, seconds - mean, rcond=None)[0]

    def metric(architectures: Architectures) -> Values:
        found: Values = (
            mean + (_features(space, _canonical(space, architectures)) - centre) @ shares
        )
        return found

    return metric


def _canonical(space: SearchSpace, architectures: Architectures) -> Rows:
    rows = as_rows(space, architectures)
    return as_rows(space, [space.canonical(tuple(row)) for row in rows.tolist()])


def _features(space: SearchSpace, rows: Rows) -> Values:
    """One column a coordinate's value but its smallest: 1 where it is chosen, [n, values]."""
    columns = [
        rows[:, number, None] == np.array(coordinate.values[1:])
        for number, coordinate in enumerate(space.coordinates)
    ]
    return np.hstack(columns).astype(np.float64)
