"""``deconvviz compare``: several methods side by side for the same units of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deconvviz.cli.support.console import print_json, print_note, print_paths, stage
from deconvviz.cli.support.early import check_folder, check_images, check_network
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import (
    DEFAULT_FORMAT,
    DEFAULT_MODEL,
    DEFAULT_OUT,
    Arrays,
    Crop,
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
    Seed,
    Verbose,
    Verify,
    Weights,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import WHAT
from deconvviz.cli.support.parsing import model_arguments, no_layer
from deconvviz.cli.support.selection import Look, Selection, check_selection, read_unit
from deconvviz.methods.method import DEFAULT_METHODS, METHODS, check_method
from deconvviz.printable_names import path_from_text


def compare(
    image: Annotated[
        str | None, typer.Argument(metavar="IMAGE", help="Image file, or - for standard input.")
    ] = None,
    layer: Annotated[
        str | None,
        layer_option(
            "Explain units of this layer, by either of its names (see: deconvviz layers).", panel=WHAT
        ),
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    seed: Seed = 0,
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help=f"Compare these methods: {', '.join(METHODS)}.",
            rich_help_panel=WHAT,
        ),
    ] = ",".join(DEFAULT_METHODS),
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Explain the strongest unit of each of the N strongest channels; with --channel, its N "
            "strongest units.",
            rich_help_panel=WHAT,
            show_default="3, or all if there are fewer",
        ),
    ] = None,
    channel: Annotated[
        int | None, typer.Option(metavar="N", help="Explain units of this channel.", rich_help_panel=WHAT)
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="C,Y,X",
            help="Explain this unit: channel, row, column; in a fully connected layer, C alone. May be "
            "repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="NAME|INDEX",
            help="Class that Grad-CAM explains.",
            rich_help_panel=WHAT,
            show_default="the predicted class",
        ),
    ] = None,
    out: Annotated[Path, out_option("Folder for the figure.")] = DEFAULT_OUT,
    format: Format = None,
    arrays: Arrays = False,
    percentile: Percentile = None,
    crop: Crop = None,
    medium: Medium = None,
    dpi: Dpi = None,
    device: Device = "auto",
    verify: Verify = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Compare methods that show what in an image activates a unit.

    Writes one figure: for each unit, its patch and the map of each method,
    at the same crop. Methods that cannot be used for the network are left out,
    with the reason. The manifest (.json) next to the figure states the source
    and the cost of each method.
    """
    arguments = model_arguments(model_arg)
    names = list(dict.fromkeys(name.strip() for name in methods.split(",")))
    for name in names:
        check_method(name)
    if layer is None:
        raise no_layer()
    if image is None:
        raise typer.BadParameter("name an image file", param_hint="IMAGE")
    selection = Selection(
        layers=(layer,),
        channels=() if channel is None else (channel,),
        units=tuple(unit or ()),
        top=top,
    )
    look = Look(format or DEFAULT_FORMAT, arrays, percentile=percentile, dpi=dpi, crop=crop, medium=medium)
    check_selection(selection)
    for text in selection.units:
        read_unit(text)
    if len(paths := check_images([image])) != 1:
        raise typer.BadParameter(
            f"one image at a time, but {image} has {len(paths)}: name one of them", param_hint="IMAGE"
        )
    network = model or DEFAULT_MODEL
    check_network(network, arguments, layers=selection.layers, weights=weights, device=device)
    check_folder(out)
    if class_ is not None and "gradcam" not in names:
        print_note("--class has no effect: only gradcam explains a class (see --methods)", quiet=quiet)
    with stage("importing torch", quiet=quiet):
        with without_garbage_collection():
            from deconvviz.cli.support.compare_run import compare_and_save, plan_comparison
            from deconvviz.loading import ModelRequest

        request = ModelRequest.of(
            network, weights or "default", arguments=arguments, seed=seed, device=device
        )
        page, job = plan_comparison(image, request, selection, look, out, force=force)
    written = compare_and_save(page, job, names, class_, look, force=force, quiet=quiet, verify=verify)
    if json:
        print_json(written)
        return
    print_paths(path_from_text(path) for path in written["files"])
