"""``deconvviz evolve``: how projections change during training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from deconvviz.cli.support.console import paths_as_json, print_json, print_paths, print_text, stage
from deconvviz.cli.support.early import check_folder, check_network
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import (
    DEFAULT_FORMAT,
    DEFAULT_MODEL,
    Crop,
    Device,
    Dpi,
    Force,
    Format,
    ImageMemory,
    Json,
    Model,
    ModelArg,
    Percentile,
    Quiet,
    Verbose,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import APPEARANCE, PACE, WHICH
from deconvviz.cli.support.parsing import model_arguments, no_layer, read_size

DEFAULT_OUT = Path("deconvviz-evolution")


def evolve(
    checkpoints: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CHECKPOINT...",
            help="Weights files (.pth, .pt, .safetensors) of one network, or patterns such as 'epoch_*.pth'.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="Images, in any form that `deconvviz search` takes: a folder, a list, a .zip file, tar "
            "shards, hf:NAME, or scenes:COUNT.",
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        layer_option("Show this layer, by either of its names (see: deconvviz layers). May be repeated."),
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    channel: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N", help="Show this channel of each layer. May be repeated.", rich_help_panel=WHICH
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Show N channels of each layer.",
            rich_help_panel=WHICH,
            show_default="6",
        ),
    ] = None,
    by: Annotated[
        Literal["random", "activation", "density"],
        typer.Option(
            "--by",
            help="Choose channels at random, as in the paper; or at the last checkpoint by their maximum "
            "(activation), or by the share of images on which they are active (density).",
            rich_help_panel=WHICH,
        ),
    ] = "random",
    measured: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Compare the projections of N channels of each layer, or of all if there are fewer.",
            rich_help_panel=WHICH,
        ),
    ] = 50,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of the drawn channels and of the intervals.")
    ] = 0,
    order: Annotated[
        Literal["number", "given"],
        typer.Option(
            help="Order of checkpoints whose names differ only in numbers: by these numbers, or as given."
        ),
    ] = "number",
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Use only the first N images by id.", show_default="all"),
    ] = None,
    out: Annotated[Path, out_option("Folder for the results.")] = DEFAULT_OUT,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue an interrupted run in --out."),
    ] = False,
    format: Format = None,
    columns: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=2,
            help="Largest number of checkpoints in the figure. The tables have all of them.",
            rich_help_panel=APPEARANCE,
        ),
    ] = 8,
    percentile: Percentile = None,
    crop: Crop = None,
    dpi: Dpi = None,
    batch_size: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Number of images in a batch.", rich_help_panel=PACE),
    ] = 32,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Number of processes that read images (0: read in the main process).",
            rich_help_panel=PACE,
            show_default="number of cores minus one, from 1 to 8",
        ),
    ] = None,
    memory: ImageMemory = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show how projections change during training (the paper's Figure 4).

    For each checkpoint and channel, finds the strongest activation in all
    images and projects it. Next to it, the unit that is strongest at the end is
    projected with the weights of every checkpoint. Writes evolution.png,
    evolution.json, evolution.parquet (a row for each checkpoint and channel)
    and evolution-layers.parquet (when layers settle).
    """
    arguments = model_arguments(model_arg)
    if not checkpoints:
        raise typer.BadParameter("name two or more weights files", param_hint="CHECKPOINT")
    if source is None:
        raise typer.BadParameter("name a source of images, such as a folder", param_hint="--source")
    if not layer:
        raise no_layer()
    if channel and channels is not None:
        raise typer.BadParameter("cannot be combined with --channels", param_hint="--channel")
    if resume and force:
        raise typer.BadParameter("cannot be combined with --force", param_hint="--resume")
    from deconvviz.experiments.evolution.names import checkpoint_files
    from deconvviz.experiments.saving import refuse_files

    files = checkpoint_files(checkpoints, order)
    network, kind = model or DEFAULT_MODEL, format or DEFAULT_FORMAT
    check_network(network, arguments, layers=layer, device=device)
    check_folder(out)
    refuse_files(
        out, "evolution", ("evolution.parquet", "evolution-layers.parquet"), format=kind, force=force
    )
    kept = None if memory is None else read_size(memory)
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.evolve_run import Asked, as_json, run

    found, written = run(
        Asked(
            tuple(files),
            source,
            tuple(layer),
            network,
            arguments,
            tuple(channel) if channel else channels or 6,
            by,
            measured,
            seed,
            limit,
            out,
            resume,
            batch_size,
            workers,
            kept,
            device,
            force,
        ),
        kind,
        dpi,
        columns=columns,
        percentile=percentile,
        crop=crop,
        quiet=quiet,
    )
    if json:
        print_json({**as_json(found), "files": paths_as_json(written)})
        return
    for sentence in found.summary():
        print_text(sentence)
    print_paths(written)
