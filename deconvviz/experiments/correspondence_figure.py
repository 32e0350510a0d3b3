"""Figures of a `Correspondence`: bars for each layer and part, and the images with hidden parts."""

from __future__ import annotations

from typing import Protocol

from deconvviz.errors import FigureError
from deconvviz.experiments.correspondence_rows import RANDOM, HiddenImage, Row
from deconvviz.figures.spec.measures import Bar, BarPanel, MeasuresFigure
from deconvviz.figures.spec.style import MeasuresStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid
from deconvviz.layers import Layer
from deconvviz.network_info import NetworkInfo
from deconvviz.printable_names import printable
from deconvviz.wording import counted

_KEY = (
    "bar: mean over pairs of images · thin line: 95 % interval over images · upright mark: random places "
    "of the same size"
)


class Corresponding(Protocol):
    """What a figure needs of a `Correspondence`."""

    @property
    def network(self) -> NetworkInfo: ...
    @property
    def layers(self) -> tuple[Layer, ...]: ...
    @property
    def parts(self) -> tuple[str, ...]: ...
    @property
    def images(self) -> tuple[str, ...]: ...
    @property
    def fill(self) -> str: ...
    @property
    def draws(self) -> int: ...
    @property
    def hidden(self) -> tuple[HiddenImage, ...]: ...
    def row(self, layer: str, part: str) -> Row: ...
    def sentences(self) -> list[str]: ...


def figure_of(found: Corresponding, style: MeasuresStyle) -> MeasuresFigure:
    """Return the content of the figure of bars."""
    return MeasuresFigure(
        title=(
            f"{found.network.name} · correspondence of parts in {counted(len(found.images), 'image')}",
            f"hidden: {found.fill} · {counted(found.draws, 'random place')} for each part · weights: "
            f"{found.network.origin.short}",
        ),
        methods=(*found.parts, RANDOM),
        bars=tuple(panel for layer in found.layers for panel in _panels(found, layer.name)),
        sentences=tuple(found.sentences()),
        style=style if style.columns else MeasuresStyle(3),
        key=_KEY,
    )


def _panels(found: Corresponding, layer: str) -> list[BarPanel]:
    rows = [found.row(layer, part) for part in (*found.parts, RANDOM)]
    delta = tuple(
        Bar(row.mean, row.low, row.high, None if row.part == RANDOM else row.random_mean) for row in rows
    )
    highest = 1.15 * max(number for bar in delta for number in bar.numbers) or 1.0
    return [
        BarPanel(
            f"{layer}: sign change",
            "Δ: share of entries whose signs of change differ",
            delta,
            "lower",
            highest,
            3,
        ),
        BarPanel(
            f"{layer}: among changed entries",
            "Δ among the entries that change in one of the two images",
            tuple(Bar(row.mean_of_changed) for row in rows),
            "lower",
        ),
        BarPanel(
            f"{layer}: cosine",
            "cosine of the changes of two images",
            tuple(
                Bar(row.cosine, None, None, None if row.part == RANDOM else row.random_cosine) for row in rows
            ),
            "higher",
        ),
    ]


def hidden_of(found: Corresponding) -> TileGrid:
    """Return the images with hidden parts as a tile grid, as in Figure 8 of the paper."""
    if not found.hidden:
        raise FigureError(f"the input of {found.network.name} is not an image, so there is no figure")
    known = {name for one in found.hidden for name in one.hidden}
    columns = [*found.parts, *(f"{RANDOM} ({part})" for part in found.parts)]
    columns = [name for name in columns if name in known]
    tiles = [
        (
            GridTile(one.shown, "image"),
            *(GridTile(one.hidden[name], "image") if name in one.hidden else None for name in columns),
        )
        for one in found.hidden
    ]
    return TileGrid(
        title=(
            f"{found.network.name} · images with a hidden part",
            f"the first {len(tiles)} of {counted(len(found.images), 'image')} · hidden: {found.fill}",
        ),
        tiles=tuple(tiles),
        row_labels=tuple(printable(one.name) for one in found.hidden),
        column_labels=("complete", *columns),
        style=TileGridStyle("tile"),
    )
