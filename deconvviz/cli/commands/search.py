"""``deconvviz search``: a dataset in, the strongest pictures of every channel out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deconvviz.cli.support.console import paths_as_json, print_json, print_paths, say, stage, tell
from deconvviz.cli.support.early import check_network, check_search
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import (
    DEFAULT_MODEL,
    Device,
    Force,
    Json,
    Layers,
    Model,
    ModelArg,
    Quiet,
    Seed,
    Verbose,
    Weights,
    out_option,
)
from deconvviz.cli.support.panels import PACE
from deconvviz.cli.support.parsing import model_arguments
from deconvviz.cli.support.progress import SearchProgress, pace
from deconvviz.dataset_search.search_folder import files_of_search
from deconvviz.printable_names import path_to_text, printable_path
from deconvviz.wording import counted

if TYPE_CHECKING:
    from deconvviz.dataset_search.result import Search

DEFAULT_OUT = Path("deconvviz-search")
ALL = "all"
SOME = 3  # skipped pictures that are named
SOME_CHANNELS = 8
SOME_LAYERS = 8


def search(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of pictures (any depth), a text file of paths (.txt, .lst), a .zip, tar shards "
            "('shard-*.tar'), hf:NAME or hf:NAME:SPLIT, a saved dataset, scenes:COUNT or scenes:COUNT@SEED.",
            show_default=False,
        ),
    ],
    layer: Layers = None,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar=ALL, help="Every layer that has channels.")
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    seed: Seed = 0,
    top: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many pictures are kept for each channel.")
    ] = 9,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Only the first N pictures by id.", show_default="all"),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="A picture that cannot be read ends the search.")
    ] = False,
    out: Annotated[Path, out_option("Where the result goes.")] = DEFAULT_OUT,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the search that was broken off in --out, if there is one."),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Pictures that go through the network at once.",
            rich_help_panel=PACE,
            show_default="32, or as it was with --resume",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Processes that read pictures; 0: none but this one.",
            rich_help_panel=PACE,
            show_default="one for each core but one, 8 at most",
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This machine, or Ray.", rich_help_panel=PACE)
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDR",
            help="A Ray cluster's address, or auto; goes with --engine ray.",
            rich_help_panel=PACE,
            show_default="a Ray of its own on this machine",
        ),
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find the images in a dataset that activate each channel most strongly.

    One pass; an image counts once for a channel, with its highest position. It writes top.parquet (the images
    and positions), channels.parquet (mean, density, maximum of each channel), skipped.csv and manifest.json
    into --out. It may be killed at any moment: --resume goes on. `deconvviz topnine` draws the result.
    """
    arguments = model_arguments(model_arg)
    asked = _layers(layer, layers)
    if resume and force:
        raise typer.BadParameter(
            "goes on with what is there, and --force throws it away: give one of them", param_hint="--resume"
        )
    if address is not None and engine != "ray":
        raise typer.BadParameter("goes with --engine ray", param_hint="--address")
    with stage(f"listing images in {source}", quiet=quiet):
        check_search(engine, out, resume=resume, force=force)
        network = model or DEFAULT_MODEL
        check_network(network, arguments, layers=layer or (), weights=weights, device=device)
        from deconvviz.image_sources.opening import open_listed

        opened = open_listed(source, limit=limit)
        with without_garbage_collection():
            from deconvviz.cli.support.search_plan import plan, spare_cores
            from deconvviz.cli.support.search_run import search_dataset
            from deconvviz.loading import ModelRequest
            from deconvviz.models.providers import provider_of

        request = ModelRequest.of(
            network, weights or "default", arguments=arguments, seed=seed, device=device
        )
        job = plan(
            source if opened is None else opened, asked, request, out, limit=limit, resume=resume, force=force
        )
    more = engine == "ray" or spare_cores(workers, request.device)
    with SearchProgress(more_workers=more, quiet=quiet) as progress:
        found = search_dataset(
            job,
            asked,
            out,
            progress,
            quiet=quiet,
            top=top,
            batch_size=batch_size,
            workers=workers,
            resume=resume,
            force=force,
            strict=strict,
            engine=engine,
            address=address,
        )
    following = ["deconvviz", "topnine", printable_path(out), "--layer", job.drawable(found.layers)]
    if provider_of(request.spec).runs_code:
        following.append("--allow-code")
    if json:
        print_json(_as_json(found, out, files_of_search(out), progress, following))
        return
    if not quiet:
        _summarise(found, out, progress)
        say(f"Now the figure: {shlex.join(following)}")
    print_paths(files_of_search(out))


def _layers(named: list[str] | None, all_of_them: str | None) -> str | list[str]:
    if all_of_them is not None and all_of_them != ALL:
        raise typer.BadParameter(
            f"{all_of_them!r} is not all: name single layers with --layer", param_hint="--layers"
        )
    if named and all_of_them:
        raise typer.BadParameter(
            "all layers are searched with it: give --layer or --layers, not both", param_hint="--layers"
        )
    if not named and not all_of_them:
        raise typer.BadParameter(
            "name a layer (deconvviz layers lists them), or give --layers all", param_hint="--layer"
        )
    return list(named) if named else ALL


def _summarise(found: Search, out: Path, progress: SearchProgress) -> None:
    last = progress.last
    if last is None:
        tell(f"the search in {printable_path(out)} is done already: nothing was left to look at", quiet=False)
    else:
        rate = f"{last.read:,} pictures in {progress.seconds:.1f} s, {pace(last.read / progress.seconds)}"
        tell(f"{rate} ({progress.parts(last)})", quiet=False)
    if found.skipped:
        whole = printable_path(out / "skipped.csv")
        more = f" ... ({whole} has them all)" if len(found.skipped) > SOME else ""
        some = "; ".join(_reason(*one) for one in found.skipped[:SOME])
        tell(f"{counted(len(found.skipped), 'picture')} skipped: {some}{more}", quiet=False)
    _tell_dead(found)


def _tell_dead(found: Search) -> None:
    dead = {layer: channels for layer in found.layers if (channels := found.dead(layer))}
    for layer in list(dead)[:SOME_LAYERS]:
        numbers = ", ".join(map(str, dead[layer][:SOME_CHANNELS]))
        more = " ..." if len(dead[layer]) > SOME_CHANNELS else ""
        of = f"{len(dead[layer])} of {counted(found.layers[layer], 'channel')}"
        tell(f"{layer}: {of} dead, never above zero: {numbers}{more}", quiet=False)
    if len(dead) > SOME_LAYERS:
        others = sum(len(channels) for channels in list(dead.values())[SOME_LAYERS:])
        rest = len(dead) - SOME_LAYERS
        tell(f"and {others} dead in {counted(rest, 'more layer')} (see channels.parquet)", quiet=False)


def _reason(image: str, reason: str) -> str:
    """A reason that names its picture."""
    return reason if image in reason else f"{image}: {reason}"


def _as_json(
    found: Search, out: Path, files: Sequence[Path], progress: SearchProgress, following: list[str]
) -> dict[str, Any]:
    last = progress.last
    return {
        "search": path_to_text(out),
        "files": paths_as_json(files),
        "network": found.manifest["network"]["name"],
        "source": found.manifest["source"],
        "pictures": found.image_count,
        "top": found.manifest["top"],
        "batch_size": found.manifest["batch_size"],
        "layers": [
            {"name": layer, "channels": count, "dead": found.dead(layer)}
            for layer, count in found.layers.items()
        ],
        "skipped": [{"image": image, "reason": reason} for image, reason in found.skipped],
        "run": None
        if last is None
        else {
            "pictures": last.read,
            "seconds": progress.seconds,
            "reading_per_second": last.reading_rate,
            "network_per_second": last.network_rate,
            "limit": last.limit,
        },
        "next": shlex.join(following),
    }
