"""Position of a crop in its frame."""

from __future__ import annotations

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.spec.crop import Cut, Size


def place_crop(frame: Rect, size: Size, largest: Size, cut: Cut) -> Rect:
    """Return the rectangle of a crop in its frame.

    `size` and `largest` are (height, width) in pixels. The zoom is the one at which a crop of `largest`
    fits the frame, so crops that share `largest` share one zoom. A crop that was cut at the image border is
    smaller; it is aligned with the side of the frame where it was not cut.
    """
    (height, width), (down, across) = size, largest
    zoom = min(frame.w / across, frame.h / down)
    left, top = _space_before(cut.left, cut.right), _space_before(cut.top, cut.bottom)
    return frame.fitted(width * zoom, height * zoom, left=left, top=top)


def _space_before(cut_before: bool, cut_after: bool) -> float:
    """Return the share of the free width (or height) that lies left of (or above) the crop."""
    return 0.5 if cut_before == cut_after else float(cut_before)
