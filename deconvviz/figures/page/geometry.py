"""Rectangles on the page: inches from the top left corner, y downwards."""

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
        """As `imshow` wants it on an axis that runs downwards: left, right, bottom, top."""
        return self.x, self.right, self.bottom, self.y

    def moved(self, dx: float, dy: float) -> Rect:
        return Rect(self.x + dx, self.y + dy, self.w, self.h)

    def fitted(self, w: float, h: float, *, left: float = 0.5, top: float = 0.5) -> Rect:
        """A rectangle of this size inside, the share `left` of the free width left of it, `top` above."""
        return Rect(self.x + (self.w - w) * left, self.y + (self.h - h) * top, w, h)

    def overlap(self, other: Rect) -> float:
        """The common area."""
        wide = min(self.right, other.right) - max(self.x, other.x)
        high = min(self.bottom, other.bottom) - max(self.y, other.y)
        return max(wide, 0.0) * max(high, 0.0)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of this rectangle's outline nearest to (x, y)."""
        inside = self.x < x < self.right and self.y < y < self.bottom
        if not inside:
            return min(max(x, self.x), self.right), min(max(y, self.y), self.bottom)
        edges = ((x - self.x, (self.x, y)), (self.right - x, (self.right, y)),
                 (y - self.y, (x, self.y)), (self.bottom - y, (x, self.bottom)))  # fmt: skip
        return min(edges)[1]
