"""Whose a run folder is: everything that decides how a search goes."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any

from ..profiler.description import network_key
from ..profiler.table import LookupTable
from .data import Dataset
from .settings import SearchSettings
from .space import SearchSpace


def run_identity(
    space: SearchSpace, table: LookupTable, dataset: Dataset, settings: SearchSettings
) -> dict[str, Any]:
    """Everything that decides how a run goes; a folder belongs to one such set."""
    return {
        "space": space.name,
        "full_network": network_key(space.network(space.full)),
        "table": table.path.name,
        "calibration": asdict(table.calibration),
        "data": dataset.name,
        "conditions": dict(table.conditions),
        "images": fingerprint(dataset),
        "settings": asdict(settings),
    }


def fingerprint(dataset: Dataset) -> str:
    """A digest of all images and targets: two data sets of one name are told apart."""
    digest = hashlib.sha256()
    for part in (dataset.train, dataset.holdout, dataset.test):
        digest.update(part.fingerprint())
    return digest.hexdigest()[:16]
