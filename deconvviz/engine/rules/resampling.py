"""Interpolation, padding and cropping, pixel shuffle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SAME, UNKNOWN, IndexMap, PeriodicIntervals, SlidingWindow
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Spatial
from deconvviz.engine.rules.separable import Separable

aten = torch.ops.aten


@rule(
    aten.upsample_nearest2d.default,
    aten._upsample_nearest_exact2d.default,
    aten.upsample_bilinear2d.default,
    aten._upsample_bilinear2d_aa.default,
    aten.upsample_bicubic2d.default,
    aten._upsample_bicubic2d_aa.default,
)
class Interpolation(Separable):
    """Nearest, bilinear, bicubic interpolation: weighted sums; projection: the transposed matrices."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        aligned: bool | None = call.arguments.get("align_corners")
        lengths = list(zip(call.output.shape[-2:], self.below.lengths, strict=True))
        scales = (call["scales_h"], call["scales_w"])
        rows, columns = (
            _interpolation(call.op, axis, *lengths[axis], aligned, scale) for axis, scale in enumerate(scales)
        )
        self.settle(call, rows, columns)
        self.index_maps = [
            _checked(_periods(call.op, *lengths[axis], aligned, scale), self.matrices[axis])
            for axis, scale in enumerate(scales)
        ]

    def unsupported(self) -> str:
        if not all(_adds_up(matrix) for matrix in self.matrices):
            return "its measured weights do not add up to 1"
        return super().unsupported()

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return self.index_maps[axis] if self.supports_windows else UNKNOWN


def _adds_up(matrix: Tensor) -> bool:
    return bool(((matrix.sum(1) - 1).abs() < 1e-6).all())


_ACROSS = 4  # some PyTorch kernels treat maps that are one position wide differently
_AT_ONCE = 64  # positions measured in one call


@lru_cache(maxsize=256)
def _interpolation(
    op: Any, axis: int, n_out: int, n_in: int, aligned: bool | None, scale: float | None
) -> Tensor:
    """Return the interpolation matrix along one axis, (n_out, n_in) float64.

    It is measured by interpolating maps that are 1 at one row (axis 0) or column (axis 1) and 0 elsewhere.
    """
    across = 3 - axis  # dimension
    size = [_ACROSS, _ACROSS]
    size[axis] = n_out
    scales = (scale, None) if axis == 0 else (None, scale)
    options = scales if aligned is None else (aligned, *scales)
    parts = []
    for single in torch.eye(n_in, dtype=torch.float64, device="cpu").split(_AT_ONCE):
        shape = [1, *single.shape]  # (1, positions, n_in)
        maps = single.reshape(shape).unsqueeze(across).expand(*_wide(single, across))
        taken: Tensor = op(maps.contiguous(), size, *options)
        parts.append(taken.select(across, 0)[0])  # (positions, n_out)
    return torch.cat(parts).T.contiguous()


def _wide(single: Tensor, across: int) -> list[int]:
    shape = [1, *single.shape]
    shape.insert(across, _ACROSS)
    return shape


def _checked(intervals: IndexMap, matrix: Tensor) -> IndexMap:
    """Return the intervals if no row of the matrix has a weight outside them, else `UNKNOWN`."""
    if not isinstance(intervals, PeriodicIntervals):
        return intervals
    for o, row in enumerate(matrix):
        seen = torch.nonzero(row)[:, 0]
        first, past = intervals.place(o)
        if len(seen) and not (first <= int(seen[0]) and int(seen[-1]) < past):
            return UNKNOWN
    return intervals


_MIDDLE = 12  # far enough from the border that no weight is cut off


@lru_cache(maxsize=256)
def _periods(op: Any, n_out: int, n_in: int, aligned: bool | None, scale: float | None) -> IndexMap:
    """Return the index map without borders; `UNKNOWN` if it does not repeat within 64 positions."""
    if n_out == n_in and scale in (None, 1):
        return SAME
    if aligned:
        if n_in == 1 or n_out == 1:
            return UNKNOWN
        rate = Fraction(n_out - 1, n_in - 1)
    else:
        rate = Fraction(n_out, n_in) if scale is None else Fraction(scale).limit_denominator(64)
    period, advance = rate.numerator, rate.denominator
    if period > 64 or advance > 64:
        return UNKNOWN
    turns = 2 * _MIDDLE + 1
    ends = 1 if aligned else 0
    matrix = _interpolation(op, 0, period * turns + ends, advance * turns + ends, aligned, None)
    bounds = []
    for o in range(period * _MIDDLE, period * (_MIDDLE + 1)):
        seen = torch.nonzero(matrix[o])[:, 0] - advance * _MIDDLE
        bounds.append((int(seen[0]), int(seen[-1]) + 1))
    return PeriodicIntervals(tuple(bounds), advance)


class Border(Separable):
    """Padding with copies of positions inside the map; projection: the signals of the copies are summed."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        left, right, top, bottom = (int(n) for n in call["padding"])
        rows, columns = self.below.lengths
        self.before = (top, left)
        self.settle(call, self._matrix(top, rows, bottom), self._matrix(left, columns, right))

    def _matrix(self, before: int, length: int, after: int) -> Tensor:
        places = self.copied(torch.arange(-before, length + after), length)
        return torch.nn.functional.one_hot(places, length).double()

    def copied(self, places: Tensor, length: int) -> Tensor:
        """Return the position inside the map that each padded position copies."""
        raise NotImplementedError

    def index_map(self, argument: int, axis: int) -> IndexMap:
        """Return the index map inside the map, where each position copies itself."""
        return SlidingWindow(padding=self.before[axis]).index_map if self.supports_windows else UNKNOWN


@rule(aten.reflection_pad2d.default)
class Reflection(Border):
    """Reflection about the outermost row."""

    def copied(self, places: Tensor, length: int) -> Tensor:
        back = places.abs()
        return (length - 1 - (length - 1 - back).abs()).abs()


@rule(aten.replication_pad2d.default)
class Replication(Border):
    """Repetition of the outermost row."""

    def copied(self, places: Tensor, length: int) -> Tensor:
        return places.clamp(0, length - 1)


@rule(aten.constant_pad_nd.default)
class ConstantBorder(Rule):
    """Padding with a constant, or cropping if negative; projection: the signal inside the map."""

    supports_windows = True
    handles_folded_batch = True

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        rank = call["self"].dim()
        pads = [int(n) for n in call["pad"]]
        self.before: dict[int, int] = {}  # by dimension
        for number in range(len(pads) // 2):
            self.before[self.below.dim(rank - 1 - number)] = pads[2 * number]
        self.over_batch = 0 in self.before and call.output.shape[0] != call["self"].shape[0]

    def unsupported(self) -> str:
        return "it pads the batch" if self.over_batch else ""

    def output_layout(self, call: Call) -> TensorLayout:
        below = self.below
        shape = (*below.shape[: below.folded], *call.output.shape[1:])
        kept = below.without(self.before)
        return replace(kept, shape=shape, axes=below.axes, batch_at=0)

    def is_elementwise(self, argument: int, axis: int) -> bool:
        return self.below.joint not in self.before

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        axes = self.below.axes or ()
        for dim, before in self.before.items():
            if dim and dim not in axes:
                after = self.below.shape[dim - 1] + before - signal.shape[dim]
                pads = [0, 0] * (signal.dim() - 1 - dim) + [-before, after]
                signal = torch.nn.functional.pad(signal, pads)
        if not axes:
            return [signal]
        start = window.start - torch.tensor([self.before.get(axis, 0) for axis in axes])
        return [input_windows[0].place(signal, start)]

    def _padded(self, axis: int) -> bool:
        return self.below.axes is not None and self.below.axes[axis] in self.before

    def _slide(self, axis: int) -> SlidingWindow:
        axes = self.below.axes or (0, 0)
        return SlidingWindow(padding=self.before.get(axes[axis], 0))

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        # never None, also along an axis that is not padded: `project` fills the input window
        if self.below.axes:
            return self._slide(axis).visible_inputs(n_out, n_in)
        return super().visible_inputs(argument, axis, n_out, n_in)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return self._slide(axis).index_map if self.below.axes else super().index_map(argument, axis)


@rule(aten.pixel_shuffle.default)
class PixelShuffle(Spatial):
    """(C * r * r, H, W) to (C, H * r, W * r), as in sub-pixel convolution; projection: pixel unshuffle."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.factor = int(call["upscale_factor"])

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        below, r = self.frame(input_windows[0]), self.factor
        above = Window(
            below.start * r,
            (below.size[0] * r, below.size[1] * r),
            TensorLayout.of(window.layout.shape),
            window.image_indices,
        )
        return [torch.nn.functional.pixel_unshuffle(above.place(signal, window.start), r)]

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.supports_windows:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return SlidingWindow(self.factor, self.factor).visible_inputs(n_in, n_out).T

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return SlidingWindow(self.factor, self.factor).transposed if self.supports_windows else UNKNOWN


@rule(aten.pixel_unshuffle.default)
class PixelUnshuffle(Spatial):
    """(C, H * r, W * r) to (C * r * r, H, W); projection: pixel shuffle."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.factor = int(call["downscale_factor"])

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = torch.nn.functional.pixel_shuffle(signal, self.factor)
        return [self.frame(input_windows[0]).place(x, window.start * self.factor)]

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.supports_windows:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return SlidingWindow(self.factor, self.factor).visible_inputs(n_out, n_in)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return SlidingWindow(self.factor, self.factor).index_map if self.supports_windows else UNKNOWN
