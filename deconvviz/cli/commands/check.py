"""``deconvviz check``: which operations of a network have exact projection rules."""

from __future__ import annotations

from typing import Annotated

import typer

from deconvviz.cli.support.completion import complete_model
from deconvviz.cli.support.console import print_json, print_table, print_text, stage
from deconvviz.cli.support.early import check_network
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.notes import print_origin
from deconvviz.cli.support.options import Json, ModelArg, Verbose, layer_option, weights_file_option
from deconvviz.cli.support.parsing import model_arguments
from deconvviz.wording import counted

FOUND = 1  # exit code if unsupported operations are found, or with --strict approximate ones


def check(
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Network: minivgg or a torchvision name (see: deconvviz models), timm:NAME, or "
            "path/to/file.py:factory, which runs the code in that file.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            help="The same as MODEL.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ] = None,
    model_arg: ModelArg = None,
    layer: Annotated[
        list[str] | None,
        layer_option("Check only the operations between this layer and the pixels. May be repeated."),
    ] = None,
    weights: Annotated[
        str | None,
        weights_file_option(
            "Load weights from this file. A --layer that depends on missing weights is an error."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Also exit with code 1 if an operation is approximate.")
    ] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List every operation and whether its projection rule is exact, approximate or unsupported.

    Exit code 0: no operation is unsupported.
    Exit code 1: an operation is unsupported or, with --strict, approximate.
    Exit code 2: the network or layer does not exist, or the network fails.

    Nothing is downloaded: the network runs once on a blank image, without
    trained weights (a factory in a file.py may load its own). An operation
    that depends on the image and is treated as a constant is approximate.
    Operations on constants and operations that lead to no layer take part
    in no projection.
    """
    if (network is None) == (model is None):
        raise typer.BadParameter("name one network, such as resnet50", param_hint="MODEL")
    name = network or model or ""
    arguments = model_arguments(model_arg)
    check_network(name, arguments, layers=layer or (), weights=weights)
    with stage("importing torch"):
        with without_garbage_collection():
            from deconvviz.coverage import TITLES, cells
            from deconvviz.loading import load, sketch

        made = load(name, weights, arguments=arguments) if weights else sketch(name, arguments)
        found = made.coverage(layer or None)
    print_origin(made)
    if json:
        print_json({**found.to_json(), "network": name})
    else:
        if found.uses:
            print_table(TITLES, [cells(use) for use in found.uses], right=(1,))
            print_text()
        print_text(found.summary())
        if found.without_part:
            print_text(f"not part of any projection: {counted(found.without_part, 'call')}")
    if found.unsupported or (strict and found.approximate):
        raise typer.Exit(FOUND)
