"""The result of a build as a document of the table's file: written when all is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from .board_record import BoardRecord
from .calibration import Calibration, Validation
from .crowding import Crowding
from .pricing import describe_scales

if TYPE_CHECKING:
    from .judge import Judged

Outside = dict[str, tuple[str, ...]]  # kinds of operators, and what of each no delegate takes


def describe_result(
    judged: Judged,
    *,
    runs: int,
    outside: Outside | None = None,
    campaign: str = "",
    record: BoardRecord | None = None,
) -> dict[str, Any]:
    """The outcome of a build from the first `runs` runs as a JSON object; `outside` is that of
    `table_placement.outside_kinds`, `campaign` says how measuring went (`Summary.words`), `record`
    what the board said of itself meanwhile."""
    validation = judged.validation
    return {
        "runs": runs,
        "entries": judged.entries,
        "scales": describe_scales(judged.times.scales()),
        "campaign": campaign,
        "board": record and record.content(),
        "outside": outside and {kind: list(names) for kind, names in outside.items()},
        "calibration": asdict(judged.calibration),
        "validation": validation
        and {name: getattr(validation, name).tolist() for name in Validation.__annotations__},
    }


def read_calibration(content: Mapping[str, Any]) -> Calibration:
    """The inverse of `describe_result` for the calibration."""
    factors = {str(name): float(factor) for name, factor in content["factors"].items()}
    return Calibration(
        float(content["constant"]),
        float(content["per_operator"]),
        float(content["per_cold_byte"]),
        factors,
        Crowding(
            float(content["crowding"]["per_product"]),
            tuple(map(float, content["crowding"]["per_byte_beyond"])),
        ),
        float(content["residual"]),
    )


def read_validation(content: Mapping[str, Any] | None) -> Validation | None:
    """The inverse of `describe_result` for the validation."""
    if content is None:
        return None
    return Validation(*(np.array(content[name], float) for name in Validation.__annotations__))


def read_outside(content: Mapping[str, Any] | None) -> Outside | None:
    """The inverse of `describe_result` for what runs outside of the delegate. Older tables do
    not say."""
    if content is None:
        return None
    found = {str(kind): tuple(map(str, names)) for kind, names in content.items()}
    if not all(isinstance(names, list) and names for names in content.values()):
        raise ValueError("operators outside of the delegate are lists of names")
    return found
