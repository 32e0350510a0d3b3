"""``deconvviz report``: one HTML file about the units of some images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deconvviz.cli.support.console import print_json, print_paths, stage
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import (
    DEFAULT_MODEL,
    Device,
    Force,
    Json,
    Memory,
    Model,
    ModelArg,
    Quiet,
    Seed,
    Verbose,
    Weights,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import APPEARANCE, WHAT
from deconvviz.cli.support.parsing import model_arguments, read_size
from deconvviz.cli.support.report_plan import DEFAULT_REPORT, TOP, Asked, check_asked, methods_of
from deconvviz.methods.method import METHODS
from deconvviz.printable_names import path_from_text


def report(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE...", help="Image files, folders of images, or - for standard input."),
    ] = None,
    layer: Annotated[
        list[str] | None,
        layer_option(
            "Show units of this layer, by either of its names (see: deconvviz layers). May be repeated.",
            panel=WHAT,
        ),
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    seed: Seed = 0,
    top: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Show the strongest unit of each of the N strongest channels of each image and layer.",
            rich_help_panel=WHAT,
        ),
    ] = TOP,
    search: Annotated[
        Path | None,
        typer.Option(
            metavar="SEARCH_DIR",
            help="Also show the strongest images of each channel, from a search with the same weights (see: "
            "deconvviz search).",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help=f"Also compare these methods for the three strongest units: {', '.join(METHODS)}.",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Also measure how far to trust the projections of each layer. Allow some minutes.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    out: Annotated[Path, out_option("File for the report (.html).", metavar="FILE")] = DEFAULT_REPORT,
    title: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Title of the report.",
            rich_help_panel=APPEARANCE,
            show_default="names of the images and of the network",
        ),
    ] = None,
    notes: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Text below the title.", rich_help_panel=APPEARANCE, show_default=False
        ),
    ] = "",
    device: Device = "auto",
    memory: Memory = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write a report on images: one HTML file that opens in any browser.

    For each image, the report shows what the network takes it for, the strongest
    units of each layer with their patches and projections, and how far to trust
    them. It needs neither a server nor a network connection, and can be printed.
    """
    budget = None if memory is None else read_size(memory)
    asked = Asked(
        tuple(images or ()),
        tuple(layer or ()),
        model or DEFAULT_MODEL,
        model_arguments(model_arg),
        weights,
        seed,
        device,
        top,
        search,
        methods_of(compare),
        trust,
        title,
        notes,
        out,
    )
    check_asked(asked, force=force)
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.report_run import make_report
    written = make_report(asked, memory=budget, force=force, quiet=quiet)
    if json:
        print_json(written)
        return
    print_paths([path_from_text(written["report"])])
