"""``deconvviz explore``: click on a picture in a local web page, and see which units answered there."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from deconvviz.cli.support.console import print_message, print_note, stage
from deconvviz.cli.support.early import check_images, check_network
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import (
    DEFAULT_MODEL,
    Device,
    Model,
    ModelArg,
    Quiet,
    Seed,
    Verbose,
    Weights,
    allow_code_option,
    layer_option,
)
from deconvviz.cli.support.panels import PACE, WHAT
from deconvviz.cli.support.parsing import model_arguments
from deconvviz.dataset_search.search_folder import MANIFEST
from deconvviz.errors import MissingExtra
from deconvviz.models.catalog import SHIPPED
from deconvviz.paths import SCENES, path_as_typed
from deconvviz.web.explorer.atlas_pages import check_atlas_folder
from deconvviz.web.explorer.listening import HOST, PORT, listen


def explore(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[IMAGE|FOLDER|SEARCH_DIR]...",
            help="Image files, folders of images, scenes:COUNT, and the folder of a search (see: deconvviz "
            "search). With a search, its images follow your own, and an opened unit shows what else "
            "activates it. Without any, scenes are shown, by default in minivgg.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        str | None,
        layer_option("Begin with this layer, by either of its names (see: deconvviz layers).", panel=WHAT),
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    seed: Seed = 0,
    other_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Second network to compare with.",
            rich_help_panel=WHAT,
            show_default="the same, if --other-weights is given",
        ),
    ] = None,
    other_weights: Annotated[
        str | None,
        typer.Option(
            metavar="default|random|FILE",
            help="Weights of the second network, for example an earlier checkpoint.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    atlas: Annotated[
        Path | None,
        typer.Option(
            metavar="SITE",
            help="Folder of an atlas of the network (see: deconvviz atlas). An opened unit links the page of "
            "its channel.",
            rich_help_panel=WHAT,
            show_default=False,
        ),
    ] = None,
    allow_code: Annotated[
        bool,
        allow_code_option(
            "Allow running the file.py that the network of a search needs. Use it only for files that you "
            "trust."
        ),
    ] = False,
    port: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=65535,
            help="Port of the page; 0 chooses a free one.",
            rich_help_panel=PACE,
        ),
    ] = PORT,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. Any other than 127.0.0.1 lets other machines connect.",
            rich_help_panel=PACE,
        ),
    ] = HOST,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Do not open a browser.", rich_help_panel=PACE)
    ] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Explore pictures in a network: click on a picture to see which units answered there.

    Starts a local web page and prints its address, which has a secret token.
    Nothing is loaded from outside. Ctrl-C ends it.
    """
    arguments = model_arguments(model_arg)
    search, given = _split(images or [])
    if search is not None and (model is not None or weights is not None or arguments):
        raise typer.BadParameter("the search already sets the network", param_hint="--model, --weights")
    network = model or (DEFAULT_MODEL if images or weights is not None else SHIPPED)
    check_network(network, arguments, layers=[layer] if layer else [], weights=weights, device=device)
    if given:
        _check_images(given)
    site = None if atlas is None else check_atlas_folder(atlas)
    for package in ("starlette", "uvicorn", "websockets"):
        if find_spec(package) is None:
            raise MissingExtra("deconvviz explore", "explore")
    listen(host, port).close()  # a port in use is reported before the network is loaded
    with stage("importing torch and loading the network", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.explore_run import Networks, open_session, serve
        from deconvviz.loading import ModelRequest

        first = ModelRequest.of(network, weights or "default", arguments=arguments, seed=seed, device=device)
        second = None
        if other_model is not None or other_weights is not None:
            own = arguments if other_model is None else None
            second = ModelRequest.of(
                other_model or network, other_weights or "default", arguments=own, seed=seed, device=device
            )
        session = open_session(given, search, Networks(first, second, device, allow_code), site)
    if host != HOST:
        print_note(
            f"listening on {host}: every machine that reaches it and knows the address with its token can "
            "use this page",
            quiet=False,
        )
    serve(
        session,
        host,
        port,
        layer,
        browser=not no_open,
        announce=print_message,
    )


def _split(given: list[str]) -> tuple[Path | None, list[str]]:
    """Return the folder of the search among the arguments, if there is one, and the other arguments."""
    searches = [one for one in given if (Path(path_as_typed(one)) / MANIFEST).is_file()]
    if len(searches) > 1:
        raise typer.BadParameter(
            f"{len(searches)} searches are given: {', '.join(searches)}. Give one", param_hint="SEARCH_DIR"
        )
    others = [one for one in given if one not in searches]
    return (Path(path_as_typed(searches[0])) if searches else None), others


def _check_images(given: list[str]) -> None:
    """Raise ImageError if an image file or a folder of images does not exist."""
    paths = [one for one in given if not one.startswith(SCENES)]
    if paths:
        check_images(paths)
