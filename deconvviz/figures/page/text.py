"""Clean text for the font, measure it in inches, and wrap or shorten it to fit."""

from __future__ import annotations

import functools
import unicodedata

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from deconvviz.figures.page.style import FAMILY
from deconvviz.printable_names import printable

ELLIPSIS = "…"
MISSING = "\N{REPLACEMENT CHARACTER}"
# Rounding on screens and other fonts can make a line slightly wider than its outlines.
_ROUNDING = 1.03


@functools.lru_cache(maxsize=64)
def font(size: float, bold: bool = False) -> FontProperties:
    """Return font properties that do not depend on the user's settings: every property is given."""
    return FontProperties(
        family=list(FAMILY), size=size, weight="bold" if bold else "normal", style="normal", variant="normal",
        stretch="normal", math_fontfamily="dejavusans",
    )  # fmt: skip


def clean(text: str, *, bold: bool = False) -> str:
    """Return the text as one line that the font can draw.

    Control characters are escaped, joiners are removed, and characters that the font lacks are replaced.
    """
    known = _characters(bold)
    kept = []
    line = "".join(" " if character.isspace() else character for character in text)
    for character in unicodedata.normalize("NFC", printable(line)):
        if character == " ":
            kept.append(" ")
        elif unicodedata.category(character) != "Cf":
            drawable = ord(character) in known and unicodedata.category(character)[0] != "C"
            kept.append(character if drawable else MISSING)
    return "".join(kept)


@functools.lru_cache(maxsize=16384)
def width_of(text: str, size: float, bold: bool = False) -> float:
    """Return the width of a line of text in inches."""
    if not text:
        return 0.0
    points, _, _ = text_to_path.get_text_width_height_descent(text, font(size, bold), ismath=False)
    return float(points) * _ROUNDING / 72


def elide(text: str, width: float, size: float, bold: bool = False) -> str:
    """Return the text, with its middle replaced by an ellipsis if it is wider than `width` inches."""
    if width_of(text, size, bold) <= width:
        return text
    fits, too_many = 0, len(text)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if width_of(_without_middle(text, middle), size, bold) <= width:
            fits = middle
        else:
            too_many = middle
    return _without_middle(text, fits)


def wrap(text: str, width: float, size: float, bold: bool = False) -> tuple[str, ...]:
    """Return lines of at most `width` inches, broken at ' · ' or at spaces; longer words are shortened."""
    lines: list[str] = []
    for part in _packed(text.split(" · "), " · ", width, size, bold):
        for line in _packed(part.split(" "), " ", width, size, bold):
            lines.append(elide(line, width, size, bold))
    return tuple(lines)


def wrap_at_most(
    text: str, width: float, size: float, most: int, *, bold: bool = False, joint: str = " "
) -> tuple[str, ...]:
    """Wrap to at most `most` lines. The lines that do not fit are joined and shortened to the last line."""
    lines = wrap(text, width, size, bold)
    if len(lines) <= most:
        return lines
    return (*lines[: most - 1], elide(joint.join(lines[most - 1 :]), width, size, bold))


def _packed(pieces: list[str], joint: str, width: float, size: float, bold: bool) -> list[str]:
    """Join pieces to lines of at most `width` inches, with at least one piece on each line."""
    lines = pieces[:1]
    for piece in pieces[1:]:
        longer = lines[-1] + joint + piece
        if width_of(longer, size, bold) <= width:
            lines[-1] = longer
        else:
            lines.append(piece)
    return lines


def _without_middle(text: str, kept: int) -> str:
    tail = (kept + 1) // 2
    return text[: kept - tail].rstrip() + ELLIPSIS + text[len(text) - tail :].lstrip()


@functools.cache
def _characters(bold: bool) -> frozenset[int]:
    properties = FontProperties(family=FAMILY[0], weight="bold" if bold else "normal")
    return frozenset(get_font(findfont(properties)).get_charmap())
