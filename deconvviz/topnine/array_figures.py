"""Figures of the top nine of networks that read arrays: signals, pictures with bands, volumes and video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvviz.figures.spec.bands import ShownBands
from deconvviz.figures.spec.effective_crop import effective_boxes
from deconvviz.figures.spec.frames import chosen_frames, colours_of, signed_frame
from deconvviz.figures.spec.lines_tile import COLOUR_NAMES, LinesTile
from deconvviz.figures.spec.projected_arrays import limits_of_inputs
from deconvviz.figures.spec.signals import range_of, strip_of
from deconvviz.figures.spec.style import TileGridStyle, TopNineStyle
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid
from deconvviz.figures.spec.top_nine import Crop
from deconvviz.layers import Layer
from deconvviz.projection import Box
from deconvviz.topnine.projected_peak import ProjectedPeak
from deconvviz.wording import listed

FRAMES = 4
"""Largest number of frames or slices of each unit."""
_HIGH = 0.6  # smallest height of a strip, relative to its width

Floats = npt.NDArray[np.floating[Any]]
Shown = Sequence[ProjectedPeak]


def signals_figure(
    title: tuple[str, ...],
    channels: Sequence[tuple[tuple[str, ...], Shown]],
    style: TopNineStyle,
    footer: str,
) -> TileGrid:
    """Return a grid with two rows for each channel: the signals, and their projections below.

    `channels` are the lines of a label, and the peaks of a channel. The signals of a channel share one scale,
    and so do its projections. Signals of more than a few channels are strips of grey levels.
    """
    count = len(channels[0][1][0].pixels)
    as_lines = count <= len(COLOUR_NAMES)
    columns = max(len(shown) for _, shown in channels)
    rows: list[tuple[GridTile | LinesTile | None, ...]] = []
    labels: list[str] = []
    for label, shown in channels:
        empty = [None] * (columns - len(shown))
        above, below, limit = _lines(shown) if as_lines else _strips(shown)
        rows += [(*above, *empty), (*below, *empty)]
        labels += ["\n".join(label), f"projections{limit}"]
    notes = ["below each projection: samples of the receptive field"]
    if as_lines:
        notes[0] += ", between the dashed lines" if _any_marks(rows) else ""
        notes.append("the signals of a channel share one scale, and so do its projections")
        if count > 1:
            numbers = ", ".join(map(str, range(count)))
            notes.append(f"channels {numbers} of the signal: {', '.join(COLOUR_NAMES[:count])}")
    else:
        notes.append("one row for each channel of the signal, from top to bottom; time runs to the right")
    return TileGrid(
        title,
        tuple(rows),
        tuple(labels),
        style=TileGridStyle("row", percentile=style.percentile, medium=style.medium),
        footer=" · ".join([*notes, footer]),
        units="in the units of the signal",
        map_name="signal",
    )


def _lines(shown: Shown) -> tuple[list[LinesTile], list[LinesTile], str]:
    """Return the tiles of signals and projections, and the limit of the projections as text."""
    pairs = [(one.around.values_in(one.around.box), one.projection_in(one.around.box)) for one in shown]
    signals = range_of([signal for signal, _ in pairs])
    projections = range_of([projection for _, projection in pairs], symmetric=True)
    limit = max(float(np.abs(projection).max()) for _, projection in pairs)
    above, below = [], []
    for one, (signal, projection) in zip(shown, pairs, strict=True):
        first, past = one.box
        field = (first, past)
        above.append(LinesTile(signal, one.around.box[0], signals, field))
        below.append(
            LinesTile(
                projection,
                one.around.box[0],
                projections,
                field,
                zero=True,
                caption=(_samples(one),),
                note=one.note,
            )
        )
    return above, below, f"\n±{limit:.2g}" if limit else "\nall zero"


def _strips(shown: Shown) -> tuple[list[GridTile], list[GridTile], str]:
    above = [GridTile(strip_of(one.around.values_in(one.box), _HIGH), "map") for one in shown]
    below = [
        GridTile(strip_of(one.projection_in(one.box), _HIGH), caption=(_samples(one),), note=one.note)
        for one in shown
    ]
    return above, below, ""


def _samples(one: ProjectedPeak) -> str:
    return f"{one.box[0]}–{one.box[1] - 1}"


def _any_marks(rows: Sequence[Sequence[GridTile | LinesTile | None]]) -> bool:
    return any(tile.marks() for row in rows for tile in row if isinstance(tile, LinesTile))


class ArrayCrops:
    """Crops of the peaks of channels: the shown bands of pictures, or the shown frames of volumes and video.

    `shape` is that of the input, (C, H, W) or (C, D, H, W). All crops of a figure share black and white.
    """

    def __init__(self, every: Shown, shape: Sequence[int], style: TopNineStyle) -> None:
        self._size = (shape[-2], shape[-1])
        self._depth = shape[1] if len(shape) == 4 else 0
        self._kind = style.crop
        patches = [one.around.values_in(one.box) for one in every]
        self._bands = None if self._depth else ShownBands.of(patches, style.bands)
        self._limits = limits_of_inputs(patches) if self._depth else (0.0, 1.0)
        self._channels = shape[0]

    def frames(self, layers: Sequence[Layer]) -> int:
        """Return the number of frames to show of each unit: the receptive fields may have fewer."""
        fields = [layer.field for layer in layers]
        depths = [self._depth if field is None or len(field) < 3 else field[0] for field in fields]
        return min(FRAMES, self._depth, *depths)

    def of(self, shown: Shown, frames: int) -> tuple[Crop, ...]:
        """Return the crops of a channel, strongest unit first; `frames` of them for each unit of a volume."""
        fields = [_rectangle(one.box) for one in shown]
        boxes: Sequence[Box] = fields
        if self._kind == "effective":
            flat = [one.pixels.reshape(-1, *one.pixels.shape[-2:]) for one in shown]  # (C * d, h, w)
            boxes = effective_boxes(flat, fields, self._size)
        return tuple(
            crop for one, box in zip(shown, boxes, strict=True) for crop in self._of_unit(one, box, frames)
        )

    def text(self, every: Shown) -> str:
        """Return a line on the colours of the input."""
        if self._bands is not None:
            return self._bands.text([one.pixels for one in every], "patches")
        low, high = self._limits
        notes = [f"black is {low:.3g} and white {high:.3g} in the input"]
        if self._channels not in (1, 3):
            notes.append(f"input: mean of {self._channels} channels; projection: their sum")
        return " · ".join(notes)

    def _of_unit(self, one: ProjectedPeak, box: Box, frames: int) -> list[Crop]:
        cut = one.cut if self._kind == "field" else (False,) * 4
        if self._bands is not None:
            patch = self._bands.colours(one.around.values_in(box))
            return [Crop(self._bands.signed(one.projection_in(box)), patch, *cut, note=one.note)]
        x0, y0, x1, y1 = box
        found = []
        for number in shown_frames(one, frames, self._depth):
            where = (x0, y0, number, x1, y1, number + 1)
            patch = colours_of(one.around.values_in(where), self._limits)[0]
            found.append(Crop(signed_frame(one.projection_in(where)[:, 0]), patch, *cut, note=one.note))
        return found


def shown_frames(one: ProjectedPeak, count: int, depth: int) -> list[int]:
    """Return the numbers of `count` frames of an input with `depth` frames.

    They are at equal distances and have the most energy of the projection. If the receptive field is cut to
    fewer frames, some next to it are added.
    """
    first, past = one.box[2], one.box[5]
    if past - first >= count:
        return [first + number for number in chosen_frames(one.projection_in(one.box), count)]
    start = min(max(first - (count - (past - first)) // 2, 0), depth - count)
    return list(range(start, start + count))


def notes_of_inputs(notes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return a line for each note on how inputs were read, with the ids of these inputs."""
    return tuple(f"{note}: {listed(list(dict.fromkeys(ids)))}" for note, ids in notes.items())


def _rectangle(box: Box) -> Box:
    axes = len(box) // 2
    return (*box[:2], *box[axes : axes + 2])
