"""Copies and reshapes: the same values in another memory or shape; the projection restores the shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.layout import Axes, TensorLayout, Window, signal_dtype
from deconvviz.engine.rules.activation import Gate
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Support

aten = torch.ops.aten


CUT = f"values cast to integers, {Gate.note}"


def _is_whole(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


@rule(
    aten.clone.default,
    aten.detach.default,
    aten.alias.default,
    aten._to_copy.default,
    aten.lift_fresh.default,
)
class Same(Rule):
    """The same values in another memory or dtype.

    A cast to integers is treated as a constant.
    """

    supports_windows = True
    handles_folded_batch = True
    any_batch_axis = True

    def __init__(self, call: Call) -> None:
        self.dtype = signal_dtype(call["self"].dtype)
        self.cut_to_integers = _is_whole(call.output)
        if self.cut_to_integers:
            self.support, self.note = Support.APPROXIMATE, CUT

    def flows(self, argument: int) -> bool:
        return not self.cut_to_integers

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        if signal.is_complex() and not self.dtype.is_complex:
            signal = torch.real(signal)
        return [signal.to(self.dtype)]


@rule(aten.as_strided_.default)
class Restrided(Same):
    """A change of strides that leaves every value in its place (only dimensions of length 1 change)."""

    needs_input_values = True

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        before: Tensor = call["self"]
        offset = call["storage_offset"]
        lengths = zip(before.shape, before.stride(), call["stride"], strict=False)
        self.moved = (
            tuple(call["size"]) != tuple(before.shape)
            or any(length > 1 and old != new for length, old, new in lengths)
            or offset not in (None, before.storage_offset())
        )

    def unsupported(self) -> str:
        return "it reads values from other places of the memory" if self.moved else ""


@rule(
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten._reshape_alias.default,
    aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default,
)  # fmt: skip
class View(Rule):
    """The same values in another shape; projection: back to the old shape, image by image."""

    handles_folded_batch = True
    any_batch_axis = True

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.output = tuple(call.output.shape)
        self.shape = tuple(call["self"].shape)
        place = _batch_in(self.output, self.below, call.batch)
        self.mixes = place is None
        if place is None:
            self.above, self.followed = self.below.like(self.output[1:]), False
        else:
            self.above, self.followed = self._layout(*place)
        self.supports_windows = self.followed and self.above.axes is not None and self.below.axes is not None

    def unsupported(self) -> str:
        return f"it mixes the images of a batch: {self.shape} to {self.output}" if self.mixes else ""

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return self.followed and not self._loses(axis)

    def _loses(self, axis: int) -> bool:
        """Return whether the positions along an axis can no longer be tracked, unlike those along others."""
        if self.above.axes is None or self.below.axes is None or self.above.axes[axis] is not None:
            return False
        return self.below.lengths[axis] > 1

    def _layout(self, batch_at: int, lead: tuple[int, ...]) -> tuple[TensorLayout, bool]:
        """Return the layout of the output, and whether each position can still be tracked."""
        ordered = self.below.in_network_order()
        before, after = self.output[:batch_at], self.output[batch_at + 1 :]
        found = follow(ordered, (*before, *lead, *after))
        above = self.below.unplaced((*lead, *before, *after), folded=len(lead), batch_at=batch_at)
        order = above.network_order()  # where each dimension of `found` is in `above`
        moved = found.moved(lambda dim: order[dim - 1])
        above = replace(above, axes=moved.axes, joint=moved.joint, grid=moved.grid, mixed=moved.mixed)
        guess = None if lead or batch_at else above.like(above.shape).axes
        if above.joint is not None or (above.axes is not None and (guess is None or None not in above.axes)):
            return above, True
        guessed = replace(above, axes=guess)
        if (
            guess
            and above.axes
            and all(
                own == dim or (own is None and dim is not None and above.shape[dim - 1] == 1)
                for own, dim in zip(above.axes, guess, strict=True)
            )
        ):
            return guessed, True  # an axis that was lost is back as a dimension of length 1
        return guessed, set(self.below.lengths) == set(guessed.lengths) == {1}

    def output_layout(self, call: Call) -> TensorLayout:
        return self.above

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        here = None
        if self.supports_windows:
            lengths = enumerate(zip(window.size, self.below.lengths, strict=True))
            size = tuple([whole if self._loses(axis) else own for axis, (own, whole) in lengths])
            here = Window(window.start, size, self.below, window.image_indices)
        shape = here.shape if here is not None else self.below.shape
        order = self.below.network_order()
        signal = signal.permute(0, *self.above.network_order())
        signal = signal.reshape(len(signal), *(shape[dim - 1] for dim in order))
        return [signal.permute(0, *(1 + order.index(dim) for dim in range(1, len(order) + 1)))]


def _batch_in(output: tuple[int, ...], below: TensorLayout, batch: int) -> tuple[int, tuple[int, ...]] | None:
    """Return which dimension of an output is the batch, and the lengths folded into it.

    Return None if the images of a batch are mixed.
    """
    if not output:
        return None
    if batch == 1 and output[0] == 1:
        return 0, ()  # a batch of one can be on any dimension
    found = _batch_where_it_was(output, below, batch)
    if batch > 1 or (found is not None and found[0] > 0 and (not found[1] or below.positions)):
        return found
    return 0, _lead(below, below.network_order(), output[0]) or (output[0],)


def _batch_where_it_was(
    output: tuple[int, ...], below: TensorLayout, batch: int
) -> tuple[int, tuple[int, ...]] | None:
    """Return the same, assuming that as many values precede the batch as before."""
    rest = below.shape[below.folded :]
    before = math.prod(rest[: below.batch_at])
    place = 0
    while place < len(output) and (before > 1 or (output[place] == 1 and batch > 1)):
        if before % output[place]:
            return None
        before //= output[place]
        place += 1
    if place == len(output) or output[place] % batch:
        return None
    pieces = output[place] // batch  # per image; each piece counts as an image from here on
    if pieces == 1:
        return place, ()
    dims = [*range(1, below.folded + 1), *range(below.folded + below.batch_at + 1, len(below.shape) + 1)]
    lead = _lead(below, dims, pieces)
    if place == 0:
        return 0, lead or (pieces,)
    alone = all(length == 1 for length in output[:place])  # (1, B * C, H, W): each channel of each image
    return (place, lead) if lead and (alone or below.positions <= set(dims[: len(lead)])) else None


def _lead(below: TensorLayout, dims: list[int], pieces: int) -> tuple[int, ...]:
    """Return the lengths of the leading dimensions whose product is `pieces`; empty if there are none."""
    for count in range(1, len(dims) + 1):
        lead = tuple(below.shape[dim - 1] for dim in dims[:count])
        if math.prod(lead) == pieces:
            return lead
    return ()


def follow(below: TensorLayout, shape: tuple[int, ...]) -> TensorLayout:
    """Return the layout of `below` after a reshape, tracking each position.

    Rows and columns may be joined into one dimension, (C, H, W) to (C, H * W), and split again. If they are
    joined with another dimension, or split otherwise, they can no longer be tracked.
    """
    axes: dict[int, int] = {}
    joint: int | None = None
    grid: tuple[int, ...] = ()
    mixed: set[int] = set()
    for old, new in _groups(below.shape, shape):
        if not below.positions.intersection(old):
            continue
        if len(old) == len(new) == 1:
            if old[0] == below.joint:
                joint, grid = new[0], below.grid
            elif old[0] in below.mixed:
                mixed.add(new[0])
            else:
                axes[old[0]] = new[0]
        elif tuple(old) == below.dims and len(new) == 1:
            joint, grid = new[0], below.lengths
        elif old == [below.joint] and (split := _split(below.grid, shape, new)):
            return replace(below.unplaced(shape), axes=split)
        else:
            mixed.update(new)
    kept = tuple([None if dim is None else axes.get(dim) for dim in below.axes or ()])
    return replace(below.unplaced(shape).with_axes(kept, mixed), joint=joint, grid=grid)


def _split(grid: tuple[int, ...], shape: tuple[int, ...], dims: Sequence[int]) -> Axes | None:
    """Return the axes of a joint dimension that was split into some dimensions; None if it was otherwise.

    An axis of length 1 may have no dimension.
    """
    lengths = tuple([shape[dim - 1] for dim in dims])
    if lengths == grid:
        return tuple(dims)
    if lengths != tuple([length for length in grid if length > 1]):
        return None
    rest = iter(dims)
    return tuple([next(rest) if length > 1 else None for length in grid])


def _groups(old: tuple[int, ...], new: tuple[int, ...]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the smallest matching groups of dimensions (from 1) of two shapes with the same values.

    Dimensions of length 1 that appear or disappear belong to no group.
    """
    i = j = 0
    while i < len(old) and j < len(new):
        if old[i] == new[j]:
            yield [i + 1], [j + 1]
            i, j = i + 1, j + 1
        elif old[i] == 1 or new[j] == 1:
            i, j = i + (old[i] == 1), j + (old[i] != 1)
        else:
            olds, news, here, there = [i + 1], [j + 1], old[i], new[j]
            i, j = i + 1, j + 1
            while here != there:
                if here < there:
                    here *= old[i]
                    olds += [i + 1] if old[i] > 1 else []
                    i += 1
                else:
                    there *= new[j]
                    news += [j + 1] if new[j] > 1 else []
                    j += 1
            yield olds, news
