"""How large receptive fields are, as if the picture had no border."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from deconvviz.engine.bands import SAME, Band, union
from deconvviz.engine.rules import Rule
from deconvviz.engine.tape import PICTURE, Tape


@dataclass(frozen=True)
class Field:
    """The receptive fields of a map's units, in pixels: (rows, columns)."""

    size: tuple[int, int]  # of the largest, where they differ from unit to unit
    stride: tuple[Fraction, Fraction]  # from one unit to the next
    first: tuple[Fraction, Fraction]  # where that of the unit at (0, 0) begins; negative: in the padding
    sees_more: bool  # more pixels can change a unit, by way of what is held constant on the way down


_Question = Callable[[Rule, int, int], Band | None]


def fields(tape: Tape) -> dict[int, Field | None]:
    """The receptive fields of every value's units, as large as they are on a picture without borders.

    None where units see the whole picture, whatever its size, where the way down is refused, and where
    nothing flows down.
    """
    seen = [_bands(tape, axis, _seen, constants=False) for axis in (0, 1)]
    changing = [_bands(tape, axis, _depended_on, constants=True) for axis in (0, 1)]
    found: dict[int, Field | None] = {}
    for value in tape.forms:
        rows, columns = (bands.get(value) for bands in seen)
        more = any(bands.get(value) != own for bands, own in zip(changing, (rows, columns), strict=True))
        found[value] = _field(rows, columns, more) if rows and columns else None
    return found


def _field(rows: Band, columns: Band, more: bool) -> Field:
    return Field(
        (rows.size, columns.size), (rows.stride, columns.stride), (_first(rows), _first(columns)), more
    )


def _first(band: Band) -> Fraction:
    """Where windows of the largest size begin, laid around the middle of each position's own, on average."""
    middles = (Fraction(a + b, 2) - number * band.stride for number, (a, b) in enumerate(band.bounds))
    return sum(middles, Fraction(0)) / len(band.bounds) - Fraction(band.size, 2)


def _seen(rule: Rule, argument: int, axis: int) -> Band | None:
    return rule.band(argument, axis)


def _depended_on(rule: Rule, argument: int, axis: int) -> Band | None:
    return rule.depends(argument, axis)


def _bands(tape: Tape, axis: int, ask: _Question, *, constants: bool) -> dict[int, Band | None]:
    """What each value sees of the picture; without those that see nothing of it."""
    found: dict[int, Band | None] = {PICTURE: SAME}
    for step in tape.steps:
        through = []
        for argument, below in enumerate(step.arguments if constants else step.inputs):
            if below is not None:
                own = found.get(tape.beside.get(below, below))
                band = ask(step.rule, argument, axis) if step.rule else None
                through.append(band.over(own) if band and own else None)
        if through:
            found[step.output] = union(through)
    return found
