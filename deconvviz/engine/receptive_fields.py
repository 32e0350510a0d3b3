"""How large receptive fields are, as if the picture had no border."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from deconvviz.engine.index_maps import SAME, UNKNOWN, Band, Sight, through, union
from deconvviz.engine.rules import Rule
from deconvviz.engine.tape import PICTURE, Tape


@dataclass(frozen=True)
class Field:
    """The receptive fields of a map's units, in pixels: (rows, columns)."""

    size: tuple[int, int]  # of the largest, where they differ from unit to unit
    stride: tuple[Fraction, Fraction]  # from one unit to the next
    first: tuple[Fraction, Fraction]  # where that of the unit at (0, 0) begins; negative: in the padding
    sees_more: bool  # more pixels can change a unit, by way of what is held constant on the way down


_Question = Callable[[Rule, int, int], Sight]


@dataclass(frozen=True)
class View:
    """Receptive fields of the units of one value."""

    field: Field | None  # None if it is the whole picture, is not known, or nothing flows down
    whole: bool  # every unit sees the whole picture, whatever its size


def fields(tape: Tape) -> dict[int, Field | None]:
    """Return the receptive field of every value's units, as large as it is on a picture without borders.

    None where units see the whole picture, where their fields are not known, where the projection is
    refused, and where nothing flows down. `views` tells the first two apart.
    """
    return {value: view.field for value, view in views(tape).items()}


def views(tape: Tape) -> dict[int, View]:
    """Return what the units of every value see of the picture."""
    seen = [_sights(tape, axis, _seen, constants=False) for axis in (0, 1)]
    changing = [_sights(tape, axis, _depended_on, constants=True) for axis in (0, 1)]
    found: dict[int, View] = {}
    for value in tape.forms:
        rows, columns = (sights.get(value, UNKNOWN) for sights in seen)
        more = any(sights.get(value) != own for sights, own in zip(changing, (rows, columns), strict=True))
        field = _field(rows, columns, more) if isinstance(rows, Band) and isinstance(columns, Band) else None
        found[value] = View(field, rows is None and columns is None)
    return found


def _field(rows: Band, columns: Band, more: bool) -> Field:
    return Field(
        (rows.size, columns.size), (rows.stride, columns.stride), (_first(rows), _first(columns)), more
    )


def _first(band: Band) -> Fraction:
    """Where windows of the largest size begin, laid around the middle of each position's own, on average."""
    middles = (Fraction(a + b, 2) - number * band.stride for number, (a, b) in enumerate(band.bounds))
    return sum(middles, Fraction(0)) / len(band.bounds) - Fraction(band.size, 2)


def _seen(rule: Rule, argument: int, axis: int) -> Sight:
    return rule.band(argument, axis)


def _depended_on(rule: Rule, argument: int, axis: int) -> Sight:
    return rule.depends(argument, axis)


def _sights(tape: Tape, axis: int, ask: _Question, *, constants: bool) -> dict[int, Sight]:
    """Return what each value sees of the picture, without the values that see nothing of it."""
    found: dict[int, Sight] = {PICTURE: SAME}
    for step in tape.steps:
        sights: list[Sight] = []
        for argument, below in enumerate(step.arguments if constants else step.inputs):
            if below is not None:
                own = found.get(tape.beside.get(below, below), UNKNOWN)
                sights.append(through(ask(step.rule, argument, axis) if step.rule else UNKNOWN, own))
        if sights:
            found[step.output] = union(sights)
    return found
