"""``deconvviz trust``: measure how far the maps of some methods can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deconvviz.cli.support.console import paths_as_json, print_json, print_paths, stage
from deconvviz.cli.support.early import check_device
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import (
    DEFAULT_MODEL,
    Arrays,
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
    allow_code_option,
    columns_option,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import WHAT
from deconvviz.cli.support.parsing import model_arguments
from deconvviz.cli.support.trust_plan import Asked, check_asked, method_names, target_path
from deconvviz.methods.method import DEFAULT_METHODS


def trust(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE...|SEARCH_DIR|SOURCE",
            help="Image files, - for standard input, a folder of images, the folder of a search (see: "
            "deconvviz search), or scenes:COUNT or scenes:COUNT@SEED, whose parts are known.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        layer_option(
            "Examine units of this layer, by either of its names (see: deconvviz layers).", panel=WHAT
        ),
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    top: Annotated[
        int,
        typer.Option(
            metavar="K",
            min=2,
            help="Examine the K strongest units at the strongest place of each image.",
            rich_help_panel=WHAT,
        ),
    ] = 9,
    methods: Annotated[
        str,
        typer.Option(metavar="NAME,...", help="Compare these methods.", rich_help_panel=WHAT),
    ] = ",".join(DEFAULT_METHODS),
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Use the first N images; of a search, N channels.",
            rich_help_panel=WHAT,
            show_default="all; 20 channels of a search",
        ),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Seed for random signals, pixels and weights, and for --weights random."
        ),
    ] = 0,
    allow_code: Annotated[
        bool,
        allow_code_option(
            "Allow running the file.py that the network of a search needs. Use it only for files that you "
            "trust."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        out_option(
            "File for a figure (.png, .svg or .pdf) and its manifest (.json), or a folder for them. Without "
            "it, nothing is written.",
            metavar="FILE|DIR",
        ),
    ] = None,
    format: Format = None,
    arrays: Arrays = False,
    columns: Annotated[int | None, columns_option("Panels of bars per row.")] = None,
    dpi: Dpi = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure how far to trust the maps of a layer's units.

    Prints, for each method, how alike the maps of different units are, whether
    a unit recognises its own map, how much the image draws, how far maps
    depend on the weights, and whether their pixels matter. On scenes, maps are
    compared with the true effect of each part. Each number has a 95 % interval
    and a baseline that means "nothing". Allow some minutes.
    """
    arguments = model_arguments(model_arg)
    names = method_names(methods)
    target = None if out is None else target_path(out, format, layer)
    asked = Asked(
        tuple(images or ()),
        layer or "",
        model,
        arguments,
        weights,
        seed,
        device,
        allow_code,
        top,
        names,
        limit,
    )
    check_device(device)
    check_asked(asked, target, arrays=arrays, force=force)
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.trust_run import measure, print_measures
    found = measure(asked, model or DEFAULT_MODEL, quiet=quiet)
    written = None
    if target is not None:
        written = found.save(target, dpi=dpi, force=force, arrays=arrays, columns=columns)
    if json:
        files = {} if written is None else {"files": paths_as_json(written)}
        print_json({**found.to_json(), **files})
        return
    print_measures(found)
    if written is not None:
        print_paths(written)
