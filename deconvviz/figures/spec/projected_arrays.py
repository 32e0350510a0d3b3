"""Figures of projections to arrays: curves for signals, strips of frames or slices for video and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deconvviz.figures.spec.curves import Curves
from deconvviz.figures.spec.effective_crop import effective_boxes
from deconvviz.figures.spec.frames import ShownFrames, colours_of, frames_figure
from deconvviz.figures.spec.signals import ShownSignal, signal_figure
from deconvviz.figures.spec.style import SheetStyle
from deconvviz.figures.spec.tile_grid import TileGrid

Box = tuple[int, ...]
FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class ProjectedArray:
    """One unit: its input array, its projection in the units of the input, both (C, ...), and its field."""

    caption: tuple[str, ...]
    values: FloatArray
    projection: FloatArray
    box: Box  # x0, x1; or x0, y0, z0, x1, y1, z1
    note: str = ""


def array_figure(
    title: tuple[str, ...], units: Sequence[ProjectedArray], style: SheetStyle, footer: str
) -> Curves | TileGrid:
    """Return the figure that fits the number of axes of the input."""
    if units[0].values.ndim == 2:
        signals = [
            ShownSignal(one.caption, one.values, one.projection, (one.box[0], one.box[1]), one.note)
            for one in units
        ]
        return signal_figure(title, signals, style, footer)
    return _frames(title, units, style, footer)


def _frames(
    title: tuple[str, ...], units: Sequence[ProjectedArray], style: SheetStyle, footer: str
) -> TileGrid:
    fields = [(one.box[0], one.box[1], one.box[3], one.box[4]) for one in units]
    crops: Sequence[Box] = fields
    text = "cropped to the receptive field"
    if style.crop == "effective":
        cut = [
            one.projection[:, one.box[2] : one.box[5], y0:y1, x0:x1].reshape(-1, y1 - y0, x1 - x0)
            for one, (x0, y0, x1, y1) in zip(units, fields, strict=True)
        ]  # (C * d, h, w): one square for all frames of a unit
        height, width = units[0].values.shape[2:]
        crops = effective_boxes(cut, fields, (height, width))
        text = "cropped to the square with 98 % of the energy of each projection"
    limits = limits_of_inputs([one.values for one in units])
    shown = []
    for one, (x0, y0, x1, y1) in zip(units, crops, strict=True):
        where = (slice(None), slice(one.box[2], one.box[5]), slice(y0, y1), slice(x0, x1))
        colours = colours_of(one.values[where], limits)
        shown.append(ShownFrames(one.caption, colours, one.projection[where], one.box[2], one.note))
    channels = len(units[0].values)
    notes = [text, f"black is {limits[0]:.3g} and white {limits[1]:.3g} in the input"]
    if channels not in (1, 3):
        notes.append(f"input: mean of {channels} channels; projection: their sum")
    noun = "frame" if channels == 3 else "slice"
    return frames_figure(title, shown, style, " · ".join(filter(None, [*notes, footer])), noun=noun)


def limits_of_inputs(inputs: Sequence[FloatArray]) -> tuple[float, float]:
    """Return the values of black and white: 0 and 1 for inputs in this range, else their extremes."""
    low, high = min(float(one.min()) for one in inputs), max(float(one.max()) for one in inputs)
    rounding = 1e-6  # of the preprocessing, in float32
    return (0.0, 1.0) if low >= -rounding and 0.5 < high <= 1 + rounding else (low, high)
