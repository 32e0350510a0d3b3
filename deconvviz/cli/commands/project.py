"""``deconvviz project``: project units of an image back to pixels and draw them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deconvviz.cli.support.console import counting, print_json, print_paths, stage
from deconvviz.cli.support.early import (
    check_device,
    check_figures,
    check_folder,
    check_images,
    check_inputs,
    check_manifest,
    check_network,
)
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.notes import print_coverage
from deconvviz.cli.support.options import (
    DEFAULT_FORMAT,
    DEFAULT_MODEL,
    DEFAULT_OUT,
    Arrays,
    Bands,
    Crop,
    Device,
    Dpi,
    Force,
    Format,
    Json,
    Medium,
    Memory,
    Model,
    ModelArg,
    NoLikeness,
    Percentile,
    Quiet,
    Seed,
    Verbose,
    Verify,
    Weights,
    allow_code_option,
    columns_option,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import APPEARANCE, WHAT
from deconvviz.cli.support.parsing import model_arguments, read_size
from deconvviz.cli.support.selection import Look, Selection, check_selection, read_bands, read_inputs
from deconvviz.printable_names import path_from_text

if TYPE_CHECKING:
    from deconvviz.projection import Projection, Style


def project(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE...",
            help="Image files, folders of images, or - for standard input. For networks that read signals, "
            "volumes, video or bands: their files, and folders of them.",
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        layer_option(
            "Project units of this layer, by either of its names (see: deconvviz layers). May be repeated.",
            panel=WHAT,
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME...",
            help="The files are the inputs of one network, in this order: names of the arguments of its "
            "forward(). An input that is not a picture is a .npy file.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    model: Model = None,
    model_arg: ModelArg = None,
    weights: Weights = None,
    seed: Seed = 0,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Project the strongest unit of each of the N strongest channels; with --channel, its N "
            "strongest units.",
            rich_help_panel=WHAT,
            show_default="9, or all if there are fewer",
        ),
    ] = None,
    channel: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N", help="Project units of this channel. May be repeated.", rich_help_panel=WHAT
        ),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="C,Y,X",
            help="Project this unit: channel, row, column; in a fully connected layer, C alone; for signals "
            "C,X, for volumes and video C,Z,Y,X. May be repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    whole_channel: Annotated[
        bool,
        typer.Option(
            "--whole-channel", help="Project all positions of a channel together.", rich_help_panel=WHAT
        ),
    ] = False,
    apart: Annotated[
        bool | None,
        typer.Option(
            "--apart/--no-apart",
            help="Skip a unit if the centre of its receptive field is within half a field of a stronger "
            "unit's.",
            rich_help_panel=WHAT,
            show_default="on; off with --channel or --whole-channel",
        ),
    ] = None,
    no_border: Annotated[
        bool,
        typer.Option(
            "--no-border",
            help="Skip units whose receptive field is cut by the border of the image.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    class_: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME|INDEX",
            help="Project the score of a class. May be repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="Y,X",
            help="With --class: the score at this row and column, for networks that have class scores at "
            "every position. May be repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|wins",
            help="With --class: the sum of the scores where this image or .npy file is not 0, or where the "
            "class has the highest score (wins).",
            rich_help_panel=WHAT,
        ),
    ] = None,
    detection: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            help="Project the class score of this detection of a detector, before the final selection. 0 is "
            "the first. May be repeated.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MANIFEST",
            help="Reproduce a figure from its manifest. If the manifest names a file.py, --allow-code is "
            "needed to run its code.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    allow_code: Annotated[
        bool,
        allow_code_option(
            "Allow --from to run the file.py that the manifest names. Use it only for files that you trust.",
            panel=WHAT,
        ),
    ] = False,
    out: Annotated[Path, out_option("Folder for the figures.")] = DEFAULT_OUT,
    format: Format = None,
    arrays: Arrays = False,
    scale: Annotated[
        Literal["sheet", "row", "tile"] | None,
        typer.Option(
            help="Tiles that share one colour scale: all, those of a row, or none (tile).",
            rich_help_panel=APPEARANCE,
            show_default="sheet",
        ),
    ] = None,
    percentile: Percentile = None,
    columns: Annotated[int | None, columns_option("Units per row.")] = None,
    projection_only: Annotated[
        bool | None,
        typer.Option(
            "--projection-only", help="Draw projections without patches.", rich_help_panel=APPEARANCE
        ),
    ] = None,
    crop: Crop = None,
    medium: Medium = None,
    bands: Bands = None,
    dpi: Dpi = None,
    device: Device = "auto",
    memory: Memory = None,
    verify: Verify = False,
    no_likeness: NoLikeness = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Project the strongest units of a layer back to pixels.

    Writes one figure per image and layer: the image with numbered boxes, and
    the patch of each unit next to its projection. The manifest (.json) next to
    the figure contains everything needed to reproduce it.

    Exit code 0: all figures were written.
    Exit code 1: with --verify, a projection was not confirmed. Nothing is written.
    Exit code 2: anything else is wrong.
    """
    arguments = model_arguments(model_arg)
    budget = None if memory is None else read_size(memory)
    kind = format or DEFAULT_FORMAT
    look = Look(
        kind, arrays, scale, percentile, columns, projection_only, dpi, crop, medium, read_bands(bands)
    )
    selection = Selection(
        tuple(layer or ()),
        tuple(channel or ()),
        tuple(unit or ()),
        tuple(class_ or ()),
        top,
        whole_channel,
        apart,
        no_border,
        tuple(at or ()),
        mask,
        tuple(detection or ()),
        read_inputs(inputs, images or ()),
    )
    if from_ is not None:
        if images or model is not None or arguments or selection != Selection():
            raise typer.BadParameter(
                "the manifest already sets the images, the network, the layer and the units: leave those out",
                param_hint="--from",
            )
        check_device(device)
        check_folder(out)
        check_manifest(from_)
        with stage("importing torch and recording the image", quiet=quiet):
            with without_garbage_collection():
                from deconvviz.cli.support.project_run import print_checks, save_figure

            remade = _remake(
                from_,
                weights,
                look,
                out,
                device,
                force=force,
                allow_code=allow_code,
                memory=budget,
                verify=verify,
                likeness=not no_likeness,
                quiet=quiet,
            )
        print_coverage(remade[0].coverage, [remade[0].layer], quiet=quiet)
        print_checks(remade[0], quiet=quiet)
        written = [save_figure(*remade, force=force)]
    else:
        if allow_code:
            raise typer.BadParameter(
                "needs --from. --model runs its file without it", param_hint="--allow-code"
            )
        check_selection(selection)
        network = model or DEFAULT_MODEL
        paths = check_inputs(images or []) if selection.inputs else check_images(images or [], network)
        check_network(network, arguments, layers=selection.layers, weights=weights, device=device)
        check_figures(paths, network, selection, look, out, force=force)
        with stage("importing torch", quiet=quiet):
            with without_garbage_collection():
                from deconvviz.cli.support.project_plan import plan
                from deconvviz.cli.support.project_run import make_figures
                from deconvviz.loading import ModelRequest

            request = ModelRequest.of(
                network, weights or "default", arguments=arguments, seed=seed, device=device
            )
            job = plan(images or [], request, selection, look, out, force=force)
        written = make_figures(
            job,
            look,
            force=force,
            quiet=quiet,
            memory=budget,
            verify=verify,
            likeness=not no_likeness,
        )
    if json:
        print_json({"figures": written})
        return
    print_paths(path_from_text(path) for one in written for path in one["files"])


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
    verify: bool,
    likeness: bool,
    quiet: bool,
) -> tuple[Projection, Path, Style, Look]:
    """Reproduce the projection of a manifest. Return the positional arguments of `save_figure`."""
    from deconvviz.from_manifest import remake
    from deconvviz.results import refuse_existing, targets

    target = out / f"{manifest.stem}.{look.format}"
    refuse_existing(targets(target, look.arrays), force=force)
    with counting(1, quiet=quiet) as counter:
        found = remake(
            manifest,
            weights=weights,
            device=device,
            allow_code=allow_code,
            memory=memory,
            verify=verify,
            report=counter.reach,
        )
    projection = found.projection if likeness else replace(found.projection, likeness=None)
    if look.dpi is None and look.medium in (None, found.style.medium):
        look = replace(look, dpi=found.dpi)
    return projection, target, look.style(found.style), look
