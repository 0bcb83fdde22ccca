"""The command `search`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from boardfit.fleet_commands import CertificateOption, KeyOption, TrustOption, tls_files
from boardfit.options import (
    MACHINES,
    BenchmarkModelOption,
    DeviceOption,
    InventoryOption,
    JsonOption,
    OptionsOption,
    SeedOption,
    WaitOption,
    default_table,
    parse_options,
)

SUPERNET, OPTIMIZER, FINALISTS = "Super-network", "Optimizer", "Found networks"


def search(
    latency: Annotated[
        list[str],
        typer.Option(
            "--latency",
            help='A time ("3ms") or a share of the full network\'s; one search answers several.',
        ),
    ] = ["50%"],  # noqa: B006
    limit: Annotated[
        list[str] | None,
        typer.Option(
            "--limit",
            help="A further limit: macs=20M, parameters=300k, memory=200k, macs=40%.",
        ),
    ] = None,
    margin: Annotated[
        bool,
        typer.Option("--margin", help="Keep the latency also at the high end of its interval."),
    ] = False,
    device: DeviceOption = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            help="The search space, or a Python file of your own, which is run; without it the "
            "table's own, or mobilenetv3-32.",
            show_default=False,
        ),
    ] = None,
    options: OptionsOption = None,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="shapes, scenes, digits, cifar10:PATH, nyu:PATH, folder:PATH or imagenet:PATH "
            "(from disk).",
        ),
    ] = "shapes",
    out: Annotated[Path, typer.Option("--out", help="The run folder.")] = Path("runs/search"),
    table: Annotated[
        Path | None,
        typer.Option("--table", help="The board's table; without it the usual one, built first."),
    ] = None,
    training: Annotated[
        str,
        typer.Option(
            "--training", rich_help_panel=SUPERNET, help="ordered-dropout, single-path or sandwich."
        ),
    ] = "ordered-dropout",
    law: Annotated[
        str | None,
        typer.Option(
            "--law",
            rich_help_panel=SUPERNET,
            help="Of the widths in training: mixed, uniform, tied or even; the rule has its own.",
            show_default=False,
        ),
    ] = None,
    full_fraction: Annotated[
        float,
        typer.Option(
            "--full-fraction",
            rich_help_panel=SUPERNET,
            min=0,
            max=1,
            help="Share of images at full width (dropout).",
        ),
    ] = 0.0,
    groups: Annotated[
        int | None,
        typer.Option(
            "--groups",
            rich_help_panel=SUPERNET,
            min=1,
            help="Groups of images that share widths (dropout).",
        ),
    ] = None,
    optimizer: Annotated[
        str,
        typer.Option(
            "--optimizer",
            rich_help_panel=OPTIMIZER,
            help="coordinate-descent, single-layer, evolution, nsga or random.",
        ),
    ] = "coordinate-descent",
    guide: Annotated[
        bool,
        typer.Option(
            "--guide/--no-guide",
            rich_help_panel=OPTIMIZER,
            help="Score the candidates that are predicted to be best.",
        ),
    ] = True,
    race: Annotated[
        int | None,
        typer.Option(
            "--race",
            rich_help_panel=OPTIMIZER,
            min=2,
            help="Score batches on so many images first, their best on all.",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            rich_help_panel=MACHINES,
            min=1,
            help="Networks that are scored at a time, here.",
        ),
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            rich_help_panel=MACHINES,
            help="A Dask scheduler whose workers score networks, e.g. tls://lab:8786.",
        ),
    ] = None,
    tls_ca: TrustOption = None,
    tls_cert: CertificateOption = None,
    tls_key: KeyOption = None,
    evaluations: Annotated[
        int,
        typer.Option(
            "--evaluations",
            rich_help_panel=OPTIMIZER,
            min=2,
            help="Networks that are scored at most.",
        ),
    ] = 120,
    batch_statistics: Annotated[
        str,
        typer.Option(
            "--batch-statistics",
            rich_help_panel=OPTIMIZER,
            help="holdout or re-estimated: for scoring sub-networks.",
        ),
    ] = "holdout",
    supernet_recipe: Annotated[
        str,
        typer.Option(
            "--supernet-recipe",
            rich_help_panel=SUPERNET,
            help="How the super-network is trained: NAME,FIELD=VALUE,... (docs/search.md).",
        ),
    ] = "",
    final_recipe: Annotated[
        str,
        typer.Option(
            "--final-recipe",
            rich_help_panel=FINALISTS,
            help="How the found network is trained, likewise.",
        ),
    ] = "",
    supernet_steps: Annotated[
        int | None,
        typer.Option(
            "--supernet-steps", rich_help_panel=SUPERNET, min=1, help="Steps of the super-network."
        ),
    ] = None,
    final_steps: Annotated[
        int | None,
        typer.Option(
            "--final-steps", rich_help_panel=FINALISTS, min=1, help="Steps of the final training."
        ),
    ] = None,
    measure_candidates: Annotated[
        int,
        typer.Option(
            "--measure-candidates",
            rich_help_panel=OPTIMIZER,
            min=0,
            help="Networks that are measured on the board before one is chosen, at most.",
        ),
    ] = 0,
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            rich_help_panel=FINALISTS,
            help="Also write, judge and measure the networks in int8.",
        ),
    ] = False,
    accelerator: Annotated[
        str,
        typer.Option(
            "--accelerator",
            rich_help_panel=MACHINES,
            help="auto, cpu or cuda: where networks are trained.",
        ),
    ] = "auto",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            rich_help_panel=FINALISTS,
            help="Train the found network with torch.compile.",
        ),
    ] = False,
    image_workers: Annotated[
        int,
        typer.Option(
            "--image-workers",
            rich_help_panel=MACHINES,
            min=0,
            help="Processes that read images from a disk.",
        ),
    ] = 0,
    allow_invalid_table: Annotated[
        bool,
        typer.Option("--allow-invalid-table", help="Go on with a table that failed its bar."),
    ] = False,
    skip_damaged: Annotated[
        bool,
        typer.Option(
            "--skip-damaged", help="Leave out training images of imagenet:PATH that are damaged."
        ),
    ] = False,
    seed: SeedOption = 0,
    benchmark_model: BenchmarkModelOption = None,
    wait: WaitOption = None,
    boards: InventoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search for the best network for a board: weights, a .tflite file, and measured proof."""
    from boardfit import api, console
    from boardfit.profiler.connect import connect

    api.require("torch", "search")
    from boardfit.search.compute import Compute
    from boardfit.search.data import open_dataset
    from boardfit.search.pipeline import follow, search_targets
    from boardfit.search.ranks import joined_ranks
    from boardfit.search.settings import SearchSettings, recipes

    supernet, final = recipes(
        supernet_steps, final_steps, supernet=supernet_recipe, final=final_recipe
    )
    settings = SearchSettings(
        target=latency[0],
        more_targets=tuple(latency[1:]),
        limits=tuple(limit or ()),
        margin=margin,
        seed=seed,
        training=cast(Any, training),  # checked by SearchSettings itself
        law=cast(Any, law),
        full_fraction=full_fraction,
        groups=groups,
        optimizer=cast(Any, optimizer),
        guide=guide,
        race_images=race,
        evaluations=evaluations,
        batch_statistics=cast(Any, batch_statistics),
        supernet=supernet,
        final=final,
        int8=int8,
        measure_candidates=measure_candidates,
    )
    compute = Compute(cast(Any, accelerator), compile=compiled, workers=image_workers)
    tls = tls_files(tls_ca, tls_cert, tls_key)
    with joined_ranks(gpu=compute.device.type == "cuda") as ranks:
        compute = replace(compute, ranks=ranks)
        name, fields = ranks.agreed(lambda: api.choose_space(space, parse_options(options), table))
        opened = api.open_space(name, fields)
        # Before the board is kept busy for a table, see that the data fits.
        dataset = open_dataset(
            data,
            input_shape=opened.input_shape,
            classes=opened.classes,
            seed=seed,
            skip_damaged=skip_damaged,
        )
        if not ranks.leads:
            follow(opened, dataset, settings, compute)
            return
        with (
            ranks.leading(),
            connect(device, inventory=boards, benchmark_model=benchmark_model, wait=wait) as board,
            api.scoring(workers, scheduler, tls) as apply,
            console.progress() as report,
        ):
            prices = api.open_or_build_table(
                name, board, table or default_table(board.name, name), options=fields, report=report
            )
            found = search_targets(
                opened,
                prices,
                board,
                dataset,
                settings,
                out,
                allow_invalid_table=allow_invalid_table,
                compute=compute,
                map=apply,
                report=report,
            )
    from boardfit.summary import search_rows, search_words

    several = len(found) > 1
    rows = [
        {"target": one.settings["target"], **row} if several else row
        for one in found
        for row in search_rows(one)
    ]
    words = [word for one in found for word in search_words(one)]
    pages = " ".join(str(out / one.settings["target"] if several else out) for one in found)
    where = f"Everything is in {out}; `boardfit report {pages}` writes a page."
    console.tell(rows, [*words, where], as_json=as_json)
