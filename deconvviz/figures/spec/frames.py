"""Figures of volumes and video (C, D, H, W): strips of slices or frames, above those of the projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deconvviz.figures.spec.arrays import Array, FloatArray
from deconvviz.figures.spec.style import SheetStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid

MOST_FRAMES = 6


@dataclass(frozen=True, eq=False)
class ShownFrames:
    """One unit: the part of the input that is drawn, with its projection (C, d, h, w), and its caption.

    `first` is the number of the first frame. `patch` has colours from 0 to 1, (d, h, w, 3) or (d, h, w).
    """

    caption: tuple[str, ...]
    patch: Array
    projection: Array
    first: int
    note: str = ""


def frames_figure(
    title: tuple[str, ...], units: Sequence[ShownFrames], style: SheetStyle, footer: str, *, noun: str
) -> TileGrid:
    """Return a grid with two rows for each unit. `noun` is "frame" or "slice"."""
    most = style.columns or MOST_FRAMES
    rows: list[tuple[GridTile | None, ...]] = []
    labels: list[str] = []
    chosen = [chosen_frames(one.projection, most) for one in units]
    columns = max(map(len, chosen))
    for one, numbers in zip(units, chosen, strict=True):
        empty = [None] * (columns - len(numbers))
        captions = [(f"{noun} {one.first + number}",) for number in numbers]
        if not style.projection_only:
            shown = [GridTile(one.patch[number], "image") for number in numbers]
            rows.append((*shown, *empty))
            labels.append("\n".join(one.caption))
        projected = [
            GridTile(signed_frame(one.projection[:, number]), caption=caption)
            for number, caption in zip(numbers, captions, strict=True)
        ]
        rows.append((*projected, *empty))
        below = ("projection", *([one.note] if one.note else []))
        labels.append("\n".join(one.caption if style.projection_only else below))
    text = f"each strip shows the {noun}s with the most energy of the projection, at equal distances"
    return TileGrid(
        title,
        tuple(rows),
        tuple(labels),
        style=TileGridStyle(percentile=style.percentile, medium=style.medium),
        footer=" · ".join(filter(None, [text, footer])),
        units="in the units of the input",
    )


def chosen_frames(projection: Array, most: int) -> list[int]:
    """Return the numbers of up to `most` frames of a projection (C, d, h, w), at equal distances.

    Of all such choices, the one with the most energy is returned; of equal ones, the closest and the first.
    """
    energy = np.square(projection, dtype=np.float64).sum((0, 2, 3))
    count = min(most, len(energy))
    if count == 1:
        return [int(energy.argmax())]
    best, choice = -1.0, list(range(count))
    for step in range(1, (len(energy) - 1) // (count - 1) + 1):
        for first in range(len(energy) - step * (count - 1)):
            numbers = list(range(first, first + step * (count - 1) + 1, step))
            total = float(energy[numbers].sum())
            if total > best * (1 + 1e-9):
                best, choice = total, numbers
    return choice


def colours_of(values: Array, limits: tuple[float, float]) -> FloatArray:
    """Return a part of an input (C, d, h, w) as colours in [0, 1]: (d, h, w, 3), or (d, h, w) if grey.

    Inputs with 3 channels are red, green and blue. Others are grey: the mean of their channels.
    """
    low, high = limits
    scaled = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    if len(scaled) == 3:
        return np.moveaxis(scaled, 0, -1)
    grey: FloatArray = scaled.mean(0)
    return grey


def signed_frame(projection: Array) -> Array:
    """Return one frame of a projection (C, h, w) as (h, w, 3), or (h, w): the sum of its channels."""
    return np.moveaxis(projection, 0, -1) if len(projection) == 3 else projection.sum(0)
