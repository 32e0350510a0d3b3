"""Notes in tiles, or letters that refer to them if the notes do not fit."""

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
    """Draw a note in the middle of a frame, or at its bottom on a light background."""
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
    """Notes of a figure. Either all are written in full, or all are replaced by letters."""

    def __init__(self, noted: Iterable[tuple[str | None, Rect]]) -> None:
        """`noted` are pairs of a note and its frame."""
        found = [(clean(note), frame) for note, frame in noted if note and clean(note).strip()]
        self._room = min((frame.w for _, frame in found), default=0.0) - _PADDING
        most = int(min((frame.h for _, frame in found), default=0.0) / line_height(SMALL))
        kinds = list(dict.fromkeys(note for note, _ in found))
        fit = all(self._fits(note, most) for note in kinds)
        self._letters = {} if fit else {note: _letter(number) for number, note in enumerate(kinds)}

    @property
    def legend(self) -> str:
        """Meaning of the letters, for the footer; empty if the notes are written in full."""
        return " · ".join(f"{letter}: {note}" for note, letter in self._letters.items())

    def lines(self, note: str | None) -> tuple[str, ...]:
        """Return the lines to draw for a note: its text, or its letter."""
        note = clean(note or "")
        if not note.strip():
            return ()
        if note in self._letters:
            return (self._letters[note],)
        return wrap(note, self._room, SMALL)

    def _fits(self, note: str, most: int) -> bool:
        """Return True if the note fits in at most `most` lines without shortening a word."""
        widest = max(width_of(word, SMALL) for word in note.split())
        return widest <= self._room and len(wrap(note, self._room, SMALL)) <= most


def _letter(number: int) -> str:
    """Return the letters for a number: 0 -> 'a', 25 -> 'z', 26 -> 'aa'."""
    before, last = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("a") + last)
