"""Options that several commands share, and how a shell completes them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import typer

from deconvviz.errors import DeconvvizError
from deconvviz.models.catalog import MODEL_NAMES
from deconvviz.models.model_spec import read_value

DEFAULT_MODEL = "vgg19"
DEFAULT_OUT = Path("deconvviz-out")
DEFAULT_DPI = 200
LOOK = "How the figure looks"
TIMM = "timm:"


def model_arguments(typed: list[str] | None) -> dict[str, Any]:
    """What --model-arg was given, as `load` and `sketch` take it."""
    arguments: dict[str, Any] = {}
    for one in typed or []:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"{one!r} is no NAME=VALUE, such as width=32", param_hint="--model-arg")
        if name in arguments:
            raise typer.BadParameter(f"{name} is given twice", param_hint="--model-arg")
        arguments[name] = read_value(value)
    return arguments


_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}  # powers of 2
_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?|\.\d+)\s*(?P<unit>[KMGT]?)(I?B)?", re.IGNORECASE)


def read_size(text: str) -> int:
    """Bytes, as typed: 512M, 1.5G, 2GiB, 4096."""
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found["number"]) * (1 << _UNITS[found["unit"].upper()])) if found else 0
    if size < 1:
        raise typer.BadParameter(
            f"{text!r} is no amount of memory: give bytes, or a number with K, M, G or T: 512M, 1.5G",
            param_hint="--memory",
        )
    return size


def complete_model(incomplete: str) -> list[str]:
    """Names of networks, without torch; timm's after ``timm:``, found once and then kept in a cache."""
    if incomplete.startswith(TIMM):
        names = [TIMM + name for name in _kept(f"names-{_version('timm')}", _timm_names)]
    else:
        names = [*MODEL_NAMES, TIMM]
    return [name for name in names if name.startswith(incomplete)]


def complete_layer(ctx: typer.Context, incomplete: str) -> list[str]:
    """Layer names of the network on the command line; found once (in seconds), then kept in a cache."""
    if ctx.params.get("model_arg"):
        return []
    name = ctx.params.get("model") or ctx.params.get("network")
    if name is None and "network" in ctx.params:
        name = next(iter(ctx.args), None)  # while a shell completes, not yet a param
    name = name or DEFAULT_MODEL
    return [layer for layer in _layer_names(name) if layer.startswith(incomplete)]


def complete_searched_layer(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the layers that were searched, out of the manifest of the search on the command line."""
    place = ctx.params.get("search") or next(iter(ctx.args), "")
    try:
        told = json.loads((Path(place) / "manifest.json").read_text(encoding="utf-8"))
        names = [str(layer["name"]) for layer in told["layers"]]
    except (OSError, ValueError, KeyError, TypeError):  # no search there
        return []
    return [name for name in names if name.startswith(incomplete)]


def _layer_names(network: str) -> list[str]:
    """None for a file's network: a shell's completion does not run it."""
    if network.startswith(TIMM):
        home = "timm"
    elif network in MODEL_NAMES:
        home = "torchvision"
    else:
        return []
    return _kept(f"layers-{network.replace(':', '-')}-{_version(home)}", partial(_find_layers, network))


def _find_layers(network: str) -> list[str]:
    from deconvviz.loading import sketch

    try:
        table = sketch(network).layers
    except DeconvvizError:  # a name that is not finished
        return []
    return list(dict.fromkeys([*table.names, *(layer.dotted for layer in table if layer.dotted)]))


def _timm_names() -> list[str]:
    from deconvviz.models.timm_models import timm_names

    try:
        return timm_names()
    except DeconvvizError:  # not installed
        return []


def _version(package: str) -> str:
    """For the name of a file: what was found holds for one version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package}-{version(package)}"
    except PackageNotFoundError:
        return f"{package}-none"


def _kept(what: str, find: Callable[[], list[str]]) -> list[str]:
    """Names out of the cache, or found and put there."""
    place = _cache() / f"{what}.json"
    try:
        return [str(name) for name in json.loads(place.read_text())]
    except (OSError, ValueError):
        from deconvviz.files import write_whole

        names = find()
        if names:
            with suppress(DeconvvizError):  # a cache that cannot be written is no error
                write_whole(place, partial(_dump, names), force=True)
        return names


def _dump(names: list[str], stream: BinaryIO) -> None:
    stream.write(json.dumps(names).encode())


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deconvviz"


model_option = typer.Option(
    "--model",
    "-m",
    metavar="NAME",
    help="A torchvision network, or minivgg (see: deconvviz models); timm:NAME, one of timm's; or "
    "path/to/file.py:factory, which runs the code in that file.",
    autocompletion=complete_model,
    show_default=DEFAULT_MODEL,
)
model_arg_option = typer.Option(
    "--model-arg",
    metavar="NAME=VALUE",
    help="An argument of timm's network or of the factory; VALUE as in Python (32, None, [1, 2]), else text. "
    "May be repeated.",
)
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="default|random|FILE",
        help="Trained ones (fetched once), random ones, or a .pth, .pt or .safetensors file.",
        show_default="default",
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", help="Seed of random weights, and of what a file.py draws.")
]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="What the units that go down together may take: 512M, 2G, or bytes. Fewer go at once with "
        "less; one always goes.",
        show_default="a share of what is free",
    ),
]
Format = Literal["png", "svg", "pdf"]
Arrays = Annotated[
    bool, typer.Option("--arrays", help="Also write the numbers (.npz).", rich_help_panel=LOOK)
]
Percentile = Annotated[
    float | None,
    typer.Option(
        "--percentile",
        metavar="P",
        min=1,
        max=100,
        help="Full colour at this percentile, larger values clipped (100: none); the figure says so.",
        rich_help_panel=LOOK,
        show_default="99.5",
    ),
]
Dpi = Annotated[
    float | None,
    typer.Option(
        "--dpi", metavar="N", min=1, help="Dots per inch.", rich_help_panel=LOOK, show_default="200"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
