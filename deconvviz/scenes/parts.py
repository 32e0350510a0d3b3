"""Drawing functions for parts that several classes share, so that a part looks alike in all of them."""

from __future__ import annotations

import math

from deconvviz.scenes.canvas import Pen
from deconvviz.scenes.colours import BLACK, WHITE, Colour, Palette, darker, lighter, mix
from deconvviz.scenes.dice import SceneRng
from deconvviz.scenes.shapes import Point, oval


def wheel(pen: Pen, x: float, y: float, r: float, palette: Palette, rng: SceneRng) -> None:
    pen.oval("wheel", x, y, r, r, palette.rubber)
    pen = pen.plain()
    pen.oval("wheel", x, y, 0.62 * r, 0.62 * r, lighter(palette.metal, 0.35))
    _spokes(pen, x, y, 0.6 * r, 0.12 * r, rng.integer(2, 3), rng.between(0, 180), darker(palette.metal, 0.4))
    pen.oval("wheel", x, y, 0.2 * r, 0.2 * r, palette.rubber)


def open_wheel(pen: Pen, x: float, y: float, r: float, palette: Palette, rng: SceneRng) -> None:
    """Draw a bicycle wheel: the background is visible between the spokes, but the mask is the whole disc."""
    pen.label_area("wheel", oval(x, y, r, r))
    _spokes(pen, x, y, 0.95 * r, 0.035, rng.integer(3, 5), rng.between(0, 180), palette.metal)
    ring = oval(x, y, 0.92 * r, 0.92 * r)
    pen.line("wheel", [*ring, ring[0]], rng.between(0.08, 0.13), palette.rubber)
    pen.oval("wheel", x, y, 0.13 * r, 0.13 * r, palette.rubber)


def _spokes(pen: Pen, x: float, y: float, r: float, width: float, count: int, turn: float, c: Colour) -> None:
    for i in range(count):
        angle = math.radians(turn + 180 * i / count)
        dx, dy = r * math.cos(angle), r * math.sin(angle)
        pen.line("wheel", [(x - dx, y - dy), (x + dx, y + dy)], width, c)


def eye(pen: Pen, x: float, y: float, r: float, iris: Colour, look: Point = (0.0, 0.0)) -> None:
    """Draw an eye; `look` is the direction in which the pupil is moved, each component in [-1, 1]."""
    pen.oval("eye", x, y, r, r, WHITE)
    pen = pen.plain()
    px, py = x + 0.3 * r * look[0], y + 0.3 * r * look[1]
    pen.oval("eye", px, py, 0.62 * r, 0.62 * r, iris)
    pen.oval("eye", px, py, 0.36 * r, 0.36 * r, BLACK)
    pen.oval("eye", px + 0.2 * r, py - 0.22 * r, 0.15 * r, 0.15 * r, WHITE)


def window(
    pen: Pen, x0: float, y0: float, x1: float, y1: float, palette: Palette, cross: bool = False
) -> None:
    frame = 0.12 * min(x1 - x0, y1 - y0)
    pen.box("window", x0, y0, x1, y1, lighter(palette.metal, 0.6), corner=frame)
    pen = pen.plain()
    pen.box("window", x0 + frame, y0 + frame, x1 - frame, y1 - frame, palette.glass)
    glint = [(x0 + 2 * frame, y1 - 2 * frame), (x1 - 2 * frame, y0 + 2 * frame)]
    pen.line("window", glint, 0.8 * frame, lighter(palette.glass, 0.7))
    if cross:
        bar = darker(palette.metal, 0.45)
        pen.line("window", [((x0 + x1) / 2, y0), ((x0 + x1) / 2, y1)], 0.8 * frame, bar)
        pen.line("window", [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2)], 0.8 * frame, bar)


def porthole(pen: Pen, x: float, y: float, r: float, palette: Palette) -> None:
    """Draw a round window."""
    pen.oval("window", x, y, r, r, lighter(palette.metal, 0.6))
    pen = pen.plain()
    pen.oval("window", x, y, 0.72 * r, 0.72 * r, palette.glass)
    pen.line("window", [(x - 0.3 * r, y + 0.3 * r), (x + 0.3 * r, y - 0.3 * r)], 0.18 * r, WHITE)


def door(pen: Pen, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
    wide = x1 - x0
    pen.box("door", x0, y0, x1, y1, colour, corner=0.1 * wide)
    pen = pen.plain()
    pen.box("door", x0 + 0.2 * wide, y0 + 0.16 * wide, x1 - 0.2 * wide, (y0 + y1) / 2, darker(colour, 0.25))
    pen.oval("door", x1 - 0.18 * wide, (y0 + y1) / 2 + 0.12 * wide, 0.1 * wide, 0.1 * wide, WHITE)


def chimney(pen: Pen, x: float, top: float, bottom: float, wide: float, colour: Colour) -> None:
    pen.box("chimney", x - wide / 2, top, x + wide / 2, bottom, colour)
    pen.box("chimney", x - 0.75 * wide, top, x + 0.75 * wide, top + 0.5 * wide, darker(colour, 0.3))


def smoke(pen: Pen, x: float, y: float, r: float, rng: SceneRng) -> None:
    """Draw three or four puffs that rise to the left."""
    grey = mix(WHITE, (150, 150, 160), rng.between(0.1, 0.8))
    for i in range(rng.integer(3, 4)):
        grow = r * (1 + 0.35 * i)
        drift = 0.75 * r * i * rng.between(0.6, 1.4)
        pen.oval("smoke", x - drift, y - 1.05 * r * i, grow, 0.85 * grow, grey)


def lamp(pen: Pen, x: float, y: float, r: float) -> None:
    pen.oval("light", x, y, r, r, (255, 214, 92))
    pen.plain().oval("light", x, y, 0.5 * r, 0.5 * r, (255, 245, 200))


def antenna(pen: Pen, foot: Point, bend: Point, tip: Point, colour: Colour) -> None:
    pen.arc("antenna", [foot, bend, tip], 0.05, colour)
    pen.oval("antenna", tip[0], tip[1], 0.07, 0.07, colour)


def petal(pen: Pen, x: float, y: float, reach: float, wide: float, turn: float, colour: Colour) -> None:
    """Draw a petal from (x, y) outwards; `turn` is its direction in degrees, 0 pointing right."""
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    pen.oval("petal", x + 0.55 * reach * cos, y + 0.55 * reach * sin, 0.5 * reach, wide, colour, turn)
    tip = (x + 0.75 * reach * cos, y + 0.75 * reach * sin)
    pen.line("petal", [(x, y), tip], 0.035, darker(colour, 0.3))


def leaf(pen: Pen, foot: Point, tip: Point, colour: Colour) -> None:
    dx, dy = tip[0] - foot[0], tip[1] - foot[1]
    middle = (foot[0] + 0.5 * dx, foot[1] + 0.5 * dy)
    sides = [(middle[0] - 0.28 * dy, middle[1] + 0.28 * dx), (middle[0] + 0.28 * dy, middle[1] - 0.28 * dx)]
    pen.blob("leaf", [foot, sides[0], tip, sides[1]], colour)
    pen.line("leaf", [foot, tip], 0.03, darker(colour, 0.35))
