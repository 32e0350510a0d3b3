"""The page and the methods that draw on it. All positions are inches from the top left corner.

Every artist has a gid such as 'caption-3-0' or 'projection-3', which is the id of its element in SVG.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle
from matplotlib.patheffects import AbstractPathEffect, Normal, Stroke

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.style import INK, PAPER, SMALL, Mark, line_height, mark_of, sheet_style
from deconvviz.figures.page.text import font, width_of
from deconvviz.figures.spec.arrays import Array
from deconvviz.figures.spec.colour import Limit

BADGE_HEIGHT = 0.105
_DASHES = (0, (3.0, 2.0))


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
    """Figure that always uses deconvviz's matplotlib settings, even if the user draws or saves it."""

    colour_scale: Mapping[str, Any] | None = None  # for the manifest, as plain JSON values

    def draw(self, renderer: RendererBase) -> None:
        with sheet_style():
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        with sheet_style():
            super().savefig(fname, **options)


def set_colour_scale(figure: Figure, units: str, limits: Sequence[Limit]) -> None:
    """Attach the limits of the colour scales to a figure; they are written to its manifest."""
    if isinstance(figure, SheetFigure):
        figure.colour_scale = {
            "units": units,
            "limits": [limit.value for limit in limits],
            "clipped": [limit.clipped for limit in limits],
        }


class Paper:
    """Figure with one set of axes, in inches, that covers it. `scale` enlarges everything on it."""

    def __init__(self, width: float, height: float, label: str, scale: float = 1.0) -> None:
        size = (width * scale, height * scale)
        self.figure = SheetFigure(figsize=size, dpi=100, facecolor=PAPER, edgecolor=PAPER)
        self._whole = Rect(0, 0, width, height)
        self._scale = scale
        self.figure.suppressComposite = True  # each image stays an image of its own in SVG and PDF
        self.figure.set_label(label)
        self._axes: Axes = self.figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self._axes.set_axis_off()
        self._axes.set_xlim(0, width)
        self._axes.set_ylim(height, 0)
        self._axes.autoscale(False)

    @property
    def whole(self) -> Rect:
        return self._whole

    def lines(self, lines: Sequence[Line], x: float, y: float, gid: str) -> None:
        """Draw lines of text below each other, from the top left corner (x, y)."""
        for index, line in enumerate(lines):
            if line.text:
                # Unlike 'top', the baseline does not depend on the letters of the line.
                self._text(x, y + 0.78 * line.height, line, f"{gid}-{index}", ha="left", va="baseline")
            y += line.height

    def centred(self, line: Line, x: float, y: float, gid: str) -> None:
        """Draw a line of text centred at (x, y)."""
        self._text(x, y, line, gid, ha="center", va="center_baseline", zorder=5)

    def upright(self, line: Line, x: float, y: float, gid: str) -> None:
        """Draw a line of text rotated by 90 degrees, with its left side at x and its middle at y."""
        self._text(x, y, line, gid, ha="left", va="center", rotation=90)

    def aligned(self, line: Line, x: float, y: float, gid: str, *, ha: str) -> None:
        """Draw a line of text with its middle, left or right end (`ha`) at x, centred vertically at y."""
        self._text(x, y, line, gid, ha=ha, va="center_baseline")

    def image(self, colours: Array, place: Rect, gid: str) -> None:
        """Draw an array of colours (h, w, 3) in a rectangle."""
        # 'antialiased' draws enlarged pixels as squares, and averages pixels if the image is reduced.
        self._axes.imshow(
            colours, extent=place.extent, aspect="auto", interpolation="antialiased", origin="upper",
            zorder=1, gid=gid,
        )  # fmt: skip

    def ground(self, place: Rect, colour: str, *, over: bool = False) -> None:
        """Fill a rectangle below the images, or above them with transparency if `over` is True."""
        look = {"alpha": 0.8, "zorder": 2} if over else {"zorder": 0}
        self._rectangle(place, facecolor=colour, edgecolor="none", **look)

    def outline(self, place: Rect, mark: Mark, gid: str) -> None:
        """Draw a solid box."""
        self._rectangle(
            place, fill=False, edgecolor=mark.colour, linewidth=1.3 * self._scale, zorder=3, gid=gid,
            joinstyle="miter", path_effects=self._line(mark, 1.3),
        )  # fmt: skip

    def dashes(self, place: Rect, mark: Mark, gid: str) -> None:
        """Draw a thin dashed box."""
        self._rectangle(
            place, fill=False, edgecolor=mark.colour, linewidth=0.6 * self._scale, linestyle=_DASHES,
            zorder=2.5, gid=gid, joinstyle="miter", path_effects=self._halo(mark, 0.6, edge=0.7),
        )  # fmt: skip

    def dot(self, x: float, y: float, mark: Mark, gid: str) -> None:
        look: dict[str, Any] = {"facecolor": mark.colour, "edgecolor": "white", "zorder": 3}
        self._axes.add_artist(Circle((x, y), 0.025, gid=gid, linewidth=0.5 * self._scale, **look))

    def stroke(self, start: tuple[float, float], end: tuple[float, float], mark: Mark, gid: str) -> None:
        """Draw the line from a number to its box."""
        self._axes.plot(
            *np.transpose((start, end)),
            color=mark.colour,
            linewidth=0.8 * self._scale,
            zorder=3,
            gid=gid,
            path_effects=self._halo(mark, 0.8),
        )

    def tick(self, x: float, top: float, bottom: float, gid: str) -> None:
        look: dict[str, Any] = {"color": "black", "linewidth": 0.4 * self._scale, "zorder": 2, "gid": gid}
        self._axes.plot((x, x), (top, bottom), **look)

    def badge(self, number: int, place: Rect, gid: str) -> None:
        """Draw a unit's number on its background, framed in the unit's colour if the background differs."""
        mark = mark_of(number)
        edge, wide = ("white", 0.3) if mark.core is None else (mark.colour, 1.0)
        inset = 0.0 if mark.core is None else wide / 2 / 72
        inner = Rect(place.x + inset, place.y + inset, place.w - 2 * inset, place.h - 2 * inset)
        look = {"facecolor": mark.ground, "edgecolor": edge, "linewidth": wide * self._scale, "zorder": 4}
        self._rectangle(inner, gid=f"ground-{gid}", **look)
        self.centred(Line(str(number), SMALL, True, mark.ink), *place.centre, gid)

    def polyline(self, points: Array, clip: Rect, gid: str, **look: Any) -> None:
        """Draw a line through points (n, 2), clipped to `clip`. NaN leaves a gap."""
        (line,) = self._axes.plot(points[:, 0], points[:, 1], gid=gid, **look)
        line.set_clip_path(self._clip(clip))

    def area(self, points: Array, clip: Rect, colour: str, gid: str) -> None:
        """Fill a polygon with the corners `points` (n, 2) in a light colour, clipped to `clip`."""
        polygon = Polygon(points, facecolor=colour, edgecolor="none", alpha=0.18, zorder=1, gid=gid)
        self._axes.add_artist(polygon)
        polygon.set_clip_path(self._clip(clip))

    def _halo(self, mark: Mark, width: float, *, edge: float = 1.0) -> list[AbstractPathEffect]:
        """Return path effects that add a contrasting edge to a line of `width` points.

        `edge` is the width of both sides of the edge together, in points.
        """
        around = Stroke(linewidth=(width + edge) * self._scale, foreground=mark.halo, alpha=0.55)
        return [around, Normal()]

    def _line(self, mark: Mark, width: float) -> list[AbstractPathEffect]:
        """Return path effects that add the contrasting edge and the mark's core."""
        effects = self._halo(mark, width)
        if mark.core is not None:
            effects.append(Stroke(linewidth=width / 2 * self._scale, foreground=mark.core))
        return effects

    def _clip(self, place: Rect) -> Rectangle:
        return Rectangle((place.x, place.y), place.w, place.h, transform=self._axes.transData)

    def _text(self, x: float, y: float, line: Line, gid: str, **look: Any) -> None:
        # File names may contain $, _ and ^, which must not be parsed as mathematics.
        self._axes.text(
            x, y, line.text, fontproperties=font(line.size * self._scale, line.bold), color=line.ink,
            parse_math=False, gid=gid, **look,
        )  # fmt: skip

    def _rectangle(self, place: Rect, **look: Any) -> None:
        self._axes.add_artist(Rectangle((place.x, place.y), place.w, place.h, **look))
