"""From an inventory's entry to an Android board: which way is taken, and why one cannot be.

A running adb server is used where one answers, since it holds the USB interfaces of all boards;
otherwise a serial HOST:PORT is reached over TCP, and everything else over USB.
"""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import PurePosixPath

from .adb_devices import Listed, one_of_each, server_address
from .adb_direct import PORT, AdbDirectTransport, TcpWire, open_usb, usb_boards
from .adb_keys import load_keys
from .adb_server import AdbServer, AdbServerTransport
from .adb_transport import AdbTransport
from .base import Device
from .board_entry import BoardEntry
from .conditions import describe
from .errors import DeviceAmbiguous, DeviceNotFound, InventoryError
from .reconnecting import ReconnectingTransport

WORKSPACE = PurePosixPath("/data/local/tmp/boardfit")  # where the shell's user may run programs
_DIAL = 10.0  # seconds for reaching a board over TCP
_SETTLE = 5.0  # seconds in which a board that was just connected becomes ready


def adb_device(entry: BoardEntry, *, patience: float = 30.0) -> Device:
    """Reach an Android board as the inventory's entry says.

    `patience` is how many seconds somebody has for allowing this computer's key. Raises
    `DeviceNotFound`, `DeviceAmbiguous`, `DeviceUnauthorised`, `DeviceBusy`, `DeviceLost`,
    `DeviceTimeout`.
    """
    workspace = entry.workspace or WORKSPACE
    if not workspace.is_absolute():
        raise InventoryError(
            f"board {entry.name!r}, workspace: {str(workspace)!r} does not begin with /, and "
            f"Android has no home folder; leave it out for {WORKSPACE}"
        )
    transport = ReconnectingTransport(
        partial(reach, entry.serial, server=entry.server, patience=patience)
    )
    try:
        return Device(
            name=entry.name,
            kind="adb",
            transport=transport,
            description=describe(transport),
            python=entry.python,
            workspace=workspace,
            core=entry.core,
            benchmark_model=entry.benchmark_model,
        )
    except BaseException:
        transport.close()
        raise


def reach(
    serial: str | None = None, *, server: bool | None = None, patience: float = 30.0
) -> AdbTransport:
    """The transport to a board: the one of that serial, or the only one there is.

    `server` forces the way through an adb server (True) or around it (False). Raises what
    `adb_device` raises.
    """
    running = AdbServer(server_address())
    if server or (server is None and running.answers()):
        return AdbServerTransport(running, choose(running, serial))
    address = parse_address(serial) if serial is not None else None
    if address is not None:
        wire = TcpWire(*address, timeout=_DIAL)
        return AdbDirectTransport(wire, load_keys(), patience=patience)
    found = usb_boards()
    if serial is None and len(found) > 1:
        raise _several(list(found))
    if not found or (serial is not None and serial not in found):
        wanted = "no board is attached by USB" if serial is None else f"no board {serial!r} on USB"
        others = f" (there are: {', '.join(found)})" if found else ""
        if any(name.startswith("usb:") for name in found):
            others += "; this user may not ask some for their serials: install Android's udev rules"
        raise DeviceNotFound(
            f"{wanted}{others}, and {running} does not run; plug it in and allow USB debugging in "
            "its developer options, or give HOST:PORT as its serial"
        )
    chosen = serial if serial is not None else next(iter(found))
    return AdbDirectTransport(open_usb(chosen, found[chosen]), load_keys(), patience=patience)


def choose(server: AdbServer, serial: str | None) -> str:
    """The serial under which the server has the board that is meant, ready to be used.

    One that is HOST:PORT and not in the server's list is connected to. Raises `DeviceNotFound`,
    `DeviceAmbiguous`, and the error of a board that cannot be used.
    """
    everything = server.boards()
    if serial is None:
        boards = one_of_each(everything)
        ready = [board for board in boards if board.ready]
        if len(ready) == 1:
            return ready[0].serial
        if ready:
            raise _several([board.serial for board in ready])
        if boards:
            raise boards[0].refused()
        raise DeviceNotFound(
            f"{server} sees no board; plug one in and allow USB debugging in its developer "
            "options, or name it as HOST:PORT"
        )
    said = ""
    if parse_address(serial) is not None and not _listed(everything, serial):
        said = server.connect(serial).strip()
        everything = _settled(server, serial)
    listed = _listed(everything, serial)
    if listed is None:
        there = ", ".join(board.serial for board in everything) or "none"
        raise DeviceNotFound(
            f"{server} sees no board {serial!r} (attached: {there}){said and f'; it says: {said}'}"
            "; check the serial with `adb devices`, and that the board is on and in reach"
        )
    if not listed.ready:
        raise listed.refused()
    return listed.serial


def parse_address(serial: str) -> tuple[str, int] | None:
    """Host and port of a serial such as `192.168.1.7:5555`, `[::1]:5555`; None for others.

    A dotted address alone has ADB's own port.
    """
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):(\d{1,5})", serial, flags=re.ASCII)
    if found and 0 < int(found[2]) < 65536:
        return found[1].strip("[]"), int(found[2])
    if re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", serial, flags=re.ASCII):
        return serial, PORT
    return None


def _listed(boards: tuple[Listed, ...], serial: str) -> Listed | None:
    """The board of that serial, or by its other name where that one can be used."""
    wanted = Listed(serial, "").board
    same = [board for board in boards if board.board == wanted]
    exact = [board for board in same if board.serial == serial]
    return next((b for b in [*exact, *same] if b.ready), next(iter([*exact, *same]), None))


def _settled(server: AdbServer, serial: str) -> tuple[Listed, ...]:
    """The server's list once a board that was just connected is ready, or has had the time."""
    deadline = time.monotonic() + _SETTLE
    while True:
        boards = server.boards()
        listed = _listed(boards, serial)
        settling = listed is not None and listed.state in {"offline", "authorizing", "connecting"}
        if not settling or time.monotonic() >= deadline:
            return boards
        time.sleep(0.05)


def _several(serials: list[str]) -> DeviceAmbiguous:
    return DeviceAmbiguous(
        f"several Android boards are attached: {', '.join(serials)}; choose one with serial = "
        '"..." in boards.toml'
    )
