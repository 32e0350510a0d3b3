"""Checks of a command that do not need torch, so that mistakes are reported without importing it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from deconvviz.cli.support.figure_names import ending, file_name, stems
from deconvviz.cli.support.selection import Look, Selection
from deconvviz.dataset_search.search_folder import (
    check_channels,
    read_manifest,
    refuse_search,
    searched_layer,
)
from deconvviz.errors import DeviceError, ImageError, LayerError, ManifestError, OutputError, SearchError
from deconvviz.images.discovery import STANDARD_INPUT, SUFFIXES, find_images
from deconvviz.models.catalog import SHIPPED, SHIPPED_LAYERS
from deconvviz.models.layer_names import unknown_layer_message
from deconvviz.models.providers import parse, provider_of
from deconvviz.paths import existing_file, no_manifest, path_as_typed

_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


def check_device(name: str) -> None:
    """Raise DeviceError if `name` is not the name of a device."""
    if not _DEVICE.fullmatch(name):
        raise DeviceError(f"no device {name!r}: use auto, cpu, cuda, cuda:N or mps")


def check_network(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    layers: Iterable[str] = (),
    weights: str | None = None,
    device: str = "auto",
) -> None:
    """Raise an error for an unknown device, network, layer or weights file, as far as known without torch."""
    check_device(device)
    spec = parse(name, arguments)
    provider_of(spec).check(spec, weights)
    if name == SHIPPED:
        for layer in layers:
            shipped_layer(layer)


def shipped_layer(name: str) -> str:
    """Return the name of a minivgg layer, given either of its names. Raises LayerError."""
    if name in SHIPPED_LAYERS:
        return SHIPPED_LAYERS[name]
    names = [*SHIPPED_LAYERS, *SHIPPED_LAYERS.values()]
    if name not in names:
        raise LayerError(unknown_layer_message(name, dict.fromkeys(names), SHIPPED))
    return name


def check_images(typed: Sequence[str], network: str = SHIPPED) -> list[Path]:
    """Return the paths of the named images, with ``stdin`` for standard input. Raises ImageError.

    Of a folder, they are the files that the network can read, as far as that is known without torch.
    """
    if not typed:
        raise typer.BadParameter("name an image file or a folder of images", param_hint="IMAGE")
    if list(typed).count(STANDARD_INPUT) > 1:
        raise typer.BadParameter(
            "standard input contains one image: give - once (./- names a file called -)", param_hint="IMAGE"
        )
    files = [path for path in typed if path != STANDARD_INPUT]
    piped = [Path("stdin")] if STANDARD_INPUT in typed else []
    return [*(find_images(files, _suffixes(network)) if files else []), *piped]


def _suffixes(network: str) -> tuple[str, ...]:
    """Return the suffixes of files that a network may read."""
    if network == SHIPPED:
        return SUFFIXES
    from deconvviz.images.input_files import EVERY_SUFFIX  # it needs Pillow

    return EVERY_SUFFIX


def check_inputs(typed: Sequence[str]) -> list[Path]:
    """Return the only stem of figures for files that are the inputs of one network. Raises ImageError."""
    files = [existing_file(path, ImageError, "file") for path in typed]
    return [Path("-".join(file.stem for file in files))]


def check_figures(
    images: Sequence[Path], network: str, selection: Selection, look: Look, out: Path, *, force: bool
) -> None:
    """Raise OutputError if figures cannot be written or, where their names are known, already exist."""
    check_folder(out)
    if network != SHIPPED:
        return
    from deconvviz.results import refuse_existing, targets

    endings = [ending(shipped_layer(layer), (), selection) for layer in selection.layers]
    endings += [ending("output", selection.classes, selection)] if selection.classes else []
    names = [file_name(stem, one, look.format) for stem in stems(images) for one in endings]
    refuse_existing([path for name in names for path in targets(out / name, look.arrays)], force=force)


def check_manifest(path: Path) -> None:
    """Raise ManifestError if the file does not exist."""
    if not os.path.exists(path_as_typed(os.fspath(path))):
        raise ManifestError(no_manifest(path))


def check_search(engine: str, out: Path, *, resume: bool, force: bool) -> None:
    """Raise SearchError or OutputError if a search cannot run or its results cannot be written."""
    if engine == "ray" and find_spec("ray") is None:
        raise SearchError("the engine ray needs Ray: pip install 'deconvviz[ray]'")
    check_folder(out)
    if not (resume or force):
        refuse_search(out)


def searched_layers(search: Path, layers: Iterable[str], channels: Sequence[int]) -> list[str] | None:
    """Return the names of layers of a search without duplicates, or None if finding them needs torch.

    Raises SearchError if the folder has no search or the search lacks a layer, and UnitError if it lacks a
    channel.
    """
    home = Path(path_as_typed(os.fspath(search)))
    if (manifest := read_manifest(home)) is None:
        return None
    names = list(dict.fromkeys(searched_layer(manifest, layer) for layer in layers))
    counts = {layer["name"]: layer["channels"] for layer in manifest["layers"]}
    for name in names:
        check_channels(counts, name, channels)
    return names


def check_folder(folder: Path) -> None:
    """Raise OutputError if no file can be written to a folder. Creates nothing."""
    whole = folder.absolute()
    existing = next(path for path in (whole, *whole.parents) if os.path.exists(path))
    if not existing.is_dir():
        raise OutputError(f"cannot write into {folder}: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into {folder}: it is not writable. Choose another folder (--out)")
