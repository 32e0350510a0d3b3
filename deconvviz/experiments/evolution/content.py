"""Content of the figure of an evolution: projections at some checkpoints, and curves of whole layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from deconvviz.experiments.evolution.comparison import Cell, Key
from deconvviz.experiments.evolution.measures import SETTLED
from deconvviz.experiments.evolution.units import Channels, Shown
from deconvviz.figures.spec.arrays import FloatArray
from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves, Reference
from deconvviz.figures.spec.effective_crop import effective_boxes
from deconvviz.figures.spec.panels import Panels, Part
from deconvviz.figures.spec.style import CROPS, PERCENTILE, CurvesStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid
from deconvviz.figures.spec.validation import (
    Box,
    check_choice,
    check_columns,
    check_percentile,
    rectangle,
)
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.wording import counted

COLUMNS = 8
"""Number of checkpoints in the figure, as in the paper."""


class Evolved(Protocol):
    """What a figure needs of an `Evolution`."""

    @property
    def network(self) -> NetworkInfo: ...
    @property
    def layers(self) -> tuple[Layer, ...]: ...
    @property
    def checkpoints(self) -> tuple[str, ...]: ...
    @property
    def images(self) -> int: ...
    @property
    def channels(self) -> Channels: ...
    @property
    def cells(self) -> Mapping[Key, tuple[Cell, ...]]: ...
    def of_layers(self, column: str) -> dict[str, list[float | None]]: ...


@dataclass(frozen=True)
class EvolutionStyle:
    """The style of an evolution.

    Args:
        columns: Largest number of checkpoints in the figure: the first, the last, and others between them,
            closer together at the beginning, as in the paper.
        rows: Largest number of channels of each layer; None shows all.
        percentile: The projections of a row are clipped at this percentile of their non-zero absolute
            values (100: no clipping).
        crop: ``effective``: the smallest square that contains 98 % of each projection's energy, with one size
            for each row; ``field``: the receptive field.
    """

    columns: int = COLUMNS
    rows: int | None = None
    percentile: float = PERCENTILE
    crop: str = "effective"

    def __post_init__(self) -> None:
        check_columns(self.columns)
        check_columns(self.rows)
        check_percentile(self.percentile)
        check_choice(self.crop, CROPS, "crop")


def figure_of(one: Evolved, style: EvolutionStyle) -> Panels:
    """Return the content of the figure."""
    steps = shown_steps(len(one.checkpoints), style.columns)
    rows: list[tuple[Part, ...]] = [
        (_strongest(one, layer, steps, style), _fixed(one, layer, steps, style)) for layer in one.layers
    ]
    return Panels(
        title=(
            f"{one.network.name} · {counted(len(one.checkpoints), 'checkpoint')}",
            f"strongest activation over {counted(one.images, 'image')} · strongest image: that of each "
            "checkpoint (paper, Figure 4) · same image and unit: the strongest ones at the last checkpoint",
        ),
        rows=(*rows, (_curves(one),)),
        footer="number below a tile: activation · *: another image than in the column before",
    )


def shown_steps(count: int, most: int) -> list[int]:
    """Return the checkpoints of a figure: the first, the last, and others at growing distances."""
    if count <= most:
        return list(range(count))
    if most == 1:
        return [count - 1]
    steps = [0]
    for column in range(1, most):
        left = most - column  # columns that are still to come, with this one
        ratio = (count / (steps[-1] + 1)) ** (1 / left)
        steps.append(max(steps[-1] + 1, round((steps[-1] + 1) * ratio) - 1))
    steps[-1] = count - 1
    return steps


def _strongest(one: Evolved, layer: Layer, steps: Sequence[int], style: EvolutionStyle) -> TileGrid:
    rows, labels = [], []
    for channel in _rows(one, layer, style):
        cells = one.cells[layer.name, channel]
        shown = [cells[step].strongest for step in steps]
        captions = [_strongest_caption(cells, steps, column) for column in range(len(steps))]
        rows.append(_tiles(one, shown, [*captions], "dead", style.crop))
        labels.append(str(channel) if len(layer.shape) == 3 else _unit_name(one, layer, channel))
    return TileGrid(
        title=(f"{layer.name}: strongest image",),
        tiles=tuple(rows),
        row_labels=tuple(labels),
        column_labels=tuple(one.checkpoints[step] for step in steps),
        style=TileGridStyle("row", style.percentile, limits=False),
        units="",
    )


def _fixed(one: Evolved, layer: Layer, steps: Sequence[int], style: EvolutionStyle) -> TileGrid:
    rows = []
    for channel in _rows(one, layer, style):
        cells = one.cells[layer.name, channel]
        shown = [cells[step].fixed for step in steps]
        captions = [
            "" if np.isnan(cells[step].fixed_activation) else _short(cells[step].fixed_activation)
            for step in steps
        ]
        tiles = _tiles(one, shown, captions, "dead at the end", style.crop)
        rows.append((*tiles, _patch(one, shown[-1], shown, style.crop)))
    return TileGrid(
        title=(f"{layer.name}: same image and unit",),
        tiles=tuple(rows),
        column_labels=(*(one.checkpoints[step] for step in steps), "image"),
        style=TileGridStyle("row", style.percentile, limits=False),
        units="",
    )


def _rows(one: Evolved, layer: Layer, style: EvolutionStyle) -> tuple[int, ...]:
    return one.channels.shown[layer.name][: style.rows]


def _unit_name(one: Evolved, layer: Layer, channel: int) -> str:
    classes = one.network.classes
    return classes[channel] if layer.module == "" and channel < len(classes) else str(channel)


def _strongest_caption(cells: Sequence[Cell], steps: Sequence[int], column: int) -> str:
    cell = cells[steps[column]]
    if cell.peak is None:
        return ""
    before = cells[steps[column - 1]].peak if column else None
    jump = before is not None and before.image_id != cell.peak.image_id
    return f"{_short(cell.activation)}{'*' if jump else ''}"


def _short(value: float) -> str:
    """Return a number as text that fits below a tile."""
    size = abs(value)
    text = f"{value:.2f}" if size < 10 else f"{value:.1f}" if size < 100 else f"{value:.3g}"
    return text.replace("-", "−")


def _tiles(
    one: Evolved, shown: Sequence[Shown | None], captions: Sequence[str], missing: str, crop: str
) -> tuple[GridTile, ...]:
    boxes = iter(_boxes(one, shown, crop))
    tiles = []
    for found, caption in zip(shown, captions, strict=True):
        if found is None:
            tiles.append(GridTile(None, note=missing))
            continue
        values = _part(found, next(boxes), one)
        note = None if values.any() else "zero"
        tiles.append(GridTile(values, caption=(caption,) if caption else (), note=note))
    return tuple(tiles)


def _patch(one: Evolved, last: Shown | None, shown: Sequence[Shown | None], crop: str) -> GridTile:
    """Return the image patch of the fixed unit, at the same crop as its projections."""
    if last is None:
        return GridTile(None, note="none")
    box = _boxes(one, shown, crop)[-1]
    return GridTile(last.peak.around.cut(box), "image")


def _boxes(one: Evolved, shown: Sequence[Shown | None], crop: str) -> tuple[Box, ...]:
    """Return the crop of each projection of a row that is not None."""
    known = [found for found in shown if found is not None]
    fields = [_field(found, one) for found in known]
    if crop == "field" or not known:
        return tuple(fields)
    return effective_boxes([found.pixels for found in known], fields, one.network.preprocessing.shape[1:])


def _field(found: Shown, one: Evolved) -> Box:
    _, height, width = one.network.preprocessing.shape
    return rectangle(found.peak.peak.box or (0, 0, width, height))


def _part(found: Shown, box: Box, one: Evolved) -> FloatArray:
    """Return the projection in a box, zero outside its receptive field, in pixel values."""
    x0, y0, x1, y1 = box
    fx, fy, fx1, fy1 = _field(found, one)
    values = np.asarray(found.peak.crop.projection, np.float64)  # (h, w, 3)
    part = np.zeros((y1 - y0, x1 - x0, values.shape[2]))
    left, top, right, bottom = max(x0, fx), max(y0, fy), min(x1, fx1), min(y1, fy1)
    part[top - y0 : bottom - y0, left - x0 : right - x0] = values[
        top - fy : bottom - fy, left - fx : right - fx
    ]
    return part


def _curves(one: Evolved) -> Curves:
    x = _abscissae(one.checkpoints)
    panels = []
    for column, title in (
        ("final_similarity", "correlation of projections"),
        ("response_similarity", "control: correlation of activations"),
        ("cka", "linear CKA of the whole layer"),
        ("dead", "share of dead channels"),
    ):
        curves = []
        values = one.of_layers(column)
        banded = column.endswith("similarity")
        low, high = (one.of_layers(f"{column}_{end}") if banded else {} for end in ("low", "high"))
        for name, of_layer in values.items():
            y = np.array(of_layer, np.float64)
            if not np.isfinite(y).any():
                continue
            band = (np.array(low[name], np.float64), np.array(high[name], np.float64)) if banded else None
            curves.append(Curve(name, x, y, band))
        if not curves:
            continue
        references = (Reference(SETTLED, f"settled: {SETTLED:g}"),) if column == "final_similarity" else ()
        top = 1.02 if column != "dead" else max(0.1, max(float(np.nanmax(c.y)) for c in curves) * 1.1)
        bottom = min(0.0, *(float(np.nanmin(curve.ordinates)) for curve in curves))
        panels.append(
            CurvePanel(
                tuple(curves), "checkpoint", "", title=title, y_range=(bottom - 0.02, top),
                references=references,
            )
        )  # fmt: skip
    fewest = min(len(channels) for channels in one.channels.measured.values())
    most = max(len(channels) for channels in one.channels.measured.values())
    count = str(most) if fewest == most else f"{fewest} to {most}"
    return Curves(
        ("When layers settle: similarity of each checkpoint with the last one",),
        tuple(panels),
        CurvesStyle(shared_y=False, columns=len(panels)),
        footer=f"curves: median over {count} channels of a layer, same image and unit; band: 95 % interval, "
        "bootstrap over channels; activations: largest in each image",
    )


def _abscissae(labels: Sequence[str]) -> FloatArray:
    """Return the numbers in the labels, or 1, 2, ... if they are not growing numbers."""
    numbers = [int(label) if label.isdecimal() else -1 for label in labels]
    growing = all(after > before >= 0 for before, after in pairwise(numbers))
    return np.array(numbers if growing else range(1, len(labels) + 1), np.float64)
