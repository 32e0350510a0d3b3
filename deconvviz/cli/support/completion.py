"""Shell completion of network and layer names. Names that take seconds to compute are cached on disk."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import typer

from deconvviz.errors import DeconvvizError

DEFAULT_MODEL = "vgg19"


def complete_model(incomplete: str) -> list[str]:
    """Return network names without importing torch; timm names are read from the cache if possible."""
    from deconvviz.models.providers import PROVIDERS

    names: list[str] = []
    for provider in PROVIDERS:
        if not provider.prefix:
            names += provider.names()
        elif incomplete.startswith(provider.prefix):
            found = _cached(f"names-{_version(provider.package)}", provider.names)
            names += [provider.prefix + name for name in found]
        else:
            names.append(provider.prefix)
    return [name for name in names if name.startswith(incomplete)]


def complete_layer(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return layer names of the network on the command line, from the cache if possible."""
    if ctx.params.get("model_arg"):
        return []
    name = ctx.params.get("model") or ctx.params.get("network")
    if name is None and "network" in ctx.params:
        name = next(iter(ctx.args), None)  # during completion, the argument is not yet parsed
    return [layer for layer in _layer_names(name or DEFAULT_MODEL) if layer.startswith(incomplete)]


def complete_searched_layer(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the searched layers, read from the manifest of the search on the command line."""
    folder = ctx.params.get("search") or next(iter(ctx.args), "")
    try:
        manifest = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
        names = [str(layer["name"]) for layer in manifest["layers"]]
    except (OSError, ValueError, KeyError, TypeError):  # the folder has no complete search
        return []
    return [name for name in names if name.startswith(incomplete)]


def _layer_names(network: str) -> list[str]:
    """Return layer names; empty for a network in a file.py, because completion never runs user code."""
    from deconvviz.models.providers import parse, provider_of

    try:
        spec = parse(network)
    except DeconvvizError:  # an incomplete name
        return []
    provider = provider_of(spec)
    if provider.runs_code or (not provider.prefix and spec.name not in provider.names()):
        return []
    file_name = re.sub(r"[^\w.]+", "-", network)
    return _cached(f"layers-{file_name}-{_version(provider.package)}", partial(_find_layers, network))


def _find_layers(network: str) -> list[str]:
    from deconvviz.loading import sketch

    table = sketch(network).layers
    modules = (layer.module for layer in table if layer.module and "[" not in layer.module)
    return list(dict.fromkeys([*table.names, *modules]))


def _version(package: str | None) -> str:
    """Return package and version for the name of a cache file: an entry is valid for one version only."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package}-{version(package or '')}"
    except (PackageNotFoundError, ValueError):
        return f"{package}-none"


def _cached(key: str, find: Callable[[], Sequence[str]]) -> list[str]:
    """Return names from the cache; compute and store them if they are not cached."""
    file = _cache() / f"{key}.json"
    try:
        return [str(name) for name in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        from deconvviz.files import write_whole

        try:
            names = list(find())
        except DeconvvizError:  # an incomplete name or a missing package
            return []
        if names:
            with suppress(DeconvvizError):  # the cache is optional
                write_whole(file, partial(_dump, names), force=True)
        return names


def _dump(names: list[str], stream: BinaryIO) -> None:
    stream.write(json.dumps(names).encode())


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deconvviz"
