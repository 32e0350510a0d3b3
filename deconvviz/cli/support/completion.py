"""How a shell completes names of networks and layers; what takes seconds to find is kept in a cache."""

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
    """Return names of networks, without torch: timm's after ``timm:``, from the cache if they are there."""
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
    """Return layer names of the network on the command line, from the cache if they are there."""
    if ctx.params.get("model_arg"):
        return []
    name = ctx.params.get("model") or ctx.params.get("network")
    if name is None and "network" in ctx.params:
        name = next(iter(ctx.args), None)  # while a shell completes, not yet a param
    return [layer for layer in _layer_names(name or DEFAULT_MODEL) if layer.startswith(incomplete)]


def complete_searched_layer(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return names of the layers that were searched, from the manifest of the search on the command line."""
    place = ctx.params.get("search") or next(iter(ctx.args), "")
    try:
        manifest = json.loads((Path(place) / "manifest.json").read_text(encoding="utf-8"))
        names = [str(layer["name"]) for layer in manifest["layers"]]
    except (OSError, ValueError, KeyError, TypeError):  # no search there
        return []
    return [name for name in names if name.startswith(incomplete)]


def _layer_names(network: str) -> list[str]:
    """Return none for a network that needs user code: completion never runs it."""
    from deconvviz.models.providers import parse, provider_of

    try:
        spec = parse(network)
    except DeconvvizError:  # a name that is not finished
        return []
    provider = provider_of(spec)
    if provider.runs_code or (not provider.prefix and spec.name not in provider.names()):
        return []
    named = re.sub(r"[^\w.]+", "-", network)
    return _cached(f"layers-{named}-{_version(provider.package)}", partial(_find_layers, network))


def _find_layers(network: str) -> list[str]:
    from deconvviz.loading import sketch

    table = sketch(network).layers
    return list(dict.fromkeys([*table.names, *(layer.module for layer in table if layer.module)]))


def _version(package: str | None) -> str:
    """Return a version for the name of a cache file: what was found holds for one version of a package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package}-{version(package or '')}"
    except (PackageNotFoundError, ValueError):
        return f"{package}-none"


def _cached(what: str, find: Callable[[], Sequence[str]]) -> list[str]:
    """Return names from the cache, or find them and put them there."""
    place = _cache() / f"{what}.json"
    try:
        return [str(name) for name in json.loads(place.read_text(encoding="utf-8"))]
    except (OSError, ValueError):
        from deconvviz.files import write_whole

        try:
            names = list(find())
        except DeconvvizError:  # a name that is not finished, or a package that is not installed
            return []
        if names:
            with suppress(DeconvvizError):  # a cache that cannot be written is no error
                write_whole(place, partial(_dump, names), force=True)
        return names


def _dump(names: list[str], stream: BinaryIO) -> None:
    stream.write(json.dumps(names).encode())


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deconvviz"
