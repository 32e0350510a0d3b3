"""``deconvviz correspond``: hide the same part in several images."""

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
    DEFAULT_OUT,
    Device,
    Dpi,
    Force,
    Format,
    Json,
    Model,
    ModelArg,
    Quiet,
    Verbose,
    Weights,
    columns_option,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import WHAT
from deconvviz.cli.support.parsing import model_arguments, no_layer
from deconvviz.paths import SCENES


def correspond(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="Images, in any form that `deconvviz search` takes: a folder, a list, a .zip file, or "
            "scenes:COUNT.",
            show_default=False,
        ),
    ] = None,
    parts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="Boxes of the parts: image, part, x0, y0, x1, y1, in pixels of the network's input (after "
            "resizing and cropping). The part `object` is the box for random places.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Hide this part of scenes, such as eye or wheel. May be repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        layer_option(
            "Compare features of this layer, by either of its names (see: deconvviz layers). May be "
            "repeated.",
            panel=WHAT,
        ),
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    fill: Annotated[
        Literal["grey", "mean", "blur", "linear", "without"],
        typer.Option(
            help="Hide parts by grey (the paper), the mean colour, the blurred image, or pixels imputed from "
            "their neighbours (linear). without: draw scenes without the part."
        ),
    ] = "grey",
    draws: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of random places for each part of each image.")
    ] = 5,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Use only the first N images by id.", show_default="all"),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of all random numbers, and for --weights random.")
    ] = 0,
    out: Annotated[Path, out_option("Folder for the results.")] = DEFAULT_OUT,
    format: Format = None,
    columns: Annotated[int | None, columns_option("Panels side by side.")] = None,
    dpi: Dpi = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Hide the same part in several images (the paper's Table 1).

    Measures how much the changes of the features agree between images, against
    random places of the same size. Prints the table, with p-values, and writes
    correspondence.png, correspondence-hidden.png (the images with hidden
    parts), correspondence.json and correspondence.parquet.
    """
    arguments = model_arguments(model_arg)
    if source is None:
        raise typer.BadParameter("name a source of images, such as a folder", param_hint="SOURCE")
    if not layer:
        raise no_layer()
    if (parts is None) == (not part):
        raise typer.BadParameter("give a CSV file of boxes, or for scenes --part NAME", param_hint="--parts")
    scenes = source.startswith(SCENES)
    if part and not scenes:
        raise typer.BadParameter("names parts of scenes: for other images, give --parts", param_hint="--part")
    if fill == "without" and not scenes:
        raise typer.BadParameter("without draws scenes again: give scenes:COUNT", param_hint="--fill")
    network, kind = model or DEFAULT_MODEL, format or DEFAULT_FORMAT
    check_network(network, arguments, layers=layer, weights=weights, device=device)
    check_folder(out)
    from deconvviz.experiments.saving import refuse_files

    others = (f"correspondence-hidden.{kind}", "correspondence.parquet")
    refuse_files(out, "correspondence", others, format=kind, force=force)
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.correspond_run import Asked, as_json, run
        from deconvviz.cli.support.experiment_run import AskedNetwork
        from deconvviz.experiments.correspondence_parts import read_parts

    asked = Asked(
        AskedNetwork(network, arguments, weights, seed, device),
        source,
        read_parts(parts) if parts is not None else list(part or ()),
        tuple(layer),
        fill,
        draws,
        limit,
        out,
        force,
    )
    found, written = run(asked, kind, dpi, columns=columns, quiet=quiet)
    if json:
        print_json({**as_json(found), "files": paths_as_json(written)})
        return
    print_text(found.text())
    print_text()
    for sentence in found.sentences():
        print_text(sentence)
    print_paths(written)
