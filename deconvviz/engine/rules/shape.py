"""The same numbers, in another place or another shape; the mirror gives the signal the old one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

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
        folded, lead = 0, tuple[int, ...]()
        if pieces > 1:
            cuts = range(1, len(below) + 1)
            lead = next((below[:n] for n in cuts if math.prod(below[:n]) == pieces), (pieces,))
            folded = len(lead)
        shape = (*lead, *rest)
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
