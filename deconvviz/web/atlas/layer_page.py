"""Page of one layer, with thumbnails of all its channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deconvviz.layers import Layer
from deconvviz.printable_names import printable
from deconvviz.web.atlas.addresses import page_of, sheet_of, tiles_of
from deconvviz.web.atlas.tiles import Bytes, Geometry, tile_in, webp
from deconvviz.web.atlas.unit import UnitNumbers
from deconvviz.web.atlas.wording import channel_name, field_name, lacking, number, percent
from deconvviz.web.page import render
from deconvviz.wording import counted

THUMB = 48  # side of a thumbnail in pixels
ACROSS = 16  # thumbnails in a row and in a column of a sheet
QUALITY = 75
ROWS = ("patches", "projections")


@dataclass(frozen=True)
class LayerPlace:
    """What the page of a layer says and links besides the numbers of its channels."""

    layer: Layer
    total: int  # channels of the layer
    approximate: str  # approximate operations in words; empty if there are none
    previous: tuple[str, str] | None  # name and folder of the layers before and after
    next: tuple[str, str] | None
    lacks: tuple[str, ...]


def layer_page(units: Sequence[UnitNumbers], place: LayerPlace) -> str:
    """Return the page of a layer as HTML. `units` are the numbers of its channels."""
    layer = place.layer
    names = sorted({label for unit in units for label, _ in unit["classes"]})
    index = {name: row for row, name in enumerate(names)}
    sheets = range(-(-len(units) // ACROSS**2))
    return render(
        "atlas_layer.html",
        scripts=["atlas_layer.js"],
        generated=["".join(_rules(sheets))],
        images="'self' file: data:",
        style_files="'self' file:",
        root="../",
        network=units[0]["network"],
        layer=layer.name,
        facts=_facts(units, place),
        notes=[*([place.approximate] if place.approximate else []), *lacking(place.lacks)],
        previous=_neighbour(place.previous),
        next=_neighbour(place.next),
        caption="Each tile shows the strongest patch of a channel and its projection (grey is zero; each "
        "channel has its own scale), the number of the channel and its maximum.",
        has_labels=bool(names),
        names=names,
        tiles=[_tile(row, unit, layer) for row, unit in enumerate(units)],
        found={
            "channel": [unit["channel"] for unit in units],
            "maximum": [_rounded(unit["maximum"]) for unit in units],
            "density": [_rounded(unit["density"]) for unit in units],
            "purity": [_rounded(unit["purity"]) for unit in units],
            "likeness": [_rounded((unit["likeness"] or {}).get("value")) for unit in units],
            "labels": [[index[label] for label, _ in unit["classes"]] for unit in units],
            "names": [printable(name) for name in names],
            "text": [_text(unit) for unit in units],
        },
    )


def sheets_of(site: Path, folder: str, units: Sequence[UnitNumbers]) -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of the sheets of thumbnails."""
    for number_of_sheet in range(-(-len(units) // ACROSS**2)):
        part = units[number_of_sheet * ACROSS**2 : (number_of_sheet + 1) * ACROSS**2]
        down = -(-len(part) // ACROSS)
        both = [np.full((down * THUMB, ACROSS * THUMB, 3), 128, np.uint8) for _ in ROWS]
        for place, unit in enumerate(part):
            y, x = (THUMB * index for index in divmod(place, ACROSS))
            for sheet, thumb in zip(both, _thumbs(site / folder, unit), strict=False):
                sheet[y : y + THUMB, x : x + THUMB] = thumb
        for what, sheet in zip(ROWS, both, strict=True):
            yield sheet_of(what, number_of_sheet), webp(sheet, quality=QUALITY)


def _thumbs(folder: Path, unit: UnitNumbers) -> Iterator[Bytes]:
    """Yield the strongest patch and its projection as thumbnails; nothing for a channel without peaks."""
    tiles = unit["tiles"]
    if tiles is None:
        return
    geometry = Geometry(tiles["width"], tiles["height"], tuple(tiles["cell"]), tiles["columns"])
    with Image.open(folder / tiles_of(unit["channel"])) as stored:
        sheet = stored.convert("RGB")
    for row in range(len(ROWS)):
        tile = tile_in(sheet, geometry, 0, row)
        share = THUMB / max(tile.size)
        size = (max(1, round(tile.width * share)), max(1, round(tile.height * share)))
        how = Image.Resampling.BOX if share < 1 else Image.Resampling.NEAREST
        thumb = np.full((THUMB, THUMB, 3), 128, np.uint8)
        top, left = (THUMB - size[1]) // 2, (THUMB - size[0]) // 2
        thumb[top : top + size[1], left : left + size[0]] = np.asarray(tile.resize(size, how))
        yield thumb


def _rules(sheets: range) -> Iterator[str]:
    for number_of_sheet in sheets:
        for letter, what in zip("pq", ROWS, strict=True):
            yield f".{letter}{number_of_sheet}{{background-image:url({sheet_of(what, number_of_sheet)})}}"


def _tile(row: int, unit: UnitNumbers, layer: Layer) -> dict[str, Any]:
    sheet, place = divmod(row, ACROSS**2)
    y, x = divmod(place, ACROSS)
    name = channel_name(len(layer.shape), unit["channel"], unit["class"])
    text = "dead" if unit["dead"] else number(unit["maximum"])
    return {
        "href": page_of(unit["channel"]),
        "alt": f"{name}, {'dead' if unit['dead'] else f'maximum {text}'}",
        "classes": f"{sheet} x{x} y{y}",
        "channel": unit["channel"],
        "text": unit["class"] or text,
        "dead": unit["dead"],
    }


def _text(unit: UnitNumbers) -> str:
    """Return what the text search finds besides class labels."""
    return " ".join(
        printable(text) for text in (unit["class"] or "", *(one["image"] for one in unit["peaks"][:1]))
    ).strip()


def _facts(units: Sequence[UnitNumbers], place: LayerPlace) -> list[tuple[str, str]]:
    layer = place.layer
    dead = sum(unit["dead"] for unit in units)
    shown = f"{len(units):,}" + (f" of {place.total:,}" if place.total != len(units) else "")
    facts = [
        ("output", " × ".join(map(str, layer.shape))),
        ("receptive field", field_name(layer)),
        ("channels", shown),
        ("dead", f"{dead:,}"),
        ("images", f"{units[0]['images']:,}"),
    ]
    return facts


def _neighbour(layer: tuple[str, str] | None) -> dict[str, str] | None:
    return None if layer is None else {"name": layer[0], "href": f"../{layer[1]}/index.html"}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def summary_text(channels: int, total: int, dead: int, layer: Layer) -> str:
    """Return a line about a layer for the index."""
    parts = [counted(channels, "channel") + (f" of {total:,}" if total != channels else "")]
    if dead:
        parts.append(f"{dead:,} dead ({percent(dead / channels)})")
    parts += [f"output {' × '.join(map(str, layer.shape))}", layer.field_text]
    return " · ".join(parts)
