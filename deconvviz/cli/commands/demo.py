"""``deconvviz demo``: project one image and search a dataset, without a network connection."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from deconvviz.cli.support.console import paths_as_json, print_json, print_message, print_paths, stage
from deconvviz.cli.support.early import check_folder
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import DEFAULT_DPI, Force, Json, Quiet, Verbose, out_option
from deconvviz.cli.support.progress import SearchProgress
from deconvviz.cli.support.selection import Look, Selection
from deconvviz.files import write_whole
from deconvviz.printable_names import path_from_text, path_to_text, printable_path

if TYPE_CHECKING:
    from deconvviz.cli.support.search_plan import SearchJob

LAYERS = ("conv3_2", "conv4_2")
DEFAULT_OUT = Path("deconvviz-demo")
SEARCHED = "conv4_2"  # the last convolution
CHANNELS = 12
TOP = 9


def demo(
    out: Annotated[Path, out_option("Folder for the image, the figures and the search.")] = DEFAULT_OUT,
    seed: Annotated[int, typer.Option(help="Seed of the scene to project.")] = 7,
    scenes: Annotated[int, typer.Option(min=TOP, help="Number of scenes to search.")] = 1000,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Project units of minivgg on a synthetic scene, then draw the paper's Figure 2 for many scenes.

    Nothing is downloaded. The demo takes less than a minute.
    """
    image, found = out / f"scene-{seed}.png", out / "search"
    look = Look(format="png")
    from deconvviz.dataset_search.search_folder import files_of_search
    from deconvviz.results import refuse_existing, targets

    check_folder(out)
    figures = [out / f"{image.stem}-{layer}.png" for layer in LAYERS]
    plate = out / f"topnine-{SEARCHED}.png"
    expected = [path for figure in (*figures, plate) for path in targets(figure, False)]
    refuse_existing([image, *expected, *files_of_search(found)], force=force)
    with stage("importing torch", quiet=quiet), without_garbage_collection():
        from deconvviz.cli.support import search_plan
        from deconvviz.cli.support.project_plan import plan
        from deconvviz.cli.support.project_run import make_figures
        from deconvviz.loading import ModelRequest
        from deconvviz.scenes import scene
    drawn = scene(seed)
    write_whole(image, partial(_write_png, drawn.image), force=force)
    request = ModelRequest.of("minivgg")
    job = plan([image], request, Selection(layers=LAYERS), look, out, force=force)
    written = make_figures(job, look, force=force, quiet=quiet)
    job_of_search = search_plan.plan(
        f"scenes:{scenes}", [SEARCHED], request, found, limit=None, resume=False, force=True
    )
    best = _top_nine(job_of_search, found, plate, force=force, quiet=quiet)
    if json:
        print_json(
            {
                "scene": path_to_text(image),
                "shows": drawn.name,
                "figures": written,
                "search": path_to_text(found),
                "topnine": paths_as_json(best),
            }
        )
        return
    figures_written = [path_from_text(path) for one in written for path in one["files"]]
    print_paths([image, *figures_written, *files_of_search(found), *best])
    if not quiet:
        print_message(
            f"The scene shows: {drawn.name}. Open {printable_path(figures[-1])}: patches of the scene next "
            "to the projections of the units.\n"
            f"Then open {printable_path(plate)}: for each of {CHANNELS} channels, the {TOP} of {scenes:,} "
            "scenes that activate it most strongly, as in the paper's Figure 2."
        )


def _top_nine(job: SearchJob, folder: Path, plate: Path, *, force: bool, quiet: bool) -> list[Path]:
    """Search the scenes, draw the strongest channels and return the written files."""
    from deconvviz.cli.support.search_run import search_dataset
    from deconvviz.cli.support.topnine_run import project_channels

    with SearchProgress(more_workers=False, quiet=quiet) as progress:
        found = search_dataset(job, [SEARCHED], folder, progress, quiet=quiet, force=True, top=TOP)
    channels = {SEARCHED: found.choose(SEARCHED, CHANNELS)}
    best = project_channels(found, channels, TOP, quiet=quiet)
    return list(best.save(plate, dpi=DEFAULT_DPI, force=force))


def _write_png(image: Any, stream: BinaryIO) -> None:
    from PIL import Image

    Image.fromarray(image).save(stream, format="PNG")
