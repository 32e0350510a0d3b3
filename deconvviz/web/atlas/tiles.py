"""Patches and projections of a channel, cut alike, as tiles of one image file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from deconvviz.figures.spec.colour import Limit, limit_of, to_rgb
from deconvviz.figures.spec.effective_crop import effective_boxes
from deconvviz.figures.spec.style import PERCENTILE
from deconvviz.projection import Box
from deconvviz.topnine.peak import Peak
from deconvviz.web.images import as_image, fitted

SIDE = 96  # longest side of a tile in pixels
LOSSLESS = 16  # tiles up to this side are stored without loss
DOUBLED = 48  # up to this side, each pixel is stored as 2 x 2, because WebP keeps colours at half resolution
QUALITY = 80
QUALITY_DOUBLED = 60
EFFORT = 2  # of the WebP encoder: 4 takes twice as long and saves 3 %
GREY = 128  # colour of zero in a projection, and around tiles that are not square
_BLOCK = 16  # pixels of a block of the encoder, which tiles do not share

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class KeptPeak:
    """What is kept of a projected peak until all peaks of its channel are there."""

    peak: Peak
    pixels: Floats  # (C, h, w), signed, in the network's input space, inside `field`
    field: Box
    around: Box  # `field` and what a square crop can contain besides
    patch: Bytes  # (h, w, 3), the image inside `around`


@dataclass(frozen=True, eq=False)
class Tiles:
    """Tiles of a channel: patches and projections have the same boxes, and projections share one scale."""

    patches: tuple[Bytes, ...]
    projections: tuple[Bytes, ...]
    boxes: tuple[Box, ...]
    limit: Limit


def cut_alike(peaks: Sequence[KeptPeak], std: Sequence[float], image_size: tuple[int, int]) -> Tiles:
    """Return the tiles of a channel, cropped and coloured as in a top-nine figure.

    No tile is larger than its crop.
    """
    boxes = effective_boxes([one.pixels for one in peaks], [one.field for one in peaks], image_size)
    scale = np.asarray(std, np.float32)
    crops = [_cut(one, box, scale) for one, box in zip(peaks, boxes, strict=True)]
    limit = limit_of(crops, percentile=PERCENTILE)
    return Tiles(
        tuple(_shrunk(_patch(one, box)) for one, box in zip(peaks, boxes, strict=True)),
        tuple(_shrunk(as_bytes(to_rgb(crop, limit.value))) for crop in crops),
        boxes,
        limit,
    )


def as_bytes(colours: Floats) -> Bytes:
    """Return colours from 0 to 1 as 8-bit numbers."""
    found: Bytes = (np.clip(colours, 0, 1) * 255 + 0.5).astype(np.uint8)
    return found


def _shrunk(tile: Bytes) -> Bytes:
    return tile if max(tile.shape[:2]) <= SIDE else fitted(tile, SIDE)


def _cut(one: KeptPeak, box: Box, scale: Floats) -> Floats:
    """Return the projection inside a box in pixel values (h, w, 3). It is zero outside the field."""
    field = one.field
    cut = np.zeros((box[3] - box[1], box[2] - box[0], 3), np.float32)
    (x0, y0), (x1, y1) = np.maximum(field[:2], box[:2]), np.minimum(field[2:], box[2:])
    inside = one.pixels[:, y0 - field[1] : y1 - field[1], x0 - field[0] : x1 - field[0]]
    cut[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]] = np.moveaxis(inside, 0, -1) * scale
    return cut


def _patch(one: KeptPeak, box: Box) -> Bytes:
    x0, y0 = one.around[:2]
    return one.patch[box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0]


@dataclass(frozen=True)
class Geometry:
    """Places of the tiles in a file: tile (column, row) is at the upper left corner of a cell.

    All lengths are in pixels of the file, of which `scale` x `scale` are one pixel of a tile.
    """

    width: int  # of a tile
    height: int
    cell: tuple[int, int]  # width and height of a cell
    columns: int
    scale: int = 1


def sprite(tiles: Tiles) -> tuple[bytes, Geometry]:
    """Return a WebP file with all patches in the first row and all projections in the second."""
    both = (*tiles.patches, *tiles.projections)
    side = max(max(tile.shape[:2]) for tile in both)
    scale = 2 if LOSSLESS < side <= DOUBLED else 1
    height = scale * max(tile.shape[0] for tile in both)
    width = scale * max(tile.shape[1] for tile in both)
    lossless = side <= LOSSLESS
    block = 1 if lossless else _BLOCK
    cell = (_cell(width, block), _cell(height, block))
    sheet = np.full((2 * cell[1], len(tiles.patches) * cell[0], 3), GREY, np.uint8)
    for row, of_row in enumerate((tiles.patches, tiles.projections)):
        for column, tile in enumerate(of_row):
            place = sheet[row * cell[1] :, column * cell[0] :][: cell[1], : cell[0]]
            _fill(place, _enlarged(tile, scale), (width, height))
    quality = QUALITY_DOUBLED if scale > 1 else QUALITY
    data = webp(sheet, lossless=lossless, quality=quality)
    return data, Geometry(width, height, cell, len(tiles.patches), scale)


def webp(colours: Bytes, *, lossless: bool = False, quality: int = QUALITY) -> bytes:
    """Return an image as a WebP file."""
    stream = io.BytesIO()
    if lossless:
        as_image(colours).save(stream, "WEBP", lossless=True, quality=60, method=EFFORT, exact=True)
    else:
        as_image(colours).save(stream, "WEBP", quality=quality, method=EFFORT)
    return stream.getvalue()


def _enlarged(tile: Bytes, scale: int) -> Bytes:
    return tile if scale == 1 else tile.repeat(scale, axis=0).repeat(scale, axis=1)


def _cell(length: int, block: int) -> int:
    """Return the length of a cell in whole blocks, with room for a repeated edge that browsers blend in."""
    return -(-(length + 1) // block) * block


def _fill(cell: Bytes, tile: Bytes, size: tuple[int, int]) -> None:
    """Write a tile into the middle of its place, and fill the cell with the edges of the place."""
    width, height = size
    top, left = (height - tile.shape[0]) // 2, (width - tile.shape[1]) // 2
    cell[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    cell[:height, width:] = cell[:height, width - 1 : width]
    cell[height:] = cell[height - 1 : height]


def tile_in(sheet: Image.Image, geometry: Geometry, column: int, row: int) -> Image.Image:
    """Return one tile of a file that `sprite` made."""
    x, y = column * geometry.cell[0], row * geometry.cell[1]
    return sheet.crop((x, y, x + geometry.width, y + geometry.height))
