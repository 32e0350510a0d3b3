"""``deconvviz demo``: the main job without a network connection."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from deconvviz.cli.console import print_json, say, stage
from deconvviz.cli.options import Force, Json, Quiet
from deconvviz.cli.project import run
from deconvviz.cli.request import Look, Selection
from deconvviz.files import write_whole

LAYERS = ("conv3_2", "conv4_2")
DEFAULT_OUT = Path("deconvviz-demo")


def demo(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the picture and the figures go.")
    ] = DEFAULT_OUT,
    seed: Annotated[int, typer.Option(help="Another seed, another scene.")] = 7,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw a scene, and show what in it made the units of two layers of minivgg fire.

    Everything it needs is inside the package. It takes some seconds.
    """
    picture = out / f"scene-{seed}.png"
    look = Look(format="png")
    with stage("importing torch", quiet=quiet):
        from deconvviz.cli.plan import check_folder, plan
        from deconvviz.manifest import refuse_existing, targets
        from deconvviz.scenes import scene
    check_folder(out)
    figures = [out / f"{picture.stem}-{layer}.png" for layer in LAYERS]
    refuse_existing([picture, *(path for figure in figures for path in targets(figure, False))], force=force)
    drawn = scene(seed)
    write_whole(picture, partial(_write_png, drawn.image), force=force)
    job = plan([picture], "minivgg", "default", 0, Selection(layers=LAYERS), look, out, "cpu", force=force)
    written = run(job, look, force=force, quiet=quiet)
    if json:
        print_json({"scene": str(picture), "shows": drawn.name, "figures": written})
        return
    for path in (str(picture), *(path for one in written for path in one["files"])):
        typer.echo(path)
    if not quiet:
        say(
            f"The scene shows: {drawn.name}. Open {figures[-1]}: "
            "patches of it, and beside each what in it a unit answered to."
        )


def _write_png(image: Any, stream: BinaryIO) -> None:
    from PIL import Image

    Image.fromarray(image).save(stream, format="PNG")
