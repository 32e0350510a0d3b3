"""Receptive fields: what a unit sees of every value below its own, down to the image.

Two questions are answered here, both by asking the rules along the tape:

    fields, views   how large the receptive fields of a value's units are, in an image without borders
    UnitFields      which rows and columns of every value K units see (for windows), and the boxes of their
                    receptive fields in the image

Rows and columns never mix in a projection, so what a unit sees is one set of rows and one of columns, also
for dilated convolutions and pooling windows of unequal size. Where branches meet, these sets can be a little
too large: good enough for a window. `pixel_fields` keeps the branches apart, and gives the exact boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SAME, UNKNOWN, IndexMap, PeriodicIntervals, through, union
from deconvviz.engine.layout import Seen, TensorLayout, Window
from deconvviz.engine.pixel_fields import Box, PixelFields, hull
from deconvviz.engine.rules import Rule
from deconvviz.engine.tape import IMAGE, Step, Tape


@dataclass(frozen=True)
class ReceptiveField:
    """The receptive fields of a map's units, in pixels: (rows, columns)."""

    size: tuple[int, int]  # of the largest, if they differ from unit to unit
    stride: tuple[Fraction, Fraction]  # from one unit to the next
    first: tuple[Fraction, Fraction]  # where the field of the unit at (0, 0) begins; negative: in the padding
    sees_more: bool  # pixels outside can change a unit too, through what is held constant in a projection


_Question = Callable[[Rule, int, int], IndexMap]


@dataclass(frozen=True)
class View:
    """Receptive fields of the units of one value."""

    field: (
        ReceptiveField | None
    )  # None if it is the whole image, is not known, or no signal reaches the image
    whole: bool  # every unit sees the whole image, whatever its size


def fields(tape: Tape) -> dict[int, ReceptiveField | None]:
    """Return the receptive field of every value's units, as large as it is in an image without borders.

    None where units see the whole image, where their fields are not known, where the projection is
    unsupported, and where no signal reaches the image. `views` tells the first two apart.
    """
    return {value: view.field for value, view in views(tape).items()}


def views(tape: Tape) -> dict[int, View]:
    """Return what the units of every value see of the image."""
    seen = [_index_maps(tape, axis, _seen, constants=False) for axis in (0, 1)]
    changing = [_index_maps(tape, axis, _depended_on, constants=True) for axis in (0, 1)]
    found: dict[int, View] = {}
    for value in tape.layouts:
        rows, columns = (maps.get(value, UNKNOWN) for maps in seen)
        more = any(maps.get(value) != own for maps, own in zip(changing, (rows, columns), strict=True))
        known = isinstance(rows, PeriodicIntervals) and isinstance(columns, PeriodicIntervals)
        field = _field(rows, columns, more) if known else None  # type: ignore[arg-type]
        found[value] = View(field, rows is None and columns is None)
    return found


def _field(rows: PeriodicIntervals, columns: PeriodicIntervals, more: bool) -> ReceptiveField:
    return ReceptiveField(
        (rows.size, columns.size), (rows.stride, columns.stride), (_first(rows), _first(columns)), more
    )


def _first(intervals: PeriodicIntervals) -> Fraction:
    """Where windows of the largest size begin, centred on each position's own window, on average."""
    stride, bounds = intervals.stride, intervals.bounds
    middles = (Fraction(a + b, 2) - number * stride for number, (a, b) in enumerate(bounds))
    return sum(middles, Fraction(0)) / len(bounds) - Fraction(intervals.size, 2)


def _seen(rule: Rule, argument: int, axis: int) -> IndexMap:
    return rule.index_map(argument, axis)


def _depended_on(rule: Rule, argument: int, axis: int) -> IndexMap:
    return rule.dependency_map(argument, axis)


def _index_maps(tape: Tape, axis: int, ask: _Question, *, constants: bool) -> dict[int, IndexMap]:
    """Return what each value sees of the image along one axis, without the values that see nothing of it."""
    found: dict[int, IndexMap] = {IMAGE: SAME}
    for step in tape.steps:
        branches: list[IndexMap] = []
        for argument, below in enumerate(step.arguments if constants else step.inputs):
            if below is not None:
                own = found.get(tape.secondary_outputs.get(below, below), UNKNOWN)
                branches.append(through(ask(step.rule, argument, axis) if step.rule else UNKNOWN, own))
        if branches:
            found[step.output] = union(branches)
    return found


@dataclass(frozen=True)
class Visibility:
    """The rows and columns of every value on a path that K units see."""

    seen: dict[int, Seen]
    elementwise: dict[tuple[int, int], tuple[bool, bool]]
    """By output of a step and number of its argument: does each row (column) see only itself?"""


class UnitFields:
    """The receptive fields of K units of one value of a tape.

    `seen` holds the rows and columns that the units fill in their own map. What a projection holds constant
    (gates, statistics) does not count. Nothing is computed before it is asked for, and then only once.
    """

    def __init__(self, tape: Tape, value: int, seen: Seen) -> None:
        layout = tape.layouts[value]
        self.tape, self.value = tape, value
        self.path = tape.path(value)
        self._own = everything(layout, len(seen[0])) if layout.axes is None else seen

    @cached_property
    def visibility(self) -> Visibility:
        """The rows and columns of every value on the path that the units see."""
        return _visibility(self.path, self.tape.layouts, self.value, self._own)

    def boxes(self, pixels: PixelFields | None = None) -> list[Box]:
        """Return the units' receptive fields; all 0 where no signal reaches the image.

        `pixels` is what is known already about the positions of the tape's values.
        """
        return (pixels or PixelFields(self.tape)).boxes(self.value, self._own)


def _visibility(
    steps: Sequence[Step], layouts: dict[int, TensorLayout], value: int, seen: Seen
) -> Visibility:
    found: dict[int, Seen] = {value: seen}
    elementwise: dict[tuple[int, int], tuple[bool, bool]] = {}
    for step, rule, argument, below in _links(steps, found):
        above, lengths = found[step.output], layouts[below].lengths
        parts, kept = [], []
        for axis in (0, 1):
            visible = rule.visible_inputs(argument, axis, above[axis].shape[1], lengths[axis])
            kept.append(visible is None)
            parts.append(above[axis] if visible is None else (above[axis].float() @ visible.float()) > 0)
        elementwise[step.output, argument] = (kept[0], kept[1])
        rows, columns = parts
        something = rows.any(1, keepdim=True) & columns.any(1, keepdim=True)  # not only padding
        rows, columns = rows & something, columns & something
        if below in found:
            rows, columns = rows | found[below][0], columns | found[below][1]
        found[below] = (rows, columns)
    return Visibility(found, elementwise)


def _links(steps: Sequence[Step], found: Mapping[int, object]) -> Iterator[tuple[Step, Rule, int, int]]:
    """In reverse, each step whose output is in `found`: its rule, and number and value of each argument."""
    for step in reversed(steps):
        if step.output in found and step.rule is not None:
            for argument, below in enumerate(step.inputs):
                if below is not None:
                    yield step, step.rule, argument, below


def everything(layout: TensorLayout, count: int) -> Seen:
    """Return all rows and columns of a value, for K units."""
    rows, columns = layout.lengths
    return torch.ones(count, rows, dtype=torch.bool), torch.ones(count, columns, dtype=torch.bool)


@dataclass(frozen=True)
class Spans:
    """The first row and column of a value that each of K units sees, and how many up to the last one."""

    first: Tensor  # (K, 2)
    length: Tensor  # (K, 2)
    layout: TensorLayout

    @classmethod
    def of(cls, seen: Seen, layout: TensorLayout) -> Spans:
        hulls = [torch.stack(hull(axis), dim=1) for axis in seen]  # (K, 2) of rows, and of columns
        both = torch.stack(hulls, dim=2)
        return cls(both[:, 0], both[:, 1] - both[:, 0], layout)

    @classmethod
    def whole(cls, layout: TensorLayout, count: int) -> Spans:
        return cls(torch.zeros(count, 2, dtype=torch.long), torch.tensor([layout.lengths] * count), layout)

    def window(self, part: Tensor | slice, images: Tensor) -> Window:
        """Return the smallest windows of one common size for some of the units, inside the map."""
        high, wide = (max(1, length) for length in self.length[part].amax(0).tolist())
        rows, columns = self.layout.lengths
        start = torch.minimum(self.first[part], torch.tensor([rows - high, columns - wide]))
        return Window(start, (high, wide), self.layout, images)
