"""``deconvviz maximise``: make pictures that activate channels strongly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from deconvviz.cli.support.console import paths_as_json, print_json, print_paths, print_text, stage
from deconvviz.cli.support.early import check_folder, check_network, searched_layers
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
    allow_code_option,
    columns_option,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import WHAT
from deconvviz.cli.support.parsing import model_arguments, no_layer
from deconvviz.cli.support.selection import read_unit
from deconvviz.experiments.inversion.names import (
    CONTRAST,
    JITTER,
    MAXIMISE_LR,
    MAXIMISE_STEPS,
    ROTATE,
    SCALE,
    check_numbers,
)


def maximise(
    layer: Annotated[
        str | None,
        layer_option("Layer of the channels, by either of its names (see: deconvviz layers).", panel=WHAT),
    ] = None,
    channel: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N", help="Activate this channel. May be repeated.", rich_help_panel=WHAT, min=0
        ),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="C,Y,X",
            help="Activate this unit: channel, row, column (C without position). May be repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    objective: Annotated[
        Literal["mean", "centre"],
        typer.Option(
            help="Activate the mean of the channel, or the unit in the middle of its map.",
            rich_help_panel=WHAT,
        ),
    ] = "mean",
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    parametrisation: Annotated[
        Literal["fourier", "pixels", "norm"],
        typer.Option(
            help="Change a spectrum with decorrelated colours (lucid), pixels, or pixels at a fixed distance "
            "from grey."
        ),
    ] = "fourier",
    pictures: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of pictures of each channel, with other seeds.")
    ] = 1,
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of steps for each picture.")
    ] = MAXIMISE_STEPS,
    lr: Annotated[float, typer.Option(metavar="RATE", help="Learning rate of the first step.")] = MAXIMISE_LR,
    jitter: Annotated[
        int,
        typer.Option(metavar="PIXELS", min=0, help="Move the picture by at most this much in each step."),
    ] = JITTER,
    scale: Annotated[
        float,
        typer.Option(metavar="SHARE", min=0, max=0.99, help="Change its size by at most this share."),
    ] = SCALE,
    rotate: Annotated[
        float,
        typer.Option(metavar="DEGREES", min=0, max=180, help="Rotate it by at most this angle."),
    ] = ROTATE,
    contrast: Annotated[
        float,
        typer.Option(metavar="RMS", min=0.001, help="Distance from grey, for the parametrisation norm."),
    ] = CONTRAST,
    search: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also print the strongest activation in the images of this search."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of the first picture, and for --weights random.")
    ] = 0,
    allow_code: Annotated[
        bool,
        allow_code_option("Allow running the file.py that the network of --search needs."),
    ] = False,
    out: Annotated[Path, out_option("Folder for the results.")] = DEFAULT_OUT,
    format: Format = None,
    columns: Annotated[int | None, columns_option("Number of pictures side by side.")] = None,
    dpi: Dpi = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make pictures that activate channels strongly (activation maximisation).

    The pictures are made up by optimisation: they are not images of a dataset,
    and another seed gives another picture. Writes LAYER-maximised.png, its
    manifest (.json), the curves (.parquet), and the pictures as arrays (.npz).
    """
    arguments = model_arguments(model_arg)
    if layer is None:
        raise no_layer()
    if not channel and not unit:
        raise typer.BadParameter("name a channel, or a unit with --unit", param_hint="--channel")
    if channel and unit:
        raise typer.BadParameter("cannot be combined with --channel", param_hint="--unit")
    units = [read_unit(text) for text in unit or ()]
    check_numbers(steps, lr)
    network = model or DEFAULT_MODEL
    check_network(network, arguments, layers=[layer], weights=weights, device=device)
    check_folder(out)
    if search is not None:
        searched_layers(search, [layer], channel or [])
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.experiment_run import AskedNetwork
        from deconvviz.cli.support.maximise_run import AskedMaximisation, as_json, run

    asked = AskedMaximisation(
        AskedNetwork(network, arguments, weights, seed, device),
        layer,
        channel or None,
        units,
        {
            "objective": objective,
            "parametrisation": parametrisation,
            "pictures": pictures,
            "steps": steps,
            "lr": lr,
            "jitter": jitter,
            "scale": scale,
            "rotate": rotate,
            "contrast": contrast,
            "seed": seed,
        },
        search,
        allow_code,
        out,
        force,
    )
    found, written = run(asked, format or DEFAULT_FORMAT, dpi, columns=columns, quiet=quiet)
    if json:
        print_json({**as_json(found), "files": paths_as_json(written)})
        return
    for sentence in found.summary():
        print_text(sentence)
    print_paths(written)
