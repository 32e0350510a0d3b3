"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from deconvviz.cli.support.completion import DEFAULT_MODEL as DEFAULT_MODEL
from deconvviz.cli.support.completion import complete_layer, complete_model
from deconvviz.cli.support.details import be_quiet, show_details
from deconvviz.cli.support.panels import APPEARANCE, PACE

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
        help="Network: minivgg or a torchvision name (see: deconvviz models), timm:NAME, or "
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
        help="Argument for a timm network or a factory. VALUE is a Python literal (32, None, [1, 2]) or "
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
        "--seed", metavar="N", help="Seed for random weights and for random numbers that a file.py draws."
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="Run on this device: auto, cpu, cuda, cuda:N or mps.")
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory for projecting units in one batch (512M, 2G, or bytes). Smaller values mean smaller "
        "batches.",
        show_default="a share of the free memory",
    ),
]
ImageMemory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory for images that are kept for the next checkpoint (512M, 2G, or bytes). If they do not "
        "fit, they are read again.",
        rich_help_panel=PACE,
        show_default="a share of the free memory",
    ),
]
Format = Annotated[
    FileType | None,
    typer.Option(
        "--format", help="File type of the figure.", rich_help_panel=APPEARANCE, show_default=DEFAULT_FORMAT
    ),
]
Arrays = Annotated[
    bool,
    typer.Option(
        "--arrays", help="Also write the data of the figure as arrays (.npz).", rich_help_panel=APPEARANCE
    ),
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
        help="Resolution in dots per inch.",
        rich_help_panel=APPEARANCE,
        show_default=f"{DEFAULT_DPI}; 300 with --for paper",
    ),
]
Crop = Annotated[
    Literal["effective", "field"] | None,
    typer.Option(
        help="Crop patches and projections to the smallest square that contains 98 % of each projection's "
        "energy (effective) or to the receptive field (field).",
        rich_help_panel=APPEARANCE,
        show_default="effective",
    ),
]
Medium = Annotated[
    Literal["screen", "paper", "slide"] | None,
    typer.Option(
        "--for",
        help="Size the figure for a screen, one column of a paper (86 mm) or a 16:9 slide.",
        rich_help_panel=APPEARANCE,
        show_default="screen",
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        help="Bands shown as red, green and blue, of a network that reads pictures with other bands; or "
        "one band, shown in grey. The first band is 1.",
        rich_help_panel=APPEARANCE,
        show_default="the first three",
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Compute every projection a second time, by captum or autograd, one unit at a time. Write "
        "nothing and exit with code 1 if one differs by more than 1e-4, or if that is not possible.",
    ),
]
NoLikeness = Annotated[
    bool,
    typer.Option(
        "--no-likeness",
        help="Do not compute how alike the projections of other units at the same places are.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors on stderr.", callback=be_quiet)]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Print details on stderr: versions, weights, preprocessing, device, memory, batches and times.",
        callback=show_details,
    ),
]


def layer_option(
    help: str, *, complete: Callable[..., list[str]] = complete_layer, panel: str | None = None
) -> Any:
    """Return the option --layer with a help text for one command."""
    return typer.Option(
        "--layer", "-l", metavar="NAME", help=help, autocompletion=complete, rich_help_panel=panel
    )


def weights_file_option(help: str) -> Any:
    """Return the option --weights for commands that also work without weights."""
    return typer.Option("--weights", metavar="FILE", help=help, show_default="no weights")


def columns_option(help: str) -> Any:
    """Return the option --columns."""
    return typer.Option(
        "--columns", metavar="N", min=1, help=help, rich_help_panel=APPEARANCE, show_default="chosen to fit"
    )


def out_option(help: str, *, metavar: str = "DIR") -> Any:
    """Return the option --out."""
    return typer.Option("--out", "-o", metavar=metavar, help=help)


def allow_code_option(help: str, *, panel: str | None = None) -> Any:
    """Return the option --allow-code."""
    return typer.Option("--allow-code", help=help, rich_help_panel=panel)


Layers = Annotated[
    list[str] | None,
    layer_option("Search this layer, by either of its names (see: deconvviz layers). May be repeated."),
]
