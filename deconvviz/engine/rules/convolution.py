"""Convolution and its mirror, the transposed convolution (paper, section 2.1, "Filtering")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.index_maps import UNKNOWN, Sight, Slide
from deconvviz.engine.layout import Form, Window
from deconvviz.engine.rules.rule import Call, Rule, Spatial, rule

aten = torch.ops.aten


class Filter(Rule):
    """What every convolution keeps: a reference to its weight, and its geometry."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.weight: Tensor = call[
            "weight"
        ]  # (out, in / groups, *kernel); transposed: (in, out / groups, ...)
        self.constants = (self.weight,)
        self.derived = call.derived  # of picture, weight, and bias if there is one
        self.per_picture = call.batch > 1 and any(form is not None for form in call.forms[1:])
        self.groups: int = call["groups"]
        dims = self.weight.dim() - 2  # 1, 2 or 3: conv1d, conv2d, conv3d
        self.stride, self.padding, self.dilation = (
            [int(n) for n in call[name]] * (dims if len(call[name]) == 1 else 1)
            for name in ("stride", "padding", "dilation")
        )
        self.slides = [
            Slide(*numbers)
            for numbers in zip(self.weight.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        ]

    def refuses(self) -> str:
        from_picture = any(self.derived[1:]) or self.per_picture
        return "its weight or bias comes from the picture" if from_picture else ""

    def and_nothing(self, x: Tensor) -> Sequence[Tensor | None]:
        """Nothing flows into the weight and the bias."""
        return [x] + [None] * (len(self.derived) - 1)


@rule(aten.convolution.default)
class Convolution(Filter, Spatial):
    """y = W * x + b; mirror: the transposed convolution, the bias never added."""

    @classmethod
    def of(cls, call: Call) -> Rule:
        if call["weight"].dim() != 4:
            return WholeConvolution(call)
        return TransposedConvolution(call) if call["transposed"] else cls(call)

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        return self.and_nothing(self._transposed(signal, at, self.frame(into[0])))

    def _transposed(self, signal: Tensor, at: Window, into: Window) -> Tensor:
        """(K, out, h, w) at its windows to (K, in, h', w') at theirs.

        Without padding the transposed convolution fills h * stride ... positions from ``start * stride -
        padding`` on; `into` wants a part of them. Where all units want the same part, cropping is left
        to the convolution's own padding argument, and it computes no more than is wanted.
        """
        origin = at.start * torch.tensor(self.stride) - torch.tensor(self.padding)  # (K, 2)
        crop, extra = [0, 0], [0, 0]
        for axis, slide in enumerate(self.slides):
            before = into.start[:, axis] - origin[:, axis]  # (K,) positions that are not wanted in front
            length = (at.size[axis] - 1) * slide.stride + slide.extent
            after = length - into.size[axis] - before
            crop[axis] = max(0, min(int(before.min()), int(after.min()), slide.extent - 1))
            missing = -int(after.max()) - crop[axis] if crop[axis] == 0 else 0
            extra[axis] = max(0, min(missing, slide.stride - 1))
        x: Tensor = aten.convolution(
            signal,
            self.weight.to(signal.dtype),
            None,
            self.stride,
            crop,
            self.dilation,
            True,
            extra,
            self.groups,
        )  # (K, out, h, w) -> (K, in, ~h * stride, ~w * stride)
        return into.place(x, origin + torch.tensor(crop))

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.windowed:
            return super().reach(argument, axis, n_out, n_in)
        return self.slides[axis].reach(n_out, n_in)

    def band(self, argument: int, axis: int) -> Sight:
        return self.slides[axis].band if self.windowed else UNKNOWN


class TransposedConvolution(Filter, Spatial):
    """y = W^T * x + b, as decoders have it; mirror: the plain convolution, the bias never added."""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        wanted = self.frame(into[0])
        first = wanted.start * torch.tensor(self.stride) - torch.tensor(self.padding)  # (K, 2)
        size = [
            (n - 1) * slide.stride + slide.extent for n, slide in zip(wanted.size, self.slides, strict=True)
        ]
        seen = Window(first, (size[0], size[1]), at.form, at.images)
        x: Tensor = aten.convolution(
            seen.place(signal, at.start), self.weight.to(signal.dtype), None,
            self.stride, [0, 0], self.dilation, False, [0, 0], self.groups,
        )  # (K, out, h, w) -> (K, in, h', w')  # fmt: skip
        return self.and_nothing(x)

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.windowed:
            return super().reach(argument, axis, n_out, n_in)
        return self.slides[axis].reach(n_in, n_out).T

    def band(self, argument: int, axis: int) -> Sight:
        return self.slides[axis].mirrored if self.windowed else UNKNOWN


class WholeConvolution(Filter):
    """A convolution over one or three dimensions, plain or transposed, on whole maps.

    Over three dimensions its positions are followed if the last two are the rows and columns.
    """

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.transposed: bool = call["transposed"]
        self.below = call.form
        self.mapped = len(self.slides) == 3 and call.form.axes == (3, 4)

    def form(self, call: Call) -> Form:
        return Form(tuple(call.output.shape[1:]), (3, 4) if self.mapped else None)

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if not self.mapped:
            return super().reach(argument, axis, n_out, n_in)
        slide = self.slides[1 + axis]
        return slide.reach(n_in, n_out).T if self.transposed else slide.reach(n_out, n_in)

    def band(self, argument: int, axis: int) -> Sight:
        slide = self.slides[1 + axis] if self.mapped else None
        if slide is None:
            return UNKNOWN
        return slide.mirrored if self.transposed else slide.band

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
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
        return self.and_nothing(x)
