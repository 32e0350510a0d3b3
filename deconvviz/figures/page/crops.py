"""Where a crop is drawn in its frame."""

from __future__ import annotations

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.spec.crop import Cut, Size


def place_crop(frame: Rect, size: Size, largest: Size, cut: Cut) -> Rect:
    """The place of a crop of `size` in its frame, at the zoom that fits a crop of `largest` into the frame.

    Crops at one zoom share `largest`: one that the image's border cut is smaller, and stands on the side
    where it was not cut.
    """
    (height, width), (down, across) = size, largest
    zoom = min(frame.w / across, frame.h / down)
    left, top = _space_before(cut.left, cut.right), _space_before(cut.top, cut.bottom)
    return frame.fitted(width * zoom, height * zoom, left=left, top=top)


def _space_before(cut_before: bool, cut_after: bool) -> float:
    """The share of the frame's free width (or height) that is left of (above) the crop."""
    return 0.5 if cut_before == cut_after else float(cut_before)
