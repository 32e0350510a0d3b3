"""``deconvviz atlas``: static pages with one page for each channel of a search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvviz.cli.support.completion import complete_searched_layer
from deconvviz.cli.support.console import print_json, print_note, print_paths, print_text, stage
from deconvviz.cli.support.early import check_device, check_folder, searched_layers
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import (
    Device,
    Force,
    Json,
    Memory,
    Quiet,
    Verbose,
    allow_code_option,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import PACE, WHICH
from deconvviz.cli.support.parsing import read_size
from deconvviz.models.weights_file import check_weights_file
from deconvviz.printable_names import path_to_text
from deconvviz.wording import counted

if TYPE_CHECKING:
    from deconvviz.cli.support.atlas_progress import AtlasDisplay
    from deconvviz.web.atlas.site import Atlas

DEFAULT_OUT = Path("deconvviz-atlas")
TOP = 9
FAULTY = 1  # exit code of --check if there are faults


def atlas(
    search: Annotated[
        Path | None,
        typer.Argument(
            metavar="SEARCH_DIR", help="Folder of a search (see: deconvviz search).", show_default=False
        ),
    ] = None,
    layer: Annotated[
        list[str] | None,
        layer_option(
            "Make the pages of this searched layer. May be repeated. Layers can be added later.",
            complete=complete_searched_layer,
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Make pages for the N channels of each layer with the largest maximum.",
            rich_help_panel=WHICH,
            show_default="all",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=1,
            help="Show the K strongest images of each channel.",
            show_default="9, or all if the search kept fewer",
        ),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            "--check",
            metavar="SITE",
            help="Make nothing. Check that all files of an atlas are whole and all links lead to a file, and "
            "exit with code 1 if not.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="New location of the images.", show_default="as in the search"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="New location of the weights.", show_default="as in the search"),
    ] = None,
    allow_code: Annotated[
        bool,
        allow_code_option(
            "Allow running the file.py that defines the network. Use it only for files that you trust."
        ),
    ] = False,
    out: Annotated[Path, out_option("Folder for the atlas.", metavar="SITE")] = DEFAULT_OUT,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted atlas in --out, if there is one.")
    ] = False,
    jobs: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Number of processes, with one thread each.", rich_help_panel=PACE
        ),
    ] = 1,
    device: Device = "auto",
    memory: Memory = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a folder of static pages with one page for each channel of a search.

    Each page shows the images that activate a channel most strongly with
    their projections, the distribution of its peaks, its classes and related
    channels. The pages open in a browser without a server and without
    network. --resume continues an interrupted atlas, and another --layer is
    added to the atlas in --out. --check verifies an atlas.
    """
    if check is not None:
        if search is not None or layer:
            raise typer.BadParameter("makes nothing: leave out SEARCH_DIR and --layer", param_hint="--check")
        _check(check, json=json)
        return
    if search is None:
        raise typer.BadParameter(
            "name the folder of a search, or check an atlas with --check", param_hint="SEARCH_DIR"
        )
    if resume and force:
        raise typer.BadParameter("cannot be combined with --force", param_hint="--resume")
    budget = None if memory is None else read_size(memory)
    check_device(device)
    searched_layers(search, layer or [], [])
    check_folder(out)
    if weights is not None:
        check_weights_file(weights, "use the weights of the search")
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support.atlas_progress import AtlasDisplay
        from deconvviz.cli.support.atlas_run import make_atlas, open_for_atlas
    found = open_for_atlas(search, source=source, weights=weights, device=device, allow_code=allow_code)
    with AtlasDisplay(quiet=quiet) as display:
        made = make_atlas(
            found,
            out,
            layer,
            display,
            channels=channels,
            top=min(TOP, int(found.manifest["top"])) if top is None else top,
            resume=resume,
            force=force,
            jobs=jobs,
            memory=budget,
            quiet=quiet,
        )
    for note in made.notes:
        print_note(note, quiet=quiet)
    if json:
        print_json(_as_json(made, display))
        return
    _summarise(made, display, quiet=quiet)
    print_paths([made.index])


def _summarise(made: Atlas, display: AtlasDisplay, *, quiet: bool) -> None:
    last = display.last
    if last is not None and last.made:
        print_note(
            f"{counted(round(last.made), 'unit')} in {display.seconds:.1f} s, "
            f"{last.made / display.seconds:.2g} units/s "
            f"({100 * last.other_share:.0f} % of it not projecting)",
            quiet=quiet,
        )
    units = counted(sum(made.layers.values()), "unit")
    print_note(f"the atlas has {units} in {counted(len(made.layers), 'layer')}", quiet=quiet)


def _as_json(made: Atlas, display: AtlasDisplay) -> dict[str, Any]:
    last = display.last
    return {
        "atlas": path_to_text(made.folder),
        "index": path_to_text(made.index),
        "layers": [{"name": name, "channels": count} for name, count in made.layers.items()],
        "notes": list(made.notes),
        "run": None
        if last is None
        else {
            "units": round(last.made),
            "seconds": display.seconds,
            "not_projecting": last.other_share,
        },
    }


def _check(site: Path, *, json: bool) -> None:
    from deconvviz.web.atlas.check import check_atlas

    found = check_atlas(site)
    if json:
        print_json({"files": found.files, "links": found.links, "faults": list(found.faults)})
    else:
        for fault in found.faults:
            print_text(fault)
        print_text(
            f"{counted(found.files, 'file')} and {counted(found.links, 'link')}: "
            f"{counted(len(found.faults), 'fault') if found.faults else 'all whole'}"
        )
    if found.faults:
        raise typer.Exit(FAULTY)
