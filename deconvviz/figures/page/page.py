"""The page and what is put on it; all places are inches from the top left corner.

Every artist has a gid such as 'caption-3-0' or 'projection-3', which SVG keeps as the element's id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle
from matplotlib.patheffects import Normal, Stroke

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.style import INK, PAPER, SMALL, ink_on, line_height, sheet_style
from deconvviz.figures.page.text import font, width_of
from deconvviz.figures.spec.arrays import Array

BADGE_HEIGHT = 0.105
_HALO = (Stroke(linewidth=2.0, foreground="black", alpha=0.55), Normal())


@dataclass(frozen=True)
class Line:
    text: str
    size: float
    bold: bool = False
    ink: str = INK

    @property
    def height(self) -> float:
        return line_height(self.size)


def badge_width(number: int) -> float:
    return width_of(str(number), SMALL, bold=True) + 0.07


class SheetFigure(Figure):
    """A figure that keeps its look under anybody's settings, also where it is drawn or saved without us."""

    def draw(self, renderer: RendererBase) -> None:
        with sheet_style():
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        with sheet_style():
            super().savefig(fname, **options)


class Paper:
    """A figure with one set of axes, in inches, that covers it."""

    def __init__(self, width: float, height: float, label: str) -> None:
        self.figure = SheetFigure(figsize=(width, height), dpi=100, facecolor=PAPER, edgecolor=PAPER)
        self.figure.suppressComposite = True  # each image stays an image of its own in SVG and PDF
        self.figure.set_label(label)
        self._axes: Axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self._axes.set_axis_off()
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(height, 0)
        self._axes.autoscale(False)

    @property
    def whole(self) -> Rect:
        width, height = self.figure.get_size_inches()
        return Rect(0, 0, float(width), float(height))

    def lines(self, lines: Sequence[Line], x: float, y: float, gid: str) -> None:
        for index, line in enumerate(lines):
            if line.text:
                # A baseline, unlike 'top', does not move with the letters a line happens to have.
                self._text(x, y + 0.78 * line.height, line, f"{gid}-{index}", ha="left", va="baseline")
            y += line.height

    def centred(self, line: Line, x: float, y: float, gid: str) -> None:
        self._text(x, y, line, gid, ha="center", va="center_baseline", zorder=5)

    def upright(self, line: Line, x: float, y: float, gid: str) -> None:
        """Read from below, its left side at x and its middle at y."""
        self._text(x, y, line, gid, ha="left", va="center", rotation=90)

    def aligned(self, line: Line, x: float, y: float, gid: str, *, ha: str) -> None:
        """With its middle, left or right end at x, and its middle line at y."""
        self._text(x, y, line, gid, ha=ha, va="center_baseline")

    def image(self, colours: Array, place: Rect, gid: str) -> None:
        # 'antialiased' shows enlarged pixels as squares, and averages where there are more than the page has.
        self._axes.imshow(
            colours, extent=place.extent, aspect="auto", interpolation="antialiased", origin="upper",
            zorder=1, gid=gid,
        )  # fmt: skip

    def ground(self, place: Rect, colour: str, *, over: bool = False) -> None:
        """A plain area below the images, or a light veil over them."""
        look = {"alpha": 0.8, "zorder": 2} if over else {"zorder": 0}
        self._rectangle(place, facecolor=colour, edgecolor="none", **look)

    def outline(self, place: Rect, colour: str, gid: str) -> None:
        self._rectangle(
            place, fill=False, edgecolor=colour, linewidth=1.0, zorder=3, gid=gid, path_effects=list(_HALO)
        )

    def dot(self, x: float, y: float, colour: str, gid: str) -> None:
        look: dict[str, Any] = {"facecolor": colour, "edgecolor": "white", "linewidth": 0.5, "zorder": 3}
        self._axes.add_artist(Circle((x, y), 0.025, gid=gid, **look))

    def stroke(self, start: tuple[float, float], end: tuple[float, float], colour: str, gid: str) -> None:
        """From a number to the box it stands apart from."""
        self._axes.plot(
            *np.transpose((start, end)),
            color=colour,
            linewidth=0.8,
            zorder=3,
            gid=gid,
            path_effects=list(_HALO),
        )

    def tick(self, x: float, top: float, bottom: float, gid: str) -> None:
        self._axes.plot((x, x), (top, bottom), color="black", linewidth=0.4, zorder=2, gid=gid)

    def badge(self, number: int, place: Rect, colour: str, gid: str) -> None:
        self._rectangle(place, facecolor=colour, edgecolor="white", linewidth=0.3, zorder=4)
        self.centred(Line(str(number), SMALL, True, ink_on(colour)), *place.centre, gid)

    def polyline(self, points: Array, clip: Rect, gid: str, **look: Any) -> None:
        """Points (n, 2) joined by a line, drawn only inside `clip`; NaN leaves a gap."""
        (line,) = self._axes.plot(points[:, 0], points[:, 1], gid=gid, **look)
        line.set_clip_path(self._clip(clip))

    def area(self, points: Array, clip: Rect, colour: str, gid: str) -> None:
        """A light area with these corners (n, 2), drawn only inside `clip`."""
        polygon = Polygon(points, facecolor=colour, edgecolor="none", alpha=0.18, zorder=1, gid=gid)
        self._axes.add_artist(polygon)
        polygon.set_clip_path(self._clip(clip))

    def _clip(self, place: Rect) -> Rectangle:
        return Rectangle((place.x, place.y), place.w, place.h, transform=self._axes.transData)

    def _text(self, x: float, y: float, line: Line, gid: str, **look: Any) -> None:
        # A file's name may hold $, _ and ^: nothing is read as mathematics.
        self._axes.text(
            x, y, line.text, fontproperties=font(line.size, line.bold), color=line.ink, parse_math=False,
            gid=gid, **look,
        )  # fmt: skip

    def _rectangle(self, place: Rect, **look: Any) -> None:
        self._axes.add_artist(Rectangle((place.x, place.y), place.w, place.h, **look))
