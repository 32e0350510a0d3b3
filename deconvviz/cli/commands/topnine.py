"""``deconvviz topnine``: draw the results of a search as in the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deconvviz.cli.support.completion import complete_searched_layer
from deconvviz.cli.support.console import paths_as_json, print_json, print_note, print_paths, stage
from deconvviz.cli.support.early import check_device, check_folder, searched_layers
from deconvviz.cli.support.figure_names import target_of
from deconvviz.cli.support.imports import without_garbage_collection
from deconvviz.cli.support.options import (
    DEFAULT_OUT,
    Arrays,
    Bands,
    Crop,
    Device,
    Dpi,
    Force,
    Format,
    Json,
    Medium,
    Memory,
    NoLikeness,
    Percentile,
    Quiet,
    Verbose,
    Verify,
    allow_code_option,
    columns_option,
    layer_option,
    out_option,
)
from deconvviz.cli.support.panels import APPEARANCE, WHICH
from deconvviz.cli.support.parsing import read_size
from deconvviz.cli.support.selection import read_bands
from deconvviz.models.weights_file import check_weights_file
from deconvviz.paths import file_part

if TYPE_CHECKING:
    from deconvviz.dataset_search.result import Search
    from deconvviz.topnine.result import TopNine

CHANNELS = 16
TOP = 9


def topnine(
    search: Annotated[
        Path,
        typer.Argument(
            metavar="SEARCH_DIR", help="Folder of a search (see: deconvviz search).", show_default=False
        ),
    ],
    layer: Annotated[
        list[str] | None,
        layer_option(
            "Draw this searched layer. May be repeated to draw several layers on one page.",
            complete=complete_searched_layer,
        ),
    ] = None,
    channel: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N",
            help="Draw this channel; needs a single --layer. May be repeated.",
            rich_help_panel=WHICH,
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Draw N channels of each layer. Dead channels are left out.",
            rich_help_panel=WHICH,
            show_default=str(CHANNELS),
        ),
    ] = None,
    by: Annotated[
        Literal["activation", "density", "random"] | None,
        typer.Option(
            help="Choose channels by maximum activation, by share of active images (density), or at random "
            "as in the paper.",
            rich_help_panel=WHICH,
            show_default="activation",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed for --by random.", rich_help_panel=WHICH)] = 0,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=1,
            help="Draw the K strongest images of each channel.",
            show_default="9, or all if the search kept fewer",
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
    out: Annotated[
        Path, out_option("File for the figure (.png, .svg or .pdf), or a folder for it.", metavar="FILE|DIR")
    ] = DEFAULT_OUT,
    format: Format = None,
    arrays: Arrays = False,
    layout: Annotated[
        Literal["panels", "pairs"],
        typer.Option(
            help="Draw projections and patches in two panels per layer, as in the paper (panels), or side by "
            "side for each channel (pairs).",
            rich_help_panel=APPEARANCE,
        ),
    ] = "panels",
    percentile: Percentile = None,
    columns: Annotated[int | None, columns_option("Channels per row.")] = None,
    crop: Crop = None,
    medium: Medium = None,
    bands: Bands = None,
    dpi: Dpi = None,
    device: Device = "auto",
    memory: Memory = None,
    verify: Verify = False,
    no_likeness: NoLikeness = False,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Draw the paper's Figure 2: the strongest patches of channels next to their projections.

    Shows, for each channel, the images of a search that activate it most
    strongly. All activations are recomputed and must match the search.
    A manifest (.json) is written next to the figure. For signals, the figure has
    curves; for volumes and video, strips of frames.
    """
    _check(layer or [], channel, channels, by)
    budget = None if memory is None else read_size(memory)
    chosen_bands = read_bands(bands)
    check_device(device)
    if (known := searched_layers(search, layer or [], channel or [])) is not None:
        _check_target(target_of(out, format, _stem(known, channel, by)), arrays=arrays, force=force)
    if weights is not None:
        check_weights_file(weights, "use the weights of the search")
    with stage("importing torch", quiet=quiet):
        with without_garbage_collection():
            from deconvviz.cli.support.topnine_run import project_channels
            from deconvviz.dataset_search.result import open_search
            from deconvviz.loading import pick_device
            from deconvviz.projection import PERCENTILE

        chosen_device = str(pick_device(device))
        found = open_search(
            search, source=source, weights=weights, device=chosen_device, allow_code=allow_code
        )
    _check_bands(found, chosen_bands)
    names = list(dict.fromkeys(found.name_of(name) for name in layer or ()))
    target = target_of(out, format, _stem(names, channel, by))
    chosen = _channels(found, names, channel, channels or CHANNELS, by or "activation", seed, quiet=quiet)
    k = _top(found, top)
    _check_target(target, arrays=arrays, force=force)
    best = project_channels(
        found, chosen, k, memory=budget, quiet=quiet, verify=verify, likeness=not no_likeness
    )
    written = best.save(
        target,
        dpi=dpi,
        force=force,
        arrays=arrays,
        layout=layout,
        percentile=PERCENTILE if percentile is None else percentile,
        columns=columns,
        crop=crop or "effective",
        medium=medium or "screen",
        bands=chosen_bands,
    )
    if json:
        print_json(_as_json(best, written))
        return
    print_paths(written)


def _check_bands(found: Search, bands: tuple[int, ...] | None) -> None:
    """Raise FigureError if the pictures of the search do not have these bands."""
    from deconvviz.errors import FigureError
    from deconvviz.figures.spec.bands import chosen_bands

    if bands is None:
        return
    shape = found.files.shape
    if shape is None or len(shape) != 3:
        name = found.manifest["network"]["name"]
        raise FigureError(f"{name} reads no pictures with bands to choose from: leave --bands out")
    chosen_bands(shape[0], bands)


def _check_target(target: Path, *, arrays: bool, force: bool) -> None:
    """Raise OutputError if the figure exists or cannot be written."""
    from deconvviz.results import refuse_existing, targets

    check_folder(target.parent)
    refuse_existing(targets(target, arrays), force=force)


def _check(layers: Sequence[str], channel: list[int] | None, channels: int | None, by: str | None) -> None:
    if not layers:
        raise typer.BadParameter("name a layer that was searched", param_hint="--layer")
    if channel and (channels is not None or by is not None):
        raise typer.BadParameter("cannot be combined with --channels or --by", param_hint="--channel")
    if channel and len(layers) > 1:
        raise typer.BadParameter(
            f"needs a single layer, but there are {len(layers)}. Draw a figure per layer, or use --channels",
            param_hint="--channel",
        )


def _top(found: Search, requested: int | None) -> int:
    """Return the number of images to draw for each channel."""
    from deconvviz.errors import SearchError

    kept = int(found.manifest["top"])
    if requested is not None and requested > kept:
        raise SearchError(
            f"--top {requested}: the search kept {kept} images of each channel. "
            f"Search again with --top {requested}"
        )
    return min(TOP, kept) if requested is None else requested


def _channels(
    found: Search,
    layers: Sequence[str],
    channel: list[int] | None,
    count: int,
    by: str,
    seed: int,
    *,
    quiet: bool,
) -> dict[str, list[int]]:
    """Return the channels to draw of each layer."""
    from deconvviz.errors import SearchError

    if channel:
        found.check_channels(layers[0], channel)
        return {layers[0]: list(dict.fromkeys(channel))}
    chosen = {layer: found.choose(layer, count, by, seed) for layer in layers}
    for layer, numbers in chosen.items():
        dead = len(found.dead(layer))
        facts = f"{layer} has {found.layers[layer]} channels, {dead} of them dead (never above zero)"
        if not numbers:
            raise SearchError(f"no channel of {layer} to draw: {facts}")
        if len(numbers) < count:
            print_note(f"only {len(numbers)} of {count} channels are drawn: {facts}", quiet=quiet)
    return chosen


def _stem(layers: Sequence[str], channel: list[int] | None, by: str | None) -> str:
    """Return the file stem of a figure, such as ``topnine-conv4_2-conv5_1-density``."""
    parts = [*layers, *(f"channel{number}" for number in channel or ()), *([by] if by else [])]
    return file_part("-".join(["topnine", *parts]))


def _as_json(best: TopNine, written: Sequence[Path]) -> dict[str, Any]:
    return {
        "figure": paths_as_json(written)[0],
        "files": paths_as_json(written),
        "layers": [
            {
                "name": layer,
                "channels": [
                    {"channel": channel, "peaks": [one.peak.to_json() for one in shown]}
                    for channel, shown in channels.items()
                ],
                "by_analogy": list(best.approximate[layer]),
            }
            for layer, channels in best.shown.items()
        ],
        "notes": list(best.notes),
        "likeness": {layer: one.to_json() for layer, one in best.likeness.items()} or None,
        "verification": None if best.verification is None else best.verification.to_json(),
    }
