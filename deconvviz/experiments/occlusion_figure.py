"""Figure of an `Occlusion`: one row per image, with the panels of Figure 7 of the paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from deconvviz.errors import FigureError
from deconvviz.experiments.occlusion_maps import OccludedImage, class_name
from deconvviz.experiments.occlusion_squares import nearest_places
from deconvviz.figures.spec.style import OcclusionStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, LegendEntry, Mark, TileGrid
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import printable
from deconvviz.topnine.result import ProjectedPeak

CLASSES = 6
"""Largest number of classes in a legend; the others share one colour (ours)."""

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc3311", "#cc79a7", "#56b4e9")
_OTHER = "#9a9a9a"


class Occluded(Protocol):
    """What a figure needs of an `Occlusion`."""

    @property
    def network(self) -> NetworkInfo: ...
    @property
    def layer(self) -> Layer: ...
    @property
    def images(self) -> tuple[OccludedImage, ...]: ...
    @property
    def fill(self) -> str: ...
    @property
    def other_fill(self) -> str | None: ...
    @property
    def phases(self) -> int: ...
    @property
    def others(self) -> Mapping[int, tuple[ProjectedPeak, ...]]: ...


def grid_of(found: Occluded, style: OcclusionStyle) -> TileGrid:
    """Return the content of the figure."""
    if not found.network.preprocessing.reads_images:
        raise FigureError(
            f"the input of {found.network.name} is not an image, so there is no figure. Use the numbers: "
            ".table or .arrays()"
        )
    others = max((len(peaks) for peaks in found.others.values()), default=0)
    classes = any(one.probability is not None for one in found.images)
    rows = tuple(_row(found, one, others, classes) for one in found.images)
    what = "activity of the unit" if found.images[0].one_unit else "total activity of the channel"
    hidden = "part absent" if found.fill == "without" else "square hidden"
    labels = [f"(a) input, {hidden}", f"(b) {what}", "(c) its projection"]
    labels += [f"(c) in other image {number}" for number in range(1, others + 1)]
    if classes:
        labels += ["(d) probability of the class", "(e) most probable class"]
    return TileGrid(
        title=_title(found),
        tiles=rows,
        row_labels=tuple(_label(found, one) for one in found.images),
        column_labels=tuple(labels),
        style=TileGridStyle("tile", style.percentile, style.medium),
        footer=_footer(found),
        units="in pixel values",
        map_name="activity and probability",
    )


def _title(found: Occluded) -> tuple[str, ...]:
    first = found.images[0]
    name = printable(first.name) if len(found.images) == 1 else f"{len(found.images)} images"
    side = first.squares.side
    rows, columns = first.squares.shape
    square = f"{found.fill} square of {side} x {side} px at {rows} x {columns} places"
    if found.fill == "without":
        square = f"the part at the centre of a place is absent, {len(first.squares)} places"
    return (
        f"{found.network.name} · {found.layer.name} · {name} · occlusion",
        f"{square} · weights: {found.network.origin.short} · {found.layer.field_text}",
    )


def _label(found: Occluded, one: OccludedImage) -> str:
    unit = one.unit
    place = f" at ({unit.y}, {unit.x})" if one.one_unit and unit.y is not None else ""
    lines = [printable(one.name), f"channel {unit.channel}{place}"]
    if one.class_index is not None:
        lines.append(f"class: {class_name(one.class_index, found.network.classes)}")
    return "\n".join(lines)


def _row(found: Occluded, one: OccludedImage, others: int, classes: bool) -> tuple[GridTile | None, ...]:
    assert one.shown is not None and one.worst is not None
    size = (one.shown.shape[0], one.shown.shape[1])
    x0, y0, x1, y1 = one.projection.boxes[0]
    seen = x1 > x0 and y1 > y0
    box = (x0, y0, x1, y1) if seen else (0, 0, size[1], size[0])
    peaks = found.others.get(one.unit.channel, ())
    tiles: list[GridTile | None] = [
        GridTile(one.worst, "image", (_where(found, one),), marks=(Mark(box),) if seen else ()),
        _map(one, one.activity, one.sure_activity, f"complete image: {_number(one.complete_activity)}"),
        GridTile(
            _enlarged(one.projection.crop_at(0, box), size),
            "signed",
            (f"activation {_number(one.unit.activation)}",),
            note=None if bool(one.projection.pixels.any()) else "zero: this unit is silent",
        ),
        *(_peak(peak, size) for peak in peaks),
        *([None] * (others - len(peaks))),
    ]
    if not classes:
        return tuple(tiles)
    if one.probability is None or one.label is None:
        return (*tiles, None, None)
    complete = f"complete image: {one.complete_probability:.3g}"
    return (*tiles, _map(one, one.probability, one.sure_probability, complete), _labels(found, one))


def _where(found: Occluded, one: OccludedImage) -> str:
    values, what = (one.activity, "activity") if one.probability is None else (one.probability, "probability")
    return f"place of the lowest {what}: {_number(float(values.min()))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _map(one: OccludedImage, values: Any, sure: Any, caption: str) -> GridTile:
    """Return a map drawn over the image: each pixel has the value of the square with the nearest centre."""
    assert one.shown is not None
    return GridTile(
        _spread_out(one, values),
        "map",
        (caption,),
        under=one.shown,
        drawn=None if sure is None else _spread_out(one, sure),
    )


def _spread_out(one: OccludedImage, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    assert one.shown is not None
    rows, columns = nearest_places(one.squares, (one.shown.shape[0], one.shown.shape[1]))
    return values[rows][:, columns]


def _peak(peak: ProjectedPeak, size: tuple[int, int]) -> GridTile:
    """Return the projection in another image."""
    caption = (printable(peak.peak.image_id), f"activation {_number(peak.peak.activation)}")
    return GridTile(_enlarged(np.asarray(peak.crop.projection), size), "signed", caption)


def _enlarged(pixels: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Return a crop (h, w, 3) in the size of the image. If it is not square, it is padded with zeros."""
    side = max(pixels.shape[:2])
    square = np.zeros((side, side, 3), pixels.dtype)
    top, left = (side - pixels.shape[0]) // 2, (side - pixels.shape[1]) // 2
    square[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    shorter = min(size)
    index = np.arange(shorter) * side // shorter
    found: npt.NDArray[Any] = square[index][:, index]
    return found


def _labels(found: Occluded, one: OccludedImage) -> GridTile:
    """Return the image, tinted in the colour of the most probable class at each place."""
    assert one.shown is not None and one.label is not None
    counts = Counter(one.label.ravel().tolist())
    order = sorted(counts, key=lambda label: (label != one.class_index, -counts[label], label))
    named = order if len(order) <= CLASSES else order[: CLASSES - 1]
    colours = {label: _COLOURS[number] for number, label in enumerate(named)}
    palette = np.array([_rgb(colours.get(label, _OTHER)) for label in order])
    index = np.searchsorted(np.sort(order), one.label)
    tint = palette[np.argsort(order)][index]  # (rows, columns, 3)
    grey = np.asarray(one.shown, np.float64).mean(2, keepdims=True)
    entries = [LegendEntry(colours[label], class_name(label, found.network.classes)) for label in named]
    if len(order) > len(named):
        entries.append(LegendEntry(_OTHER, f"{len(order) - len(named)} other classes"))
    return GridTile(_spread_out(one, tint) * (0.5 + 0.5 * grey), "image", legend=tuple(entries))


def _rgb(colour: str) -> list[float]:
    return [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]


def _footer(found: Occluded) -> str:
    """Return the checks: other fill, and shifted grids."""
    parts = ["box: receptive field of the strongest activation, which (c) shows"]
    if found.other_fill is not None:
        for one in found.images:
            numbers = [
                f"{what} {value:.2f}"
                for what, value in (
                    ("activity", one.activity_agreement),
                    ("probability", one.probability_agreement),
                )
                if value is not None
            ]
            name = "" if len(found.images) == 1 else f" ({printable(one.name)})"
            if numbers:
                parts.append(
                    f"rank correlation of {found.fill} with {found.other_fill}{name}: {', '.join(numbers)}"
                )
    if found.phases > 1:
        parts.append(
            f"without colour: the change is at most twice the standard deviation between {found.phases} "
            "shifted grids"
        )
    return " · ".join(parts)
