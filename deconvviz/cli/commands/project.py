"""``deconvviz project``: pictures and layer names in, figures out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deconvviz.cli.support.console import counting, print_json, stage, tell
from deconvviz.cli.support.options import (
    DEFAULT_DPI,
    DEFAULT_MODEL,
    DEFAULT_OUT,
    LOOK,
    Arrays,
    Device,
    Dpi,
    Force,
    Format,
    Json,
    Memory,
    Percentile,
    Quiet,
    Seed,
    Weights,
    complete_layer,
    model_arg_option,
    model_arguments,
    model_option,
    read_size,
)
from deconvviz.cli.support.request import Look, Selection

if TYPE_CHECKING:
    from deconvviz.cli.support.project_plan import Job
    from deconvviz.coverage import Coverage
    from deconvviz.layers import Layer
    from deconvviz.projection import Projection, Style

WHAT = "What to project"


def project(
    images: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE...", help="Picture files, or folders of them.")
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            "-l",
            metavar="NAME",
            help="A layer, by either name (see: deconvviz layers). May be repeated.",
            autocompletion=complete_layer,
            rich_help_panel=WHAT,
        ),
    ] = None,
    model: Annotated[str | None, model_option] = None,
    model_arg: Annotated[list[str] | None, model_arg_option] = None,
    weights: Weights = None,
    seed: Seed = 0,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The peaks of the N strongest channels; with --channel, its N highest positions.",
            rich_help_panel=WHAT,
            show_default="9, or as many as there are",
        ),
    ] = None,
    channel: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="Only this channel. May be repeated.", rich_help_panel=WHAT),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="C,Y,X",
            help="This unit: channel, row, column (fully connected: C). May be repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    whole_channel: Annotated[
        bool,
        typer.Option("--whole-channel", help="Keep every position of a channel.", rich_help_panel=WHAT),
    ] = False,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME|INDEX",
            help="The score of a class. May be repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MANIFEST",
            help="Make a figure again from its manifest. If that names a file.py, its code is run: "
            "only with --allow-code.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code",
            help="Let --from run the file.py that a manifest names; for files that you trust.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the figures go.")] = DEFAULT_OUT,
    format: Annotated[Format, typer.Option(help="File type.", rich_help_panel=LOOK)] = "png",
    arrays: Arrays = False,
    scale: Annotated[
        Literal["sheet", "row", "tile"] | None,
        typer.Option(help="Who shares full colour.", rich_help_panel=LOOK, show_default="sheet"),
    ] = None,
    percentile: Percentile = None,
    columns: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Units in a row.", rich_help_panel=LOOK, show_default="as they fit"
        ),
    ] = None,
    projection_only: Annotated[
        bool | None,
        typer.Option("--projection-only", help="Leave the patches out.", rich_help_panel=LOOK),
    ] = None,
    dpi: Dpi = None,
    device: Device = "auto",
    memory: Memory = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what in a picture made units of a layer fire.

    One figure for each picture and layer: the picture with numbered boxes, and for each unit its patch of the
    picture beside its projection. A manifest (.json) beside the figure says how to make it again.
    """
    from deconvviz.cli.support.project_plan import plan

    arguments = model_arguments(model_arg)
    budget = None if memory is None else read_size(memory)
    look = Look(format, arrays, scale, percentile, columns, projection_only, dpi)
    selection = Selection(
        tuple(layer or ()), tuple(channel or ()), tuple(unit or ()), tuple(class_ or ()), top, whole_channel
    )
    if from_ is not None:
        if images or model is not None or arguments or selection != Selection():
            raise typer.BadParameter(
                "a manifest says itself which picture, network, layer and units: leave those out",
                param_hint="--from",
            )
        with stage("importing torch and making the recording again", quiet=quiet):
            again = _remake(
                from_, weights, look, out, device, force=force, allow_code=allow_code, memory=budget
            )
        tell_how(again[0].coverage, [again[0].layer], quiet=quiet)
        written = [_save(*again, force=force)]
    else:
        if allow_code:
            raise typer.BadParameter(
                "goes with --from: --model runs its file anyway", param_hint="--allow-code"
            )
        with stage("importing torch", quiet=quiet):
            job = plan(
                images or [],
                model or DEFAULT_MODEL,
                weights or "default",
                seed,
                selection,
                look,
                out,
                device,
                force=force,
                arguments=arguments,
            )
        written = run(job, look, force=force, quiet=quiet, memory=budget)
    if json:
        print_json({"figures": written})
        return
    for one in written:
        for path in one["files"]:
            typer.echo(path)


def run(job: Job, look: Look, *, force: bool, quiet: bool, memory: int | None = None) -> list[dict[str, Any]]:
    """Make every figure of a job; what was written, one entry for each."""
    from deconvviz.projection import Style

    with stage(f"loading {job.model}", quiet=quiet):
        network = job.load()
    for note in network.origin.notes:
        tell(f"{job.model}: {note}", quiet=quiet)
    for page in job.pages:
        for asked in page.classes:
            network.class_index(asked)  # an unknown class is told before the first figure is written
    layers = list(dict.fromkeys(page.layer for page in job.pages))
    tell_how(network.coverage(layer.name for layer in layers), layers, quiet=quiet)
    written = []
    style = look.style(Style())
    with counting(len(job.pages), quiet=quiet) as counter:
        for picture, pages in groupby(job.pages, key=lambda page: page.picture):
            several = list(pages)
            recording = network.record(picture, [page.layer.name for page in several])
            for note in recording.pictures[0].notes:
                tell(f"{picture}: {note}", quiet=quiet)
            for page in several:
                counter.step(f"{picture.name} {page.layer.name}")
                projection = recording.project(page.layer.name, job.units(page, recording), memory=memory)
                written.append(_save(projection, page.target, style, look, force=force))
    return written


def tell_how(coverage: Coverage, layers: Sequence[Layer], *, quiet: bool) -> None:
    """Say before anything is drawn what is by analogy, and which layers give nothing but grey."""
    if coverage.by_analogy:
        tell(coverage.line(), quiet=quiet)
    for layer in layers:
        if layer.held:
            tell(f"{layer.name} {layer.sees}; its projections are zero", quiet=quiet)


def _remake(
    manifest: Path,
    weights: str | None,
    look: Look,
    out: Path,
    device: str,
    *,
    force: bool,
    allow_code: bool,
    memory: int | None,
) -> tuple[Projection, Path, Style, Look]:
    """The projection of a manifest, and how `_save` is to write it."""
    from deconvviz.cli.support.project_plan import check_folder
    from deconvviz.manifest import refuse_existing, remake, targets

    target = out / f"{manifest.stem}.{look.format}"
    check_folder(out)
    refuse_existing(targets(target, look.arrays), force=force)
    found = remake(manifest, weights=weights, device=device, allow_code=allow_code, memory=memory)
    look = replace(look, dpi=found.dpi if look.dpi is None else look.dpi)
    return found.projection, target, look.style(found.style), look


def _save(projection: Projection, target: Path, style: Style, look: Look, *, force: bool) -> dict[str, Any]:
    """Write one figure and what stands beside it; what was written, for --json."""
    from deconvviz.manifest import analogies, save_projection

    paths = save_projection(
        projection,
        target,
        style,
        dpi=DEFAULT_DPI if look.dpi is None else look.dpi,
        force=force,
        arrays=look.arrays,
    )
    return {
        "picture": projection.picture_name(projection.images[0]),
        "layer": projection.layer.name,
        "files": [str(path) for path in paths],
        "units": [
            {**asdict(unit), "box": list(box)}
            for unit, box in zip(projection.units, projection.boxes, strict=True)
        ],
        "by_analogy": analogies(projection),
    }
