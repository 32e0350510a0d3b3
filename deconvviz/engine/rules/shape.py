"""Calls that move numbers about and compute nothing: the mirror moves the signal back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.bands import SAME, Band
from deconvviz.engine.rules.base import Call, Rule, rule
from deconvviz.engine.windows import Axes, Form, Window

aten = torch.ops.aten


@rule(
    aten.clone.default,
    aten.detach.default,
    aten.alias.default,
    aten._to_copy.default,
    aten.lift_fresh.default,
)
class Same(Rule):
    """The same numbers, in another place of the memory or another type."""

    windowed = True
    folds = True
    anywhere = True

    def __init__(self, call: Call) -> None:
        self.dtype: torch.dtype = call["self"].dtype

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [signal.to(self.dtype)]


@rule(aten.as_strided_.default, aten.as_strided.default)
class Restrided(Same):
    """The same numbers in the same places, where nothing but the strides of lone positions has changed."""

    keeps_inputs = True

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

    def refuses(self) -> str:
        return "it takes the numbers from other places of the memory" if self.moved else ""


@rule(aten.copy_.default)
class Overwritten(Rule):
    """One tensor's numbers are replaced by another's; mirror: all of the signal to the other."""

    def __init__(self, call: Call) -> None:
        self.below = call.forms[-1]
        self.shape = (call["self"].shape, call["src"].shape)

    def refuses(self) -> str:
        if self.below is None or self.shape[0] != self.shape[1]:
            return "it writes to a part, or stretches what it writes"
        return ""

    def flows(self, argument: int) -> bool:
        return argument == 1

    def form(self, call: Call) -> Form:
        return self.below or super().form(call)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [None, signal]


@rule(
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten._reshape_alias.default,
    aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims, aten.unsqueeze.default,
)  # fmt: skip
class View(Rule):
    """The same numbers in another shape; mirror: back to the old shape, picture by picture."""

    folds = True
    anywhere = True

    def __init__(self, call: Call) -> None:
        self.below = call.form
        self.output = tuple(call.output.shape)
        self.shape = tuple(call["self"].shape)
        self.moved = self.below.batch_at
        self.laid = Form(self.below.real(1), None) if self.moved else self.below  # as the numbers stand
        mixed = self.moved > 0 and call.batch > 1  # a batch of one can stand anywhere
        self.mixes = not self.output or self.output[0] % call.batch != 0 or mixed
        self.above = Form.of(self.output[1:]) if self.mixes else self._form(call.batch)
        followed = None if self.mixes else _followed(self.laid, self.above.shape)
        self.windowed = followed is not None and self.above.axes == followed

    def refuses(self) -> str:
        return f"it mixes the pictures of a batch: {self.shape} to {self.output}" if self.mixes else ""

    def _form(self, batch: int) -> Form:
        below, rest = self.laid.shape, self.output[1:]
        pieces = self.output[0] // batch  # of one picture, each a picture of its own from here on
        for folded in range(len(below) + 1):
            if pieces > 1 and math.prod(below[:folded]) == pieces and folded:
                shape = (*below[:folded], *rest)
                break
        else:
            folded = 1 if pieces > 1 else 0
            shape = (pieces, *rest) if pieces > 1 else rest
        followed = _followed(self.laid, shape)
        return Form(shape, followed or (None if folded else Form.of(shape).axes), folded)

    def form(self, call: Call) -> Form:
        return self.above

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        if self.moved:
            signal = signal.reshape(len(signal), *self.laid.shape).movedim(1 + self.moved, 1)
        if not self.windowed:
            return [signal.reshape(len(signal), *self.below.shape)]  # (K, C * H * W) -> (K, C, H, W)
        here = Window(at.start, at.size, self.below, at.images)
        return [signal.reshape(len(signal), *here.shape)]


def _followed(below: Form, shape: tuple[int, ...]) -> Axes | None:
    """Where the rows and columns of one shape are in another; None if they were joined or cut."""
    if below.axes is None:
        return None
    places: dict[int, int] = {}
    i = j = 0
    old, new = below.shape, shape
    while i < len(old) and j < len(new):
        if old[i] == new[j]:
            places[i + 1] = j + 1
            i, j = i + 1, j + 1
        elif old[i] == 1 or new[j] == 1:
            i, j = i + (old[i] == 1), j + (old[i] != 1)
        else:  # some of the one are some of the other
            here, there = old[i], new[j]
            i, j = i + 1, j + 1
            while here != there:
                if here < there:
                    here, i = here * old[i], i + 1
                else:
                    there, j = there * new[j], j + 1
    rows, columns = (places.get(axis) for axis in below.axes)
    return (rows, columns) if rows and columns else None


@rule(aten.permute.default, aten.transpose.int, aten.t.default)
class Permutation(Rule):
    """Dimensions in another order; mirror: back."""

    windowed = True
    folds = True
    anywhere = True

    def __init__(self, call: Call) -> None:
        self.below = call.form
        rank = call["self"].dim()
        if "dims" in call.arguments:
            real = [dim % rank for dim in call["dims"]]
        else:
            real = list(range(rank))
            one, other = (call.arguments.get("dim0", 0) % rank, call.arguments.get("dim1", 1) % rank)
            real[one], real[other] = real[other], real[one]
        moved = [self.below.dim(dim) for dim in real]  # 0 is the batch
        self.batch_at = moved.index(0)
        kept = range(1 + self.below.folded)  # batch, and what is folded into it
        self.order = [*kept, *(dim for dim in moved if dim)]
        self.back = [self.order.index(dim) for dim in range(len(self.order))]

    def form(self, call: Call) -> Form:
        shape = tuple(self.below.shape[dim - 1] for dim in self.order[1:])
        axes = self.below.axes
        moved = (self.order.index(axes[0]), self.order.index(axes[1])) if axes else None
        return Form(shape, moved, self.below.folded, self.batch_at)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [signal.permute(self.back)]


class Part(Rule):
    """Some positions along one dimension, first, first + step, ...; mirror: the rest is zero."""

    windowed = True
    folds = True
    first: int
    step: int
    count: int

    def __init__(self, call: Call) -> None:
        self.below = call.form
        self.dim = self.below.dim(call["dim"])
        self.length = self.below.shape[self.dim - 1] if self.dim else self.below.real(call.batch)[0]
        axes = self.below.axes
        self.axis = axes.index(self.dim) if axes and self.dim in axes else None

    def refuses(self) -> str:
        if self.dim == 0 and (self.first, self.step, self.count) != (0, 1, self.length):
            return "it takes some of the pictures of a batch"
        return ""

    def form(self, call: Call) -> Form:
        if self.dim == 0:
            return super().form(call)
        shape = list(self.below.shape)
        shape[self.dim - 1] = self.count
        return Form(tuple(shape), self.below.axes, self.below.folded)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        if self.dim == 0:
            return [signal]
        if self.axis is None:
            shape = list(signal.shape)
            shape[self.dim] = self.length
            x = signal.new_zeros(shape)
            x[self._along(self.first, self.first + self._span)] = signal
            return [x]
        start = at.start.clone()
        start[:, self.axis] = start[:, self.axis] * self.step + self.first
        if self.step > 1:
            shape = list(signal.shape)
            shape[self.dim] = (shape[self.dim] - 1) * self.step + 1
            x = signal.new_zeros(shape)
            x[self._along(None, None)] = signal
            signal = x
        return [_moved(into[0], at, self.axis).place(signal, start)]

    def _along(self, first: int | None, past: int | None) -> tuple[slice, ...]:
        return (*[slice(None)] * self.dim, slice(first, past, self.step))

    @property
    def _span(self) -> int:
        return (self.count - 1) * self.step + 1

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if axis != self.axis:
            return None
        return torch.eye(n_in, dtype=torch.bool)[self.first :: self.step][:n_out]

    def band(self, argument: int, axis: int) -> Band | None:
        return Band(((self.first, self.first + 1),), self.step) if axis == self.axis else SAME


def _moved(into: Window, at: Window, axis: int) -> Window:
    """A window that lies like `into` along one axis, and like `at` along the other."""
    start, size = at.start.clone(), list(at.size)
    start[:, axis], size[axis] = into.start[:, axis], into.size[axis]
    return Window(start, (size[0], size[1]), into.form, at.images)


@rule(aten.slice.Tensor)
class Slice(Part):
    """x[:, first:last:step]."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.first, last, self.step = slice(call["start"], call["end"], call["step"]).indices(self.length)
        self.count = len(range(self.first, last, self.step))


@rule(
    aten.split.Tensor, aten.split_with_sizes.default,
    aten.unsafe_split.Tensor, aten.unsafe_split_with_sizes.default,
)  # fmt: skip
class Split(Part):
    """x cut into parts along a dimension; each gives its signal back to its own."""

    each_output = True
    step = 1

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        lengths = [part.shape[call["dim"]] for part in call.outputs]
        self.first = sum(lengths[: call.number])
        self.count = lengths[call.number]


class Pick(Part):
    """One position along a dimension, which is then gone."""

    anywhere = True
    step, count = 1, 1

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.windowed = self.axis is None

    def refuses(self) -> str:
        return "it takes one of the pictures of a batch" if self.dim == 0 else ""

    def form(self, call: Call) -> Form:
        if self.dim == 0:
            return Form.of(call.output.shape[1:])
        below = self.below
        shape = (*below.shape[: self.dim - 1], *below.shape[self.dim :])
        batch_at = below.batch_at - (self.dim - below.folded <= below.batch_at)
        axes = below.axes
        if axes is not None:
            axes = (
                None
                if self.axis is not None
                else (axes[0] - (axes[0] > self.dim), axes[1] - (axes[1] > self.dim))
            )
        return Form(shape, axes, below.folded, batch_at)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        shape = list(signal.shape)
        shape.insert(self.dim, self.length)
        x = signal.new_zeros(shape)
        x.select(self.dim, self.first).copy_(signal)
        return [x]

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if self.axis is None:
            return None
        reach = torch.ones(n_out, n_in, dtype=torch.bool)
        return reach & torch.eye(n_in, dtype=torch.bool)[self.first] if axis == self.axis else reach

    def band(self, argument: int, axis: int) -> Band | None:
        return SAME if self.axis is None else None


@rule(aten.select.int)
class Select(Pick):
    """x[:, index]."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.first = call["index"] % self.length


@rule(aten.unbind.int)
class Unbind(Pick):
    """x taken apart along a dimension."""

    each_output = True

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.first = call.number


def _unlike(call: Call) -> list[bool]:
    """For each argument: has it its rows and columns elsewhere than the first one?"""
    return [form is not None and form.axes != call.form.axes for form in call.forms]


@rule(aten.cat.default)
class Concat(Rule):
    """Several maps, one behind the other; mirror: each gets its part of the signal."""

    windowed = True
    folds = True

    def __init__(self, call: Call) -> None:
        tensors: list[Tensor] = call["tensors"]
        self.skipped = [t.shape == (0,) for t in tensors]  # PyTorch skips such empty ones
        self.real = call["dim"] % call.output.dim()
        self.lengths = [
            0 if skip else t.shape[self.real] for t, skip in zip(tensors, self.skipped, strict=True)
        ]
        self.forms = call.forms
        self.unlike = _unlike(call)
        self.dim = call.form.dim(call["dim"])
        axes = call.form.axes
        self.axis = axes.index(self.dim) if axes and self.dim in axes else None  # of a map: rows 0, columns 1

    def refuses(self) -> str:
        return "it joins pictures into one batch" if self.real == 0 else ""

    def form(self, call: Call) -> Form:
        if self.real == 0:
            return super().form(call)
        shape = list(call.form.shape)
        shape[self.dim - 1] = sum(self.lengths)
        return Form(tuple(shape), call.form.axes, call.form.folded)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        parts: list[Tensor | None] = []
        for argument, length in enumerate(self.lengths):
            before = sum(self.lengths[:argument])
            if self.skipped[argument] or self.forms[argument] is None:
                parts.append(None)
            elif self.axis is None:
                parts.append(signal.narrow(self.dim, before, length))
            else:
                start = at.start.clone()
                start[:, self.axis] -= before
                parts.append(_moved(into[argument], at, self.axis).place(signal, start))
        return parts

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if self.unlike[argument]:
            return torch.ones(n_out, n_in, dtype=torch.bool)
        if self.axis != axis:
            return None
        before = sum(self.lengths[:argument])
        return torch.eye(n_out, dtype=torch.bool)[:, before : before + n_in]

    def band(self, argument: int, axis: int) -> Band | None:
        return SAME if self.axis != axis and not self.unlike[argument] else None


@rule(aten.stack.default)
class Stack(Rule):
    """Several maps, side by side along a new dimension; mirror: each gets its part of the signal."""

    windowed = True
    folds = True

    def __init__(self, call: Call) -> None:
        self.real: int = call["dim"] % call.output.dim()
        self.dim = self.real + call.form.folded
        self.count = len(call["tensors"])
        self.unlike = _unlike(call)

    def refuses(self) -> str:
        return "it puts maps side by side as if they were pictures of a batch" if self.real == 0 else ""

    def form(self, call: Call) -> Form:
        axes = call.form.axes
        moved = (axes[0] + (axes[0] >= self.dim), axes[1] + (axes[1] >= self.dim)) if axes else None
        if self.real == 0:
            return super().form(call)
        shape = list(call.form.shape)
        shape.insert(self.dim - 1, self.count)
        return Form(tuple(shape), moved, call.form.folded)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [signal.select(self.dim, number) for number in range(self.count)]

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        return torch.ones(n_out, n_in, dtype=torch.bool) if self.unlike[argument] else None

    def band(self, argument: int, axis: int) -> Band | None:
        return None if self.unlike[argument] else SAME


@rule(aten.expand.default)
class Expand(Rule):
    """One number for many positions; mirror: their signals add up."""

    windowed = True
    folds = True

    def __init__(self, call: Call) -> None:
        self.below = call.form
        self.output = tuple(call.output.shape)
        real = self.below.real(call.batch)
        self.mixes = len(real) != len(self.output) or real[0] != self.output[0]
        shape = (*self.below.shape[: self.below.folded], *self.output[1:])
        self.above = (
            Form.of(self.output[1:]) if self.mixes else Form(shape, self.below.axes, self.below.folded)
        )

    def refuses(self) -> str:
        return f"it stretches over the pictures of a batch: to {self.output}" if self.mixes else ""

    def form(self, call: Call) -> Form:
        return self.above

    def _stretched(self, axis: int) -> bool:
        return self.below.lengths[axis] != self.above.lengths[axis]

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        shapes = zip(self.below.shape, self.above.shape, strict=True)
        dims = [dim for dim, (own, whole) in enumerate(shapes, 1) if own != whole]
        return [signal.sum(dims, keepdim=True) if dims else signal]

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        return torch.ones(n_out, n_in, dtype=torch.bool) if self._stretched(axis) else None

    def band(self, argument: int, axis: int) -> Band | None:
        return None if self._stretched(axis) else SAME


@rule(aten.unfold.default)
class Unfold(Rule):
    """Windows that slide along a dimension, side by side; mirror: each back to its place, adding up."""

    folds = True

    def __init__(self, call: Call) -> None:
        self.below = call.form
        self.dim = self.below.dim(call["dimension"])
        self.size, self.step = int(call["size"]), int(call["step"])

    def refuses(self) -> str:
        return "it slides over the pictures of a batch" if self.dim == 0 else ""

    def form(self, call: Call) -> Form:
        if self.dim == 0:
            return super().form(call)
        shape = [*self.below.shape, self.size]
        shape[self.dim - 1] = (self.below.shape[self.dim - 1] - self.size) // self.step + 1
        return Form(tuple(shape), None, self.below.folded)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        x = signal.new_zeros(len(signal), *self.below.shape)
        span = (signal.shape[self.dim] - 1) * self.step + 1
        for tap in range(self.size):
            along = (*[slice(None)] * self.dim, slice(tap, tap + span, self.step))
            x[along] += signal[..., tap]
        return [x]


@rule(aten.repeat.default)
class Repeat(Rule):
    """x laid side by side; mirror: the signals of the copies add up."""

    def __init__(self, call: Call) -> None:
        self.below = call.form
        self.times = [int(n) for n in call["repeats"]]

    def refuses(self) -> str:
        if self.times[0] != 1 or len(self.times) != len(self.below.shape) + 1:
            return "it repeats the pictures of a batch"
        return ""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        for dim, (times, length) in enumerate(zip(self.times[1:], self.below.shape, strict=True), 1):
            if times > 1:
                signal = signal.unflatten(dim, (times, length)).sum(dim)
        return [signal]


class Reordered(Rule):
    """Positions along some dimensions in another order."""

    def __init__(self, call: Call) -> None:
        self.below = call.form
        axes = self.below.axes or ()
        self.real: list[int] = [int(dim) for dim in call["dims"]]
        self.dims = [self.below.dim(dim) for dim in self.real]
        self.along = {axes.index(dim) for dim in self.dims if dim in axes}
        self.windowed = not self.along

    def refuses(self) -> str:
        return "it reorders the pictures of a batch" if 0 in self.dims else ""

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if axis not in self.along:
            return None
        return self._order(axis, n_out)

    def _order(self, axis: int, length: int) -> Tensor:
        """(length, length) bool: which position each one comes from."""
        raise NotImplementedError

    def band(self, argument: int, axis: int) -> Band | None:
        return None if axis in self.along else SAME


@rule(aten.flip.default)
class Flip(Reordered):
    """Last position first."""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [signal.flip(self.dims)]

    def _order(self, axis: int, length: int) -> Tensor:
        return torch.eye(length, dtype=torch.bool).flip(0)


@rule(aten.roll.default)
class Roll(Reordered):
    """Positions moved on, those at the end to the beginning."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.shifts = [int(n) for n in call["shifts"]]

    def refuses(self) -> str:
        if len(self.shifts) != len(self.dims):
            return "it moves positions from one dimension to another"
        return super().refuses()

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [signal.roll([-shift for shift in self.shifts], self.dims)]

    def _order(self, axis: int, length: int) -> Tensor:
        axes = self.below.axes or ()
        moved = sum(s for s, dim in zip(self.shifts, self.dims, strict=True) if dim == axes[axis])
        return torch.eye(length, dtype=torch.bool).roll(moved, 0)


@rule(aten.channel_shuffle.default, aten.native_channel_shuffle.default)
class ChannelShuffle(Rule):
    """Channels dealt out over the groups of the next convolution; mirror: gathered again."""

    windowed = True

    def __init__(self, call: Call) -> None:
        self.each = call.form.shape[0] // int(call["groups"])

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return [signal.unflatten(1, (self.each, -1)).transpose(1, 2).flatten(1, 2)]
