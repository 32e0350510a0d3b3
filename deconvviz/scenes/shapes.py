"""Outlines as lists of points, in object coordinates.

The x axis points right, the y axis points down, and the object lies within [-1, 1] on both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Point = tuple[float, float]


def oval(x: float, y: float, rx: float, ry: float, turn: float = 0.0, count: int = 28) -> list[Point]:
    """Return `count` points on an ellipse; `turn` rotates it by degrees, clockwise on the screen."""
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    ring = ((rx * math.cos(a), ry * math.sin(a)) for a in (math.tau * i / count for i in range(count)))
    return [(x + u * cos - v * sin, y + u * sin + v * cos) for u, v in ring]


def box(x0: float, y0: float, x1: float, y1: float, corner: float = 0.0) -> list[Point]:
    """Return the points of a rectangle; its corners are rounded with radius `corner`."""
    if corner <= 0:
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    corner = min(corner, (x1 - x0) / 2, (y1 - y0) / 2)
    left, right, top, bottom = x0 + corner, x1 - corner, y0 + corner, y1 - corner
    middles = ((right, bottom), (left, bottom), (left, top), (right, top))
    steps = [math.radians(90 * i / 5) for i in range(6)]
    return [
        (mx + corner * math.cos(quarter * math.pi / 2 + a), my + corner * math.sin(quarter * math.pi / 2 + a))
        for quarter, (mx, my) in enumerate(middles)
        for a in steps
    ]


def curve(points: Sequence[Point], closed: bool = True, steps: int = 6) -> list[Point]:
    """Return points on a Catmull-Rom curve through `points`, `steps` for each segment."""
    n = len(points)
    out: list[Point] = []
    for i in range(n if closed else n - 1):
        if closed:
            a, b, c, d = (points[(i + k) % n] for k in (-1, 0, 1, 2))
        else:
            a, b, c, d = (points[min(max(i + k, 0), n - 1)] for k in (-1, 0, 1, 2))
        out.extend(_interpolated(a, b, c, d, j / steps) for j in range(steps))
    return out if closed else [*out, points[-1]]


def _interpolated(a: Point, b: Point, c: Point, d: Point, t: float) -> Point:
    weights = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
    x = sum(w * p[0] for w, p in zip(weights, (a, b, c, d), strict=True)) / 2
    y = sum(w * p[1] for w, p in zip(weights, (a, b, c, d), strict=True)) / 2
    return x, y


@dataclass(frozen=True)
class Pose:
    """Placement of an object in the image: an affine map from object coordinates to canvas pixels."""

    a: float
    b: float
    c: float
    d: float
    x: float
    y: float

    @classmethod
    def at(
        cls, x: float, y: float, scale: float, turn: float = 0.0, stretch: float = 1.0, flip: bool = False
    ) -> Pose:
        """Return the pose of an object with its centre at (x, y), in canvas pixels.

        `scale` is the number of canvas pixels in one object unit. `stretch` makes the object wider and
        flatter, `flip` mirrors it left to right, and `turn` then rotates it by degrees clockwise.
        """
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        wide, high = scale * stretch * (-1 if flip else 1), scale / stretch
        return cls(cos * wide, -sin * high, sin * wide, cos * high, x, y)

    @property
    def scale(self) -> float:
        """Canvas pixels in one object unit, as the square root of the change of area."""
        return math.sqrt(abs(self.a * self.d - self.b * self.c))

    def apply(self, points: Iterable[Point]) -> list[Point]:
        """Return the points in canvas pixels."""
        return [(self.a * u + self.b * v + self.x, self.c * u + self.d * v + self.y) for u, v in points]
