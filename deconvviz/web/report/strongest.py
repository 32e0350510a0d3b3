"""The strongest images of channels: for the cards of the same channels, and as a block of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvviz.figures.page.scale_text import clipping_text
from deconvviz.figures.spec.arrays import true_colours
from deconvviz.figures.spec.colour import to_rgb
from deconvviz.figures.spec.crop import largest
from deconvviz.figures.spec.top_nine import ChannelBlock, TopNineFigure
from deconvviz.web.images import fitted
from deconvviz.web.report.document import Strongest
from deconvviz.web.report.embedded import Embedded

TILE = 64  # largest side of a tile in pixels
_GAP = 2
_PATCHES, _PROJECTIONS = 80, 90  # qualities
_GROUND = 0.5  # between tiles; zero of a projection

Channel = tuple[str, str, int]
"""Digest of a network, name of a layer, number of a channel."""


@dataclass(frozen=True)
class StrongestPanel:
    """One layer and its channels."""

    title: str
    lines: tuple[str, ...]
    channels: tuple[Strongest, ...]


@dataclass(frozen=True)
class StrongestBlock:
    """Layers and channels of a top-nine figure."""

    panels: tuple[StrongestPanel, ...]
    scale: str
    footer: str


def block_of(figure: TopNineFigure, embedded: Embedded) -> StrongestBlock:
    """Return the content of a top-nine figure."""
    percentile = figure.style.percentile
    panels = tuple(
        StrongestPanel(
            panel.title[0],
            panel.title[1:],
            tuple(_channel(block, percentile, figure.across, embedded) for block in panel.blocks),
        )
        for panel in figure.panels
    )
    clipped = [block.limit(percentile) for panel in figure.panels for block in panel.blocks]
    parts = ["each channel has its own colour scale; grey is zero", *clipping_text(percentile, clipped)]
    return StrongestBlock(panels, " · ".join([*parts, *filter(None, [figure.crop_text])]), figure.footer)


def channels_of(described: Mapping[str, Any], block: StrongestBlock) -> dict[Channel, Strongest]:
    """Return the channels of a block by network, layer and number, as far as the description names them."""
    digest = (described.get("network") or {}).get("digest")
    found: dict[Channel, Strongest] = {}
    for entry, panel in zip(described.get("layers") or (), block.panels, strict=False):
        for number, channel in zip(entry.get("channels") or (), panel.channels, strict=False):
            found[str(digest), str(entry.get("name")), int(number)] = channel
    return found


def _channel(block: ChannelBlock, percentile: float, across: int | None, embedded: Embedded) -> Strongest:
    limit = block.limit(percentile).value
    patches = [true_colours(crop.patch, "patch") for crop in block.crops]
    projections = [to_rgb(crop.projection, limit) for crop in block.crops]
    return Strongest(
        block.name,
        ", ".join(block.caption),
        -(-len(block.crops) // (across or 1)),
        embedded.light(_sprite(patches, across), _PATCHES),
        embedded.light(_sprite(projections, across), _PROJECTIONS),
    )


def _sprite(tiles: Sequence[npt.NDArray[Any]], across: int | None) -> npt.NDArray[np.uint8]:
    """Return tiles in a grid, `across` in a row or as square as possible. All tiles have one zoom."""
    height, width = largest(tile.shape[:2] for tile in tiles)
    side = max(height, width)
    share = min(1.0, TILE / side)
    cell = max(1, round(side * share))
    columns = across or int(np.ceil(np.sqrt(len(tiles))))
    rows = -(-len(tiles) // columns)
    step = cell + _GAP
    sheet = np.full((rows * step - _GAP, columns * step - _GAP, 3), round(255 * _GROUND), np.uint8)
    for number, tile in enumerate(tiles):
        small = fitted(tile, max(1, round(max(tile.shape[:2]) * share)))
        h, w = small.shape[:2]
        top = number // columns * step + (cell - h) // 2
        left = number % columns * step + (cell - w) // 2
        sheet[top : top + h, left : left + w] = small
    return sheet
