"""Footer of a figure: colour bars, a description of the colour scale, and a line of free text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.page import Line, Paper
from deconvviz.figures.page.style import SMALL, SOFT_INK, line_height
from deconvviz.figures.page.text import clean, width_of, wrap
from deconvviz.figures.spec.arrays import Array

_BAR = (0.7, 0.085)
_GAP = 0.04
_AFTER_KEY = 0.14
_LEAST_TEXT_WIDTH = 1.6  # inches; if less is free to the right of the colour bars, the text goes below them


@dataclass(frozen=True)
class Key:
    """Colour bar with a label at each end and an optional label below its middle."""

    low: str
    high: str
    colours: Array  # (1, n, 3)
    middle: str = ""
    gid: str = "key"

    @property
    def width(self) -> float:
        return width_of(self.low, SMALL) + width_of(self.high, SMALL) + _BAR[0] + 2 * _GAP

    @property
    def height(self) -> float:
        return (2 if self.middle else 1) * line_height(SMALL)


def signed_key() -> Key:
    """Return the colour bar of signed values: black is negative, grey is zero, white is positive."""
    return Key("−", "+", np.repeat(np.linspace(0, 1, 65)[None, :, None], 3, axis=2), middle="0")


class Footer:
    """Colour bars, the text that explains them, and the user's line `footer`.

    The text is to the right of the last row of colour bars if there is room, and below it otherwise.
    """

    def __init__(self, keys: Sequence[Key], text: str, footer: str, room: float) -> None:
        self._rows = _packed(keys, room)
        after_keys = _width(self._rows[-1]) + _AFTER_KEY if self._rows else 0.0
        self._text_follows_keys = bool(self._rows) and room - after_keys >= _LEAST_TEXT_WIDTH
        self._text_at = after_keys if self._text_follows_keys else 0.0
        self._text = _soft(text, room - self._text_at)
        self._foot = _soft(clean(footer), room - self._text_at)

    @property
    def height(self) -> float:
        rows, texts = self._row_heights, _height(self._text) + _height(self._foot)
        if self._text_follows_keys:
            return sum(rows[:-1]) + max(rows[-1], texts)
        return sum(rows) + texts

    @property
    def _row_heights(self) -> list[float]:
        return [max(key.height for key in row) for row in self._rows]

    def paint(self, paper: Paper, x: float, y: float) -> None:
        heights = self._row_heights
        text_y = y + sum(heights[:-1] if self._text_follows_keys else heights)
        for row, height in zip(self._rows, heights, strict=True):
            at = x
            for key in row:
                _paint_key(paper, key, at, y)
                at += key.width + _AFTER_KEY
            y += height
        paper.lines(self._text, x + self._text_at, text_y, "scale")
        paper.lines(self._foot, x + self._text_at, text_y + _height(self._text), "foot")


def _height(lines: Sequence[Line]) -> float:
    return sum(line.height for line in lines)


def _soft(text: str, room: float) -> list[Line]:
    return [Line(line, SMALL, ink=SOFT_INK) for line in wrap(text, room, SMALL) if line]


def _paint_key(paper: Paper, key: Key, x: float, y: float) -> None:
    low, high, middle = (Line(text, SMALL, ink=SOFT_INK) for text in (key.low, key.high, key.middle))
    bar = Rect(x + width_of(low.text, SMALL) + _GAP, y + (low.height - _BAR[1]) / 2, *_BAR)
    paper.lines([low], x, y, f"{key.gid}-low")
    paper.image(key.colours, bar, key.gid)
    if key.middle:
        paper.tick(bar.centre[0], bar.y, bar.bottom, f"{key.gid}-zero")
        at = bar.centre[0] - width_of(middle.text, SMALL) / 2
        paper.lines([middle], at, y + low.height, f"{key.gid}-middle")
    paper.lines([high], bar.right + _GAP, y, f"{key.gid}-high")


def _width(row: Sequence[Key]) -> float:
    return sum(key.width for key in row) + _AFTER_KEY * (len(row) - 1)


def _packed(keys: Sequence[Key], room: float) -> list[list[Key]]:
    """Distribute colour bars over rows of width `room`, at least one in each row."""
    rows: list[list[Key]] = []
    for key in keys:
        if rows and _width([*rows[-1], key]) <= room:
            rows[-1].append(key)
        else:
            rows.append([key])
    return rows
