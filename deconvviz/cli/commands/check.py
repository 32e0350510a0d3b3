"""``deconvviz check``: how far a network's projections can be trusted, before any is made."""

from __future__ import annotations

from typing import Annotated

import typer

from deconvviz.cli.support.console import print_json, print_table, stage, tell
from deconvviz.cli.support.options import (
    Json,
    complete_layer,
    complete_model,
    model_arg_option,
    model_arguments,
)

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
    model_arg: Annotated[list[str] | None, model_arg_option] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="NAME",
            help="Only what is on the way down from this layer. May be repeated.",
            autocompletion=complete_layer,
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 also where anything is by analogy.")
    ] = False,
    json: Json = False,
) -> None:
    """Say of each operation in a network whether its mirror is exact, by analogy (how), or refused (why).

    Exit code 0: nothing is refused.
    1: something is; with --strict, also if something is by analogy.
    2: there is no such network or layer, or it does not run.

    Nothing is downloaded: the network runs once on an empty picture, without
    weights (a file's factory with those that it makes). What comes from the
    picture and is held constant is by analogy. Calls that only work on
    constants, or that lead to no layer, have no part in any projection.
    """
    if (network is None) == (model is None):
        raise typer.BadParameter("name one network, such as resnet50", param_hint="MODEL")
    name = network or model or ""
    arguments = model_arguments(model_arg)
    with stage("importing torch"):
        from deconvviz.coverage import TITLES, cells, counted
        from deconvviz.loading import sketch

        made = sketch(name, arguments)
        found = made.coverage(layer or None)
    for note in made.origin.notes:
        tell(f"{made.name}: {note}", quiet=False)
    if json:
        print_json({**found.to_json(), "network": name})
    else:
        if found.uses:
            print_table(TITLES, [cells(use) for use in found.uses], right=(1,))
            typer.echo()
        typer.echo(found.summary())
        if found.without_part:
            typer.echo(f"without a part in it: {counted(found.without_part)}")
    if found.refused or (strict and found.by_analogy):
        raise typer.Exit(FOUND)
