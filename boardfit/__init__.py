"""Measure neural networks on boards, and search for the best network for one of them.

    import boardfit

    device = boardfit.connect("local")
    table = boardfit.build_table("mobilenetv3-32", device, "local.boardfit")
    result = boardfit.find_network(table, device, data="shapes", latency="50%", out="runs/first")
    boardfit.write_report(["local.boardfit", "runs/first"], "report.html")

Names are imported on first use: `import boardfit` costs nothing, and who only profiles needs no
PyTorch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boardfit.api import (
        build_table,
        extend_table,
        find_network,
        find_networks,
        forecast_table,
        profile,
        transfer_table,
        verify_table,
        write_report,
    )
    from boardfit.devices.errors import BoardfitError
    from boardfit.profiler.connect import connect
    from boardfit.profiler.table import LookupTable

__version__ = "0.1.0"
__all__ = [
    "BoardfitError",
    "LookupTable",
    "build_table",
    "connect",
    "extend_table",
    "find_network",
    "find_networks",
    "forecast_table",
    "profile",
    "transfer_table",
    "verify_table",
    "write_report",
]

_HOMES = {
    "BoardfitError": "boardfit.devices.errors",
    "LookupTable": "boardfit.profiler.table",
    "build_table": "boardfit.api",
    "connect": "boardfit.profiler.connect",
    "extend_table": "boardfit.api",
    "find_network": "boardfit.api",
    "find_networks": "boardfit.api",
    "forecast_table": "boardfit.api",
    "profile": "boardfit.api",
    "transfer_table": "boardfit.api",
    "verify_table": "boardfit.api",
    "write_report": "boardfit.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'boardfit' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
