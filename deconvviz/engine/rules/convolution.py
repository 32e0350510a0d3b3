"""Convolution; its projection is the transposed convolution (paper, section 2.1, "Filtering")."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from deconvviz.engine.index_maps import SlidingWindow
from deconvviz.engine.layout import Window, moved
from deconvviz.engine.rules.computed_filters import ComputedFilters
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Sliding, SlidingBack
from deconvviz.engine.rules.transposed import transposed_convolution

aten = torch.ops.aten


class Filter(Rule):
    """Weight (by reference) and geometry of a convolution."""

    slides: Sequence[SlidingWindow]

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.weight: Tensor = call[
            "weight"
        ]  # (out, in / groups, *kernel); transposed: (in, out / groups, ...)
        self.constants = (self.weight,)
        self.derived = call.derived  # of input, weight, and bias if there is one
        self.per_image = call.batch > 1 and any(layout is not None for layout in call.layouts[1:])
        self.groups: int = call["groups"]
        kernel = tuple(self.weight.shape[2:])  # of 1, 2 or 3 dimensions
        self.stride, self.padding, self.dilation, self.slides = _geometry(
            kernel, tuple(call["stride"]), tuple(call["padding"]), tuple(call["dilation"])
        )

    def unsupported(self) -> str:
        from_image = any(self.derived[1:]) or self.per_image
        return "its weight or bias is computed from the image" if from_image else ""

    def filters(self, signal: Tensor) -> Tensor:
        """Return the weight with the dtype of a signal."""
        return self.weight.to(signal.dtype)

    def to_input_only(self, x: Tensor) -> Sequence[Tensor | None]:
        """Return the signals of all arguments: weight and bias receive none."""
        return [x] + [None] * (len(self.derived) - 1)


_Numbers = tuple[int, ...]


@lru_cache(maxsize=1024)
def _geometry(
    kernel: _Numbers, stride: _Numbers, padding: _Numbers, dilation: _Numbers
) -> tuple[_Numbers, _Numbers, _Numbers, tuple[SlidingWindow, ...]]:
    """Stride, padding and dilation along each dimension, and the sliding windows that they make up."""
    given = (stride, padding, dilation)
    each = [one * len(kernel) if len(one) == 1 else one for one in given]
    slides = tuple([SlidingWindow(*numbers) for numbers in zip(kernel, *each, strict=True)])
    return each[0], each[1], each[2], slides


@rule(aten.convolution.default)
class Convolution(Filter, Sliding):
    """y = W * x + b in 1, 2 or 3 dimensions; projection: the transposed convolution, without the bias."""

    repeats = True
    returns_new = True

    @classmethod
    def of(cls, call: Call) -> Rule:
        if ComputedFilters.applies(call):
            return ComputedFilters(call)
        return TransposedConvolution(call) if call["transposed"] else cls(call)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return self.to_input_only(self._transposed(signal, window, input_windows[0]))

    def _transposed(self, signal: Tensor, window: Window, input_window: Window) -> Tensor:
        """Project (K, out, h, w) in `window` to (K, in, h', w') in `input_window`.

        Without padding, the transposed convolution fills positions from ``start * stride - padding`` on;
        `input_window` is a part of them. What all units can crop is passed to the convolution as padding, so
        that these positions are not computed.
        """
        shifts = self.shifts(window, input_window)
        crop, extra = [], []
        for number, (slide, size) in enumerate(zip(self.slides, self.sizes(input_window), strict=True)):
            before = [-shift[number] for shift in shifts]  # positions before the wanted ones, of each unit
            length = (signal.shape[2 + number] - 1) * slide.stride + slide.extent
            least_after, most_after = length - size - max(before), length - size - min(before)
            cut = max(0, min(min(before), least_after, slide.extent - 1))
            crop.append(cut)
            extra.append(max(0, min(-most_after, slide.stride - 1)) if cut == 0 else 0)
        x = transposed_convolution(
            signal,
            self.filters(signal),
            stride=self.stride,
            crop=crop,
            dilation=self.dilation,
            extra=extra,
            groups=self.groups,
        )  # (K, out, h, w) -> (K, in, ~h * stride, ~w * stride)
        shifts = [[by + cut for by, cut in zip(shift, crop, strict=True)] for shift in shifts]
        return self.moved_into(x, shifts, input_window)


class TransposedConvolution(Filter, SlidingBack):
    """y = W^T * x + b, as in decoders; projection: the ordinary convolution, without the bias."""

    repeats = True

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        first, lengths = self.starts(input_windows[0]), self.sizes(input_windows[0])
        first = first * torch.tensor(self.stride) - torch.tensor(self.padding)  # (K, axes)
        size = [(n - 1) * slide.stride + slide.extent for n, slide in zip(lengths, self.slides, strict=True)]
        seen = moved(signal, range(2, signal.dim()), self.starts(window) - first, size)
        none = [0] * len(size)
        x: Tensor = aten.convolution(
            seen, self.filters(signal), None,
            self.stride, none, self.dilation, False, none, self.groups,
        )  # (K, out, h, w) -> (K, in, h', w')  # fmt: skip
        return self.to_input_only(x)
