"""Several boards at once: the options of a fleet, and the command that offers a board to one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from boardfit.options import MACHINES, InventoryOption, WaitOption

if TYPE_CHECKING:
    from boardfit.profiler.fleet_tls import TlsFiles

FleetOption = Annotated[
    str | None,
    typer.Option(
        "--fleet",
        help="For a table: boards of one kind that share the work, e.g. pi5-a,pi5-b or tag:pi5.",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        help="The Dask scheduler that the boards are offered to, e.g. tls://lab:8786; for boards "
        "of this host none is needed.",
    ),
]
TrustOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca", rich_help_panel=MACHINES, help="PEM file of the authority that all hosts trust."
    ),
]
CertificateOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert", rich_help_panel=MACHINES, help="PEM file of this host's certificate."
    ),
]
KeyOption = Annotated[
    Path | None, typer.Option("--tls-key", rich_help_panel=MACHINES, help="PEM file of its key.")
]


def devices_worker(
    name: Annotated[str, typer.Argument(help="The board, as this host's boards.toml has it.")],
    scheduler: Annotated[
        str, typer.Option("--scheduler", help="The Dask scheduler, e.g. tls://lab:8786.")
    ],
    tls_ca: TrustOption = None,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
    wait: WaitOption = None,
    boards: InventoryOption = None,
) -> None:
    """Offer a board of this host to a Dask scheduler, for `boardfit profile --fleet`.

    Ends with the scheduler, or with Ctrl-C. Members of a Dask cluster run what other members send.
    """
    from boardfit import api

    api.require("distributed", "scale")
    from boardfit.profiler.fleet_dask import offer

    tls = tls_files(tls_ca, tls_cert, tls_key)
    offer(name, scheduler, tls=tls, inventory=boards, wait=wait)


def tls_files(ca: Path | None, cert: Path | None, key: Path | None) -> TlsFiles | None:
    """The certificates, where they are given. Raises `InputError` where one is missing."""
    from boardfit.devices.errors import InputError
    from boardfit.profiler.fleet_tls import TlsFiles

    if ca is None and cert is None and key is None:
        return None
    if ca is None or cert is None or key is None:
        raise InputError("--tls-ca, --tls-cert and --tls-key are given together, or none of them")
    return TlsFiles(ca, cert, key)


def parse_fleet(text: str, inventory: Path | None, *, attached: bool) -> list[str]:
    """The names in `pi5-a,pi5-b`, or of all boards with the tag in `tag:pi5`.

    Boards that are `attached` to this host stand in its inventory. Raises `InputError` and what
    `Inventory` raises.
    """
    from boardfit.devices.errors import DeviceNotFound, InputError
    from boardfit.devices.inventory import Inventory

    known = Inventory.load(inventory)
    if text.startswith("tag:"):
        tag = text.removeprefix("tag:")
        names = [entry.name for entry in known.entries if tag in entry.tags]
        if not names:
            raise DeviceNotFound(f"--fleet {text}: no board has this tag; see `boardfit devices`")
        return names
    names = text.split(",")
    if len(set(names)) < len(names) or not all(names):
        raise InputError(f"--fleet {text}: name each board once, with a comma between two")
    if attached:
        for name in names:
            known.get(name)
    return names
