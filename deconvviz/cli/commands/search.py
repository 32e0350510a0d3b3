"""``deconvviz search``: a dataset in, the strongest pictures of every channel out."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deconvviz.cli.support.console import print_json, say, stage, tell
from deconvviz.cli.support.exit_codes import INTERRUPTED, is_out_of_memory
from deconvviz.cli.support.options import (
    DEFAULT_MODEL,
    Device,
    Force,
    Json,
    Quiet,
    Seed,
    Weights,
    complete_layer,
    model_arg_option,
    model_arguments,
    model_option,
)
from deconvviz.cli.support.progress import SearchProgress, pace

if TYPE_CHECKING:
    from deconvviz.cli.support.search_plan import SearchJob
    from deconvviz.dataset_search.result import Search

DEFAULT_OUT = Path("deconvviz-search")
ALL = "all"
SOME = 3  # skipped pictures that are named
SOME_CHANNELS = 8
SOME_LAYERS = 8

PACE = "How it runs"


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
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="NAME",
            help="A layer, by either name (see: deconvviz layers). May be repeated.",
            autocompletion=complete_layer,
        ),
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", metavar=ALL, help="Every layer that has channels.")
    ] = None,
    model: Annotated[str | None, model_option] = None,
    model_arg: Annotated[list[str] | None, model_arg_option] = None,
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
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the result goes.")] = DEFAULT_OUT,
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
) -> None:
    """Find the pictures of a dataset that fire each channel of some layers most.

    One pass; a picture counts once for a channel, with its highest position. Into --out go top.parquet (the
    pictures and positions), channels.parquet (mean, density, maximum of each channel), skipped.csv and
    manifest.json. It may be killed at any moment: --resume goes on. `deconvviz topnine` draws what was found.
    """
    arguments = model_arguments(model_arg)
    asked = _layers(layer, layers)
    if resume and force:
        raise typer.BadParameter(
            "goes on with what is there, and --force throws it away: give one of them", param_hint="--resume"
        )
    if address is not None and engine != "ray":
        raise typer.BadParameter("goes with --engine ray", param_hint="--address")
    with stage(f"importing torch, and looking for the pictures of {source}", quiet=quiet):
        from deconvviz.cli.support.search_plan import plan, spare_cores

        job = plan(
            source,
            asked,
            model or DEFAULT_MODEL,
            weights or "default",
            seed,
            arguments,
            out,
            device,
            limit=limit,
            engine=engine,
            resume=resume,
            force=force,
        )
    more = engine == "ray" or spare_cores(workers, job.device)
    with SearchProgress(more_workers=more, quiet=quiet) as progress:
        found = run(
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
    following = ["deconvviz", "topnine", str(out), "--layer", job.drawable]
    if job.loaded is not None:
        following.append("--allow-code")
    if json:
        print_json(_as_json(found, out, progress, following))
        return
    if not quiet:
        _summarise(found, out, progress)
        say(f"Now the figure: {shlex.join(following)}")
    for path in files(out):
        typer.echo(path)


def run(
    job: SearchJob,
    layers: str | list[str],
    out: Path,
    progress: SearchProgress,
    *,
    quiet: bool,
    **options: Any,
) -> Search:
    """Search, with the options of `dv.search`; say what is to be known before, and when it is broken off."""
    from deconvviz.dataset_search.checkpoint import batch_size_of, progress_of
    from deconvviz.dataset_search.search import search as search_for

    with stage(f"loading {job.model}", quiet=quiet):
        network = job.load()
    for note in network.origin.notes:
        tell(f"{job.model}: {note}", quiet=quiet)
    if (there := progress_of(out)) is not None and options.get("resume"):
        tell(f"going on with {out}: {there[0]} of {there[1]} batches are done", quiet=quiet)
    try:
        return search_for(network, job.source, layers, out=out, report=progress, **options)
    except KeyboardInterrupt:
        if (there := progress_of(out)) is None:
            raise
        say(
            f"deconvviz: interrupted; {there[0]} of {there[1]} batches are kept in {out}: "
            "go on with the same command and --resume"
        )
        raise typer.Exit(INTERRUPTED) from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        from deconvviz.errors import SearchError

        raise SearchError(
            f"out of memory with batches of {batch_size_of(out)} pictures: start anew with --force and a "
            "smaller --batch-size"
        ) from error


def files(out: Path) -> list[str]:
    """What a search writes."""
    return [str(out / name) for name in ("top.parquet", "channels.parquet", "skipped.csv", "manifest.json")]


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
        tell(f"the search in {out} is done already: nothing was left to look at", quiet=False)
    else:
        rate = f"{last.read:,} pictures in {progress.seconds:.1f} s, {pace(last.read / progress.seconds)}"
        tell(f"{rate} ({progress.parts(last)})", quiet=False)
    if found.skipped:
        more = f" ... ({out / 'skipped.csv'} has them all)" if len(found.skipped) > SOME else ""
        some = "; ".join(_reason(*one) for one in found.skipped[:SOME])
        tell(f"{_count(len(found.skipped), 'picture')} skipped: {some}{more}", quiet=False)
    _tell_dead(found)


def _tell_dead(found: Search) -> None:
    dead = {layer: channels for layer in found.layers if (channels := found.dead(layer))}
    for layer in list(dead)[:SOME_LAYERS]:
        numbers = ", ".join(map(str, dead[layer][:SOME_CHANNELS]))
        more = " ..." if len(dead[layer]) > SOME_CHANNELS else ""
        of = f"{len(dead[layer])} of {_count(found.layers[layer], 'channel')}"
        tell(f"{layer}: {of} dead, never above zero: {numbers}{more}", quiet=False)
    if len(dead) > SOME_LAYERS:
        others = sum(len(channels) for channels in list(dead.values())[SOME_LAYERS:])
        rest = len(dead) - SOME_LAYERS
        tell(f"and {others} dead in {_count(rest, 'more layer')} (see channels.parquet)", quiet=False)


def _reason(image: str, reason: str) -> str:
    """A reason that names its picture."""
    return reason if image in reason else f"{image}: {reason}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _as_json(found: Search, out: Path, progress: SearchProgress, following: list[str]) -> dict[str, Any]:
    last = progress.last
    return {
        "search": str(out),
        "files": files(out),
        "network": found.manifest["network"]["name"],
        "source": found.manifest["source"],
        "pictures": found.pictures,
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
