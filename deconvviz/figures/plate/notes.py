"""What is written into the crops of a plate: their notes, or where these do not fit, letters for them."""

from __future__ import annotations

from deconvviz.figures.page.style import SMALL, line_height
from deconvviz.figures.page.text import clean, width_of, wrap
from deconvviz.figures.plate.layout import PlateBody, frames_of
from deconvviz.figures.spec.plate import Crop, Plate

_PADDING = 0.03  # inches, left and right together


class Notes:
    """All notes of a plate are written out, or all are letters, so that a reader need not ask which."""

    def __init__(self, plate: Plate, body: PlateBody) -> None:
        noted = [
            (clean(crop.note), next(frames_of(placed.projections, plate.block_shape)))
            for panel in body.panels
            for placed in panel.blocks
            for crop in placed.block.crops
            if crop.note and clean(crop.note).strip()
        ]
        self._room = min((frame.w for _, frame in noted), default=0.0) - _PADDING
        most = int(min((frame.h for _, frame in noted), default=0.0) / line_height(SMALL))
        kinds = list(dict.fromkeys(note for note, _ in noted))
        fit = all(self._fits(note, most) for note in kinds)
        self._letters = {} if fit else {note: _letter(number) for number, note in enumerate(kinds)}

    @property
    def legend(self) -> str:
        """For the foot; empty where the notes themselves are written."""
        return " · ".join(f"{letter}: {note}" for note, letter in self._letters.items())

    def lines(self, crop: Crop) -> tuple[str, ...]:
        note = clean(crop.note or "")
        if not note.strip():
            return ()
        if note in self._letters:
            return (self._letters[note],)
        return wrap(note, self._room, SMALL)

    def _fits(self, note: str, most: int) -> bool:
        """Whether no word of it must be elided, and its lines have room."""
        widest = max(width_of(word, SMALL) for word in note.split())
        return widest <= self._room and len(wrap(note, self._room, SMALL)) <= most


def _letter(number: int) -> str:
    """0 -> 'a', 25 -> 'z', 26 -> 'aa'."""
    before, last = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("a") + last)
