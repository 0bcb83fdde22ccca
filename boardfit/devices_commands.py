"""The commands about boards: parse, call, print."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from boardfit.options import InventoryOption, JsonOption, WaitOption

if TYPE_CHECKING:
    from boardfit.devices.board_entry import BoardEntry
    from boardfit.devices.inventory import Inventory
    from boardfit.devices.ssh_config import Surroundings

devices_app = typer.Typer(help="Which boards there are.", rich_markup_mode=None)

BoardArgument = Annotated[
    str | None,
    typer.Argument(help="The board; without it the only one there is.", show_default=False),
]
UNFIT = 3  # the exit code where a board cannot be measured


@devices_app.callback(invoke_without_command=True)
def devices(
    context: typer.Context, boards: InventoryOption = None, as_json: JsonOption = False
) -> None:
    """List the boards that can be measured (the same as `devices list`)."""
    if context.invoked_subcommand is None:
        devices_list(boards, as_json)


@devices_app.command("list")
def devices_list(boards: InventoryOption = None, as_json: JsonOption = False) -> None:
    """List the boards that can be measured, and what else is attached, with their state."""
    from boardfit.console import say, show
    from boardfit.devices.discover import discover
    from boardfit.devices.inventory import Inventory
    from boardfit.devices_summary import sighting_content, sighting_rows, sighting_words

    known = Inventory.load(boards)
    found, remarks = discover(known.all_entries, partial(_look, known), around=_around())
    show(sighting_content(found) if as_json else sighting_rows(found), as_json=as_json)
    if not as_json:
        say([*sighting_words(found), *remarks])


@devices_app.command("add")
def devices_add(
    name: Annotated[str, typer.Argument(help="What the board shall be called.")],
    transport: Annotated[
        str | None,
        typer.Option("--transport", help="ssh, adb or local; --host and --serial imply it."),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="ssh: an address, or an alias of ~/.ssh/config.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="ssh: who logs in.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="ssh: another port than 22.")] = None,
    identity_file: Annotated[
        str | None, typer.Option("--identity-file", help="ssh: the private key.")
    ] = None,
    serial: Annotated[
        str | None, typer.Option("--serial", help="adb: the phone, as `adb devices` names it.")
    ] = None,
    server: Annotated[
        bool | None,
        typer.Option("--server/--no-server", help="adb: through an adb server, or around it."),
    ] = None,
    benchmark_model: Annotated[
        str | None,
        typer.Option("--benchmark-model", help="TFLite's tool for boards without Python."),
    ] = None,
    python: Annotated[str | None, typer.Option("--python", help="The board's interpreter.")] = None,
    workspace: Annotated[
        str | None, typer.Option("--workspace", help="The folder there that boardfit may fill.")
    ] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="A tag; may be repeated.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look and show, but write nothing.")
    ] = False,
    boards: InventoryOption = None,
) -> None:
    """Look at a board, and write it into boards.toml."""
    from boardfit import console
    from boardfit.devices.add_board import completed, entry_of, free_name
    from boardfit.devices.clusters import discover_clusters
    from boardfit.devices.inventory_file import add_board, entry_text
    from boardfit.devices_summary import board_line
    from boardfit.profiler.connect import reach

    wanted = entry_of(
        name,
        transport,
        host=host,
        user=user,
        port=port,
        identity_file=identity_file,
        serial=serial,
        server=server,
        benchmark_model=benchmark_model,
        python=python,
        workspace=workspace,
        tags=tuple(tags or ()),
    )
    free_name(name, boards)
    with reach(wanted) as board:
        clusters = discover_clusters(board.transport)
        entry = completed(wanted, board.description, clusters)
        console.say([board_line(name, board.description), "", *entry_text(entry).splitlines(), ""])
    if not dry_run:
        console.say(
            [f"Written to {add_board(entry, boards)}; next: boardfit devices doctor {name}"]
        )


@devices_app.command("doctor")
def devices_doctor(
    name: BoardArgument = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Do what is harmless: make the workspace, tidy it up.")
    ] = False,
    boards: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a board is fit to be measured, and what to do about what is not."""
    from boardfit.devices.doctor import examine, repair, unreachable
    from boardfit.devices.errors import DeviceError
    from boardfit.devices.inventory import Inventory
    from boardfit.devices.quarantine import failures_finding, lift
    from boardfit.devices_summary import board_line
    from boardfit.profiler.connect import reach
    from boardfit.profiler.worker_files import worker_folder

    known = Inventory.load(boards)
    entry = known.get(name)
    keep = frozenset({worker_folder()})
    try:
        with reach(entry) as board:
            title = board_line(entry.name, board.description)
            findings = examine(board, entry, keep_workers=keep)
            if fix and (done := repair(board, findings, keep)):
                if not as_json:
                    from boardfit.console import say

                    say([f"Done: {words}." for words in done])
                findings = examine(board, entry, keep_workers=keep)
    except DeviceError as error:
        title, findings = entry.name, [unreachable(error)]
    failures = known.failures_of(entry)
    well = all(finding.state != "problem" for finding in findings)
    if lost := failures_finding(failures, well=well):
        findings = [lost, *findings]
        if well:
            lift(failures)
    _show_findings(title, findings, as_json)


def _show_findings(title: str, findings: list[Any], as_json: bool) -> None:
    from boardfit.console import say, show
    from boardfit.devices_summary import finding_lines, finding_rows

    if as_json:
        show(finding_rows(findings), as_json=True)
    else:
        say([title, *finding_lines(findings)])
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(UNFIT)


@devices_app.command("setup")
def devices_setup(
    name: BoardArgument = None,
    source: Annotated[
        str,
        typer.Option(
            "--source", help="Who downloads: board, host, or auto (the host if the board cannot)."
        ),
    ] = "auto",
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove all that setup put on the board.")
    ] = False,
    wait: WaitOption = None,
    boards: InventoryOption = None,
) -> None:
    """Install a runtime on a board, in a folder of its own."""
    from contextlib import nullcontext
    from dataclasses import replace

    from boardfit.console import say
    from boardfit.devices import setup_runtime
    from boardfit.devices.errors import InputError
    from boardfit.devices.inventory import Inventory
    from boardfit.devices.occupy import occupied
    from boardfit.profiler.connect import reach

    if source not in {"auto", "board", "host"}:
        raise InputError(f"--source {source}: choose auto, board or host")

    def tell(words: str) -> None:
        say([words])

    with (
        replace(reach(Inventory.load(boards).get(name)), wait=wait) as board,
        # Unpacking would disturb whoever measures there. No setting of the board is needed for it.
        occupied(board, "set up a runtime", settings=nullcontext, tell=tell),
    ):
        if remove:
            there = setup_runtime.remove(board.transport, board.workspace)
            say(
                [
                    f"Removed {board.workspace / setup_runtime.FOLDER}."
                    if there
                    else "Nothing there."
                ]
            )
            return
        found = setup_runtime.set_up_board(board, source=cast(Any, source), say=tell)
    say(setup_runtime.summary(found, board))


def _look(known: Inventory, entry: BoardEntry) -> None:
    from boardfit.devices.errors import BoardInUse
    from boardfit.devices.lease import in_use
    from boardfit.devices.quarantine import require_free
    from boardfit.profiler.connect import reach

    require_free(entry.name, known.failures_of(entry))
    with reach(entry) as board:
        if board.kind in {"ssh", "adb"} and (who := in_use(board.transport)):
            raise BoardInUse(who)


def _around() -> Surroundings | None:
    """The user's ssh configuration; `None` where the user has no home folder."""
    from boardfit.devices.errors import InputError
    from boardfit.devices.ssh_connect import user_surroundings

    try:
        return user_surroundings()
    except InputError:
        return None
