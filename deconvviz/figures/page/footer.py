"""The footer of a figure: colour keys, the scale in words, the user's own line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.page import Line, Paper
from deconvviz.figures.page.style import SMALL, SOFT_INK
from deconvviz.figures.page.text import clean, width_of, wrap
from deconvviz.figures.spec.arrays import Array
from deconvviz.figures.spec.colour import Limit

_BAR = (0.7, 0.085)
_GAP = 0.04
_AFTER_KEY = 0.12


@dataclass(frozen=True)
class Key:
    """A bar of colours with a text at each end; `tick` marks its middle, zero."""

    low: str
    high: str
    colours: Array  # (1, n, 3)
    tick: bool
    gid: str = "key"

    @property
    def width(self) -> float:
        return width_of(self.low, SMALL) + width_of(self.high, SMALL) + _BAR[0] + 2 * _GAP


def signed_key(limit: Limit | None) -> Key:
    """From -limit to +limit; without numbers where there is no common limit, or it is 0."""
    size = str(limit).removeprefix("±") if limit is not None and limit.value else ""
    return Key(f"−{size}", f"+{size}", np.repeat(np.linspace(0, 1, 65)[None, :, None], 3, axis=2), tick=True)


def clipped_share(limits: Sequence[Limit], *, one: bool) -> str:
    """'0.5 % of the non-zero values', or of several scales 'up to' the largest share."""
    most = 100 * max(limit.clipped for limit in limits)
    return f"{'' if one else 'up to '}{most:.2g} % of the non-zero values"


class Footer:
    """Keys, and `said`, which explains them: beside the last key where it fits, else below."""

    def __init__(self, keys: Sequence[Key], said: str, footer: str, room: float) -> None:
        self._rows = _packed(keys, room)
        self._said_at = _width(self._rows[-1]) + _AFTER_KEY if self._rows else 0.0
        fits = bool(self._rows) and len(wrap(said, room - self._said_at, SMALL)) == 1
        self._beside_key = said if fits else ""
        below = [] if fits else list(wrap(said, room, SMALL))
        below += wrap(clean(footer), room, SMALL)
        self._below = [Line(line, SMALL, ink=SOFT_INK) for line in below if line]

    @property
    def height(self) -> float:
        return sum(line.height for line in self._below) + len(self._rows) * Line("", SMALL).height

    def paint(self, paper: Paper, x: float, y: float) -> None:
        step = Line("", SMALL).height
        for row in self._rows:
            at = x
            for key in row:
                _paint_key(paper, key, at, y)
                at += key.width + _AFTER_KEY
            y += step
        if self._beside_key:
            line = Line(self._beside_key, SMALL, ink=SOFT_INK)
            paper.lines([line], x + self._said_at, y - step, "scale")
        paper.lines(self._below, x, y, "foot")


def _paint_key(paper: Paper, key: Key, x: float, y: float) -> None:
    low, high = (Line(text, SMALL, ink=SOFT_INK) for text in (key.low, key.high))
    bar = Rect(x + width_of(low.text, SMALL) + _GAP, y + (low.height - _BAR[1]) / 2, *_BAR)
    paper.lines([low], x, y, f"{key.gid}-low")
    paper.image(key.colours, bar, key.gid)
    if key.tick:
        paper.tick(bar.centre[0], bar.y, bar.bottom, f"{key.gid}-zero")
    paper.lines([high], bar.right + _GAP, y, f"{key.gid}-high")


def _width(row: Sequence[Key]) -> float:
    return sum(key.width for key in row) + _AFTER_KEY * (len(row) - 1)


def _packed(keys: Sequence[Key], room: float) -> list[list[Key]]:
    """As many keys in each row as fit, at least one."""
    rows: list[list[Key]] = []
    for key in keys:
        if rows and _width([*rows[-1], key]) <= room:
            rows[-1].append(key)
        else:
            rows.append([key])
    return rows
