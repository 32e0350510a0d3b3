"""Convolution with filters that are computed from the image (CondConv); the filters are constants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deconvviz.engine.index_maps import UNKNOWN, IndexMap, SlidingWindow
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.rule import Call, Rule, Support

aten = torch.ops.aten


class ComputedFilters(Rule):
    """y = W_b * x_b for each image b; projection: the transposed convolution with the recorded filters.

    For a batch, networks write this as one grouped convolution of maps (1, B * C, H, W).
    """

    support = Support.APPROXIMATE
    note = "filters that are computed from the image are treated as constants"
    handles_folded_batch = True
    any_batch_axis = True

    @staticmethod
    def applies(call: Call) -> bool:
        layout = call.layouts[0]
        if layout is None or call["transposed"]:
            return False
        if layout.batch_at == 1:
            return layout.folded == layout.shape[1] == 1 and call["groups"] % call.batch == 0
        computed = any(one is not None for one in call.layouts[1:])
        return computed and call.batch == 1 and not layout.folded and not layout.batch_at

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.count = len(call.layouts)
        weight: Tensor = call["weight"]  # (B * out, in / groups, *kernel)
        self.weight = weight.unflatten(0, (call.batch, -1)).clone()
        self.groups = call["groups"] // call.batch
        kernel = weight.shape[2:]
        each = [list(call[name]) for name in ("stride", "padding", "dilation")]
        self.numbers = [one * len(kernel) if len(one) == 1 else one for one in each]
        self.slides = [SlidingWindow(*one) for one in zip(kernel, *self.numbers, strict=True)]
        self.size = self.below.shape[-len(kernel) :]
        last = range(len(self.below.shape) - len(kernel) + 1, len(self.below.shape) + 1)
        self.tracked = self.below.dims == tuple(last)

    def flows(self, argument: int) -> bool:
        return argument == 0

    def output_layout(self, call: Call) -> TensorLayout:
        shape = call.output.shape
        if self.below.batch_at == 0:
            return self.below.like(shape[1:])
        return replace(self.below, shape=(self.weight.shape[1], 1, *shape[2:]))

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return False

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.tracked:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return self.slides[axis].visible_inputs(n_out, n_in)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return self.slides[axis].index_map if self.tracked else UNKNOWN

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        axes, (stride, padding, dilation) = len(self.slides), self.numbers
        weight = self.weight[window.image_indices.to(signal.device)].flatten(0, 1).to(signal.dtype)
        maps = signal.reshape(1, -1, *signal.shape[-axes:])  # (1, K * out, h, w)
        lengths = zip(self.size, maps.shape[-axes:], self.slides, strict=True)
        extra = [
            wanted - ((n - 1) * slide.stride + slide.extent - 2 * slide.padding)
            for wanted, n, slide in lengths
        ]
        x: Tensor = aten.convolution(
            maps, weight, None, stride, padding, dilation, True, extra, self.groups * len(signal)
        )  # (1, K * out, h, w) -> (1, K * C, H, W)
        return [x.reshape(len(signal), *self.below.shape)] + [None] * (self.count - 1)
