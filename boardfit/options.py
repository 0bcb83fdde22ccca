"""Options that several commands have, and what their words mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

MACHINES = "Machines"


class GroupedHelp(TyperCommand):
    """A command whose help lists its options by their `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write those without a panel first, the panels in the order in which they appear."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                groups.setdefault(panel, []).append(record)
        for panel, records in groups.items():
            with formatter.section(panel):
                formatter.write_dl(records)


DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="The board's name; `boardfit devices` lists them."),
]
InventoryOption = Annotated[
    Path | None, typer.Option("--boards", help="The inventory file, instead of the usual one.")
]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, help="Threads of the runtime.")]
RuntimeOption = Annotated[
    str,
    typer.Option(
        "--runtime",
        help="auto, ai-edge-litert, tflite-runtime, onnxruntime, or onnxruntime:PROVIDER,...; "
        "tools on the board: benchmark_model, benchmark_model:gpu, benchmark_model:nnapi, trtexec.",
    ),
]
BenchmarkModelOption = Annotated[
    Path | None,
    typer.Option(
        "--benchmark-model",
        help="TFLite's tool, built for the board, to measure with where the board has no Python.",
    ),
]
WaitOption = Annotated[
    float | None,
    typer.Option(
        "--wait",
        min=0.0,
        max=30 * 24 * 3600.0,
        help="Seconds to wait for a board that another job measures on; 0 does not wait.",
        show_default="$BOARDFIT_WAIT, or a day",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Decides every random choice.")]
OptionsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A field of the space, e.g. input_size=160; may be repeated."),
]


def parse_options(texts: list[str] | None) -> dict[str, Any]:
    """`["input_size=160"]` as `{"input_size": 160}`. Raises `InputError`."""
    from boardfit.devices.errors import InputError

    options: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(f"--set {text}: write NAME=VALUE, for example --set input_size=160")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def parse_entries(text: str) -> int | None:
    """`700` as a number, `all` as None. Raises `InputError`."""
    from boardfit.devices.errors import InputError

    if text == "all":
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise InputError(f"--entries {text}: give a number of operators, or all")
    return int(text)


def parse_share(text: str) -> float:
    """A share from `2%` or `0.02`. Raises `InputError`."""
    from boardfit.devices.errors import InputError

    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise InputError(f"--precision {text}: write a share such as 2% or 0.02")
    return share


def default_table(device: str, space: str, dtype: str = "float32", runtime: str = "auto") -> Path:
    """Where a board's table of a space lies unless it is said otherwise."""
    suffix = "" if runtime == "auto" else f"-{runtime.replace(':', '-').replace(',', '-')}"
    if dtype != "float32":
        suffix += f"-{dtype}"
    name = Path(space).stem if space.endswith(".py") else space  # a file of one's own
    return Path("tables") / f"{device}-{name}{suffix}.boardfit"
