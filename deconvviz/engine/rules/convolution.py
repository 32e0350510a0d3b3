"""Convolution and its mirror, the transposed convolution (paper, section 2.1, "Filtering")."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deconvviz.engine.rules.base import Call, Rule, Slide, rule
from deconvviz.engine.windows import Window

aten = torch.ops.aten


@rule(aten.convolution.default)
class Convolution(Rule):
    """y = W * x + b; mirror: the transposed convolution, the bias never added.

    For a transposed convolution it is the other way round: its mirror is the plain one.
    """

    def __init__(self, call: Call) -> None:
        self.weight: Tensor = call[
            "weight"
        ]  # (out, in / groups, *kernel); transposed: (in, out / groups, *kernel)
        self.constants = (self.weight,)
        self.derived = call.derived  # of picture, weight, and bias if there is one
        self.transposed: bool = call["transposed"]
        self.groups: int = call["groups"]
        dims = self.weight.dim() - 2  # 1, 2 or 3: conv1d, conv2d, conv3d
        self.stride, self.padding, self.dilation = (
            [int(n) for n in call[name]] * (dims if len(call[name]) == 1 else 1)
            for name in ("stride", "padding", "dilation")
        )
        self.windowed = dims == 2 and not self.transposed

    def refuses(self) -> str:
        return "its weight or bias comes from the picture" if any(self.derived[1:]) else ""

    def down(self, signal: Tensor, at: Window, into: Sequence[Window]) -> Sequence[Tensor | None]:
        if self.transposed:
            x = aten.convolution(
                signal, self.weight, None, self.stride, self.padding, self.dilation,
                False, [0] * len(self.stride), self.groups,
            )  # fmt: skip
        elif self.windowed:
            x = self._transpose_into(signal, at, into[0])
        else:
            x = self._transpose_whole(signal, into[0])
        return [x] + [None] * (len(self.derived) - 1)  # nothing flows into the weight and the bias

    def _transpose_into(self, signal: Tensor, at: Window, into: Window) -> Tensor:
        """(K, out, h, w) at its windows to (K, in, h', w') at theirs.

        Without padding the transposed convolution fills h * stride ... positions from ``start * stride -
        padding`` on; `into` wants a part of them. Where all units want the same part, cropping is left
        to the convolution's own padding argument, and it computes no more than is wanted.
        """
        slides = [self._slide(axis) for axis in (0, 1)]
        origin = at.start * torch.tensor(self.stride) - torch.tensor(self.padding)  # (K, 2)
        crop, extra = [0, 0], [0, 0]
        for axis, slide in enumerate(slides):
            before = into.start[:, axis] - origin[:, axis]  # (K,) positions that are not wanted in front
            length = (at.size[axis] - 1) * slide.stride + slide.extent
            after = length - into.size[axis] - before
            crop[axis] = max(0, min(int(before.min()), int(after.min()), slide.extent - 1))
            missing = -int(after.max()) - crop[axis] if crop[axis] == 0 else 0
            extra[axis] = max(0, min(missing, slide.stride - 1))
        x: Tensor = aten.convolution(
            signal, self.weight, None, self.stride, crop, self.dilation, True, extra, self.groups
        )  # (K, out, h, w) -> (K, in, ~h * stride, ~w * stride)
        return into.place(x, origin + torch.tensor(crop))

    def _transpose_whole(self, signal: Tensor, into: Window) -> Tensor:
        lengths = [
            (n - 1) * s + d * (k - 1) + 1 - 2 * p
            for n, s, d, k, p in zip(
                signal.shape[2:], self.stride, self.dilation, self.weight.shape[2:], self.padding, strict=True
            )
        ]
        extra = [wanted - length for wanted, length in zip(into.shape[1:], lengths, strict=True)]
        x: Tensor = aten.convolution(
            signal, self.weight, None, self.stride, self.padding, self.dilation, True, extra, self.groups
        )
        return x

    def _slide(self, axis: int) -> Slide:
        return Slide(self.weight.shape[2 + axis], self.stride[axis], self.padding[axis], self.dilation[axis])

    def slide(self, argument: int, axis: int) -> Slide | None:
        return self._slide(axis) if self.windowed else None

    def reach(self, argument: int, axis: int, n_out: int, n_in: int) -> Tensor | None:
        if self.weight.dim() != 4:
            return super().reach(argument, axis, n_out, n_in)
        if self.transposed:
            return self._slide(axis).reach(n_in, n_out).T
        return self._slide(axis).reach(n_out, n_in)
