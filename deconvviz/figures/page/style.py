"""The look of every sheet, whatever the user's own matplotlib settings are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib

PAPER = "white"
INK = "#1a1a1a"
SOFT_INK = "#5f5f5f"
OUTSIDE = "#ececec"  # the part of a frame that a patch cut by the picture's border leaves empty
# Okabe and Ito's colours (safe for the colour-blind), slightly darker, and two more.
COLOURS = ("#d0500a", "#0072b2", "#008f68", "#b0468f", "#e69f00", "#2b9fd8", "#7a5c2e", "#4b4b9b")

TITLE, SUBTITLE, CAPTION, SMALL = 8.5, 6.8, 6.2, 6.0  # points
LEADING = 1.25  # line height over font size
# The generic second name is for readers of SVG and PDF who do not have the first.
FAMILY = ("DejaVu Sans", "sans-serif")

_DRAWING = ("agg.", "axes.", "figure.", "font.", "image.", "lines.", "mathtext.", "patch.", "path.", "pdf.",
            "savefig.", "svg.", "text.", "xtick.", "ytick.")  # fmt: skip
_OURS: dict[str, Any] = {
    "figure.max_open_warning": 0,
    "pdf.fonttype": 42,  # TrueType: text stays text, and journals accept it
    "svg.fonttype": "none",  # text stays text
    "text.hinting": "none",  # hinted letters are up to a quarter wider at a screen's resolution
    "svg.hashsalt": "deconvviz",  # the same figure gives the same ids, hence the same file
}


@contextlib.contextmanager
def sheet_style() -> Iterator[None]:
    """Matplotlib's own defaults with our few changes, and the user's settings again afterwards."""
    given = dict.items(matplotlib.rcParamsDefault)
    settings: dict[Any, Any] = {name: value for name, value in given if name.startswith(_DRAWING)}
    with matplotlib.rc_context(settings | _OURS):
        yield


def line_height(size: float) -> float:
    """Points -> inches."""
    return size * LEADING / 72


def colour(number: int) -> str:
    """The colour of a tile's number and box; colours come back, numbers do not."""
    return COLOURS[(number - 1) % len(COLOURS)]


def ink_on(background: str) -> str:
    """Black or white, whichever reads better on a background written '#rrggbb'."""
    red, green, blue = (int(background[i : i + 2], 16) / 255 for i in (1, 3, 5))
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return "white" if luminance < 0.3 else "black"
