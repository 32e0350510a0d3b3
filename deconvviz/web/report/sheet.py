"""Units of one layer as cards: patch, projection, activation, rank, and the image with their boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deconvviz.figures.page.scale_text import clipping_text
from deconvviz.figures.spec.arrays import true_colours
from deconvviz.figures.spec.colour import limits, to_rgb
from deconvviz.figures.spec.sheet import Sheet, Tile
from deconvviz.web.report.document import Strongest, View
from deconvviz.web.report.embedded import Box, Embedded
from deconvviz.web.report.strongest import Channel

MARKS = 8  # colours of boxes and numbers
_SCALES = {
    "sheet": "one colour scale for all projections of this layer; grey is zero",
    "row": "each row of {columns} has its own colour scale; grey is zero",
    "tile": "each projection has its own colour scale; grey is zero",
}


@dataclass(frozen=True)
class Outline:
    """Box of one unit on the image, and its receptive field if that is a different box."""

    card: str
    number: int
    mark: int
    name: str
    box: Box | None
    field: Box | None
    centre: tuple[float, float] | None

    @property
    def corner(self) -> tuple[float, float]:
        """Where the number is written: the top left of the box, or the centre of the field."""
        if self.box is not None:
            return self.box[0], self.box[1]
        return self.centre or (0, 0)

    @property
    def area(self) -> int:
        """Area of the box in pixels."""
        return 0 if self.box is None else (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class Card:
    """One unit. `share` is its activation divided by the highest one; `width` is in percent of a frame."""

    id: str
    number: int
    mark: int
    lines: tuple[str, ...]  # caption without the layer, which the heading names
    channel: str  # first line of the caption
    name: str
    rank: str
    share: float | None
    patch: View | None
    projection: View
    width: float
    note: str | None
    strongest: Strongest | None


@dataclass(frozen=True)
class SheetBlock:
    """One image and the units of one layer."""

    image: View | None
    name: str
    outlines: tuple[Outline, ...]  # the largest box first, so that small ones are above it
    cards: tuple[Card, ...]
    scale: str
    footer: str


def block_of(
    sheet: Sheet,
    described: Mapping[str, Any],
    embedded: Embedded,
    strongest: Mapping[Channel, Strongest],
    *,
    prefix: str,
) -> SheetBlock:
    """Return the content of a sheet.

    Args:
        sheet: The sheet.
        described: Description of its result. ``units`` gives rank and channel, where it is known.
        embedded: Images of the page.
        strongest: Strongest images of channels, for cards of the same channels.
        prefix: Beginning of the ids of the cards.
    """
    columns = sheet.style.columns
    rows = [0 if columns is None else number // columns for number in range(len(sheet.tiles))]
    scale = "sheet" if sheet.style.scale == "row" and columns is None else sheet.style.scale
    found = limits([tile.projection for tile in sheet.tiles], scale, rows, percentile=sheet.style.percentile)
    image = None if sheet.image is None else embedded.whole(true_colours(sheet.image, "image"))
    units = _units(described, len(sheet.tiles))
    ranks = _ranks(units)
    cards, outlines = [], []
    for place, (tile, limit) in enumerate(zip(sheet.tiles, found, strict=True)):
        channel = _channel(described, units[place])
        card = _card(
            sheet,
            tile,
            limit.value,
            image,
            embedded,
            prefix,
            ranks[place],
            channel[1],
            strongest.get(channel),
        )
        cards.append(card)
        outlines.append(_outline(sheet, tile, card))
    text = "all projections are zero" if not any(one.value for one in found) else _SCALES[scale]
    parts = [text.format(columns=columns), *clipping_text(sheet.style.percentile, found)]
    return SheetBlock(
        image,
        sheet.title[0] if sheet.title else "",
        tuple(sorted((one for one in outlines if one is not None), key=lambda one: -one.area)),
        tuple(cards),
        " · ".join([*parts, *filter(None, [sheet.crop_text])]),
        sheet.footer,
    )


def _card(
    sheet: Sheet,
    tile: Tile,
    limit: float,
    image: View | None,
    embedded: Embedded,
    prefix: str,
    rank: tuple[str, float | None],
    layer: str,
    strongest: Strongest | None,
) -> Card:
    patch = None
    if tile.patch is not None:
        patch = embedded.part(true_colours(tile.patch, "patch"), image, tile.shown_box)
    return Card(
        f"{prefix}-unit-{tile.number}",
        tile.number,
        (tile.number - 1) % MARKS + 1,
        (tile.caption[0].removeprefix(f"{layer} · "), *tile.caption[1:]),
        tile.caption[0],
        ", ".join(tile.caption),
        rank[0],
        rank[1],
        patch,
        embedded.whole(to_rgb(tile.projection, limit)),
        100 * tile.size[1] / max(sheet.largest_crop),
        tile.note,
        strongest,
    )


def _outline(sheet: Sheet, tile: Tile, card: Card) -> Outline | None:
    box = sheet.outlined(tile)
    if sheet.image is None or (box is None and tile.centre is None):
        return None
    centre = tile.centre if box is None else None
    return Outline(card.id, tile.number, card.mark, card.name, box, sheet.dashed(tile), centre)


def _units(described: Mapping[str, Any], count: int) -> list[Mapping[str, Any]]:
    """Return the described unit of each tile; empty ones if they are not known."""
    units = described.get("units") or ()
    return list(units) if len(units) == count else [{}] * count


def _ranks(units: Sequence[Mapping[str, Any]]) -> list[tuple[str, float | None]]:
    """Return for each unit its rank as text, and its activation as a share of the highest."""
    activations = [unit.get("activation") for unit in units]
    numbers = [float(one) for one in activations if one is not None]
    if len(numbers) < len(units) or not numbers:
        return [("", None)] * len(units)
    order = sorted(numbers, reverse=True)
    top = max(order[0], 0.0)
    several = len(numbers) > 1
    return [
        (
            f"rank {order.index(one) + 1} of {len(order)}" if several else "",
            max(0.0, one / top) if top else None,
        )
        for one in numbers
    ]


def _channel(described: Mapping[str, Any], unit: Mapping[str, Any]) -> Channel:
    network, layer = described.get("network") or {}, described.get("layer") or {}
    return str(network.get("digest")), str(layer.get("name", "")), int(unit.get("channel", -1))
