"""Appearance of every figure, independent of the user's matplotlib settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.colors import to_rgb

PAPER = "white"
INK = "#1a1a1a"
SOFT_INK = "#5f5f5f"
OUTSIDE = "#ececec"  # empty part of a frame whose patch was cut at the image border
# For lines on paper: the colour-blind-safe colours of Okabe and Ito, slightly darker, and two more.
COLOURS = ("#d0500a", "#0072b2", "#008f68", "#b0468f", "#e69f00", "#2b9fd8", "#7a5c2e", "#4b4b9b")
# For boxes and numbers on images. Any two differ in lightness by at least 9 of 100, so that they can be told
# apart in grey and by colour-blind readers; neighbours in this order differ by more.
MARK_COLOURS = ("#fd8e52", "#401678", "#0fdbe4", "#e20c81", "#e0ed1c", "#622ff5", "#2d4f1c", "#608ef2")

TITLE, SUBTITLE, CAPTION, SMALL = 8.5, 6.8, 6.2, 6.0  # points
LEADING = 1.25  # line height over font size
# The second name is the fallback for SVG and PDF viewers that lack the first font.
FAMILY = ("DejaVu Sans", "sans-serif")

_DRAWING = ("agg.", "axes.", "figure.", "font.", "image.", "lines.", "mathtext.", "patch.", "path.", "pdf.",
            "savefig.", "svg.", "text.", "xtick.", "ytick.")  # fmt: skip
_SETTINGS: dict[str, Any] = {
    "figure.max_open_warning": 0,
    "pdf.fonttype": 42,  # TrueType: text stays text, and journals accept it
    "svg.fonttype": "none",  # text stays text
    "text.hinting": "none",  # hinted letters are up to 25 % wider at screen resolution
    "svg.hashsalt": "deconvviz",  # fixed, so that the same figure gives the same ids
}


@contextlib.contextmanager
def sheet_style() -> Iterator[None]:
    """Use matplotlib's defaults with a few changes inside the context, then restore the user's settings."""
    given = dict.items(matplotlib.rcParamsDefault)
    settings: dict[Any, Any] = {name: value for name, value in given if name.startswith(_DRAWING)}
    with matplotlib.rc_context(settings | _SETTINGS):
        yield


def line_height(size: float) -> float:
    """Return the height of a line in inches for a font size in points."""
    return size * LEADING / 72


@dataclass(frozen=True)
class Mark:
    """Colours of a unit's box and number. The box is a line of `colour` with a thin `core` in its middle."""

    colour: str
    core: str | None
    ground: str  # background of the number
    ink: str  # colour of the number

    @property
    def halo(self) -> str:
        """Colour of the edge around the line: white for dark lines, black for light ones."""
        return "white" if ink_on(self.colour) == "white" else "black"


def mark_of(number: int) -> Mark:
    """Return the colours of a unit's box and number.

    Units 1 to 8 have plain lines, 9 to 16 the same colours with a white core, 17 to 24 with a black core.
    The background of the number is coloured, white or black accordingly. The colours repeat after 24 units.
    """
    round_number, index = divmod(number - 1, len(MARK_COLOURS))
    colour = MARK_COLOURS[index]
    core = (None, "white", "black")[round_number % 3]
    ground = core or colour
    return Mark(colour, core, ground, ink_on(ground))


def ink_on(background: str) -> str:
    """Return black or white, whichever is easier to read on a background colour."""
    red, green, blue = to_rgb(background)
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    return "white" if luminance < 0.18 else "black"
