"""``deconvviz filters``: the filters of the first layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deconvviz.cli.support.console import paths_as_json, print_json, print_paths, print_text, stage
from deconvviz.cli.support.early import check_folder, check_network
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import (
    DEFAULT_FORMAT,
    DEFAULT_MODEL,
    DEFAULT_OUT,
    Device,
    Dpi,
    Force,
    Format,
    Json,
    Medium,
    Model,
    ModelArg,
    Percentile,
    Quiet,
    Verbose,
    Weights,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import APPEARANCE, WHICH
from deconvviz.cli.support.parsing import model_arguments


def filters(
    layer: Annotated[
        str | None,
        layer_option("Show this convolution, which must read 1 or 3 channels. Default: the first one."),
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Also show the filters of the same network with these weights, side by side."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Also show projections of the next convolution, found in these images, in any form that "
            "`deconvviz search` takes: a folder, a list, a .zip file, tar shards, hf:NAME, or scenes:COUNT.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Use only the first N images by id.", show_default="all"),
    ] = None,
    second: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Project this layer.",
            rich_help_panel=WHICH,
            show_default="the next convolution",
        ),
    ] = None,
    channels: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Project N channels, chosen at random.", rich_help_panel=WHICH),
    ] = 16,
    by_size: Annotated[
        bool,
        typer.Option(
            "--by-size", help="Show filters by descending root mean square.", rich_help_panel=APPEARANCE
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed for choosing channels, and for --weights random.")
    ] = 0,
    out: Annotated[Path, out_option("Folder for the results.")] = DEFAULT_OUT,
    format: Format = None,
    percentile: Percentile = None,
    medium: Medium = None,
    dpi: Dpi = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show the filters of the first layer (the paper's Figure 6).

    Measures for each filter its size, frequencies, orientation and colour, and
    names those that are dead, dominant, aliased or double. With --source, also
    shows projections of the next convolution, in which aliasing is visible.
    Writes filters.png, filters.json and filters.parquet.
    """
    arguments = model_arguments(model_arg)
    if source is None and (second is not None or limit is not None):
        raise typer.BadParameter(
            "has no effect without --source", param_hint="--limit" if second is None else "--second"
        )
    network, kind = model or DEFAULT_MODEL, format or DEFAULT_FORMAT
    named = [name for name in (layer, second) if name is not None]
    check_network(network, arguments, layers=named, weights=weights, device=device)
    if against is not None:
        check_network(network, arguments, weights=against, device=device)
    check_folder(out)
    from deconvviz.experiments.saving import refuse_files

    refuse_files(out, "filters", ("filters.parquet",), format=kind, force=force)
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.experiment_run import AskedNetwork
        from deconvviz.cli.support.filters_run import Asked, as_json, run

    asked = Asked(
        AskedNetwork(network, arguments, weights, seed, device),
        layer,
        against,
        source,
        limit,
        second,
        channels,
        by_size,
        out,
        force,
    )
    found, written = run(asked, kind, dpi, percentile=percentile, medium=medium, quiet=quiet)
    if json:
        print_json({**as_json(found), "files": paths_as_json(written)})
        return
    for sentence in found.sentences():
        print_text(sentence)
    print_paths(written)
