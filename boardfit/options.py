"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="The board's name; `boardfit devices` lists them."),
]
InventoryOption = Annotated[
    Path | None, typer.Option("--boards", help="The inventory file, instead of the usual one.")
]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="Threads of the runtime.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Decides every random choice.")]
OptionsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A field of the space, e.g. input_size=160; may be repeated."),
]
