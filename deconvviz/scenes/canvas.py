"""Drawing an image together with a map of the part that each of its pixels shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from deconvviz.scenes.colours import Colour, other_hue
from deconvviz.scenes.shapes import Point, Pose, box, curve, oval

PartMap = NDArray[np.uint8]  # (H, W), number of the part that each pixel shows
Mask = NDArray[np.bool_]  # (H, W)

SUPERSAMPLING = 3  # odd, so that one sample is at the centre of each final pixel
BACKGROUND = 0
FIRST_DISTRACTOR = 128  # lower numbers are parts of the object; this and higher numbers are distractors


@dataclass(frozen=True)
class Changes:
    """Changes to the parts of the object; distractors do not change.

    Attributes:
        without: Names of the parts that are not drawn.
        turns: How far the hue of a part turns, by name; 1 is a full turn.
    """

    without: frozenset[str] = frozenset()
    turns: Mapping[str, float] = field(default_factory=dict)


NO_CHANGES = Changes()


class Canvas:
    """Supersampled image, and a map of the same size with the number of the part that each sample shows."""

    def __init__(self, background: Image.Image, changes: Changes = NO_CHANGES) -> None:
        self.changes = changes
        side = background.width * SUPERSAMPLING
        self.image = background.resize((side, side), Image.Resampling.BILINEAR)
        self.part_map = Image.new("L", (side, side), BACKGROUND)
        self.painter = ImageDraw.Draw(self.image)
        self.labeller = ImageDraw.Draw(self.part_map)
        self._numbers: dict[tuple[str, bool], int] = {}

    def number(self, part: str | None, distractor: bool) -> int:
        """Return the number of a part in the map; a new part gets the next free number."""
        if part is None:
            return BACKGROUND
        first = FIRST_DISTRACTOR if distractor else BACKGROUND + 1
        taken = sum(is_distractor is distractor for _, is_distractor in self._numbers)
        return self._numbers.setdefault((part, distractor), first + taken)

    def render(self) -> tuple[Image.Image, PartMap]:
        """Return the antialiased image, and the number of the part at the centre of each of its pixels."""
        centre = SUPERSAMPLING // 2
        part_map = np.asarray(self.part_map)[centre::SUPERSAMPLING, centre::SUPERSAMPLING]
        return self.image.reduce(SUPERSAMPLING), part_map

    def masks(self, part_map: PartMap, distractor: bool) -> dict[str, Mask]:
        """Return a boolean mask for each part that is at least partly visible."""
        numbers = {
            part: n for (part, is_distractor), n in self._numbers.items() if is_distractor is distractor
        }
        masks = {part: part_map == n for part, n in numbers.items()}
        return {part: mask for part, mask in masks.items() if mask.any()}


class Pen:
    """Pen that draws parts in object coordinates. What is drawn with `part=None` belongs to no part."""

    def __init__(
        self,
        canvas: Canvas,
        pose: Pose,
        outline: Colour | None = None,
        outline_width: float = 0.0,
        pattern: Image.Image | None = None,
        distractor: bool = False,
    ) -> None:
        self.canvas, self.pose, self.distractor = canvas, pose, distractor
        self.outline, self.outline_width, self.pattern = outline, outline_width, pattern

    def plain(self) -> Pen:
        """Return this pen without outline and pattern, for details that an outline would hide."""
        return Pen(self.canvas, self.pose, distractor=self.distractor)

    def fill(
        self, part: str | None, points: Sequence[Point], colour: Colour, over: Colour | None = None
    ) -> None:
        """Draw a closed shape. If the pen has a pattern, the colour `over` is painted through it."""
        if self._leaves_out(part):
            return
        placed = self.pose.apply(points)
        self.canvas.painter.polygon(placed, fill=self._shown(part, colour))
        self.canvas.labeller.polygon(placed, fill=self.canvas.number(part, self.distractor))
        if over is not None and self.pattern is not None:
            shape = Image.new("L", self.canvas.image.size, 0)
            ImageDraw.Draw(shape).polygon(placed, fill=255)
            self.canvas.image.paste(self._shown(part, over), mask=ImageChops.multiply(shape, self.pattern))
        if self.outline is not None:
            self._line(part, [*placed, placed[0], placed[1]], self.outline_width, self.outline)

    def line(self, part: str | None, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw an open stroke with round ends; `width` is in object units."""
        if self._leaves_out(part):
            return
        placed, colour = self.pose.apply(points), self._shown(part, colour)
        self._line(part, placed, width, colour)
        radius = width * self.pose.scale / 2
        if radius >= 1.5:
            for x, y in (placed[0], placed[-1]):
                ends = (x - radius, y - radius, x + radius, y + radius)
                self.canvas.painter.ellipse(ends, fill=colour)
                self.canvas.labeller.ellipse(ends, fill=self.canvas.number(part, self.distractor))

    def _line(self, part: str | None, placed: Sequence[Point], width: float, colour: Colour) -> None:
        pixels = max(1, round(width * self.pose.scale))
        self.canvas.painter.line(placed, fill=colour, width=pixels)
        self.canvas.labeller.line(placed, fill=self.canvas.number(part, self.distractor), width=pixels)

    def label_area(self, part: str, points: Sequence[Point]) -> None:
        """Assign an area to a part without painting it, such as the gaps between the spokes of a wheel."""
        if self._leaves_out(part):
            return
        number = self.canvas.number(part, self.distractor)
        self.canvas.labeller.polygon(self.pose.apply(points), fill=number)

    def _leaves_out(self, part: str | None) -> bool:
        return not self.distractor and part in self.canvas.changes.without

    def _shown(self, part: str | None, colour: Colour) -> Colour:
        """Return the colour in which a part is drawn, which is another one if the part is recoloured."""
        if part is None or self.distractor or part not in self.canvas.changes.turns:
            return colour
        return other_hue(colour, self.canvas.changes.turns[part])

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
        """Draw a closed smooth shape through the points."""
        self.fill(part, curve(points), colour, over)

    def arc(self, part: str | None, points: Sequence[Point], width: float, colour: Colour) -> None:
        """Draw an open smooth stroke through the points."""
        self.line(part, curve(points, closed=False), width, colour)
