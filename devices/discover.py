"""What boards are within reach: those written down, phones of the adb server, hosts of ssh.

All are looked at at the same time, each for a few seconds at most. Nobody logs in to a host that is
no board of the inventory.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from .adb_devices import Listed, Readiness
from .adb_server import attached
from .board_entry import BoardEntry
from .errors import (
    BoardfitError,
    BoardInUse,
    BoardQuarantined,
    DeviceError,
    DeviceLost,
    DeviceTimeout,
    DeviceUnauthorised,
    DeviceUnreachable,
    DeviceUnverified,
    InputError,
)
from .ssh_config import Surroundings, find_route, host_names

PATIENCE = 3.0  # seconds for all looks together


@dataclass(frozen=True)
class Sighting:
    """A board that there is or might be.

    `name` is its name in the inventory, empty where it is not in it; `where` its address or serial
    number; `words` what was seen, with the next step where it is not ready.
    """

    name: str
    transport: str
    where: str
    state: Readiness
    words: str = ""
    tags: tuple[str, ...] = ()


Look = Callable[[BoardEntry], None]


def discover(
    entries: Sequence[BoardEntry],
    look: Look,
    *,
    around: Surroundings | None,
    server: tuple[str, int] | None = None,
    patience: float = PATIENCE,
) -> tuple[list[Sighting], list[str]]:
    """The boards of an inventory and what else is attached, each with its state; and remarks.

    `look` reaches a board of the inventory and lets it go, raising what that raises. `around`
    is the user's ssh configuration (`None`: none is read), `server` the adb server's address
    (`None`: the usual one).
    """
    remarks: list[str] = []
    known = {entry.host for entry in entries if entry.transport == "ssh"}
    strangers: dict[str, Callable[[], object]] = {}
    if around is not None:
        try:
            strangers = {
                name: partial(greet, name, around, timeout=patience)
                for name in host_names(around)
                if name not in known and not name.startswith("-")
            }
        except InputError as error:
            remarks.append(str(error))
    jobs: dict[str, Callable[[], object]] = {
        "adb": partial(attached, server, timeout=patience),
        **{f"entry {entry.name}": partial(look, entry) for entry in entries},
        **{f"host {name}": job for name, job in strangers.items()},
    }
    results = _together(jobs, patience)
    answer = results["adb"]
    phones: tuple[Listed, ...] = answer if isinstance(answer, tuple) else ()
    # Without any phone nobody misses the server.
    if isinstance(answer, BoardfitError) and not isinstance(answer, DeviceUnreachable):
        remarks.append(str(answer))
    elif isinstance(answer, DeviceUnreachable):
        remarks.append(f"Phones on USB are seen through an adb server: {answer}.")
    found = [_of_entry(entry, results[f"entry {entry.name}"], phones) for entry in entries]
    named = {sighting.where for sighting in found if sighting.transport == "adb"}
    for phone in phones:
        if phone.serial not in named:
            found.append(_of_phone(phone))
    found += [_of_host(name, results[f"host {name}"]) for name in strangers]
    return found, remarks


def greet(name: str, around: Surroundings, *, timeout: float) -> None:
    """See whether an SSH server answers where a configuration has this host; nobody logs in.

    Raises `DeviceUnreachable` where none does, and `InputError` where the configuration cannot be
    understood.
    """
    *jumps, host = find_route(name, around)
    if jumps or host.proxy_command is not None:
        raise DeviceError("it is behind a jump host or a command, so that only a login tells")
    where = f"{host.host} port {host.port}"
    try:
        with socket.create_connection((host.host, host.port), timeout=timeout) as link:
            link.settimeout(timeout)
            beginning = link.recv(4)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that cannot be one
        raise DeviceUnreachable(f"nothing answers on {where}") from error
    if not b"SSH-".startswith(beginning) or not beginning:
        raise DeviceUnreachable(f"what answers on {where} is no SSH server")


def _together(jobs: Mapping[str, Callable[[], object]], patience: float) -> dict[str, object]:
    """Do all jobs at the same time: what each returned, or the error that it raised.

    Those that have not ended in time go on in threads that end with the process.
    """
    results: dict[str, object] = {}

    def work(name: str, job: Callable[[], object]) -> None:
        try:
            results[name] = job()
        except BoardfitError as error:
            results[name] = error

    threads = [
        threading.Thread(target=work, args=item, name=f"look at {item[0]}", daemon=True)
        for item in jobs.items()
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = DeviceTimeout(f"it has not answered within {patience:g} s")
    return {name: results.get(name, late) for name in jobs}


def state_of(outcome: object) -> tuple[Readiness, str]:
    """What a look that ended so says about a board, in words."""
    if not isinstance(outcome, BoardfitError):
        return "ready", ""
    if isinstance(outcome, BoardInUse):
        return "busy", str(outcome)
    if isinstance(outcome, BoardQuarantined):
        return "quarantined", str(outcome)
    if isinstance(outcome, DeviceUnauthorised | DeviceUnverified):
        return "unauthorised", str(outcome)
    if isinstance(outcome, DeviceUnreachable | DeviceTimeout | DeviceLost):
        return "offline", str(outcome)
    return "unknown", str(outcome)


def _of_entry(entry: BoardEntry, outcome: object, phones: Sequence[Listed]) -> Sighting:
    state, words = state_of(outcome)
    where = entry.host or entry.serial or ""
    if entry.transport == "ssh" and entry.user:
        where = f"{entry.user}@{where}"
    if entry.transport == "adb" and entry.server is not False:
        fitting = [phone for phone in phones if entry.serial in {None, phone.serial}]
        if len(fitting) > 1:
            serials = ", ".join(phone.serial for phone in fitting)
            state, words = "unknown", f"several phones fit ({serials}); write its `serial`"
        elif fitting and (state not in {"busy", "quarantined"} or fitting[0].readiness != "ready"):
            where = fitting[0].serial
            state, words = fitting[0].readiness, fitting[0].next_step
    return Sighting(entry.name, entry.transport, where, state, words, entry.tags)


def _of_phone(phone: Listed) -> Sighting:
    model = f"{phone.model}: " if phone.model else ""
    add = f"`boardfit devices add NAME --serial {phone.serial}`"
    words = phone.next_step or add
    return Sighting("", "adb", phone.serial, phone.readiness, f"{model}{words}")


def _of_host(name: str, outcome: object) -> Sighting:
    state, words = state_of(outcome)
    if state == "ready":  # a server that answers has not let us in
        state, words = "unknown", f"answers; `boardfit devices add NAME --host {name}`"
    return Sighting("", "ssh", name, state, words)
