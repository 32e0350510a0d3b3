"""Interpolation, padding and cropping, pixel shuffle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SAME, UNKNOWN, IndexMap, PeriodicIntervals, SlidingWindow, hull
from deconvviz.engine.layout import TensorLayout, Window, moved
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Sliding, SlidingBack
from deconvviz.engine.rules.separable import Separable

aten = torch.ops.aten


@rule(
    aten.upsample_nearest1d.default,
    aten._upsample_nearest_exact1d.default,
    aten.upsample_linear1d.default,
    aten.upsample_nearest2d.default,
    aten._upsample_nearest_exact2d.default,
    aten.upsample_bilinear2d.default,
    aten._upsample_bilinear2d_aa.default,
    aten.upsample_bicubic2d.default,
    aten._upsample_bicubic2d_aa.default,
    aten.upsample_nearest3d.default,
    aten._upsample_nearest_exact3d.default,
    aten.upsample_trilinear3d.default,
)
class Interpolation(Separable):
    """Nearest, linear, cubic interpolation: weighted sums; projection: the transposed matrices."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        aligned: bool | None = call.arguments.get("align_corners")
        scales = [value for name, value in call.arguments.items() if name.startswith("scales")]
        sizes = list(zip(call.output.shape[2:], self.lengths, scales, strict=True))
        self.settle(
            call,
            *[
                _interpolation(call.op, axis, len(sizes), n_out, n_in, aligned, scale)
                for axis, (n_out, n_in, scale) in enumerate(sizes)
            ],
        )
        self.index_maps = [
            _checked(_periods(call.op, len(sizes), n_out, n_in, aligned, scale), matrix)
            for matrix, (n_out, n_in, scale) in zip(self.matrices, sizes, strict=True)
        ]

    def unsupported(self) -> str:
        if not all(_adds_up(matrix) for matrix in self.matrices):
            return "its measured weights do not add up to 1"
        return super().unsupported()

    def index_map(self, argument: int, axis: int) -> IndexMap:
        number = self.number_of(axis)
        return super().index_map(argument, axis) if number is None else self.index_maps[number]


def _adds_up(matrix: Tensor) -> bool:
    return bool(((matrix.sum(1) - 1).abs() < 1e-6).all())


_ACROSS = 4  # some PyTorch kernels treat maps that are one position wide differently
_AT_ONCE = 64  # positions measured in one call


@lru_cache(maxsize=256)
def _interpolation(
    op: Any, axis: int, axes: int, n_out: int, n_in: int, aligned: bool | None, scale: float | None
) -> Tensor:
    """Return the interpolation matrix along one of `axes` axes, (n_out, n_in) float64.

    It is measured by interpolating maps that are 1 at one row (axis 0) or column (axis 1) and 0 elsewhere.
    """
    size = [_ACROSS] * axes
    size[axis] = n_out
    scales: list[float | None] = [None] * axes
    scales[axis] = scale
    options = scales if aligned is None else (aligned, *scales)
    parts = []
    for single in torch.eye(n_in, dtype=torch.float64, device="cpu").split(_AT_ONCE):
        shape = [_ACROSS] * axes
        shape[axis] = n_in
        along = [1] * axes
        along[axis] = n_in
        maps = single.reshape(1, -1, *along).expand(1, -1, *shape)
        taken: Tensor = op(maps.contiguous(), size, *options)[0]  # (positions, *size)
        for other in reversed([one for one in range(axes) if one != axis]):
            taken = taken.select(1 + other, 0)  # all positions along the other axes have the same weights
        parts.append(taken)  # (positions, n_out)
    return torch.cat(parts).T.contiguous()


_ROUNDING = 1e-9  # weights that are only rounding errors of positions do not count for the size of fields


def _checked(intervals: IndexMap, matrix: Tensor) -> IndexMap:
    """Return the intervals if no row of the matrix has a weight outside them, else `UNKNOWN`."""
    if not isinstance(intervals, PeriodicIntervals):
        return intervals
    for o, row in enumerate(matrix):
        seen = torch.nonzero(row.abs() > _ROUNDING)[:, 0]
        first, past = intervals.place(o)
        if len(seen) and not (first <= int(seen[0]) and int(seen[-1]) < past):
            return UNKNOWN
    return intervals


_MIDDLE = 12  # far enough from the border that no weight is cut off
_MOST_WEIGHTS = 1 << 24  # of a matrix that is measured to find the periods


@lru_cache(maxsize=256)
def _periods(
    op: Any, axes: int, n_out: int, n_in: int, aligned: bool | None, scale: float | None
) -> IndexMap:
    """Return the index map without borders; `UNKNOWN` if it takes too many positions to repeat."""
    if n_out == n_in and scale in (None, 1):
        return SAME
    if aligned:
        if n_in == 1 or n_out == 1:
            return UNKNOWN
        rate = Fraction(n_out - 1, n_in - 1)
    else:
        rate = Fraction(n_out, n_in) if scale is None else Fraction(scale).limit_denominator(64)
    period, advance = rate.numerator, rate.denominator
    before = -(-_MIDDLE // min(period, advance))  # periods at each border
    turns = 2 * before + 1
    if period * turns * advance * turns > _MOST_WEIGHTS:
        return UNKNOWN
    ends = 1 if aligned else 0
    matrix = _interpolation(op, 0, axes, period * turns + ends, advance * turns + ends, aligned, None)
    first, past = hull(matrix[period * before : period * (before + 1)].abs() > _ROUNDING)
    bounds = zip((first - advance * before).tolist(), (past - advance * before).tolist(), strict=True)
    return PeriodicIntervals(tuple(bounds), advance)


class Border(Separable):
    """Padding with copies of positions inside the map; projection: the signals of the copies are summed."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        pads = [int(n) for n in call["padding"]]  # the last dimension first: left, right, top, bottom
        self.before, after = pads[-2::-2], pads[::-2]  # of the first dimension first
        sizes = zip(self.before, self.lengths, after, strict=True)
        self.settle(call, *[self._matrix(*numbers) for numbers in sizes])

    def _matrix(self, before: int, length: int, after: int) -> Tensor:
        places = self.copied(torch.arange(-before, length + after), length)
        return torch.nn.functional.one_hot(places, length).double()

    def copied(self, places: Tensor, length: int) -> Tensor:
        """Return the position inside the map that each padded position copies."""
        raise NotImplementedError

    def index_map(self, argument: int, axis: int) -> IndexMap:
        """Return the index map inside the map, where each position copies itself."""
        number = self.number_of(axis)
        if number is None:
            return super().index_map(argument, axis)
        return SlidingWindow(padding=self.before[number]).index_map


@rule(aten.reflection_pad1d.default, aten.reflection_pad2d.default, aten.reflection_pad3d.default)
class Reflection(Border):
    """Reflection about the outermost row."""

    def copied(self, places: Tensor, length: int) -> Tensor:
        back = places.abs()
        return (length - 1 - (length - 1 - back).abs()).abs()


@rule(aten.replication_pad1d.default, aten.replication_pad2d.default, aten.replication_pad3d.default)
class Replication(Border):
    """Repetition of the outermost row."""

    def copied(self, places: Tensor, length: int) -> Tensor:
        return places.clamp(0, length - 1)


@rule(aten.constant_pad_nd.default)
class ConstantBorder(Rule):
    """Padding with a constant, or cropping if negative; projection: the signal inside the map."""

    supports_windows = True
    handles_folded_batch = True
    any_batch_axis = True

    def __init__(self, call: Call) -> None:
        self.below = call.layout
        rank = call["self"].dim()
        pads = [int(n) for n in call["pad"]]
        self.before: dict[int, int] = {}  # by dimension
        for number in range(len(pads) // 2):
            self.before[self.below.dim(rank - 1 - number)] = pads[2 * number]
        at = self.below.batch_at
        self.over_batch = 0 in self.before and call.output.shape[at] != call["self"].shape[at]

    def unsupported(self) -> str:
        return "it pads the batch" if self.over_batch else ""

    def output_layout(self, call: Call) -> TensorLayout:
        below = self.below
        rest = [length for dim, length in enumerate(call.output.shape) if dim != below.batch_at]
        kept = below.without(self.before)
        return replace(kept, shape=(*below.shape[: below.folded], *rest), axes=below.axes)

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
        start = window.start - torch.tensor([0 if dim is None else self.before.get(dim, 0) for dim in axes])
        return [input_windows[0].place(signal, start)]

    def _slide(self, axis: int) -> SlidingWindow:
        dim = self.below.axes[axis] if self.below.axes else None
        return SlidingWindow(padding=0 if dim is None else self.before.get(dim, 0))

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        # never None, also along an axis that is not padded: `project` fills the input window
        if self.below.axes:
            return self._slide(axis).visible_inputs(n_out, n_in)
        return super().visible_inputs(argument, axis, n_out, n_in)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return self._slide(axis).index_map if self.below.axes else super().index_map(argument, axis)


_NOT_A_MAP = "its input is not a map of channels (C, H, W)"


@rule(aten.pixel_shuffle.default)
class PixelShuffle(SlidingBack):
    """(C * r * r, H, W) to (C, H * r, W * r), as in sub-pixel convolution; projection: pixel unshuffle."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.factor = int(call["upscale_factor"])
        self.slides = [SlidingWindow(self.factor, self.factor)] * 2

    def unsupported(self) -> str:
        return _NOT_A_MAP if len(self.lengths) != 2 else ""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        r = self.factor
        shift = self.starts(window) - self.starts(input_windows[0]) * r
        x = moved(signal, (2, 3), shift, [length * r for length in self.sizes(input_windows[0])])
        return [torch.nn.functional.pixel_unshuffle(x, r)]


@rule(aten.pixel_unshuffle.default)
class PixelUnshuffle(Sliding):
    """(C, H * r, W * r) to (C * r * r, H, W); projection: pixel shuffle."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.factor = int(call["downscale_factor"])
        self.slides = [SlidingWindow(self.factor, self.factor)] * 2

    def unsupported(self) -> str:
        return _NOT_A_MAP if len(self.lengths) != 2 else ""

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        x = torch.nn.functional.pixel_shuffle(signal, self.factor)
        return [self.placed(x, self.starts(window) * self.factor, input_windows[0])]
