"""Convolution; its projection is the transposed convolution (paper, section 2.1, "Filtering")."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from deconvviz.engine.index_maps import UNKNOWN, IndexMap, SlidingWindow
from deconvviz.engine.layout import TensorLayout, Window
from deconvviz.engine.rules.registry import rule
from deconvviz.engine.rules.rule import Call, Rule, Spatial
from deconvviz.engine.rules.transposed import transposed_convolution

aten = torch.ops.aten


class Filter(Rule):
    """Weight (by reference) and geometry of a convolution."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.weight: Tensor = call[
            "weight"
        ]  # (out, in / groups, *kernel); transposed: (in, out / groups, ...)
        self.constants = (self.weight,)
        self.derived = call.derived  # of input, weight, and bias if there is one
        self.per_image = call.batch > 1 and any(layout is not None for layout in call.layouts[1:])
        self.groups: int = call["groups"]
        kernel = tuple(self.weight.shape[2:])  # of 1, 2 or 3 dimensions: conv1d, conv2d, conv3d
        self.stride, self.padding, self.dilation, self.slides = _geometry(
            kernel, tuple(call["stride"]), tuple(call["padding"]), tuple(call["dilation"])
        )

    def unsupported(self) -> str:
        from_image = any(self.derived[1:]) or self.per_image
        return "its weight or bias is computed from the image" if from_image else ""

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
class Convolution(Filter, Spatial):
    """y = W * x + b; projection: the transposed convolution, without the bias."""

    repeats = True

    @classmethod
    def of(cls, call: Call) -> Rule:
        if call["weight"].dim() != 4:
            return WholeConvolution(call)
        return TransposedConvolution(call) if call["transposed"] else cls(call)

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        return self.to_input_only(self._transposed(signal, window, self.frame(input_windows[0])))

    def _transposed(self, signal: Tensor, window: Window, input_window: Window) -> Tensor:
        """Project (K, out, h, w) in `window` to (K, in, h', w') in `input_window`.

        Without padding, the transposed convolution fills positions from ``start * stride - padding`` on;
        `input_window` is a part of them. What all units can crop is passed to the convolution as padding, so
        that these positions are not computed.
        """
        origin = window.start * torch.tensor(self.stride) - torch.tensor(self.padding)  # (K, 2)
        crop, extra = [0, 0], [0, 0]
        for axis, slide in enumerate(self.slides):
            before = input_window.start[:, axis] - origin[:, axis]  # (K,) positions before the wanted ones
            length = (window.size[axis] - 1) * slide.stride + slide.extent
            after = length - input_window.size[axis] - before
            crop[axis] = max(0, min(int(before.min()), int(after.min()), slide.extent - 1))
            missing = -int(after.max()) - crop[axis] if crop[axis] == 0 else 0
            extra[axis] = max(0, min(missing, slide.stride - 1))
        x = transposed_convolution(
            signal,
            self.weight.to(signal.dtype),
            stride=self.stride,
            crop=crop,
            dilation=self.dilation,
            extra=extra,
            groups=self.groups,
        )  # (K, out, h, w) -> (K, in, ~h * stride, ~w * stride)
        return input_window.place(x, origin + torch.tensor(crop))

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.supports_windows:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return self.slides[axis].visible_inputs(n_out, n_in)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return self.slides[axis].index_map if self.supports_windows else UNKNOWN


class TransposedConvolution(Filter, Spatial):
    """y = W^T * x + b, as in decoders; projection: the ordinary convolution, without the bias."""

    repeats = True

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        wanted = self.frame(input_windows[0])
        first = wanted.start * torch.tensor(self.stride) - torch.tensor(self.padding)  # (K, 2)
        size = [
            (n - 1) * slide.stride + slide.extent for n, slide in zip(wanted.size, self.slides, strict=True)
        ]
        seen = Window(first, (size[0], size[1]), window.layout, window.image_indices)
        x: Tensor = aten.convolution(
            seen.place(signal, window.start), self.weight.to(signal.dtype), None,
            self.stride, [0, 0], self.dilation, False, [0, 0], self.groups,
        )  # (K, out, h, w) -> (K, in, h', w')  # fmt: skip
        return self.to_input_only(x)

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.supports_windows:
            return super().visible_inputs(argument, axis, n_out, n_in)
        return self.slides[axis].visible_inputs(n_in, n_out).T

    def index_map(self, argument: int, axis: int) -> IndexMap:
        return self.slides[axis].transposed if self.supports_windows else UNKNOWN


class WholeConvolution(Filter):
    """A 1-D or 3-D convolution, ordinary or transposed, projected on whole maps.

    In 3-D, positions are tracked if the last two dimensions are the rows and columns.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.transposed: bool = call["transposed"]
        self.below = call.layout
        self.mapped = len(self.slides) == 3 and call.layout.axes == (3, 4)

    def output_layout(self, call: Call) -> TensorLayout:
        return TensorLayout(tuple(call.output.shape[1:]), (3, 4) if self.mapped else None)

    def visible_inputs(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.mapped:
            return super().visible_inputs(argument, axis, n_out, n_in)
        slide = self.slides[1 + axis]
        return slide.visible_inputs(n_in, n_out).T if self.transposed else slide.visible_inputs(n_out, n_in)

    def index_map(self, argument: int, axis: int) -> IndexMap:
        slide = self.slides[1 + axis] if self.mapped else None
        if slide is None:
            return UNKNOWN
        return slide.transposed if self.transposed else slide.index_map

    def project(
        self, signal: Tensor, window: Window, input_windows: Sequence[Window]
    ) -> Sequence[Tensor | None]:
        lengths = [
            (n - 1) * slide.stride + slide.extent - 2 * slide.padding
            for n, slide in zip(signal.shape[2:], self.slides, strict=True)
        ]
        extra = [wanted - length for wanted, length in zip(self.below.shape[1:], lengths, strict=True)]
        if self.transposed:
            extra = [0] * len(extra)
        x: Tensor = aten.convolution(
            signal, self.weight.to(signal.dtype), None, self.stride, self.padding, self.dilation,
            not self.transposed, extra, self.groups,
        )  # fmt: skip
        return self.to_input_only(x)
