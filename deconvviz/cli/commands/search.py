"""``deconvviz search``: find the images of a dataset that activate each channel most strongly."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deconvviz.cli.support.console import (
    paths_as_json,
    print_json,
    print_message,
    print_note,
    print_paths,
    stage,
)
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
from deconvviz.cli.support.parsing import model_arguments, no_layer
from deconvviz.cli.support.progress import SearchProgress, pace
from deconvviz.dataset_search.search_folder import files_of_search
from deconvviz.models.providers import parse, provider_of
from deconvviz.printable_names import path_to_text, printable_path
from deconvviz.wording import counted

if TYPE_CHECKING:
    from deconvviz.dataset_search.result import Search

DEFAULT_OUT = Path("deconvviz-search")
ALL = "all"
SOME = 3  # number of skipped images in the summary
SOME_CHANNELS = 8  # number of dead channels per layer in the summary
SOME_LAYERS = 8  # number of layers with dead channels in the summary


def search(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of images (with subfolders), text file of paths (.txt, .lst), .zip file, tar shards "
            "('shard-*.tar'), hf:NAME or hf:NAME:SPLIT, saved dataset, scenes:COUNT or scenes:COUNT@SEED. "
            "For networks that read signals, volumes, video or bands: their files, in one of the first four.",
            show_default=False,
        ),
    ],
    layer: Layers = None,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar=ALL, help="Search every layer that has channels.")
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    seed: Seed = 0,
    top: Annotated[
        int, typer.Option(metavar="N", min=1, help="Keep the N strongest images of each channel.")
    ] = 9,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Search only the first N images, ordered by id.", show_default="all"
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop with an error at the first image that cannot be read.")
    ] = False,
    scaled_decoding: Annotated[
        bool,
        typer.Option(
            "--scaled-decoding",
            help="Decode large JPEGs at 1/2, 1/4 or 1/8 of their size. Faster; the top nine of some "
            "channels change.",
            rich_help_panel=PACE,
        ),
    ] = False,
    out: Annotated[Path, out_option("Folder for the results.")] = DEFAULT_OUT,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue an interrupted search in --out, if there is one."),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Number of images in a batch.",
            rich_help_panel=PACE,
            show_default="32; with --resume, as before",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Number of processes that read images (0: read in the main process).",
            rich_help_panel=PACE,
            show_default="number of cores minus one, from 1 to 8",
        ),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Run on this machine (local) or on Ray (ray).", rich_help_panel=PACE),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDR",
            help="Address of a Ray cluster, or auto. Needs --engine ray.",
            rich_help_panel=PACE,
            show_default="a new Ray instance on this machine",
        ),
    ] = None,
    device: Device = "auto",
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find the images in a dataset that activate each channel most strongly.

    Each image counts once per channel, with its strongest position. The folder
    --out receives top.parquet (images and positions), channels.parquet (mean,
    density and maximum of each channel), statistics.parquet (histogram of each
    channel, means of classes), images.parquet (labels), skipped.csv and
    manifest.json. --resume continues an interrupted search.
    `deconvviz topnine` draws the results.
    """
    arguments = model_arguments(model_arg)
    targets = _layers(layer, layers)
    if resume and force:
        raise typer.BadParameter("cannot be combined with --force", param_hint="--resume")
    if address is not None and engine != "ray":
        raise typer.BadParameter("needs --engine ray", param_hint="--address")
    with stage(f"opening {source}", quiet=quiet):
        check_search(engine, out, resume=resume, force=force)
        network = model or DEFAULT_MODEL
        check_network(network, arguments, layers=layer or (), weights=weights, device=device)
        from deconvviz.image_sources.opening import open_listed

        # Only a file.py or an argument, such as in_chans, can make a network that does not read images
        known = not (arguments or provider_of(parse(network)).runs_code)
        opened = open_listed(source, limit=limit) if known else None
        with without_garbage_collection():
            from deconvviz.cli.support.search_plan import plan, spare_cores
            from deconvviz.cli.support.search_run import search_dataset
            from deconvviz.loading import ModelRequest

        request = ModelRequest.of(
            network, weights or "default", arguments=arguments, seed=seed, device=device
        )
        job = plan(
            source if opened is None else opened,
            targets,
            request,
            out,
            limit=limit,
            resume=resume,
            force=force,
            scaled_decoding=scaled_decoding,
        )
    more = engine == "ray" or spare_cores(workers, request.device)
    with SearchProgress(more_workers=more, quiet=quiet, noun=job.source.files.noun) as progress:
        found = search_dataset(
            job,
            targets,
            out,
            progress,
            quiet=quiet,
            top=top,
            batch_size=batch_size,
            workers=workers,
            resume=resume,
            force=force,
            strict=strict,
            scaled_decoding=scaled_decoding,
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
        print_message(f"Draw the figure: {shlex.join(following)}")
    print_paths(files_of_search(out))


def _layers(names: list[str] | None, all_layers: str | None) -> str | list[str]:
    if all_layers is not None and all_layers != ALL:
        raise typer.BadParameter(
            f"must be all, not {all_layers!r}. Name single layers with --layer", param_hint="--layers"
        )
    if names and all_layers:
        raise typer.BadParameter("cannot be combined with --layer", param_hint="--layers")
    if not names and not all_layers:
        raise no_layer(", or use --layers all")
    return list(names) if names else ALL


def _summarise(found: Search, out: Path, progress: SearchProgress) -> None:
    last = progress.last
    if last is None:
        print_note(f"the search in {printable_path(out)} is already complete", quiet=False)
    else:
        noun = found.files.noun
        rate = f"{last.read:,} {noun}s in {progress.seconds:.1f} s, {pace(last.read / progress.seconds)}"
        print_note(f"{rate} ({progress.parts(last)})", quiet=False)
    if found.skipped:
        full_list = printable_path(out / "skipped.csv")
        more = f" ... ({full_list} lists all of them)" if len(found.skipped) > SOME else ""
        some = "; ".join(_reason(*one) for one in found.skipped[:SOME])
        print_note(f"{counted(len(found.skipped), found.files.noun)} skipped: {some}{more}", quiet=False)
    _print_dead_channels(found)


def _print_dead_channels(found: Search) -> None:
    dead = {layer: channels for layer in found.layers if (channels := found.dead(layer))}
    for layer in list(dead)[:SOME_LAYERS]:
        numbers = ", ".join(map(str, dead[layer][:SOME_CHANNELS]))
        more = " ..." if len(dead[layer]) > SOME_CHANNELS else ""
        share = f"{len(dead[layer])} of {counted(found.layers[layer], 'channel')}"
        print_note(f"{layer}: {share} are dead (never above zero): {numbers}{more}", quiet=False)
    if len(dead) > SOME_LAYERS:
        others = sum(len(channels) for channels in list(dead.values())[SOME_LAYERS:])
        rest = len(dead) - SOME_LAYERS
        print_note(
            f"{others} dead channels in {counted(rest, 'more layer')} (see channels.parquet)", quiet=False
        )


def _reason(image: str, reason: str) -> str:
    """Return the reason why an image was skipped, with the name of the image."""
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
        "scaled_decoding": found.scaled_decoding,
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
