"""Means, sums and maxima over whole dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.index_maps import IndexMap
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule

aten = torch.ops.aten


class Reduction(Rule):
    """Reduction of some dimensions to one value."""

    supports_windows = True
    handles_folded_batch = True
    any_batch_axis = True

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        rank = call["self"].dim()
        dims = call.arguments.get("dim")
        dims = [dims] if isinstance(dims, int) else dims or range(rank)
        self.dims = sorted(self.below.dim(int(dim)) for dim in dims)
        self.keepdim: bool = call.arguments.get("keepdim", False)
        earlier = {self.below.dim(dim) for dim in range(self.below.batch_at)}  # before the batch
        gone = 0 if self.keepdim else len(earlier.intersection(self.dims))
        self.batch_at = self.below.batch_at - gone
        self.count = 1
        for dim in self.dims:
            self.count *= (call.batch, *self.below.shape)[dim]
        axes = self.below.axes or ()
        self.over = {axes.index(dim) for dim in self.dims if dim in axes}
        self.joined = self.below.joint in self.dims
        self.over_all = bool(self.below.mixed) and self.below.mixed <= set(self.dims)

    def unsupported(self) -> str:
        return "it reduces over the images of a batch" if 0 in self.dims else ""

    def output_layout(self, call: Call) -> TensorLayout:
        if 0 in self.dims:
            return self.below.like(call.output.shape[1:])
        if self.keepdim:
            shape = tuple(1 if dim in self.dims else n for dim, n in enumerate(self.below.shape, 1))
            return replace(self.below.without(self.dims), shape=shape)
        shape = tuple(n for dim, n in enumerate(self.below.shape, 1) if dim not in self.dims)
        kept = self.below.moved(
            lambda dim: None if dim in self.dims else dim - sum(gone < dim for gone in self.dims)
        )
        return replace(kept, shape=shape, batch_at=self.batch_at)

    def spread(self, signal: Tensor) -> Tensor:
        """Return the signal with the reduced dimensions restored, each with length 1."""
        if not self.keepdim:
            for dim in self.dims:
                signal = signal.unsqueeze(dim)
        return signal

    def is_elementwise(self, argument: int, axis: int) -> bool:
        kept = self.keepdim or not self.over or self.below.may_lose_axes
        return not self.joined and axis not in self.over and kept

    def index_map(self, argument: int, axis: int) -> IndexMap:
        if axis in self.over or self.joined or self.over_all:
            return None
        return super().index_map(argument, axis)

    def filled(self, window: Window, input_window: Window) -> tuple[int, ...]:
        """Return the shape of the projected signal: `input_window` along reduced axes, else `window`."""
        shape = list(input_window.shape)
        for number, dim in enumerate(self.below.axes or ()):
            if dim is not None and number not in self.over and window.layout.axes:
                shape[dim - 1] = window.size[number]
        return tuple(shape)


@rule(aten.mean.dim, aten.mean.default)
class Mean(Reduction):
    """y = mean over some dimensions; projection: the signal, divided evenly."""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [
            (self.spread(signal) / self.count).expand(-1, *self.filled(window, input_windows[0]))
        ]  # (K, C) -> (K, C, H, W)


@rule(aten.sum.dim_IntList, aten.sum.default)
class Total(Reduction):
    """y = sum over some dimensions; projection: the signal, copied to each position."""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [self.spread(signal).expand(-1, *self.filled(window, input_windows[0]))]


@rule(aten.amax.default, aten.max.dim)
class Maximum(Reduction):
    """y = max over some dimensions; projection: the signal goes to the first maximum."""

    needs_input_values = True
    supports_windows = False
    handles_folded_batch = False
    any_batch_axis = False

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        if 0 not in self.dims:
            self.others = [dim for dim in range(len(self.below.shape) + 1) if dim not in self.dims]
            numbers = call["self"].permute(*self.others, *self.dims).flatten(len(self.others))
            self.places = self.first_of(numbers)  # (B, ...): index into the flattened reduced dimensions

    @staticmethod
    def first_of(lines: Tensor) -> Tensor:
        return lines.argmax(-1)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        if self.keepdim:
            signal = signal.squeeze(self.dims)
        images = window.image_indices.to(signal.device)
        x = signal.new_zeros(*signal.shape, self.count)
        x.scatter_(-1, self.places[images].unsqueeze(-1), signal.unsqueeze(-1))
        x = x.unflatten(-1, [self.below.shape[dim - 1] for dim in self.dims])
        order = [*self.others, *self.dims]
        return [x.permute([order.index(dim) for dim in range(len(order))])]


@rule(aten.amin.default, aten.min.dim)
class Minimum(Maximum):
    """y = min over some dimensions; projection: the signal goes to the first minimum."""

    @staticmethod
    def first_of(lines: Tensor) -> Tensor:
        return lines.argmin(-1)
