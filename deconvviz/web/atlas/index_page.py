"""Index of an atlas: the layers of the network as a strip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvviz.layers import Layer
from deconvviz.web.atlas.addresses import page_of, tiles_of
from deconvviz.web.atlas.layer_page import summary_text
from deconvviz.web.atlas.unit_page import is_small
from deconvviz.web.atlas.wording import channel_name, citation, lacking, number
from deconvviz.web.page import render
from deconvviz.wording import counted


@dataclass(frozen=True)
class Best:
    """The channel of a layer with the largest maximum."""

    channel: int
    name: str | None  # of its class
    maximum: float
    tiles: Mapping[str, Any]


@dataclass(frozen=True)
class LayerEntry:
    """What the index says about a layer."""

    layer: Layer
    folder: str
    channels: int
    total: int
    dead: int
    best: Best | None


@dataclass(frozen=True)
class IndexPlace:
    """What the index says besides its layers."""

    network: str
    weights: str
    source: str
    images: int
    scaled_decoding: bool
    image_size: tuple[int, int]
    absent: Sequence[str]  # layers that were searched and are not in the atlas
    lacks: tuple[str, ...]


def index_page(entries: Sequence[LayerEntry], place: IndexPlace) -> str:
    """Return the index as HTML."""
    units = sum(entry.channels for entry in entries)
    return render(
        "atlas_index.html",
        images="'self' file: data:",
        style_files="'self' file:",
        root="",
        network=place.network,
        facts=[
            ("channels", f"{units:,}"),
            ("layers", f"{len(entries):,}"),
            ("images", f"{place.images:,} ({place.source})"),
            *([("decoding", "large JPEGs at reduced size")] if place.scaled_decoding else []),
            ("weights", place.weights[:19]),
        ],
        notes=lacking(place.lacks),
        layers=[_layer(entry, place.image_size) for entry in entries],
        absent=", ".join(place.absent),
        citation=citation(
            place.network, place.weights, "Atlas", f"{counted(place.images, 'image')} of {place.source}"
        ),
    )


def _layer(entry: LayerEntry, image_size: tuple[int, int]) -> dict[str, Any]:
    whole, part = _squares(entry.layer, image_size)
    return {
        "name": entry.layer.name,
        "href": f"{entry.folder}/index.html",
        "field": entry.layer.field_text,
        "whole": whole,
        "part": part,
        "text": summary_text(entry.channels, entry.total, entry.dead, entry.layer),
        "best": None if entry.best is None else _best(entry, entry.best),
    }


def _best(entry: LayerEntry, best: Best) -> dict[str, Any]:
    tiles = best.tiles
    down = tiles["cell"][1]
    return {
        "name": channel_name(len(entry.layer.shape), best.channel, best.name),
        "href": f"{entry.folder}/{page_of(best.channel)}",
        "file": f"{entry.folder}/{tiles_of(best.channel)}",
        "sheet": 2 * down,
        "small": is_small(tiles),
        "views": [f"0 {row * down} {tiles['width']} {tiles['height']}" for row in (0, 1)],
        "activation": number(best.maximum),
    }


def _squares(layer: Layer, image_size: tuple[int, int]) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
    """Return the image and the receptive field as rectangles (x, y, width, height) in a square of 100."""
    height, width = image_size
    scale = 96 / max(image_size)
    sizes = (round(width * scale, 2), round(height * scale, 2))
    whole = (round((100 - sizes[0]) / 2, 2), round((100 - sizes[1]) / 2, 2), *sizes)
    if layer.sees_all:
        return whole, whole
    if layer.field is None:
        return whole, None
    rows, columns = (min(length, side) * scale for length, side in zip(layer.field, image_size, strict=True))
    across, down = max(columns, 1.5), max(rows, 1.5)
    return whole, tuple(round(one, 2) for one in (50 - across / 2, 50 - down / 2, across, down))
