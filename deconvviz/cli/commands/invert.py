"""``deconvviz invert``: make a picture with the features of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from deconvviz.cli.support.console import paths_as_json, print_json, print_paths, print_text, stage
from deconvviz.cli.support.early import check_folder, check_images, check_network
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
    Percentile,
    Quiet,
    Verbose,
    Weights,
    layer_option,
    out_option,
)
from deconvviz.cli.support.parsing import model_arguments, no_layer
from deconvviz.experiments.inversion.names import (
    INVERT_LR,
    INVERT_STEPS,
    RANGE_WEIGHT,
    VARIATION_EXPONENT,
    check_numbers,
)
from deconvviz.paths import SCENES


def invert(
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGE|SCENE",
            help="Image file, - for standard input, or scenes:1@SEED.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        layer_option("Invert this layer, by either of its names (see: deconvviz layers)."),
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    prior: Annotated[
        Literal["tv", "sparse", "none"],
        typer.Option(
            help="What the picture should be like where the layer does not say it: small total variation "
            "(the paper), few wavelet coefficients, or nothing."
        ),
    ] = "tv",
    prior_weight: Annotated[
        float | None,
        typer.Option(
            metavar="W",
            min=0,
            help="Weight of the prior.",
            show_default="0.05 for tv, 0.2 for sparse",
        ),
    ] = None,
    exponent: Annotated[
        float,
        typer.Option(metavar="B", min=0.01, max=10, help="Exponent of the total variation."),
    ] = VARIATION_EXPONENT,
    range_weight: Annotated[
        float, typer.Option(metavar="W", min=0, help="Weight of the penalty for colours out of range.")
    ] = RANGE_WEIGHT,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Number of steps.")] = INVERT_STEPS,
    lr: Annotated[float, typer.Option(metavar="RATE", help="Learning rate of the first step.")] = INVERT_LR,
    jitter: Annotated[
        int,
        typer.Option(metavar="PIXELS", min=0, help="Move the picture by at most this much in each step."),
    ] = 0,
    top: Annotated[
        int,
        typer.Option("--top", "-k", metavar="N", min=0, help="Show projections of the N strongest units."),
    ] = 3,
    seed: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Seed of the noise at the start, and for --weights random."),
    ] = 0,
    out: Annotated[Path, out_option("Folder for the results.")] = DEFAULT_OUT,
    format: Format = None,
    percentile: Percentile = None,
    dpi: Dpi = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a picture with the features of an image (inversion).

    Starts with noise, and changes its pixels until the features at the layer
    are those of the image (Mahendran and Vedaldi, 2015). Writes a figure that
    also shows projections of the strongest units, its manifest (.json), the
    curve of the loss (.parquet), and the picture as an array (.npz).
    """
    arguments = model_arguments(model_arg)
    if layer is None:
        raise no_layer()
    typed = () if image is None else (image,)
    if not any(one.startswith(SCENES) for one in typed):
        check_images(typed)
    check_numbers(steps, lr)
    network = model or DEFAULT_MODEL
    check_network(network, arguments, layers=[layer], weights=weights, device=device)
    check_folder(out)
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.experiment_run import AskedNetwork
        from deconvviz.cli.support.invert_run import AskedInversion, as_json, run

    asked = AskedInversion(
        AskedNetwork(network, arguments, weights, seed, device),
        typed,
        layer,
        prior,
        {
            "prior_weight": prior_weight,
            "exponent": exponent,
            "range_weight": range_weight,
            "steps": steps,
            "lr": lr,
            "jitter": jitter,
            "k": top,
            "seed": seed,
        },
        out,
        force,
    )
    found, written = run(asked, format or DEFAULT_FORMAT, dpi, percentile=percentile, quiet=quiet)
    if json:
        print_json({**as_json(found), "files": paths_as_json(written)})
        return
    for sentence in found.summary():
        print_text(sentence)
    print_paths(written)
