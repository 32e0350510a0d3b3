"""Options that several commands share, each declared once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from deconvviz.cli.support.completion import DEFAULT_MODEL as DEFAULT_MODEL
from deconvviz.cli.support.completion import complete_layer, complete_model
from deconvviz.cli.support.details import be_quiet, show_details
from deconvviz.cli.support.panels import APPEARANCE

DEFAULT_OUT = Path("deconvviz-out")
DEFAULT_DPI = 200
FileType = Literal["png", "svg", "pdf"]
DEFAULT_FORMAT: FileType = "png"

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="A torchvision network, or minivgg (see: deconvviz models); timm:NAME, one of timm's; or "
        "path/to/file.py:factory, which runs the code in that file.",
        autocompletion=complete_model,
        show_default=DEFAULT_MODEL,
    ),
]
ModelArg = Annotated[
    list[str] | None,
    typer.Option(
        "--model-arg",
        metavar="NAME=VALUE",
        help="An argument of timm's network or of the factory; VALUE as in Python (32, None, [1, 2]), else "
        "text. May be repeated.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="default|random|FILE",
        help="Trained weights (downloaded once), random weights, or a .pth, .pt or .safetensors file.",
        show_default="default",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed", metavar="N", help="Seed of random weights, and of what the code of a file.py draws."
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory for projecting units in one batch (512M, 2G, or bytes). Smaller values mean smaller "
        "batches.",
        show_default="a share of what is free",
    ),
]
Format = Annotated[
    FileType | None,
    typer.Option("--format", help="File type.", rich_help_panel=APPEARANCE, show_default=DEFAULT_FORMAT),
]
Arrays = Annotated[
    bool, typer.Option("--arrays", help="Also write the numbers (.npz).", rich_help_panel=APPEARANCE)
]
Percentile = Annotated[
    float | None,
    typer.Option(
        "--percentile",
        metavar="P",
        min=1,
        max=100,
        help="Clip projections at this percentile of their absolute values (100: no clipping).",
        rich_help_panel=APPEARANCE,
        show_default="99.5",
    ),
]
Dpi = Annotated[
    float | None,
    typer.Option(
        "--dpi",
        metavar="N",
        min=1,
        help="Dots per inch.",
        rich_help_panel=APPEARANCE,
        show_default=f"{DEFAULT_DPI}, for paper 300",
    ),
]
Crop = Annotated[
    Literal["effective", "field"] | None,
    typer.Option(
        help="Cut patches and projections to the smallest square that holds 98 % of a projection's energy, "
        "or to the receptive field.",
        rich_help_panel=APPEARANCE,
        show_default="effective",
    ),
]
Medium = Annotated[
    Literal["screen", "paper", "slide"] | None,
    typer.Option(
        "--for",
        help="Where the figure is shown: on a screen, in one column of a paper (86 mm), or on a 16:9 slide.",
        rich_help_panel=APPEARANCE,
        show_default="screen",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print nothing on stderr but errors.", callback=be_quiet)
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Print more on stderr: versions, weights, preprocessing, device, memory, batches and times.",
        callback=show_details,
    ),
]


def layer_option(
    help: str, *, complete: Callable[..., list[str]] = complete_layer, panel: str | None = None
) -> Any:
    """Return --layer, whose meaning differs between commands."""
    return typer.Option(
        "--layer", "-l", metavar="NAME", help=help, autocompletion=complete, rich_help_panel=panel
    )


def weights_file_option(help: str) -> Any:
    """Return --weights for commands that otherwise need no weights."""
    return typer.Option("--weights", metavar="FILE", help=help, show_default="without weights")


def columns_option(help: str) -> Any:
    """Return --columns."""
    return typer.Option(
        "--columns", metavar="N", min=1, help=help, rich_help_panel=APPEARANCE, show_default="as they fit"
    )


def out_option(help: str, *, metavar: str = "DIR") -> Any:
    """Return --out."""
    return typer.Option("--out", "-o", metavar=metavar, help=help)


def allow_code_option(help: str, *, panel: str | None = None) -> Any:
    """Return --allow-code."""
    return typer.Option("--allow-code", help=help, rich_help_panel=panel)


Layers = Annotated[
    list[str] | None,
    layer_option("A layer, by either name (see: deconvviz layers). May be repeated."),
]
