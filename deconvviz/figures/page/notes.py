"""Notes written into tiles, or letters for them where they do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from deconvviz.figures.page.geometry import Rect
from deconvviz.figures.page.page import Line, Paper
from deconvviz.figures.page.style import PAPER, SMALL, line_height
from deconvviz.figures.page.text import clean, width_of, wrap

_PADDING = 0.03  # inches, left and right together


def paint_note(
    paper: Paper, lines: Sequence[str], frame: Rect, gid: str, *, middle: bool, padding: float = 0.0
) -> None:
    """In the middle of the frame, for plain tiles; else at its foot, on a light ground."""
    if not lines:
        return
    step = line_height(SMALL)
    height = len(lines) * step
    y = frame.centre[1] - height / 2 if middle else frame.bottom - height - padding
    if not middle:
        above = y - padding / 2
        paper.ground(Rect(frame.x, above, frame.w, frame.bottom - above), PAPER, over=True)
    for index, line in enumerate(lines):
        centre = y + (index + 0.5) * step
        paper.centred(Line(line, SMALL, ink="black"), frame.centre[0], centre, f"{gid}-{index}")


class Notes:
    """All notes of a figure are written out, or all are letters, so that a reader need not ask which."""

    def __init__(self, noted: Iterable[tuple[str | None, Rect]]) -> None:
        """Each note with the frame it is for."""
        found = [(clean(note), frame) for note, frame in noted if note and clean(note).strip()]
        self._room = min((frame.w for _, frame in found), default=0.0) - _PADDING
        most = int(min((frame.h for _, frame in found), default=0.0) / line_height(SMALL))
        kinds = list(dict.fromkeys(note for note, _ in found))
        fit = all(self._fits(note, most) for note in kinds)
        self._letters = {} if fit else {note: _letter(number) for number, note in enumerate(kinds)}

    @property
    def legend(self) -> str:
        """For the footer; empty where the notes themselves are written."""
        return " · ".join(f"{letter}: {note}" for note, letter in self._letters.items())

    def lines(self, note: str | None) -> tuple[str, ...]:
        note = clean(note or "")
        if not note.strip():
            return ()
        if note in self._letters:
            return (self._letters[note],)
        return wrap(note, self._room, SMALL)

    def _fits(self, note: str, most: int) -> bool:
        """Whether no word of it must be elided, and there is room for its lines."""
        widest = max(width_of(word, SMALL) for word in note.split())
        return widest <= self._room and len(wrap(note, self._room, SMALL)) <= most


def _letter(number: int) -> str:
    """0 -> 'a', 25 -> 'z', 26 -> 'aa'."""
    before, last = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("a") + last)
