"""From a board's name to a `Device` that can be measured."""

from __future__ import annotations

from functools import partial
from pathlib import Path, PurePosixPath

from ..devices.base import Device
from ..devices.conditions import describe
from ..devices.fake import FakeTransport, Faults, SimulatedClock, SleepingClock
from ..devices.inventory import BoardEntry, Inventory
from ..devices.local import local_device
from .simulated import NO_THROTTLING, SimulatedWorker, Throttling


def connect(name: str | None = None, *, inventory: Path | None = None) -> Device:
    """Reach the board of that name; close `device.transport` when done.

    `local` is this machine and `fake` a simulated board; others come from the inventory file
    (see `devices/inventory.py`). Raises `DeviceNotFound`, `DeviceAmbiguous`, `InventoryError`,
    and what reaching the board raises.
    """
    return reach(Inventory.load(inventory).get(name))


def reach(entry: BoardEntry) -> Device:
    """Reach a board that is written down so; close `device.transport` when done."""
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
