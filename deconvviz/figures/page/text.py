"""Text that fits: cleaned for the font, measured in inches, elided in the middle or wrapped."""

from __future__ import annotations

import functools
import unicodedata

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from deconvviz.figures.page.style import FAMILY

ELLIPSIS = "…"
MISSING = "\N{REPLACEMENT CHARACTER}"
# Screens and other programs' fonts round: a line may come out a little wider than its outlines.
_ROUNDING = 1.03


@functools.lru_cache(maxsize=64)
def font(size: float, bold: bool = False) -> FontProperties:
    """Every property given, so that the user's own settings have no part in it."""
    return FontProperties(
        family=list(FAMILY), size=size, weight="bold" if bold else "normal", style="normal", variant="normal",
        stretch="normal", math_fontfamily="dejavusans",
    )  # fmt: skip


def clean(text: str, *, bold: bool = False) -> str:
    """One line the font can draw: marks of direction dropped, what it lacks replaced by a mark."""
    known = _characters(bold)
    kept = []
    for character in unicodedata.normalize("NFC", text):
        if character.isspace():
            kept.append(" ")
        elif unicodedata.category(character) != "Cf":
            drawable = ord(character) in known and unicodedata.category(character)[0] != "C"
            kept.append(character if drawable else MISSING)
    return "".join(kept)


@functools.lru_cache(maxsize=16384)
def width_of(text: str, size: float, bold: bool = False) -> float:
    """Inches."""
    if not text:
        return 0.0
    points, _, _ = text_to_path.get_text_width_height_descent(text, font(size, bold), ismath=False)
    return float(points) * _ROUNDING / 72


def elide(text: str, width: float, size: float, bold: bool = False) -> str:
    """The text, with as much of its middle left out as it takes to fit `width` inches."""
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
    """Lines of at most `width` inches, broken at ' · ' or else at spaces; longer words are elided."""
    lines: list[str] = []
    for part in _packed(text.split(" · "), " · ", width, size, bold):
        for line in _packed(part.split(" "), " ", width, size, bold):
            lines.append(elide(line, width, size, bold))
    return tuple(lines)


def wrap_at_most(
    text: str, width: float, size: float, most: int, *, bold: bool = False, joint: str = " "
) -> tuple[str, ...]:
    """As `wrap`, in at most `most` lines: what does not fit is joined to one line that loses its middle."""
    lines = wrap(text, width, size, bold)
    if len(lines) <= most:
        return lines
    return (*lines[: most - 1], elide(joint.join(lines[most - 1 :]), width, size, bold))


def _packed(pieces: list[str], joint: str, width: float, size: float, bold: bool) -> list[str]:
    """As many pieces on each line as fit, at least one."""
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
