"""Sizes that all figures share, in inches."""

from __future__ import annotations

import math

PAGE = 7.2  # two columns of a paper; the largest width that is chosen automatically
TOP_NINE_PAGE = 7.0  # the same for top-nine figures; PAGE would change figures that are already published
COLUMN = 3.45  # about one column of a paper; the smallest width that is chosen automatically
PAPER_COLUMN = 86 / 25.4  # one column of a paper, as journals specify it
SLIDE = (40 / 3, 7.5)  # (width, height) at 16:9
TALLEST = 9.4  # the height of a page
MARGIN = 0.06
ABOVE_FOOTER = 0.1
CAPTION_GAP = 0.04  # between a tile and the caption below it


def frame_ratio(size: tuple[int, int]) -> float:
    """Return height over width of the frame for crops of at most `size` (height, width), from 1/4 to 4."""
    height, width = size
    return min(max(height / width, 0.25), 4.0)


def excess(ratio: float) -> float:
    """Return the logarithm of a ratio above 1, else 0: the cost of a layout that misses a target size."""
    return max(math.log(ratio), 0.0)
