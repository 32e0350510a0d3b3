"""Drawing on two sheets at once: the picture, and who owns each of its pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from deconvviz.scenes.colours import Colour
from deconvviz.scenes.shapes import Point, Pose, box, curve, oval

Owners = NDArray[np.uint8]  # (H, W), the number of the part that a pixel shows
Mask = NDArray[np.bool_]  # (H, W)

SUPERSAMPLING = 3  # odd, so that one sample lies on the centre of each final pixel
NOBODY = 0
FIRST_STRAY = 128  # owners below it belong to the object, from it on to stray parts


class Canvas:
    """A supersampled picture and, at the same size, the number of the part that shows in each sample."""

    def __init__(self, ground: Image.Image) -> None:
        side = ground.width * SUPERSAMPLING
        self.picture = ground.resize((side, side), Image.Resampling.BILINEAR)
        self.owners = Image.new("L", (side, side), NOBODY)
        self.painter = ImageDraw.Draw(self.picture)
        self.labeller = ImageDraw.Draw(self.owners)
        self._numbers: dict[tuple[str, bool], int] = {}

    def number(self, part: str | None, stray: bool) -> int:
        if part is None:
            return NOBODY
        first = FIRST_STRAY if stray else NOBODY + 1
        taken = sum(of_strays is stray for _, of_strays in self._numbers)
        return self._numbers.setdefault((part, stray), first + taken)

    def developed(self) -> tuple[Image.Image, Owners]:
        """The antialiased picture, and the owner that shows at the centre of each of its pixels."""
        centre = SUPERSAMPLING // 2
        owners = np.asarray(self.owners)[centre::SUPERSAMPLING, centre::SUPERSAMPLING]
        return self.picture.reduce(SUPERSAMPLING), owners

    def masks(self, owners: Owners, stray: bool) -> dict[str, Mask]:
        """A boolean mask for each part of which something shows."""
        masks = {part: owners == n for (part, of_strays), n in self._numbers.items() if of_strays is stray}
        return {part: mask for part, mask in masks.items() if mask.any()}


class Pen:
    """Draws the parts of one object in the object's own units. `part=None` draws what belongs to no part."""

    def __init__(
        self,
        canvas: Canvas,
        pose: Pose,
        outline: Colour | None = None,
        outline_width: float = 0.0,
        pattern: Image.Image | None = None,
        stray: bool = False,
    ) -> None:
        self.canvas, self.pose, self.stray = canvas, pose, stray
        self.outline, self.outline_width, self.pattern = outline, outline_width, pattern

    def plain(self) -> Pen:
        """The same pen without outline and pattern, for details that an outline would drown."""
        return Pen(self.canvas, self.pose, stray=self.stray)

    def fill(
        self, part: str | None, points: Sequence[Point], colour: Colour, over: Colour | None = None
    ) -> None:
        """A closed shape; where the pen's pattern is set, `over` is laid on it through the pattern."""
        placed = self.pose.apply(points)
        self.canvas.painter.polygon(placed, fill=colour)
        self.canvas.labeller.polygon(placed, fill=self.canvas.number(part, self.stray))
        if over is not None and self.pattern is not None:
            shape = Image.new("L", self.canvas.picture.size, 0)
            ImageDraw.Draw(shape).polygon(placed, fill=255)
            self.canvas.picture.paste(over, mask=ImageChops.multiply(shape, self.pattern))
        if self.outline is not None:
            self._line(part, [*placed, placed[0], placed[1]], self.outline_width, self.outline)

    def line(self, part: str | None, points: Sequence[Point], width: float, colour: Colour) -> None:
        """An open stroke with round ends; `width` in the object's units."""
        placed = self.pose.apply(points)
        self._line(part, placed, width, colour)
        radius = width * self.pose.scale / 2
        if radius >= 1.5:
            for x, y in (placed[0], placed[-1]):
                ends = (x - radius, y - radius, x + radius, y + radius)
                self.canvas.painter.ellipse(ends, fill=colour)
                self.canvas.labeller.ellipse(ends, fill=self.canvas.number(part, self.stray))

    def _line(self, part: str | None, placed: Sequence[Point], width: float, colour: Colour) -> None:
        pixels = max(1, round(width * self.pose.scale))
        self.canvas.painter.line(placed, fill=colour, width=pixels)
        self.canvas.labeller.line(placed, fill=self.canvas.number(part, self.stray), width=pixels)

    def claim(self, part: str, points: Sequence[Point]) -> None:
        """Gives an area to a part without painting it: the gaps between the spokes of a wheel."""
        number = self.canvas.number(part, self.stray)
        self.canvas.labeller.polygon(self.pose.apply(points), fill=number)

    def oval(
        self,
        part: str | None,
        x: float,
        y: float,
        rx: float,
        ry: float,
        colour: Colour,
        turn: float = 0.0,
        over: Colour | None = None,
    ) -> None:
        self.fill(part, oval(x, y, rx, ry, turn), colour, over)

    def box(
        self,
        part: str | None,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        colour: Colour,
        corner: float = 0.0,
        over: Colour | None = None,
    ) -> None:
        self.fill(part, box(x0, y0, x1, y1, corner), colour, over)

    def blob(
        self, part: str | None, points: Sequence[Point], colour: Colour, over: Colour | None = None
    ) -> None:
        """A closed smooth shape through the points."""
        self.fill(part, curve(points), colour, over)

    def arc(self, part: str | None, points: Sequence[Point], width: float, colour: Colour) -> None:
        """An open smooth stroke through the points."""
        self.line(part, curve(points, closed=False), width, colour)
