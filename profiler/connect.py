"""From a board's name to a `Device` that can be measured."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from ..devices.base import Device
from ..devices.board_entry import BoardEntry
from ..devices.clusters import choose_cores, discover_clusters
from ..devices.conditions import describe, under
from ..devices.errors import DeviceLost, DeviceTimeout
from ..devices.fake import FakeTransport, Faults, SimulatedClock, SleepingClock
from ..devices.inventory import Inventory
from ..devices.local import local_device
from ..devices.quarantine import require_free
from ..devices.settings import restore_leftovers, wanted_of
from .simulated import NO_THROTTLING, SimulatedWorker, Throttling

_LOG = logging.getLogger("boardfit")


def connect(
    name: str | None = None,
    *,
    inventory: Path | None = None,
    benchmark_model: Path | None = None,
    wait: float | None = None,
) -> Device:
    """Reach the board of that name; close `device.transport` when done.

    `local` is this machine and `fake` a simulated board; others come from the inventory file
    (see `devices/inventory.py`). `benchmark_model` is TFLite's tool for the board instead of the
    one that is written down, `wait` the seconds that a job waits where another one has the board
    (None: `$BOARDFIT_WAIT`, or a day). Raises `DeviceNotFound`, `DeviceAmbiguous`,
    `InventoryError`, `BoardQuarantined`, and what reaching the board raises.
    """
    known = Inventory.load(inventory)
    entry = known.get(name)
    failures = known.failures_of(entry)
    require_free(entry.name, failures)
    device = reach(entry)
    tool = benchmark_model or device.benchmark_model
    return replace(device, failures=failures, wait=wait, benchmark_model=tool)


def reach(entry: BoardEntry) -> Device:
    """Reach a board that is written down so; close `device.transport` when done.

    What a host that was killed left set on the board is put back. A board that is lost while it is
    looked at is reached once more. Raises what reaching it raises, `InputError` where it has no
    such cores, and `SettingError`.
    """
    try:
        return _looked_at(entry)
    except (DeviceLost, DeviceTimeout) as error:
        _LOG.warning(f"{entry.name} was lost and is reached once more: {error}")
        return _looked_at(entry)


def _looked_at(entry: BoardEntry) -> Device:
    device = _reached(entry)
    try:
        return _as_written(device, entry)
    except BaseException:
        device.transport.close()
        raise


def _as_written(device: Device, entry: BoardEntry) -> Device:
    """A board with the cores and the settings that it shall be measured with."""
    wanted = wanted_of(entry)
    core = device.core
    if named := entry.cluster or entry.cores:
        core = max(choose_cores(discover_clusters(device.transport), named))
    if device.kind in {"ssh", "adb"} or wanted.changes:
        restore_leftovers(device.transport, device.workspace)
    found = device.description
    if entry.soc is not None and found.soc is not None and entry.soc != found.soc:
        _LOG.warning(
            f"{entry.name}: its chip is {found.soc}, and {entry.soc} in boards.toml; is it the "
            "board that is meant?"
        )
    return replace(device, core=core, wanted=wanted, description=under(found, wanted))


def _reached(entry: BoardEntry) -> Device:
    if entry.transport == "ssh":
        from ..devices.ssh import ssh_device  # paramiko takes 0.2 s to import

        return ssh_device(entry)
    if entry.transport == "adb":
        from ..devices.adb_connect import adb_device  # which loads adb-shell

        return adb_device(entry)
    return fake_device(entry) if entry.transport == "fake" else local_device(entry)


def fake_device(
    entry: BoardEntry,
    *,
    faults: Faults | None = None,
    noise: float = 0.01,
    throttling: Throttling = NO_THROTTLING,
) -> Device:
    """A simulated board: the real worker on simulated time, with faults on demand.

    `noise` is the relative standard deviation of an inference; the entry's `seed` draws it.
    `throttling` is what lasting load does to the board.
    """
    clock = SleepingClock if entry.real_time else SimulatedClock
    worker = partial(
        SimulatedWorker, seed=entry.seed or 0, noise=noise, throttling=throttling, clock=clock
    )
    transport = FakeTransport(
        programs={"python3": worker}, faults=faults or Faults(), clock=clock()
    )
    return Device(
        entry.name,
        "fake",
        transport,
        describe(transport),
        "python3",
        entry.workspace or PurePosixPath("/boardfit"),
        0,
    )
