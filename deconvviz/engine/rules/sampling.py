"""Sampling at positions of a grid, and patches cut out of a map.

The sampled values are sums of pixels with weights that depend on the grid. The grid is a constant, so that
the operation is linear in the map, and its projection is the adjoint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.index_maps import UNKNOWN, IndexMap, SlidingWindow
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.indexing import TableLookup
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Support

aten = torch.ops.aten

COMPUTED_GRID = "the sampling positions, which are computed from the image, are treated as constants"


@rule(aten.grid_sampler_2d.default, aten.grid_sampler_3d.default)
class GridSample(Rule):
    """`grid_sample`; projection: each signal goes to the interpolated pixels, with their weights."""

    handles_folded_batch = True

    @classmethod
    def of(cls, call: Call) -> Rule:
        return TableLookup(call) if call.layouts[0] is None else cls(call)

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.back = (
            aten.grid_sampler_3d_backward if call["input"].dim() == 5 else aten.grid_sampler_2d_backward
        )
        self.options = (call["interpolation_mode"], call["padding_mode"], call["align_corners"])
        grid: Tensor = call["grid"]  # (B * pieces, h, w, 2)
        if call.layouts[1] is None:
            self.constants = (grid,)
        else:
            self.support, self.note = Support.APPROXIMATE, COMPUTED_GRID
            grid = grid.clone()
        self.grid = grid.unflatten(0, (call.batch, -1))
        self.derived = call.derived

    def flows(self, argument: int) -> bool:
        return argument == 0

    def output_layout(self, call: Call) -> TensorLayout:
        lead = self.below.shape[: self.below.folded]
        if not lead:
            return self.below.like(call.output.shape[1:])
        return self.below.unplaced((*lead, *call.output.shape[1:]), folded=len(lead))

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        folded = self.below.folded
        grid = self.grid[window.image_indices.to(self.grid.device)].flatten(0, 1).to(signal.dtype)
        pieces = signal.flatten(0, folded) if folded else signal  # (K * pieces, C, h, w)
        like = signal.new_zeros(()).expand(len(pieces), *self.below.shape[folded:])  # read only for its shape
        x, _ = self.back(pieces.contiguous(), like, grid, *self.options, [True, False])
        return [x.reshape(len(signal), *self.below.shape), None]


@rule(aten.affine_grid_generator.default)
class AffineGrid(Rule):
    """`affine_grid`: the positions that an affine map (2, 3) samples; only gradients project through it."""

    def __init__(self, call: Call) -> None:
        self.size, self.aligned = list(call["size"]), call["align_corners"]

    def output_layout(self, call: Call) -> TensorLayout:
        return call.layout.unplaced(call.output.shape[1:])

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        size = [len(signal), *self.size[1:]]
        return [aten.affine_grid_generator_backward(signal, size, self.aligned)]


@rule(aten.im2col.default)
class Patches(Rule):
    """`unfold`: the patch around each position, (C, H, W) to (C * k * k, positions); projection: `fold`."""

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        self.numbers = _numbers(call)
        self.slides = _slides(self.numbers)
        self.size = self.below.shape[1:]
        self.grid = tuple(_positions(slide, n) for slide, n in zip(self.slides, self.size, strict=True))

    def output_layout(self, call: Call) -> TensorLayout:
        shape = tuple(call.output.shape[1:])
        if self.below.axes != (2, 3):
            return self.below.unplaced(shape)
        return TensorLayout(shape, None, joint=2, grid=self.grid)

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if self.below.axes != (2, 3):
            return super().visible_inputs(argument, axis, n_out, n_in)
        return self.slides[axis].visible_inputs(n_out, n_in)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return self.slides[axis].index_map if self.below.axes == (2, 3) else UNKNOWN

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [aten.col2im(signal, self.size, *self.numbers)]


@rule(aten.col2im.default)
class PatchSum(Rule):
    """`fold`: patches summed in place, (C * k * k, positions) to (C, H, W); projection: `unfold`."""

    def __init__(self, call: Call) -> None:
        self.numbers = _numbers(call)
        self.slides = _slides(self.numbers)
        size = call["output_size"]
        grid = tuple(_positions(slide, n) for slide, n in zip(self.slides, size, strict=True))
        self.placed = (call.layout.joint, call.layout.grid) == (2, grid)

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.placed:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return self.slides[axis].visible_inputs(n_in, n_out).T

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return self.slides[axis].transposed if self.placed else UNKNOWN

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return [aten.im2col(signal, *self.numbers)]


def _numbers(call: Call) -> tuple[list[int], ...]:
    return tuple(list(call[name]) for name in ("kernel_size", "dilation", "padding", "stride"))


def _slides(numbers: tuple[list[int], ...]) -> list[SlidingWindow]:
    kernel, dilation, padding, stride = numbers
    return [SlidingWindow(*one) for one in zip(kernel, stride, padding, dilation, strict=True)]


def _positions(slide: SlidingWindow, length: int) -> int:
    return math.floor((length + 2 * slide.padding - slide.extent) / slide.stride) + 1
