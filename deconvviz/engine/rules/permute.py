"""Operations that reorder positions or dimensions; the projection restores the order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule

aten = torch.ops.aten


@rule(aten.permute.default, aten.transpose.int, aten.t.default)
class Permutation(Rule):
    """Permutation of dimensions; projection: the inverse permutation."""

    supports_windows = True
    handles_folded_batch = True
    any_batch_axis = True

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        rank = call["self"].dim()
        if "dims" in call.arguments:
            real = [dim % rank for dim in call["dims"]]
        else:
            real = list(range(rank))
            one, other = (call.arguments.get("dim0", 0) % rank, call.arguments.get("dim1", 1) % rank)
            real[one], real[other] = real[other], real[one]
        moved = [self.below.dim(dim) for dim in real]  # 0 is the batch
        self.batch_at = moved.index(0)
        kept = range(1 + self.below.folded)  # the batch and the axes folded into it
        self.order = [*kept, *(dim for dim in moved if dim)]
        self.back = [self.order.index(dim) for dim in range(len(self.order))]

    def output_layout(self, call: Call) -> TensorLayout:
        shape = tuple(self.below.shape[dim - 1] for dim in self.order[1:])
        return replace(self.below.moved(self.order.index), shape=shape, batch_at=self.batch_at)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal.permute(self.back)]


class Reordered(Rule):
    """Reordering of positions along some dimensions."""

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        axes = self.below.axes or ()
        self.dims = [self.below.dim(int(dim)) for dim in call["dims"]]
        self.along = {axes.index(dim) for dim in self.dims if dim in axes}
        self.joined = self.below.joint in self.dims
        self.supports_windows = not self.along

    def output_layout(self, call: Call) -> TensorLayout:
        return super().output_layout(call).without(self.dims, keep=True)

    def unsupported(self) -> str:
        return "it reorders the images of a batch" if 0 in self.dims else ""

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return axis not in self.along and not self.joined

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        return (
            self._order(axis, n_out)
            if axis in self.along
            else super().visible_inputs(argument, axis, n_out, n_in)
        )

    def _order(self, axis: int, length: int) -> Tensor:
        """Return (length, length) bool: the position that each output position comes from."""
        raise NotImplementedError


@rule(aten.flip.default)
class Flip(Reordered):
    """Reversal of positions along some dimensions."""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal.flip(self.dims)]

    def _order(self, axis: int, length: int) -> Tensor:
        return torch.eye(length, dtype=torch.bool).flip(0)


@rule(aten.roll.default)
class Roll(Reordered):
    """Cyclic shift of positions along some dimensions."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.shifts = [int(n) for n in call["shifts"]]

    def unsupported(self) -> str:
        if len(self.shifts) != len(self.dims):
            return "it moves positions from one dimension to another"
        return super().unsupported()

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal.roll([-shift for shift in self.shifts], self.dims)]

    def _order(self, axis: int, length: int) -> Tensor:
        axes = self.below.axes or ()
        moved = sum(s for s, dim in zip(self.shifts, self.dims, strict=True) if dim == axes[axis])
        return torch.eye(length, dtype=torch.bool).roll(moved, 0)


@rule(aten.channel_shuffle.default, aten.native_channel_shuffle.default)
class ChannelShuffle(Rule):
    """Channels distributed over groups; projection: the inverse permutation."""

    supports_windows = True

    def __init__(self, call: Call) -> None:
        self.each = call.layout.shape[0] // int(call["groups"])
        self.supports_windows = 1 not in call.layout.positions

    def output_layout(self, call: Call) -> TensorLayout:
        return super().output_layout(call).without([1], keep=True)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [signal.unflatten(1, (self.each, -1)).transpose(1, 2).flatten(1, 2)]
