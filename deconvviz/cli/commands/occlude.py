"""``deconvviz occlude``: slide a square over an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from deconvviz.cli.support.console import paths_as_json, print_json, print_paths, stage
from deconvviz.cli.support.early import check_folder, check_images, check_network, searched_layers
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
    allow_code_option,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import WHAT
from deconvviz.cli.support.parsing import model_arguments, no_layer
from deconvviz.cli.support.selection import read_unit
from deconvviz.paths import SCENES


def occlude(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE...|SCENES",
            help="Image files, - for standard input, or scenes:COUNT or scenes:COUNT@SEED.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        layer_option(
            "Measure a channel of this layer, by either of its names (see: deconvviz layers).", panel=WHAT
        ),
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    size: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0.001, max=1, help="Side of the square as a share of the image's side."
        ),
    ] = 0.22,
    stride: Annotated[
        float,
        typer.Option(
            metavar="SHARE", min=0.001, max=1, help="Distance of places as a share of the image's side."
        ),
    ] = 0.05,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="NAME|INDEX",
            help="Measure the probability of this class.",
            rich_help_panel=WHAT,
            show_default="the most probable class of the complete image",
        ),
    ] = None,
    fill: Annotated[
        Literal["grey", "mean", "blur", "linear", "without"],
        typer.Option(
            help="Fill the square with grey (the paper), the mean colour, the blurred image, or pixels "
            "imputed from their neighbours (linear). without: draw scenes without the part at the centre of "
            "the square."
        ),
    ] = "grey",
    channel: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Measure this channel.", rich_help_panel=WHAT, show_default="the strongest"
        ),
    ] = None,
    unit: Annotated[
        str | None,
        typer.Option(
            metavar="C,Y,X",
            help="Measure the activation of this unit: channel, row, column.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    search: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also show projections of the channel in other images, from this search."
        ),
    ] = None,
    phases: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Number of shifted grids of places. Their spread shows which changes are sure.",
        ),
    ] = 3,
    no_second_fill: Annotated[
        bool,
        typer.Option("--no-second-fill", help="Do not compare the maps with those of another fill."),
    ] = False,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of the noise of linear, and for --weights random.")
    ] = 0,
    allow_code: Annotated[
        bool,
        allow_code_option("Allow running the file.py that the network of --search needs."),
    ] = False,
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
    """Slide a square over an image (the paper's Figure 7).

    At each place, measures the total activity of the strongest channel, the
    probability of the class, and the most probable class. Writes a figure, its
    manifest (.json), and NAME-LAYER-occlusion.npz for each image. Prints how
    much the maps change if the square is filled otherwise.
    """
    arguments = model_arguments(model_arg)
    if layer is None:
        raise no_layer()
    typed = tuple(images or ())
    scenes = len(typed) == 1 and typed[0].startswith(SCENES)
    if not scenes:
        check_images(list(typed))
    if fill == "without" and not scenes:
        raise typer.BadParameter("without draws scenes again: give scenes:COUNT", param_hint="--fill")
    if channel is not None and unit is not None:
        raise typer.BadParameter("cannot be combined with --channel", param_hint="--unit")
    place = None if unit is None else read_unit(unit)
    if place is not None and len(place) != 3:
        raise typer.BadParameter("give channel, row and column: C,Y,X", param_hint="--unit")
    network = model or DEFAULT_MODEL
    check_network(network, arguments, layers=[layer], weights=weights, device=device)
    check_folder(out)
    if search is not None:
        searched_layers(search, [layer], [])
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.experiment_run import AskedNetwork
        from deconvviz.cli.support.occlude_run import Asked, as_json, print_results, run

    asked = Asked(
        AskedNetwork(network, arguments, weights, seed, device),
        typed,
        layer,
        size,
        stride,
        class_,
        fill,
        channel,
        place,
        phases,
        not no_second_fill,
        search,
        allow_code,
        out,
        force,
    )
    found, written = run(
        asked, format or DEFAULT_FORMAT, dpi, percentile=percentile, medium=medium, quiet=quiet
    )
    if json:
        print_json({**as_json(found), "files": paths_as_json(written)})
        return
    print_results(found)
    print_paths(written)
