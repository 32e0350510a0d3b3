"""``deconvviz invariance``: how features and the class change if the picture is transformed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from deconvviz.cli.support.console import paths_as_json, print_json, print_paths, print_text, stage
from deconvviz.cli.support.early import check_folder, check_network
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import (
    DEFAULT_FORMAT,
    DEFAULT_MODEL,
    Device,
    Dpi,
    Force,
    Format,
    Json,
    Model,
    ModelArg,
    Quiet,
    Seed,
    Verbose,
    Weights,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import APPEARANCE, PACE
from deconvviz.cli.support.parsing import model_arguments

DEFAULT_OUT = Path("deconvviz-invariance")
_RANGE = re.compile(r"(?P<name>[a-z-]+)=(?P<low>-?[\d.]+):(?P<high>-?[\d.]+)")


def invariance(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE...|SOURCE",
            help="Image files, - for standard input, a folder of images, a list, a .zip file, tar shards, "
            "hf:NAME, or scenes:COUNT.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        layer_option(
            "Compare features of this layer, by either of its names (see: deconvviz layers). May be repeated."
        ),
    ] = None,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="NAME|INDEX",
            help="Show the probability of this class.",
            show_default="the top class of each image",
        ),
    ] = None,
    transform: Annotated[
        str,
        typer.Option(
            "--transform",
            metavar="NAME,...",
            help="Transformations: translate, scale, rotate, translate-x, blur, brightness, jpeg.",
        ),
    ] = "translate,scale,rotate",
    ranges: Annotated[
        list[str] | None,
        typer.Option(
            "--range",
            metavar="NAME=FROM:TO",
            help="Lowest and highest amount of a transformation, such as translate=-20:20. May be repeated.",
            show_default="as in the paper",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=2,
            help="Number of amounts of each transformation.",
            show_default="41 translations, 17 scales, 36 rotations",
        ),
    ] = None,
    border: Annotated[
        Literal["reflect", "grey"],
        typer.Option(help="What replaces pixels that the image file does not have."),
    ] = "reflect",
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    seed: Seed = 0,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Use only the first N images.", show_default="all")
    ] = None,
    out: Annotated[Path, out_option("Folder for the results.")] = DEFAULT_OUT,
    format: Format = None,
    measure: Annotated[
        Literal["normalised", "distance", "cosine"],
        typer.Option(
            help="Draw the distance over the length of the original's features, the distance, or 1 minus the "
            "cosine. The table has all three.",
            rich_help_panel=APPEARANCE,
        ),
    ] = "normalised",
    dpi: Dpi = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Number of pictures in a batch.",
            rich_help_panel=PACE,
            show_default="4; 128 on a GPU",
        ),
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show how features change if the picture is transformed (Figure 5).

    Moves, enlarges and rotates each picture, and compares the features of a low
    and a high layer with those of the original, and the probability of its
    class. Writes invariance.png, invariance.json and invariance.parquet (a row
    for each image, amount and layer).
    """
    arguments = model_arguments(model_arg)
    typed = list(images or ())
    if not typed:
        raise typer.BadParameter("name an image file, or a source of images", param_hint="IMAGE")
    from deconvviz.experiments.invariance.names import check_transforms
    from deconvviz.experiments.saving import refuse_files

    names = tuple(dict.fromkeys(name.strip() for name in transform.split(",") if name.strip()))
    spans = _ranges(ranges or [])
    check_transforms(names, spans)
    network, kind = model or DEFAULT_MODEL, format or DEFAULT_FORMAT
    check_network(network, arguments, layers=layer or (), weights=weights, device=device)
    check_folder(out)
    refuse_files(out, "invariance", ("invariance.parquet",), format=kind, force=force)
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.experiment_run import AskedNetwork
        from deconvviz.cli.support.invariance_run import as_json, run

    found = run(
        AskedNetwork(network, arguments, weights, seed, device),
        typed,
        layer,
        quiet=quiet,
        class_=class_,
        transforms=names,
        ranges=spans,
        steps=steps,
        border=border,
        limit=limit,
        batch=batch_size,
    )
    written = found.save_into(out, format=kind, dpi=dpi, force=force, measure=measure)
    if json:
        print_json({**as_json(found), "files": paths_as_json(written)})
        return
    for sentence in found.summary():
        print_text(sentence)
    print_paths(written)


def _ranges(typed: list[str]) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for one in typed:
        match = _RANGE.fullmatch(one.strip())
        try:
            low, high = (float(match[end]) for end in ("low", "high")) if match else (1.0, 0.0)
        except ValueError:
            match = None
        if match is None:
            raise typer.BadParameter(
                f"{one!r} is not NAME=FROM:TO, such as translate=-20:20", param_hint="--range"
            )
        found[match["name"]] = (low, high)
    return found
