"""``deconvviz check``: which operations of a network have exact projection rules."""

from __future__ import annotations

from typing import Annotated

import typer

from deconvviz.cli.support.completion import complete_model
from deconvviz.cli.support.console import print_json, print_table, print_text, stage
from deconvviz.cli.support.early import check_network
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.notes import tell_origin
from deconvviz.cli.support.options import Json, ModelArg, Verbose, layer_option, weights_file_option
from deconvviz.cli.support.parsing import model_arguments
from deconvviz.wording import counted

FOUND = 1  # the exit code for a network that cannot be trusted as far as was asked


def check(
    network: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A network, as --model takes it: a name, timm:NAME, or path/to/file.py:factory, which "
            "runs the code in that file.",
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
            help="MODEL, as other commands take it.",
            autocompletion=complete_model,
            show_default=False,
        ),
    ] = None,
    model_arg: ModelArg = None,
    layer: Annotated[
        list[str] | None,
        layer_option("Only operations between this layer and the pixels. May be repeated."),
    ] = None,
    weights: Annotated[
        str | None,
        weights_file_option("Load this file first; a --layer that it has no weights for is refused."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 also where anything is by analogy.")
    ] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """List every operation of a network and whether its projection rule is exact, by analogy or refused.

    Exit code 0: nothing is refused.
    1: something is; with --strict, also if something is by analogy.
    2: there is no such network or layer, or it does not run.

    Nothing is downloaded: the network runs once on an empty image, without
    weights (a file's factory with those that it makes). What depends on the
    image and is treated as a constant counts as by analogy. Calls that only
    use constants, or that lead to no layer, take part in no projection.
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
    tell_origin(made)
    if json:
        print_json({**found.to_json(), "network": name})
    else:
        if found.uses:
            print_table(TITLES, [cells(use) for use in found.uses], right=(1,))
            print_text()
        print_text(found.summary())
        if found.without_part:
            print_text(f"without a part in it: {counted(found.without_part, 'call')}")
    if found.unsupported or (strict and found.approximate):
        raise typer.Exit(FOUND)
