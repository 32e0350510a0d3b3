"""Maps made larger, and borders: interpolation, padding and cropping, pixel shuffle."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from deconvviz.engine.bands import SAME, Band, Slide
from deconvviz.engine.rules.base import Call, Rule, Spatial, rule
from deconvviz.engine.rules.separable import Separable
from deconvviz.engine.windows import Form, Window

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
    """Nearest, bilinear, bicubic: each position is a weighted sum; mirror: each term gets its share."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        aligned: bool | None = call.arguments.get("align_corners")
        scales = (call["scales_h"], call["scales_w"])
        self.matrices = tuple(
            _interpolation(call.op, n_out, n_in, aligned, scale)
            for n_out, n_in, scale in zip(call.output.shape[-2:], self.below.lengths, scales, strict=True)
        )  # type: ignore[assignment]
        self.bands = [
            _periods(call.op, n_out, n_in, aligned, scale)
            for n_out, n_in, scale in zip(call.output.shape[-2:], self.below.lengths, scales, strict=True)
        ]

    def band(self, argument: int, axis: int) -> Band | None:
        return self.bands[axis] if self.windowed else None


@lru_cache(maxsize=256)
def _interpolation(op: Any, n_out: int, n_in: int, aligned: bool | None, scale: float | None) -> Tensor:
    """(n_out, n_in) float64: what each position of the output takes of each of the input."""
    single = torch.eye(n_in, dtype=torch.float64, device="cpu").view(1, n_in, n_in, 1)
    options = (scale, None) if aligned is None else (aligned, scale, None)
    taken: Tensor = op(single, [n_out, 1], *options)  # (1, n_in, n_out, 1)
    return taken[0, :, :, 0].T.contiguous()


_MIDDLE = 12  # so far from the border no position's share is cut off


@lru_cache(maxsize=256)
def _periods(op: Any, n_out: int, n_in: int, aligned: bool | None, scale: float | None) -> Band | None:
    """What the positions of an output without borders see; None if that does not come round again soon."""
    if n_out == n_in and scale in (None, 1):
        return SAME
    if aligned:
        if n_in == 1 or n_out == 1:
            return None
        rate = Fraction(n_out - 1, n_in - 1)
    else:
        rate = Fraction(n_out, n_in) if scale is None else Fraction(scale).limit_denominator(64)
    period, advance = rate.numerator, rate.denominator
    if period > 64 or advance > 64:
        return None
    turns = 2 * _MIDDLE + 1
    ends = 1 if aligned else 0
    matrix = _interpolation(op, period * turns + ends, advance * turns + ends, aligned, None)
    bounds = []
    for o in range(period * _MIDDLE, period * (_MIDDLE + 1)):
        seen = torch.nonzero(matrix[o])[:, 0] - advance * _MIDDLE
        bounds.append((int(seen[0]), int(seen[-1]) + 1))
    return Band(tuple(bounds), advance)


class Border(Separable):
    """What lies beyond the border is a copy of what lies inside; mirror: both signals add up there."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        left, right, top, bottom = (int(n) for n in call["padding"])
        rows, columns = self.below.lengths
        self.before = (top, left)
        self.matrices = (self._matrix(top, rows, bottom), self._matrix(left, columns, right))

    def _matrix(self, before: int, length: int, after: int) -> Tensor:
        places = self.copied(torch.arange(-before, length + after), length)
        return torch.nn.functional.one_hot(places, length).double()

    def copied(self, places: Tensor, length: int) -> Tensor:
        """Which position inside each position is a copy of."""
        raise NotImplementedError

    def band(self, argument: int, axis: int) -> Band | None:
        """Inside of the map, where each position is its own."""
        return Slide(padding=self.before[axis]).band if self.windowed else None


@rule(aten.reflection_pad2d.default)
class Reflection(Border):
    """The map continues as in a mirror that stands on its outermost row."""

    def copied(self, places: Tensor, length: int) -> Tensor:
        back = places.abs()
        return (length - 1 - (length - 1 - back).abs()).abs()


@rule(aten.replication_pad2d.default)
class Replication(Border):
    """The map continues as its outermost row."""

    def copied(self, places: Tensor, length: int) -> Tensor:
        return places.clamp(0, length - 1)


@rule(aten.constant_pad_nd.default)
class ConstantBorder(Rule):
    """A border of one number, or (less than nothing) a cut; mirror: what lies inside goes back."""

    windowed = True
    folds = True

    def __init__(self, call: Call) -> None:
        self.below = call.form
        rank = call["self"].dim()
        pads = [int(n) for n in call["pad"]]
        self.before: dict[int, int] = {}  # by dimension
        for number in range(len(pads) // 2):
            self.before[self.below.dim(rank - 1 - number)] = pads[2 * number]
        self.over_batch = 0 in self.before and call.output.shape[0] != call["self"].shape[0]

    def refuses(self) -> str:
        return "it pads the batch with pictures" if self.over_batch else ""

    def form(self, call: Call) -> Form:
        below = self.below
        shape = (*below.shape[: below.folded], *call.output.shape[1:])
        return Form(shape, below.axes, below.folded)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        axes = self.below.axes or ()
        for dim, before in self.before.items():
            if dim and dim not in axes:
                after = self.below.shape[dim - 1] + before - signal.shape[dim]
                pads = [0, 0] * (signal.dim() - 1 - dim) + [-before, after]
                signal = torch.nn.functional.pad(signal, pads)
        if not axes:
            return [signal]
        start = at.start - torch.tensor([self.before.get(axis, 0) for axis in axes])
        return [into[0].place(signal, start)]

    def _padded(self, axis: int) -> bool:
        return self.below.axes is not None and self.below.axes[axis] in self.before

    def _slide(self, axis: int) -> Slide:
        axes = self.below.axes or (0, 0)
        return Slide(padding=self.before.get(axes[axis], 0))

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        # never None, also along an axis that is not padded: `down` fills `into`
        return self._slide(axis).reach(n_out, n_in) if self.below.axes else None

    def band(self, argument: int, axis: int) -> Band | None:
        return self._slide(axis).band if self.below.axes else None


@rule(aten.pixel_shuffle.default)
class PixelShuffle(Spatial):
    """(C * r * r, H, W) to (C, H * r, W * r): sub-pixel convolution; mirror: the other way round."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.factor = int(call["upscale_factor"])

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        below, r = self.frame(into[0]), self.factor
        above = Window(
            below.start * r, (below.size[0] * r, below.size[1] * r), Form.of(at.form.shape), at.images
        )
        return [torch.nn.functional.pixel_unshuffle(above.place(signal, at.start), r)]

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.windowed:
            return super().reach(argument, axis, n_out, n_in)
        return Slide(self.factor, self.factor).reach(n_in, n_out).T

    def band(self, argument: int, axis: int) -> Band | None:
        return Slide(self.factor, self.factor).mirrored if self.windowed else None


@rule(aten.pixel_unshuffle.default)
class PixelUnshuffle(Spatial):
    """(C, H * r, W * r) to (C * r * r, H, W); mirror: the other way round."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.factor = int(call["downscale_factor"])

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        x = torch.nn.functional.pixel_shuffle(signal, self.factor)
        return [self.frame(into[0]).place(x, at.start * self.factor)]

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.windowed:
            return super().reach(argument, axis, n_out, n_in)
        return Slide(self.factor, self.factor).reach(n_out, n_in)

    def band(self, argument: int, axis: int) -> Band | None:
        return Slide(self.factor, self.factor).band if self.windowed else None
