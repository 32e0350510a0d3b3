"""Rectangles on the page, in inches from the top left corner; y increases downwards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rect:
    x: float
    y: float
    w: float
    h: float

    @property
    def right(self) -> float:
        return self.x + self.w

    @property
    def bottom(self) -> float:
        return self.y + self.h

    @property
    def area(self) -> float:
        return self.w * self.h

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.w / 2, self.y + self.h / 2

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """(left, right, bottom, top), as `imshow` takes it on a y axis that increases downwards."""
        return self.x, self.right, self.bottom, self.y

    def moved(self, dx: float, dy: float) -> Rect:
        return Rect(self.x + dx, self.y + dy, self.w, self.h)

    def fitted(self, w: float, h: float, *, left: float = 0.5, top: float = 0.5) -> Rect:
        """Return a rectangle of size (w, h) inside this one.

        `left` is the share of the free width that lies left of it, `top` the share of the free height above.
        """
        return Rect(self.x + (self.w - w) * left, self.y + (self.h - h) * top, w, h)

    def overlap(self, other: Rect) -> float:
        """Return the area that both rectangles share."""
        wide = min(self.right, other.right) - max(self.x, other.x)
        high = min(self.bottom, other.bottom) - max(self.y, other.y)
        return max(wide, 0.0) * max(high, 0.0)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """Return the point on the outline of this rectangle that is nearest to (x, y)."""
        inside = self.x < x < self.right and self.y < y < self.bottom
        if not inside:
            return min(max(x, self.x), self.right), min(max(y, self.y), self.bottom)
        edges = ((x - self.x, (self.x, y)), (self.right - x, (self.right, y)),
                 (y - self.y, (x, self.y)), (self.bottom - y, (x, self.bottom)))  # fmt: skip
        return min(edges)[1]
