"""The sizes of a printed page that all figures share, in inches."""

from __future__ import annotations

import math

PAGE = 7.2  # two columns of a paper: a figure that chooses its width is never wider
TOP_NINE_PAGE = 7.0  # the same for top-nine figures: with PAGE every one already published would change
COLUMN = 3.45  # one column of a paper: nor narrower
TALLEST = 9.4  # the height of a page
MARGIN = 0.06
CAPTION_GAP = 0.04  # between a tile and the caption below it


def frame_ratio(size: tuple[int, int]) -> float:
    """Height over width of the frame for crops of at most this (height, width); never extreme."""
    height, width = size
    return min(max(height / width, 0.25), 4.0)


def excess(ratio: float) -> float:
    """The logarithm of a ratio above 1, and 0 below: how much a layout misses a size."""
    return max(math.log(ratio), 0.0)
