"""Receptive fields: the part of every value below, down to the image, that a unit depends on.

This module composes the index maps and visible inputs of the rules on a tape:

    fields, views   the size of the receptive fields of each value's units, ignoring the borders of the image
    UnitFields      the rows and columns of every value that K units depend on (for windows), and the boxes of
                    their receptive fields in the image

Rows and columns never mix in a projection. Therefore a unit depends on a set of rows and a set of columns,
also for dilated convolutions and pooling windows of unequal size. Where branches meet, these sets can be
slightly too large, which is sufficient for windows. `pixel_fields` keeps branches apart for exact boxes.
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
    """Receptive fields of the units of a map in pixels, (rows, columns)."""

    size: tuple[int, int]  # size of the largest field, if they differ
    stride: tuple[Fraction, Fraction]  # distance between the fields of neighbouring units
    first: tuple[Fraction, Fraction]  # start of the field of the unit at (0, 0); negative in the padding
    sees_more: bool  # whether pixels outside can change a unit too, through constants such as gates


_IndexMapOf = Callable[[Rule, int, int], IndexMap]


@dataclass(frozen=True)
class View:
    """Receptive fields of the units of one value."""

    # None if the field is the whole image or unknown, or if no signal reaches the image.
    field: ReceptiveField | None
    whole: bool  # whether every unit depends on the whole image, whatever its size


def fields(tape: Tape) -> dict[int, ReceptiveField | None]:
    """Return the receptive field of the units of every value, ignoring the borders of the image.

    It is None if units depend on the whole image, if their fields are unknown, if the projection is
    unsupported, or if no signal reaches the image. `views` distinguishes the first two cases.
    """
    return {value: view.field for value, view in views(tape).items()}


def views(tape: Tape) -> dict[int, View]:
    """Return the view of every value."""
    seen = [_index_maps(tape, axis, _index_map, constants=False) for axis in (0, 1)]
    changing = [_index_maps(tape, axis, _dependency_map, constants=True) for axis in (0, 1)]
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
    """Return the mean start of intervals of the largest size, each centred on that of its position."""
    stride, bounds = intervals.stride, intervals.bounds
    middles = (Fraction(a + b, 2) - number * stride for number, (a, b) in enumerate(bounds))
    return sum(middles, Fraction(0)) / len(bounds) - Fraction(intervals.size, 2)


def _index_map(rule: Rule, argument: int, axis: int) -> IndexMap:
    return rule.index_map(argument, axis)


def _dependency_map(rule: Rule, argument: int, axis: int) -> IndexMap:
    return rule.dependency_map(argument, axis)


def _index_maps(tape: Tape, axis: int, map_of: _IndexMapOf, *, constants: bool) -> dict[int, IndexMap]:
    """Return the index map to the image along one axis for each value that depends on the image."""
    found: dict[int, IndexMap] = {IMAGE: SAME}
    for step in tape.steps:
        branches: list[IndexMap] = []
        for argument, below in enumerate(step.arguments if constants else step.inputs):
            if below is not None:
                own = found.get(tape.secondary_outputs.get(below, below), UNKNOWN)
                branches.append(through(map_of(step.rule, argument, axis) if step.rule else UNKNOWN, own))
        if branches:
            found[step.output] = union(branches)
    return found


@dataclass(frozen=True)
class Visibility:
    """The rows and columns of every value on a path that K units depend on."""

    seen: dict[int, Seen]
    elementwise: dict[tuple[int, int], tuple[bool, bool]]
    """By output of a step and number of its argument: whether each row (column) depends only on itself."""


class UnitFields:
    """Receptive fields of K units of one value of a tape, computed once and on demand.

    `seen` contains the rows and columns that the units fill in their own map. Dependencies through constants
    (gates, statistics) do not count.
    """

    def __init__(self, tape: Tape, value: int, seen: Seen) -> None:
        layout = tape.layouts[value]
        self.tape, self.value = tape, value
        self.path = tape.path(value)
        self._own = everything(layout, len(seen[0])) if layout.axes is None else seen

    @cached_property
    def visibility(self) -> Visibility:
        """Rows and columns of every value on the path that the units depend on."""
        return _visibility(self.path, self.tape.layouts, self.value, self._own)

    def boxes(self, pixels: PixelFields | None = None) -> list[Box]:
        """Return the receptive fields of the units; (0, 0, 0, 0) if no signal reaches the image.

        `pixels` is a cache for the tape that several calls can share.
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
        something = rows.any(1, keepdim=True) & columns.any(1, keepdim=True)  # False if there is only padding
        rows, columns = rows & something, columns & something
        if below in found:
            rows, columns = rows | found[below][0], columns | found[below][1]
        found[below] = (rows, columns)
    return Visibility(found, elementwise)


def _links(steps: Sequence[Step], found: Mapping[int, object]) -> Iterator[tuple[Step, Rule, int, int]]:
    """Yield each argument of the steps with an output in `found`, in reverse: step, rule, number, value."""
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
    """The first row and column of a value that each of K units depends on, and the lengths up to the last."""

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
        """Return the smallest windows of a common size, inside the map, for some of the units."""
        high, wide = (max(1, length) for length in self.length[part].amax(0).tolist())
        rows, columns = self.layout.lengths
        start = torch.minimum(self.first[part], torch.tensor([rows - high, columns - wide]))
        return Window(start, (high, wide), self.layout, images)
