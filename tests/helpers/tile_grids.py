"""Random tile grids and curves for tests."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from deconvviz.figures.spec.curves import Curve, CurvePanel, Curves
from deconvviz.figures.spec.style import CurvesStyle, TileGridStyle
from deconvviz.figures.spec.tile_grid import GridTile, TileGrid

LONG = "a label of many words that do not fit on one line · and more words"


def signed(random: np.random.Generator, height: int = 12, width: int = 12, size: float = 1.0) -> GridTile:
    return GridTile(random.standard_normal((height, width, 3)) * size)


def random_grid(rows: int, columns: int, *, long: bool = False, **grid: object) -> TileGrid:
    """Return a grid with images in the first column, maps in the last, and signed tiles between.

    Large grids have one missing tile.
    """
    random = np.random.default_rng(100 * rows + columns)
    tiles = [
        [signed(random, size=10.0 ** (row - column)) for column in range(columns)] for row in range(rows)
    ]
    for row in tiles:
        if columns > 2:
            row[0] = GridTile(random.random((12, 12, 3)), "image")
            row[-1] = GridTile(random.random((5, 5)), "map")
    if rows * columns > 4:
        tiles[-1][columns // 2] = GridTile(None, note="not recorded")
    style = {f.name: grid.pop(f.name) for f in fields(TileGridStyle) if f.name in grid}
    given = {
        "title": ("minivgg · conv4_2", "a tile grid"),
        "tiles": tiles,
        "row_labels": [LONG if long else f"channel {7 * row}" for row in range(rows)],
        "column_labels": [LONG if long else f"epoch {2**column}" for column in range(columns)],
        "style": TileGridStyle(**style),
        "footer": LONG if long else "",
        **grid,
    }
    return TileGrid(**given)


def random_curves(panels: int, lines: int, *, long: bool = False, **curves: object) -> Curves:
    random = np.random.default_rng(100 * panels + lines)
    x = np.arange(0, 181, 15.0)
    made = [
        CurvePanel(
            [
                Curve(f"{LONG if long else 'image'} {n}", x, random.random(13) * 10.0 ** (panel - 3))
                for n in range(lines)
            ],
            LONG if long else "rotation",
            LONG if long else "distance",
            LONG if long else f"conv{panel}_1",
            "degrees",
            "normalised",
        )
        for panel in range(panels)
    ]
    style = {f.name: curves.pop(f.name) for f in fields(CurvesStyle) if f.name in curves}
    title = (LONG,) * 3 if long else ("minivgg", "invariance")
    return Curves(**{"title": title, "panels": made, "style": CurvesStyle(**style), **curves})
