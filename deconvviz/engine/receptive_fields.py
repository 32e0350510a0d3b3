"""Receptive fields: the part of every value below, down to the image, that a unit depends on.

This module composes the index maps and visible inputs of the rules on a tape:

    fields, views   the size of the receptive fields of each value's units, ignoring the borders of the image
    UnitFields      the positions of every value that K units depend on (for windows), and the boxes of their
                    receptive fields in the image

Axes never mix in a projection. Therefore a unit depends on a set of rows and a set of columns (of an image;
in general on a set for each axis), also for dilated convolutions and pooling windows of unequal size. Where
branches meet, these sets can be slightly too large, which is sufficient for windows. `pixel_fields` keeps
branches apart for exact boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

from deconvviz.engine.index_maps import (
    SAME,
    UNKNOWN,
    IndexMap,
    PeriodicIntervals,
    ends_of,
    through,
    union,
)
from deconvviz.engine.joined_steps import joined
from deconvviz.engine.layout import Seen, TensorLayout
from deconvviz.engine.pixel_fields import Box, Hull, PixelFields, edges, hull_of, something
from deconvviz.engine.rules import Rule
from deconvviz.engine.tape import IMAGE, Step, Tape


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive fields of the units of a map in pixels, for each axis of the map: (rows, columns)."""

    size: tuple[int, ...]  # size of the largest field, if they differ
    stride: tuple[Fraction, ...]  # distance between the fields of neighbouring units
    first: tuple[Fraction, ...]  # start of the field of the unit at (0, 0); negative in the padding
    axes: tuple[int, ...]  # the numbers of these axes in the network's input
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


def views(tape: Tape, source: int = IMAGE) -> dict[int, View]:
    """Return the view of every value. Its fields are in one input of the network, the value `source`."""
    axes = range(tape.layouts[source].spatial)
    seen = [_index_maps(tape, axis, _index_map, source, constants=False) for axis in axes]
    changing = [_index_maps(tape, axis, _dependency_map, source, constants=True) for axis in axes]
    found: dict[int, View] = {}
    for value, layout in tape.layouts.items():
        every = [maps.get(value, UNKNOWN) for maps in seen]
        more = any(maps.get(value) != own for maps, own in zip(changing, every, strict=True))
        found[value] = View(_field(every, layout.tracked or tuple(axes), more), all(m is None for m in every))
    return found


def _field(index_maps: Sequence[IndexMap], axes: tuple[int, ...], more: bool) -> ReceptiveField | None:
    """Return the receptive field along some axes; None if it is not known for each of them."""
    own = [index_map for axis in axes if isinstance(index_map := index_maps[axis], PeriodicIntervals)]
    if len(own) < len(axes) or not axes:
        return None
    size, stride = tuple([one.size for one in own]), tuple([one.stride for one in own])
    return ReceptiveField(size, stride, tuple([_first(one) for one in own]), axes, more)


def _first(intervals: PeriodicIntervals) -> Fraction:
    """Return the mean start of intervals of the largest size, each centred on that of its position."""
    stride, bounds = intervals.stride, intervals.bounds
    middles = (Fraction(a + b, 2) - number * stride for number, (a, b) in enumerate(bounds))
    return sum(middles, Fraction(0)) / len(bounds) - Fraction(intervals.size, 2)


def _index_map(rule: Rule, argument: int, axis: int) -> IndexMap:
    return rule.index_map(argument, axis)


def _dependency_map(rule: Rule, argument: int, axis: int) -> IndexMap:
    return rule.dependency_map(argument, axis)


def _index_maps(
    tape: Tape, axis: int, map_of: _IndexMapOf, source: int, *, constants: bool
) -> dict[int, IndexMap]:
    """Return the index map to an input along one axis for each value that depends on that input."""
    found: dict[int, IndexMap] = {source: SAME}
    elsewhere = set(tape.inputs) - {source}  # values that depend on other inputs alone
    for step in tape.steps:
        branches: list[IndexMap] = []
        arguments = step.arguments if constants else step.inputs
        firsts = [None if one is None else tape.secondary_outputs.get(one, one) for one in arguments]
        for argument, (below, first) in enumerate(zip(arguments, firsts, strict=True)):
            if below is not None and first is not None and first not in elsewhere:
                own = found.get(first, UNKNOWN)
                index_map = map_of(step.rule, argument, axis) if step.rule else UNKNOWN
                if index_map is None and _has_one_position(tape.layouts[below], axis):
                    index_map = SAME
                branches.append(through(index_map, own))
        if branches:
            found[step.output] = union(branches)
        elif any(first is not None for first in firsts):
            elsewhere.add(step.output)
    return found


def _has_one_position(layout: TensorLayout, axis: int) -> bool:
    """Return whether a map has lost an axis, so that the whole axis is one position of it."""
    return layout.axes is not None and layout.axes[axis] is None and not layout.mixed


Elementwise = Mapping[tuple[int, int], tuple[bool, ...]]
"""By output of a step and number of its argument: whether each position depends only on itself, by axis."""


@dataclass(frozen=True)
class Extent:
    """The smallest range of every value on a path that contains all positions that K units depend on."""

    hulls: dict[int, Hull]
    elementwise: Elementwise
    complete: bool
    """Whether each position of every value depends on some position of each argument, not only on padding.

    Boxes of the image are then exact, even where branches meet.
    """


@dataclass(frozen=True)
class Visibility:
    """The positions of every value on a path that K units depend on."""

    seen: dict[int, Seen]
    elementwise: Elementwise
    complete: bool  # as in `Extent`

    @property
    def extent(self) -> Extent:
        different: dict[tuple[int, ...], Hull] = {}  # neighbours on a path often have the same positions
        hulls = {}
        for value, seen in self.seen.items():
            key = tuple(map(id, seen))
            if key not in different:
                different[key] = hull_of(seen)
            hulls[value] = different[key]
        return Extent(hulls, self.elementwise, self.complete)


class UnitFields:
    """Receptive fields of K units of one value of a tape, computed once and on demand.

    `seen` contains the positions that the units fill in their own map. Dependencies through constants
    (gates, statistics) do not count.
    """

    def __init__(self, tape: Tape, value: int, seen: Seen) -> None:
        layout = tape.layouts[value]
        self.tape, self.value = tape, value
        self.path = joined(tape.path(value))
        self._own = everything(layout, len(seen[0])) if layout.axes is None else seen

    @cached_property
    def visibility(self) -> Visibility:
        """Positions of every value on the path that the units depend on."""
        return _visibility(self.path, self.tape.layouts, self.value, self._own)

    @cached_property
    def extent(self) -> Extent:
        """The range of these positions, which is computed without them if it suffices to follow its ends."""
        found = _extent(self.path, self.tape.layouts, self.value, hull_of(self._own))
        return self.visibility.extent if found is None else found

    def boxes(self, pixels: PixelFields | None = None) -> list[Box]:
        """Return the receptive fields of the units; all zero if no signal reaches the image.

        They are those of `extent`, if it is exact and known already. Otherwise they are computed with
        `pixels`, a cache for the tape that several calls can share.
        """
        pixels = pixels or PixelFields(self.tape)
        known: Extent | None = vars(self).get("extent")
        if known is not None and known.complete and pixels.source in known.hulls:
            return [tuple(box) for box in edges(known.hulls[pixels.source]).tolist()]
        return pixels.boxes(self.value, self._own)


def _extent(steps: Sequence[Step], layouts: dict[int, TensorLayout], value: int, own: Hull) -> Extent | None:
    """Return the ranges that K units depend on, computed from their first and last positions alone.

    This is possible if each unit has positions, and if later positions of a value never depend on earlier
    ones of its arguments than those before. Otherwise return None.
    """
    if bool((own[0] >= own[1]).any()):
        return None
    found: dict[int, Hull] = {value: own}
    elementwise: dict[tuple[int, int], tuple[bool, ...]] = {}
    for step, rule, argument, below in _links(steps, found):
        pairs = zip(layouts[step.output].lengths, layouts[below].lengths, strict=True)
        visible = [rule.visible_inputs(argument, axis, *lengths) for axis, lengths in enumerate(pairs)]
        elementwise[step.output, argument] = kept = tuple([one is None for one in visible])
        moved: Hull | None = found[step.output] if all(kept) else _moved(found[step.output], visible)
        if moved is None:
            return None
        other = found.get(below, moved)
        if other is not moved:
            moved = torch.minimum(moved[0], other[0]), torch.maximum(moved[1], other[1])
        found[below] = moved
    return Extent(found, elementwise, complete=True)


def _moved(own: Hull, visible: Sequence[Tensor | None]) -> Hull | None:
    """Return the ranges of an argument for those of the output; None if their ends do not suffice."""
    first, past = own
    alike = len(set(map(id, visible))) == 1  # the axes of a square map are computed at once
    parts: list[Hull] = []
    for axis, one in enumerate(visible[:1] if alike else visible):
        here = slice(None) if alike else slice(axis, axis + 1)
        if one is None:
            parts.append((first[:, here], past[:, here]))
        elif (ends := ends_of(one)) is None:
            return None
        else:
            parts.append((ends[0][first[:, here]], ends[1][past[:, here] - 1]))
    if alike:
        return parts[0]
    return torch.cat([part[0] for part in parts], dim=1), torch.cat([part[1] for part in parts], dim=1)


def _visibility(
    steps: Sequence[Step], layouts: dict[int, TensorLayout], value: int, seen: Seen
) -> Visibility:
    found: dict[int, Seen] = {value: something(seen)}
    elementwise: dict[tuple[int, int], tuple[bool, ...]] = {}
    matrices: dict[int, Tensor] = {}
    for step, rule, argument, below in _links(steps, found):
        above, lengths = found[step.output], layouts[below].lengths
        parts, kept = [], []
        for axis, length in enumerate(lengths):
            visible = rule.visible_inputs(argument, axis, above[axis].shape[1], length)
            kept.append(visible is None)
            if visible is not None:
                matrices[id(visible)] = visible
            parts.append(above[axis] if visible is None else (above[axis].float() @ visible.float()) > 0)
        elementwise[step.output, argument] = tuple(kept)
        seen = above if all(kept) else something(parts)  # nothing if there is only padding
        if below in found:
            pairs = zip(seen, found[below], strict=True)
            seen = tuple([one if one is other else one | other for one, other in pairs])
        found[below] = seen
    complete = all([bool(one.any(1).all()) for one in matrices.values()])
    return Visibility(found, elementwise, complete)


def _links(steps: Sequence[Step], found: Mapping[int, object]) -> Iterator[tuple[Step, Rule, int, int]]:
    """Yield each argument of the steps with an output in `found`, in reverse: step, rule, number, value."""
    for step in reversed(steps):
        if step.output in found and step.rule is not None:
            for argument, below in enumerate(step.inputs):
                if below is not None:
                    yield step, step.rule, argument, below


def everything(layout: TensorLayout, count: int) -> Seen:
    """Return all positions of a value, for K units."""
    return tuple([torch.ones(count, length, dtype=torch.bool) for length in layout.lengths])
