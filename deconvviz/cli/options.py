"""Options that several commands share, and how a shell completes them."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from deconvviz.errors import DeconvvizError
from deconvviz.nets.catalog import MODEL_NAMES

DEFAULT_MODEL = "vgg19"


def complete_model(incomplete: str) -> list[str]:
    """Names of networks, without torch."""
    return [name for name in MODEL_NAMES if name.startswith(incomplete)]


def complete_layer(ctx: typer.Context, incomplete: str) -> list[str]:
    """Layer names of the network on the command line; found once (in seconds), then kept in a cache."""
    name = ctx.params.get("model") or DEFAULT_MODEL
    return [layer for layer in _layer_names(name) if layer.startswith(incomplete)]


def _layer_names(network: str) -> list[str]:
    if network not in MODEL_NAMES:
        return []
    from importlib.metadata import version

    kept = _cache() / f"layers-{network}-torchvision-{version('torchvision')}.json"
    try:
        return [str(name) for name in json.loads(kept.read_text())]
    except (OSError, ValueError):
        from deconvviz.files import write_whole
        from deconvviz.network import sketch

        table = sketch(network).layers
        names = list(dict.fromkeys([*table.names, *(layer.dotted for layer in table if layer.dotted)]))
        with suppress(DeconvvizError):  # a cache that cannot be written is no error
            write_whole(kept, partial(_dump, names), force=True)
        return names


def _dump(names: list[str], stream: BinaryIO) -> None:
    stream.write(json.dumps(names).encode())


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deconvviz"


model_option = typer.Option(
    "--model",
    "-m",
    metavar="NAME",
    help="A torchvision network, or minivgg (see: deconvviz models).",
    autocompletion=complete_model,
    show_default=DEFAULT_MODEL,
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
